package import AsyncHTTPClient
package import ClusterConfiguration
import HTTPTypes
import Hummingbird
package import Identity
package import JSON
import NIOCore
import NIOHTTP1
import StorageControl

/// A request that only another node can answer.
struct ForwardedRequest: Error {
    var node: NodeRecord
    var method: String
    /// Path and query as they came.
    var uri: String
    var body: [UInt8]
}

/// The other nodes of the cluster, spoken to over their management interfaces: what needs a volume, an aggregate or a LIF
/// of another node is asked of that node, so that every node can be asked for everything.
package struct OtherNodes: Sendable {
    /// A request with this field was forwarded and is not forwarded again; its value names the node that did it.
    static let headerName = "Godwit-Forwarded-By"
    /// Seconds that a node has for the whole of a forwarded request.
    private static let patienceSeconds: Int64 = 600
    /// Seconds that a node has for its part of a list.
    private static let listPatienceSeconds: Int64 = 2
    private static let answerBytesMax = 64 << 20

    private let client: HTTPClient
    private let ownName: String
    private let scheme: String

    /// Makes it for the node of a name.
    ///
    /// - Parameter scheme: how all nodes of the cluster are spoken to: `http`, or `https` with certificates.
    package init(client: HTTPClient, scheme: String, ownName: String) {
        self.client = client
        self.scheme = scheme
        self.ownName = ownName
    }

    /// Lets another node answer.
    func answer(to request: ForwardedRequest) async -> Response {
        do {
            let (status, headers, body) = try await send(
                request.method,
                request.uri,
                request.body,
                to: request.node,
                seconds: Self.patienceSeconds
            )
            var fields = HTTPFields()
            fields[.contentType] = "application/hal+json"
            if let location = headers["location"].first { fields[.location] = location }
            return Response(
                status: HTTPResponse.Status(code: Int(status)),
                headers: fields,
                body: ResponseBody(byteBuffer: body)
            )
        } catch {
            return RESTAnswer.failure(
                ManagementError(
                    .unavailable,
                    "node_unavailable",
                    "node '\(request.node.name)' at \(request.node.management) has to do this and does not answer: "
                        + "\(error)",
                    remedy: "start godwitd there (godwit node show tells the nodes), and look before trying again "
                        + "whether it was done"
                )
            ).response
        }
    }

    /// The records of a collection as other nodes see them, by node and `uuid`; of a node that does not answer in time there
    /// are none.
    package func records(_ path: String, from nodes: [NodeRecord]) async -> [ObjectUUID: [String: JSONValue]] {
        await withTaskGroup(of: (ObjectUUID, [String: JSONValue]).self) { group in
            for node in nodes {
                group.addTask {
                    let seconds = Self.listPatienceSeconds
                    let answer = try? await send("GET", path + "?fields=*", [], to: node, seconds: seconds)
                    let body = answer.flatMap { try? JSONValue(body: [UInt8]($0.body.readableBytesView)) }
                    let records = body?.values(at: "records") ?? []
                    return (
                        node.uuid,
                        Dictionary(
                            records.map { ($0[path: "uuid"]?.plain ?? "", $0) },
                            uniquingKeysWith: { first, _ in first }
                        )
                    )
                }
            }
            var found: [ObjectUUID: [String: JSONValue]] = [:]
            for await (node, records) in group { found[node] = records }
            return found
        }
    }

    /// The same for the answer to a list; none when this list is itself a part of one.
    func records(
        _ path: String,
        for call: RESTCall,
        _ controller: StorageController,
        _ nodes: [NodeRecord]
    ) async -> RecordsElsewhere {
        let nodes = call.isForwarded ? [] : nodes.filter { $0.uuid != controller.node.uuid }
        return RecordsElsewhere(byNode: await records(path, from: nodes))
    }

    private func send(
        _ method: String,
        _ uri: String,
        _ body: [UInt8],
        to node: NodeRecord,
        seconds: Int64
    ) async throws -> (status: UInt, headers: HTTPHeaders, body: ByteBuffer) {
        var request = HTTPClientRequest(url: "\(scheme)://\(node.management)\(uri)")
        request.method = .init(rawValue: method)
        request.headers.add(name: Self.headerName, value: ownName)
        if !body.isEmpty {
            request.headers.add(name: "Content-Type", value: "application/json")
            request.body = .bytes(ByteBuffer(bytes: body))
        }
        let response = try await client.execute(request, timeout: .seconds(seconds))
        let collected = try await response.body.collect(upTo: Self.answerBytesMax)
        return (response.status.code, response.headers, collected)
    }
}

/// What other nodes know of the records of a list.
struct RecordsElsewhere {
    let byNode: [ObjectUUID: [String: JSONValue]]

    /// The record as the node sees it that the object is on.
    func record(_ uuid: ObjectUUID, of node: NodeRecord?) -> JSONValue? {
        node.flatMap { byNode[$0.uuid]?[uuid.description] }
    }

    /// Every record of a node, by identifier.
    func all(of node: NodeRecord) -> [JSONValue] {
        (byNode[node.uuid] ?? [:]).sorted { $0.key < $1.key }.map(\.value)
    }
}

/// Hands requests that throw `ForwardedRequest` to the node that they are for.
struct NodeForwardingMiddleware: RouterMiddleware {
    typealias Context = BasicRequestContext
    let others: OtherNodes

    @concurrent func handle(
        _ request: Request,
        context: Context,
        next: @concurrent (Request, Context) async throws -> Response
    ) async throws -> Response {
        do {
            return try await next(request, context)
        } catch let forwarded as ForwardedRequest {
            guard request.headers[HTTPField.Name(OtherNodes.headerName)!] == nil else {
                return RESTAnswer.failure(
                    ManagementError(
                        .unavailable,
                        "object_moving",
                        "what \(request.uri.path) names has just moved to node '\(forwarded.node.name)'",
                        remedy: "try again"
                    )
                ).response
            }
            return await others.answer(to: forwarded)
        }
    }
}
