package import ClusterConfiguration
import HTTPTypes
package import Hummingbird
import HummingbirdTLS
package import Logging
import NIOCore
import StorageControl
import JSON
package import TransportSecurity

/// Routes that belong together; given to `RESTServer` when the daemon is put together.
package protocol RouteGroup: Sendable {
    /// Adds the routes to a router. `router.rest(…)` does the reading of requests and the answering of errors.
    func register(on router: Router<BasicRequestContext>)
}

extension Router<BasicRequestContext> {
    /// Adds a route of the management interface.
    ///
    /// - Parameters:
    ///   - method: the HTTP method.
    ///   - path: the path, with open parts as `{name}`.
    ///   - handler: answers; what it throws becomes an error body.
    package func rest(
        _ method: HTTPRequest.Method,
        _ path: String,
        _ handler: @escaping @Sendable (RESTCall) async throws -> RESTAnswer
    ) {
        on(RouterPath(path), method: method) { request, context -> Response in
            var body = ByteBuffer()
            do {
                return try await handler(try await RESTServer.read(request, context.parameters, &body)).response
            } catch let elsewhere as ElsewhereError {
                throw ForwardedRequest(
                    node: elsewhere.node,
                    method: request.method.rawValue,
                    uri: request.uri.string,
                    body: [UInt8](body.readableBytesView)
                )
            } catch {
                let failure = ManagementError.from(error)
                if failure.kind == .failed {
                    context.logger.error("\(request.method) \(request.uri.path): \(failure)")
                }
                return RESTAnswer.failure(failure).response
            }
        }
    }
}

/// The HTTP side of the management interface.
package enum RESTServer {
    /// Bytes of the largest request body.
    package static let bodyBytesMax = 1 << 20

    /// The server: every group's routes on one address.
    ///
    /// - Parameter security: what makes callers show who they are; nil on loopback only.
    /// - Throws: `management_address_not_loopback`: without authentication nothing but loopback is served.
    package static func makeApplication(
        groups: [any RouteGroup],
        others: OtherNodes,
        endpoint: NetworkEndpoint,
        security: TransportSecurity?,
        logger: Logger,
        onRunning: @escaping @Sendable () async -> Void
    ) throws -> Application<RouterResponder<BasicRequestContext>> {
        guard security != nil || IPv4Address(endpoint.address)?.isLoopback == true else {
            throw ManagementError(
                .unsupported,
                "management_address_not_loopback",
                "the management interface cannot listen on '\(endpoint.address)': nobody would have to show who he is",
                remedy: "give the node a certificate (tls in the configuration file), or an address in 127.0.0.0/8",
                target: "management.address"
            )
        }
        let router = Router(context: BasicRequestContext.self, options: [.autoGenerateHeadEndpoints])
        router.add(middleware: UnknownPathMiddleware())
        router.add(middleware: NodeForwardingMiddleware(others: others))
        for group in groups { group.register(on: router) }
        return Application(
            responder: router.buildResponder(),
            server: try security.map { try .tls(tlsConfiguration: $0.serverConfiguration) } ?? .http1(),
            configuration: ApplicationConfiguration(
                address: .hostname(endpoint.address, port: endpoint.port),
                serverName: "godwit",
                reuseAddress: true
            ),
            onServerRunning: { _ in await onRunning() },
            logger: logger
        )
    }

    static func read(
        _ request: Request,
        _ parameters: Parameters,
        _ body: inout ByteBuffer
    ) async throws -> RESTCall {
        var request = request
        do {
            body = try await request.collectBody(upTo: bodyBytesMax)
        } catch {
            throw ManagementError(
                .invalid,
                "body_too_large",
                "the body of the request cannot be read or is above \(bodyBytesMax) bytes",
                remedy: "send a smaller body"
            )
        }
        let query = request.uri.queryParameters.map { (name: String($0.key), value: String($0.value)) }
        return RESTCall(
            path: request.uri.path,
            query: query,
            body: try JSONValue(body: [UInt8](body.readableBytesView)),
            parameters: parameters,
            isForwarded: request.headers[HTTPField.Name(OtherNodes.headerName)!] != nil
        )
    }
}

/// Answers requests that no route takes with an error body like all others.
private struct UnknownPathMiddleware: RouterMiddleware {
    typealias Context = BasicRequestContext

    @concurrent func handle(
        _ request: Request,
        context: Context,
        next: @concurrent (Request, Context) async throws -> Response
    ) async throws -> Response {
        do {
            return try await next(request, context)
        } catch let error as HTTPError where error.status == .notFound {
            return RESTAnswer.failure(
                ManagementError(
                    .notFound,
                    "resource_not_found",
                    "there is nothing to \(request.method) at \(request.uri.path)",
                    remedy: "look up the resources of this version in the handbook"
                )
            ).response
        }
    }
}
