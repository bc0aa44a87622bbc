package import Environment
import FileIO
package import Identity
import NIOCore
import NIOPosix
package import Replication
import Synchronization
package import TransportSecurity
package import VolumeEngine

/// What both ends of a link have in common.
enum PeerTransport {
    /// The loop of all outgoing links of the process; lives as long as the process.
    static let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    static let socketBufferBytes = 4 << 20
    static let connectSecondsMax: Int64 = 5

    /// Opens an authenticated link to a source; blocks.
    static func connect(
        to source: PeerEndpoint,
        secret: [UInt8],
        security: TransportSecurity?,
        environment: Environment
    ) throws(StorageError) -> PeerConnection {
        try checkSecret(secret)
        let connection = PeerConnection(environment: environment)
        let bootstrap = ClientBootstrap(group: group)
            .connectTimeout(.seconds(connectSecondsMax))
            .channelOption(.socketOption(.tcp_nodelay), value: 1)
            .channelOption(.socketOption(.so_sndbuf), value: socketBufferBytes)
            .channelOption(.socketOption(.so_rcvbuf), value: socketBufferBytes)
            .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 1 << 20))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let security { try channel.pipeline.syncOperations.addHandler(security.makeClientHandler()) }
                    try channel.pipeline.syncOperations.addHandler(FrameHandler(connection: connection))
                }
            }
        do {
            connection.opened(try bootstrap.connect(host: source.address, port: source.port).wait())
        } catch {
            throw StorageError(
                .inputOutput,
                "no replication link to \(source.address):\(source.port): \(error)",
                remedy: "look whether the other cluster's node runs and its replication port is reachable"
            )
        }
        do throws(StorageError) {
            try PeerHandshake.asDestination(connection, secret: secret, environment: environment)
        } catch {
            connection.close()
            throw error
        }
        return connection
    }

    /// An empty secret would let everybody in.
    static func checkSecret(_ secret: [UInt8]) throws(StorageError) {
        guard secret.isEmpty else { return }
        throw StorageError(.conflict, "the peers have no secret", remedy: "peer the clusters with a secret")
    }
}

/// Replication over TCP, and with TLS between machines.
package struct NetworkReplicationTransport: ReplicationTransport {
    private let security: TransportSecurity?

    /// Makes it; without a security the links are in the clear.
    package init(security: TransportSecurity? = nil) { self.security = security }

    /// Listens on an address.
    package func listen(
        on endpoint: PeerEndpoint,
        secret: [UInt8],
        environment: Environment,
        volume: @escaping @Sendable (VolumeMSID) -> Volume?
    ) throws(StorageError) -> any ReplicationServing {
        try ReplicationListener.start(
            on: endpoint,
            secret: secret,
            security: security,
            environment: environment,
            volume: volume
        )
    }

    /// Connects to a listener.
    package func connect(
        to source: PeerEndpoint,
        secret: [UInt8],
        environment: Environment
    ) throws(StorageError) -> any FrameChannel {
        try PeerTransport.connect(to: source, secret: secret, security: security, environment: environment)
    }
}

/// The destination's side of one volume's replication: pulls from the other cluster and applies to a replica volume.
/// Methods block; call them from a thread, not from the cooperative pool.
package final class VolumeReplicator: Sendable {
    private let destination: ReplicationDestination

    /// Makes a replicator for a replica volume.
    ///
    /// - Parameters:
    ///   - transport: how the source is reached.
    ///   - wrap: what every link is passed through, which may watch or disturb it.
    package init(
        volume: Volume,
        source: PeerEndpoint,
        secret: [UInt8],
        environment: Environment,
        transport: any ReplicationTransport = NetworkReplicationTransport(),
        wrap: @escaping @Sendable (any FrameChannel) -> any FrameChannel = { $0 }
    ) {
        destination = ReplicationDestination(volume: volume, environment: environment) {
            () throws(StorageError) -> any FrameChannel in
            wrap(try transport.connect(to: source, secret: secret, environment: environment))
        }
    }

    /// Transfers every snapshot of the source up to and including `snapshot` (baseline when there is nothing in common,
    /// incremental otherwise; resumes what an earlier call did not finish). `throttleBytesPerSecond` 0 = unlimited.
    package func transfer(
        upTo snapshot: ObjectUUID,
        throttleBytesPerSecond: UInt64
    ) throws(StorageError) -> TransferStatistics {
        try destination.transfer(upTo: snapshot, throttleBytesPerSecond: throttleBytesPerSecond)
    }

    /// Begins the synchronous stream in the background; watch `status`.
    package func startSynchronous() throws(StorageError) { try destination.startSynchronous() }

    /// The state and the progress of the running transfer.
    package var status: (state: MirrorState, current: TransferStatistics, failure: String?) { destination.status }

    /// Ends whatever runs; returns when nothing more will be applied.
    package func stop() { destination.stop() }
}

/// The source's side: a listener that serves transfers of its volumes.
package final class ReplicationListener: ReplicationServing {
    /// Links that one listener serves at a time.
    package static let linksMax = 256

    private let source: ReplicationSource
    private let secret: [UInt8]
    private let security: TransportSecurity?
    private let environment: Environment
    private let group: MultiThreadedEventLoopGroup
    private let listening = Mutex<(any Channel)?>(nil)
    private let links = Mutex<[ObjectIdentifier: PeerConnection]>([:])

    private init(
        _ source: ReplicationSource,
        _ secret: [UInt8],
        _ security: TransportSecurity?,
        _ environment: Environment
    ) {
        self.source = source
        self.secret = secret
        self.security = security
        self.environment = environment
        group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    }

    /// Listens; `volume` finds a volume by its identity. Port 0 takes any free port, see `port`.
    package static func start(
        on endpoint: PeerEndpoint,
        secret: [UInt8],
        security: TransportSecurity? = nil,
        environment: Environment,
        volume: @escaping @Sendable (VolumeMSID) -> Volume?
    ) throws(StorageError) -> ReplicationListener {
        try PeerTransport.checkSecret(secret)
        let source = ReplicationSource(environment: environment, volume: volume)
        let listener = ReplicationListener(source, secret, security, environment)
        do {
            let channel = try listener.bootstrap().bind(host: endpoint.address, port: endpoint.port).wait()
            listener.listening.withLock { $0 = channel }
        } catch {
            listener.stop()
            throw StorageError(
                .inputOutput,
                "cannot listen for replication on \(endpoint.address):\(endpoint.port): \(error)",
                remedy: "choose an address of this node and a free port"
            )
        }
        return listener
    }

    private func bootstrap() -> ServerBootstrap {
        ServerBootstrap(group: group)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.socketOption(.tcp_nodelay), value: 1)
            .childChannelOption(.socketOption(.so_sndbuf), value: PeerTransport.socketBufferBytes)
            .childChannelOption(.socketOption(.so_rcvbuf), value: PeerTransport.socketBufferBytes)
            .childChannelInitializer { [self] channel in
                channel.eventLoop.makeCompletedFuture { try accept(channel) }
            }
    }

    /// Gives a new link its thread.
    private func accept(_ channel: any Channel) throws {
        let connection = PeerConnection(environment: environment) { [weak self] connection in
            self?.links.withLock { $0[ObjectIdentifier(connection)] = nil }
        }
        let isRoom = links.withLock { links -> Bool in
            guard links.count < Self.linksMax else { return false }
            links[ObjectIdentifier(connection)] = connection
            return true
        }
        guard isRoom else { throw PeerConnection.ended("\(Self.linksMax) links are open already") }
        if let security { try channel.pipeline.syncOperations.addHandler(security.makeServerHandler()) }
        try channel.pipeline.syncOperations.addHandler(FrameHandler(connection: connection))
        connection.opened(channel)
        let deadline = channel.eventLoop.scheduleTask(in: .seconds(PeerHandshake.secondsMax)) { connection.close() }
        SystemThread.start(name: "peer-session") { [source, secret, environment] in
            do throws(StorageError) {
                try PeerHandshake.asSource(connection, secret: secret, environment: environment)
                deadline.cancel()
                source.serve(connection)
            } catch {
                deadline.cancel()
                connection.close()
            }
        }
    }

    /// The port that the listener listens on; 0 when it has stopped.
    package var port: Int { listening.withLock { $0?.localAddress?.port ?? 0 } }

    /// The state of a volume's outgoing mirror: .inSync when each acknowledged write is on both sides.
    package func mirrorState(of msid: VolumeMSID) -> MirrorState { source.mirrorState(of: msid) }

    /// Ends a volume's outgoing streams (the mirror becomes OutOfSync; clients go on).
    package func disconnect(_ msid: VolumeMSID) { source.disconnect(msid) }

    /// Stops listening and ends every stream; idempotent. Call from a thread, not from an event loop.
    package func stop() {
        let channel = listening.withLock { channel -> (any Channel)? in
            defer { channel = nil }
            return channel
        }
        try? channel?.close().wait()
        source.stop()
        let open = links.withLock { links in links.values.map { $0 } }
        for connection in open { connection.close() }
        try? group.syncShutdownGracefully()
    }
}
