package import AsyncHTTPClient
package import ClusterConfiguration
package import GroupControl
import HTTPTypes
package import Hummingbird
package import Identity
import MigrateOperation
import NIOCore
import NIOHTTP1
package import StorageControl

/// The path and headers of group control between the nodes of a cluster.
enum GroupProtocol {
    /// Calls of masters.
    static let path = "/cluster/v1/group"
    /// Proves that the caller knows the secret of the node that it calls.
    static let proofHeader = "Godwit-Node-Proof"
    /// Length of the JSON part of a call or an answer; what follows it is the attachment.
    static let lengthHeader = "Godwit-Answer-Length"
    /// Largest call or answer that is read: the protocol states of a whole cluster are the largest part.
    static let bytesMax = 1 << 30

    /// What proves that a call was made by somebody who knows the secret of the node that executes it. It is bound to the
    /// call: whoever sees it can have the same done once more, which changes nothing, and nothing else.
    static func proof(of json: [UInt8], secret: String) -> String {
        KeyedProof.proof(of: [UInt8]("godwit group control, version 1\n".utf8) + json, secret: secret)
    }
}

/// The nodes of the own cluster, over HTTP; the own node without a hop.
package struct GroupNodes: GroupNodeDirectory {
    private let client: HTTPClient
    private let scheme: String
    private let controller: StorageController
    private let own: any GroupNode

    /// Makes a directory; `own` executes what is for this node.
    ///
    /// - Parameter scheme: how nodes are spoken to: `http`, or `https` with certificates.
    package init(client: HTTPClient, scheme: String, controller: StorageController, own: any GroupNode) {
        self.client = client
        self.scheme = scheme
        self.controller = controller
        self.own = own
    }

    /// A node.
    package func node(_ uuid: ObjectUUID) async throws -> any GroupNode {
        if uuid == controller.node.uuid { return own }
        // The records of nodes change when they start; this one is asked for in the window of a cutover.
        var record = controller.reconciledConfiguration.node(uuid)
        if record == nil { record = try await controller.store.snapshot().node(uuid) }
        guard let record else {
            throw MigrateError(
                .nodeAway,
                "node \(uuid) is not in this cluster",
                remedy: "look at 'godwit node show', and at the aggregates of the SVM"
            )
        }
        guard let secret = record.interconnectSecret else {
            throw MigrateError(
                .refused,
                "node '\(record.name)' has no interconnect, which the nodes of a cluster need",
                remedy: "give it one in its configuration file"
            )
        }
        return RemoteGroupNode(client: client, scheme: scheme, node: record, secret: secret)
    }
}

/// Another node of the own cluster.
private struct RemoteGroupNode: GroupNode {
    let client: HTTPClient
    let scheme: String
    let node: NodeRecord
    let secret: String

    func send(_ call: GroupCall) async throws -> GroupReply {
        let json = try ConfigurationCoding.encode(call)
        var request = HTTPClientRequest(url: "\(scheme)://\(node.management)\(GroupProtocol.path)")
        request.method = .POST
        request.headers.add(name: "Content-Type", value: "application/octet-stream")
        request.headers.add(name: GroupProtocol.proofHeader, value: GroupProtocol.proof(of: json, secret: secret))
        request.headers.add(name: GroupProtocol.lengthHeader, value: "\(json.count)")
        var body = ByteBuffer()
        body.reserveCapacity(json.count + call.attachment.count)
        body.writeBytes(json)
        body.writeBytes(call.attachment)
        request.body = .bytes(body)
        let patience = TimeAmount.milliseconds(Int64(call.step.patienceMilliseconds))
        let status: UInt
        let headers: HTTPHeaders
        let answer: ByteBuffer
        do {
            let response = try await client.execute(request, timeout: patience)
            status = response.status.code
            headers = response.headers
            answer = try await response.body.collect(upTo: GroupProtocol.bytesMax)
        } catch let error as CancellationError {
            throw error
        } catch {
            if Task.isCancelled { throw CancellationError() }
            throw away("\(error)")
        }
        return try parse(status, headers, answer)
    }

    private func parse(_ status: UInt, _ headers: HTTPHeaders, _ body: ByteBuffer) throws -> GroupReply {
        var body = body
        let length = headers.first(name: GroupProtocol.lengthHeader).flatMap { Int($0) }
        guard let length, length >= 0, let json = body.readBytes(length: length) else {
            throw away("it answered \(status) without the form of group control")
        }
        do {
            guard status == 200 else {
                let error = try ConfigurationCoding.decode(MigrateError.self, from: json, key: "answer")
                throw error
            }
            let answer = try ConfigurationCoding.decode(GroupAnswer.self, from: json, key: "answer")
            return GroupReply(answer, attachment: body.readBytes(length: body.readableBytes) ?? [])
        } catch let error as ManagementError {
            throw MigrateError(
                .wrongVersion,
                code: MigrateCode.wrongVersion,
                "the answer of node '\(node.name)' cannot be read: \(error.message)",
                remedy: "run the same version of the software on all nodes"
            )
        }
    }

    private func away(_ reason: String) -> MigrateError {
        MigrateError(
            .nodeAway,
            "node '\(node.name)' at \(node.management) does not answer: \(reason)",
            remedy: "start godwitd there, or wait until its partner has taken over (godwit node show)"
        )
    }
}

/// Serves the calls of masters on other nodes. Every call must prove that its caller knows this node's secret.
package struct GroupRoutes: Sendable {
    private let node: NodeRecord
    private let executor: any GroupNode

    /// Serves what `executor` does on a node.
    package init(node: NodeRecord, executor: any GroupNode) {
        self.node = node
        self.executor = executor
    }

    /// Adds the routes to a router.
    package func register<Context: RequestContext>(on router: some RouterMethods<Context>) {
        router.on("/cluster/v1/group", method: .post) { request, _ in try await answer(request) }
    }

    private func answer(_ request: Request) async throws -> Response {
        do {
            let reply = try await executor.send(try await call(request))
            return try ClusterServiceRoutes.response(.ok, reply.answer, attachment: reply.attachment)
        } catch let error as MigrateError {
            return try ClusterServiceRoutes.response(ClusterServiceRoutes.status(of: error.kind), error)
        }
    }

    private func call(_ request: Request) async throws -> GroupCall {
        var body = try await request.body.collect(upTo: GroupProtocol.bytesMax)
        let length = Self.field(GroupProtocol.lengthHeader, request).flatMap { Int($0) }
        guard let length, length >= 0, let json = body.readBytes(length: length) else {
            throw MigrateError(
                .wrongVersion,
                code: MigrateCode.wrongVersion,
                "the request has not the form of group control",
                remedy: "run the same version of the software on all nodes"
            )
        }
        let shown = Self.field(GroupProtocol.proofHeader, request) ?? ""
        // A node without a secret executes nothing for others.
        guard let secret = node.interconnectSecret,
            KeyedProof.areEqual(shown, GroupProtocol.proof(of: json, secret: secret))
        else {
            throw MigrateError(
                .notAuthenticated,
                "the caller is not a node of this cluster, or knows an older secret of this node",
                remedy: "look at the interconnects of the nodes and at 'godwit node show'"
            )
        }
        do {
            var call = try ConfigurationCoding.decode(GroupCall.self, from: json, key: "request")
            call.attachment = body.readBytes(length: body.readableBytes) ?? []
            return call
        } catch {
            throw MigrateError(
                .wrongVersion,
                code: MigrateCode.wrongVersion,
                "the request cannot be read: \(error.message)",
                remedy: "run the same version of the software on all nodes"
            )
        }
    }

    private static func field(_ name: String, _ request: Request) -> String? {
        HTTPField.Name(name).flatMap { request.headers[$0] }
    }
}
