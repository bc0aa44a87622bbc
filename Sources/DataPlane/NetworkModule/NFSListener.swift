import CLinux
package import Environment
package import FileService
package import Identity
import NIOCore
package import NIOPosix
import Synchronization
package import TransportSecurity

/// Threads that serve the clients of a node: event loops, and workers that may wait for the disk.
package final class NetworkThreads: Sendable {
    /// The event loops.
    package let group: MultiThreadedEventLoopGroup
    let workers: NIOThreadPool
    /// What connections between nodes are secured with; nil for those in the clear.
    let security: TransportSecurity?

    /// Starts the threads.
    package init(eventLoops: Int = 2, workers: Int = 4, security: TransportSecurity? = nil) {
        godwit_keep_freed_memory()
        self.security = security
        group = MultiThreadedEventLoopGroup(numberOfThreads: eventLoops)
        self.workers = NIOThreadPool(numberOfThreads: workers)
        self.workers.start()
    }

    /// A listener for connections that carry clients' requests, their own and forwarded ones.
    ///
    /// - Parameters:
    ///   - isPortShared: whether another process may listen on the port, too (SO_REUSEPORT, 15).
    ///   - isAddressAwaited: whether the address may come later (IP_FREEBIND, 15).
    func bootstrap(isPortShared: Bool, isAddressAwaited: Bool = false) -> ServerBootstrap {
        ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 1024)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelOption(.socketOption(NIOBSDSocket.Option(rawValue: 15)), value: isPortShared ? 1 : 0)
            .serverChannelOption(.ipOption(NIOBSDSocket.Option(rawValue: 15)), value: isAddressAwaited ? 1 : 0)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(
                .writeBufferWaterMark,
                value: .init(low: ConnectionLimits.unsentBytesMax / 2, high: ConnectionLimits.unsentBytesMax)
            )
            .childChannelOption(
                .recvAllocator,
                // What is larger than this, the connection reads into the buffer of the record.
                value: AdaptiveRecvByteBufferAllocator(minimum: 4096, initial: 64 << 10, maximum: 64 << 10)
            )
    }

    /// Stops the threads.
    package func stop() async {
        try? await workers.shutdownGracefully()
        try? await group.shutdownGracefully()
    }
}

/// Serves NFS and MOUNT of one SVM on one address and port.
package final class NFSListener: Sendable {
    /// Where it listens, as `127.0.0.1`.
    package let address: String
    /// The port.
    package let port: Int
    let channel: any Channel
    let registry: ConnectionRegistry
    let workers: NIOThreadPool
    private let service: SVMFileService

    private init(
        address: String,
        port: Int,
        channel: any Channel,
        registry: ConnectionRegistry,
        workers: NIOThreadPool,
        service: SVMFileService
    ) {
        self.workers = workers
        self.address = address
        self.port = port
        self.channel = channel
        self.registry = registry
        self.service = service
    }

    /// Begins to listen. Port 0 takes any free one.
    ///
    /// The port may be shared with a listener of another process (SO_REUSEPORT): at a cutover on one machine the
    /// destination listens before the source stops, so that no client is refused. An address that is awaited need not be
    /// there yet.
    ///
    /// - Parameter term: the LIF's; other nodes that execute requests are told it.
    package static func bind(
        address: String,
        port: Int,
        service: SVMFileService,
        term: LIFTerm,
        threads: NetworkThreads,
        environment: Environment = .system,
        isShared: Bool,
        isAddressAwaited: Bool = false
    ) async throws -> NFSListener {
        let registry = ConnectionRegistry(term: term)
        let channel = try await threads.bootstrap(isPortShared: isShared, isAddressAwaited: isAddressAwaited)
            .childChannelInitializer { child in
                guard registry.count < ConnectionLimits.connectionsMax, let term = registry.term,
                    let remote = child.remoteAddress?.ipAddress, let client = ClientAddress(remote)
                else { return child.close() }
                return child.eventLoop.makeCompletedFuture {
                    try child.pipeline.syncOperations.addHandler(
                        NFSConnection(
                            service: service,
                            address: client,
                            term: term,
                            threads: threads,
                            registry: registry,
                            channel: child,
                            environment: environment
                        )
                    )
                }
            }
            .bind(host: address, port: port).get()
        return NFSListener(
            address: address,
            port: channel.localAddress?.port ?? port,
            channel: channel,
            registry: registry,
            workers: threads.workers,
            service: service
        )
    }

    /// The LIF's term that it listens for.
    package var term: LIFTerm? { registry.term }

    /// Begins another term of the LIF. Connections of the last one end: their clients may have been to another node, and what
    /// they bring here is refused where it is forwarded to.
    package func begin(_ term: LIFTerm) { for connection in registry.begin(term) { connection.shutDown() } }

    /// Counters of its requests.
    package var counters: RequestCounters { registry.counters }

    /// Clients that are connected.
    package var connectionCount: Int { registry.count }

    /// When each client that is connected was answered.
    package var answerAges: [AnswerAges] { registry.all.compactMap(\.answerAges) }

    /// Lets held requests run, after the gate was opened.
    package func runHeld() { for connection in registry.all { connection.runHeld() } }

    /// Waits until every answer that was written has left and the client's TCP has acknowledged it; false at the deadline
    /// (nanoseconds of the monotonic clock).
    package func flushed(deadline: UInt64, environment: Environment) async -> Bool {
        await registry.flushed(deadline: deadline, environment: environment)
    }

    /// Acknowledges at once what other nodes have answered: they wait for it after the gate was held.
    package func acknowledgeAnswers() { for connection in registry.all { connection.acknowledgeAnswers() } }

    /// Waits until what other nodes have answered was taken from their links; false at the deadline.
    package func tookAnswers(deadline: UInt64, environment: Environment) async -> Bool {
        for connection in registry.all {
            while await !connection.tookAnswers {
                guard environment.monotonicNanoseconds() < deadline else { return false }
                try? await connection.eventLoop.scheduleTask(in: .milliseconds(1)) {}.futureResult.get()
            }
        }
        return true
    }

    /// Stops listening; connections stay.
    package func stopAccepting() async { try? await channel.close().get() }

    /// Stops listening and closes every connection.
    package func close() async {
        await stopAccepting()
        for connection in registry.all { connection.shutDown() }
    }
}

extension NFSConnection {
    /// Whether everything that other nodes have answered was taken.
    fileprivate var tookAnswers: Bool {
        get async { await withCheckedContinuation { continuation in whenAsked { continuation.resume(returning: $0) } } }
    }
}

extension ConnectionRegistry {
    /// Waits until every answer that was written has left and the other side's TCP has acknowledged it; false at the
    /// deadline (nanoseconds of the monotonic clock).
    func flushed(deadline: UInt64, environment: Environment) async -> Bool {
        for connection in all {
            let channel = await withCheckedContinuation { continuation in
                connection.whenFlushed { continuation.resume(returning: $0) }
            }
            guard let channel else { continue }
            while await Self.unacknowledgedBytes(channel) > 0 {
                guard environment.monotonicNanoseconds() < deadline else { return false }
                try? await channel.eventLoop.scheduleTask(in: .milliseconds(1)) {}.futureResult.get()
            }
        }
        return true
    }

    private static func unacknowledgedBytes(_ channel: any Channel) async -> Int {
        let bytes = try? await channel.eventLoop.submit {
            try channel.pipeline.syncOperations.withUnsafeTransportIfAvailable(of: NIOBSDSocket.Handle.self) {
                Int(godwit_socket_unacknowledged_bytes($0))
            }
        }.get()
        // A socket that is gone has nothing left to acknowledge.
        return max(0, bytes ?? 0)
    }
}
