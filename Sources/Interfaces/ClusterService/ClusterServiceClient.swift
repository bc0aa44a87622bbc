package import AsyncHTTPClient
package import ClusterConfiguration
import Identity
package import MigrateOperation
import NIOCore
import NIOHTTP1
import Synchronization

/// Another cluster, spoken to over the cluster service of any of its nodes: whoever answers passes a call on to the node
/// that it is for.
struct RemoteSourceCluster: SourceCluster {
    let client: HTTPClient
    let scheme: String
    let peer: ClusterPeerRecord
    let directory: PeerDirectory

    /// Makes one call: to the node that answered last, and when it does not answer in the call's time, to the others. Every
    /// call may be repeated, so that one whose answer was lost can be made to another node. No answer is `.unreachable`.
    func send(_ call: SourceCall) async throws -> SourceReply {
        var failure: MigrateError?
        for endpoint in directory.endpoints(of: peer) {
            do {
                let reply = try await send(call, to: endpoint)
                directory.answered(peer, endpoint)
                if case .description(let svm, _) = reply.answer { await directory.learn(svm.services, of: peer) }
                return reply
            } catch let error as MigrateError where error.kind == .unreachable {
                failure = error
            }
        }
        throw failure ?? unreachable("it has no address", peer.service)
    }

    private func send(_ call: SourceCall, to endpoint: NetworkEndpoint) async throws -> SourceReply {
        var request = HTTPClientRequest(url: "\(scheme)://\(endpoint)\(ClusterServiceProtocol.migratePath)")
        request.method = .POST
        request.headers.add(name: "Content-Type", value: "application/json")
        request.headers.add(
            name: ClusterServiceProtocol.tokenHeader,
            value: KeyedProof.ofPeer(passphrase: peer.passphrase)
        )
        request.body = .bytes(ByteBuffer(bytes: try ConfigurationCoding.encode(call)))
        let patience = TimeAmount.milliseconds(Int64(call.request.patienceMilliseconds))
        let status: UInt
        let headers: HTTPHeaders
        let body: ByteBuffer
        do {
            let response = try await client.execute(request, timeout: patience)
            status = response.status.code
            headers = response.headers
            body = try await response.body.collect(upTo: ClusterServiceProtocol.answerBytesMax)
        } catch let error as CancellationError {
            throw error
        } catch {
            if Task.isCancelled { throw CancellationError() }
            throw unreachable("\(error)", endpoint)
        }
        return try parse(status, headers, body, endpoint)
    }

    private func parse(
        _ status: UInt,
        _ headers: HTTPHeaders,
        _ body: ByteBuffer,
        _ endpoint: NetworkEndpoint
    ) throws -> SourceReply {
        var body = body
        let length = headers.first(name: ClusterServiceProtocol.answerLengthHeader).flatMap { Int($0) }
        guard let length, length >= 0, let json = body.readBytes(length: length) else {
            throw unreachable("it answered \(status) without the form of a cluster service", endpoint)
        }
        if status == 200 {
            let answer: SourceAnswer = try decode(json)
            return SourceReply(answer, attachment: body.readBytes(length: body.readableBytes) ?? [])
        }
        let error: MigrateError = try decode(json)
        throw error
    }

    private func decode<Value: Decodable>(_ json: [UInt8]) throws -> Value {
        do {
            return try ConfigurationCoding.decode(Value.self, from: json, key: "answer")
        } catch {
            throw MigrateError(
                .wrongVersion,
                code: MigrateCode.wrongVersion,
                "the answer of peer '\(peer.name)' cannot be read: \(error.message)",
                remedy: "run the same version of the software on both clusters"
            )
        }
    }

    private func unreachable(_ reason: String, _ endpoint: NetworkEndpoint) -> MigrateError {
        MigrateError(
            .unreachable,
            code: MigrateCode.peerUnreachable,
            "peer '\(peer.name)' at \(endpoint) does not answer: \(reason)",
            remedy: "start godwitd there, and check the addresses of the peer with 'godwit cluster peer show'"
        )
    }
}

/// Finds clusters in the configuration, and speaks to them over HTTP.
package final class PeerDirectory: SourceClusterDirectory {
    private let client: HTTPClient
    private let scheme: String
    private let store: ConfigurationStore
    /// The address of each peer that answered last.
    private let preferred = Mutex<[ObjectUUID: NetworkEndpoint]>([:])

    /// Makes a directory of the peers in a configuration.
    ///
    /// - Parameter scheme: how they are spoken to: `http`, or `https` with certificates.
    package init(client: HTTPClient, scheme: String, store: ConfigurationStore) {
        self.client = client
        self.scheme = scheme
        self.store = store
    }

    /// The cluster of a peer, by its name or its identifier.
    package func sourceCluster(peerName: String) async throws -> any SourceCluster {
        let peers = try await store.snapshot().peers
        guard let peer = peers.first(where: { $0.name == peerName || $0.uuid.description == peerName }) else {
            throw MigrateError(
                .notFound,
                code: MigrateCode.unknownPeer,
                "there is no cluster peer '\(peerName)'",
                remedy: "create it with 'godwit cluster peer create' on both clusters"
            )
        }
        return RemoteSourceCluster(client: client, scheme: scheme, peer: peer, directory: self)
    }

    /// The addresses of a peer, the one first that answered last.
    func endpoints(of peer: ClusterPeerRecord) -> [NetworkEndpoint] {
        guard let first = preferred.withLock({ $0[peer.uuid] }), peer.services.contains(first) else {
            return peer.services
        }
        return [first] + peer.services.filter { $0 != first }
    }

    /// Remembers who answered.
    func answered(_ peer: ClusterPeerRecord, _ endpoint: NetworkEndpoint) {
        preferred.withLock { $0[peer.uuid] = endpoint }
    }

    /// Keeps the addresses that a peer tells of its nodes, for the time when the one that is known does not answer.
    func learn(_ services: [NetworkEndpoint], of peer: ClusterPeerRecord) async {
        let learned = services.filter { $0 != peer.service }
        guard !learned.isEmpty, learned != peer.learnedServices ?? [] else { return }
        // It is told again with the next description.
        _ = try? await store.change(as: .system) { draft throws(ManagementError) in
            guard var record = draft.snapshot.peer(peer.uuid) else { return }
            record.learnedServices = learned
            if record != draft.snapshot.peer(peer.uuid) { try draft.putPeer(record) }
        }
    }
}
