package import AsyncHTTPClient
package import ClusterConfiguration
import Identity
package import MigrateOperation
import NIOCore
import NIOHTTP1

/// Another cluster, spoken to over its cluster service.
struct RemoteSourceCluster: SourceCluster {
    let client: HTTPClient
    let scheme: String
    let peer: ClusterPeerRecord

    /// Makes one call. An answer that does not come in the call's time is `.unreachable`.
    func send(_ call: SourceCall) async throws -> SourceReply {
        var request = HTTPClientRequest(
            url: "\(scheme)://\(peer.service.address):\(peer.service.port)\(ClusterServiceProtocol.migratePath)"
        )
        request.method = .POST
        request.headers.add(name: "Content-Type", value: "application/json")
        request.headers.add(
            name: ClusterServiceProtocol.tokenHeader,
            value: PeerToken.token(passphrase: peer.passphrase)
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
            throw unreachable("\(error)")
        }
        return try parse(status, headers, body)
    }

    private func parse(_ status: UInt, _ headers: HTTPHeaders, _ body: ByteBuffer) throws -> SourceReply {
        var body = body
        let length = headers.first(name: ClusterServiceProtocol.answerLengthHeader).flatMap { Int($0) }
        guard let length, length >= 0, let json = body.readBytes(length: length) else {
            throw unreachable("it answered \(status) without the form of a cluster service")
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

    private func unreachable(_ reason: String) -> MigrateError {
        MigrateError(
            .unreachable,
            code: MigrateCode.peerUnreachable,
            "peer '\(peer.name)' at \(peer.service) does not answer: \(reason)",
            remedy: "start godwitd there, and check the address of the peer with 'godwit cluster peer show'"
        )
    }
}

/// Finds clusters in the configuration, and speaks to them over HTTP.
package struct PeerDirectory: SourceClusterDirectory {
    private let client: HTTPClient
    private let scheme: String
    private let store: ConfigurationStore

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
        return RemoteSourceCluster(client: client, scheme: scheme, peer: peer)
    }
}
