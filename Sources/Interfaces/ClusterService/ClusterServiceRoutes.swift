package import ClusterConfiguration
import HTTPTypes
package import Hummingbird
package import MigrateOperation
import NIOCore

/// The paths and headers of the service between clusters.
enum ClusterServiceProtocol {
    /// Calls to the source side of a migrate.
    static let migratePath = "/cluster/v1/migrate"
    /// Carries the peer token.
    static let tokenHeader = "Godwit-Peer-Token"
    /// Length of the JSON part of an answer; what follows it is the attachment.
    static let answerLengthHeader = "Godwit-Answer-Length"
    /// Largest request that is read.
    static let requestBytesMax = 4 * 1_024 * 1_024
    /// Largest answer that is read: the duplicate request cache is the largest part.
    static let answerBytesMax = 256 * 1_024 * 1_024
}

/// Serves the calls of other clusters. Every call must carry the token of a peer; bodies are JSON.
package struct ClusterServiceRoutes: Sendable {
    private let source: any SourceCluster
    private let store: ConfigurationStore

    /// Serves `source` to the peers that are in the configuration.
    package init(source: any SourceCluster, store: ConfigurationStore) {
        self.source = source
        self.store = store
    }

    /// Adds the routes to a router.
    package func register<Context: RequestContext>(on router: some RouterMethods<Context>) {
        router.on("/cluster/v1/migrate", method: .post) { request, _ in try await answer(request) }
    }

    private func answer(_ request: Request) async throws -> Response {
        do {
            try await authenticate(request)
            let body = try await request.body.collect(upTo: ClusterServiceProtocol.requestBytesMax)
            let call: SourceCall
            do {
                call = try ConfigurationCoding.decode(
                    SourceCall.self,
                    from: [UInt8](body.readableBytesView),
                    key: "request"
                )
            } catch {
                throw MigrateError(
                    .wrongVersion,
                    code: MigrateCode.wrongVersion,
                    "the request cannot be read: \(error.message)",
                    remedy: "run the same version of the software on both clusters"
                )
            }
            let reply = try await source.send(call)
            return try Self.response(.ok, reply.answer, attachment: reply.attachment)
        } catch let error as MigrateError {
            return try Self.response(Self.status(of: error.kind), error)
        }
    }

    private func authenticate(_ request: Request) async throws {
        let shown = HTTPField.Name(ClusterServiceProtocol.tokenHeader).flatMap { request.headers[$0] } ?? ""
        var isKnown = false
        // All peers are compared, so that the time does not tell which one matched.
        for peer in try await store.snapshot().peers
        where KeyedProof.areEqual(shown, KeyedProof.ofPeer(passphrase: peer.passphrase)) {
            isKnown = true
        }
        guard isKnown else {
            throw MigrateError(
                .notAuthenticated,
                code: MigrateCode.unknownPeer,
                "the caller is not a peer of this cluster",
                remedy: "create the cluster peer on both clusters with the same passphrase"
            )
        }
    }

    static func status(of kind: MigrateError.Kind) -> HTTPResponse.Status {
        switch kind {
        case .notFound: .notFound
        case .notAuthenticated: .unauthorized
        case .fenced, .refused, .pastPointOfNoReturn, .commitRecovered, .interrupted, .baselineLost: .conflict
        case .wrongVersion, .invalid: .badRequest
        case .notInThisVersion: .notImplemented
        case .unreachable, .nodeAway, .failed: .serviceUnavailable
        }
    }

    static func response(
        _ status: HTTPResponse.Status,
        _ value: some Encodable,
        attachment: [UInt8] = []
    ) throws -> Response {
        let json = try ConfigurationCoding.encode(value)
        var buffer = ByteBuffer()
        buffer.writeBytes(json)
        buffer.writeBytes(attachment)
        var headers = HTTPFields()
        headers[.contentType] = attachment.isEmpty ? "application/json" : "application/octet-stream"
        if let name = HTTPField.Name(ClusterServiceProtocol.answerLengthHeader) { headers[name] = String(json.count) }
        return Response(status: status, headers: headers, body: ResponseBody(byteBuffer: buffer))
    }
}
