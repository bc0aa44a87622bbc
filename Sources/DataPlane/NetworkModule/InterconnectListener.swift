package import Environment
package import FileService
package import Identity
import NIOCore
import NIOPosix
import Synchronization
import TransportSecurity

/// The connections over which other nodes forward clients' requests to one SVM.
package final class ForwardedConnections: Sendable {
    let service: SVMFileService
    let registry = ConnectionRegistry()
    private let fence = Mutex(ForwardingFence())
    private let onRefusal: @Sendable (LIFTerm) -> Void
    private let refused = Mutex<Set<LIFTerm>>([])

    /// None yet.
    ///
    /// - Parameter onRefusal: is told each term for which a node forwards although it is over, once.
    package init(service: SVMFileService, onRefusal: @escaping @Sendable (LIFTerm) -> Void = { _ in }) {
        self.service = service
        self.onRefusal = onRefusal
    }

    /// Notes terms of the SVM's LIFs that have begun.
    package func learn(_ terms: [LIFTerm]) { fence.withLock { $0.learn(terms) } }

    /// Ends what comes from earlier terms of a LIF, before the first request of this one; false when it is one of those.
    package func admit(_ term: LIFTerm) -> Bool {
        // Under the lock: a second connection of this term must not execute while the first one is still ending the others.
        let isAdmitted = fence.withLock { fence in
            let admission = fence.admit(term)
            if admission == .admittedAsFirst {
                for connection in registry.all where fence.isOver(connection.term) { connection.overtake() }
            }
            return admission != .refused
        }
        if !isAdmitted && refused.withLock({ $0.insert(term).inserted }) { onRefusal(term) }
        return isAdmitted
    }

    /// Whether a later term was admitted.
    func isOver(_ term: LIFTerm) -> Bool { fence.withLock { $0.isOver(term) } }

    /// Lets held requests run, after the gate was opened.
    package func runHeld() { for connection in registry.all { connection.runHeld() } }

    /// Waits until every answer has come to the node that waits for it; false at the deadline (nanoseconds of the monotonic
    /// clock).
    package func flushed(deadline: UInt64, environment: Environment) async -> Bool {
        await registry.flushed(deadline: deadline, environment: environment)
    }

    /// Closes them; the other nodes try again.
    package func close() { for connection in registry.all { connection.shutDown() } }
}

/// Executes what other nodes of the cluster forward.
package final class InterconnectListener: Sendable {
    /// Finds what executes requests to an SVM; nil when it is not served now.
    package typealias Finder = @Sendable (_ svm: ObjectUUID) -> ForwardedConnections?

    /// The port.
    package let port: Int
    private let channel: any Channel

    private init(_ channel: any Channel) {
        self.channel = channel
        port = channel.localAddress?.port ?? 0
    }

    /// Begins to listen. Port 0 takes any free one.
    package static func bind(
        address: String,
        port: Int,
        secret: [UInt8],
        threads: NetworkThreads,
        environment: Environment,
        find: @escaping Finder
    ) async throws -> InterconnectListener {
        precondition(!secret.isEmpty, "an empty secret would let everybody in")
        let channel = try await threads.bootstrap(isPortShared: false)
            .childChannelInitializer { child in
                child.eventLoop.makeCompletedFuture {
                    if let security = threads.security {
                        try child.pipeline.syncOperations.addHandler(security.makeServerHandler())
                    }
                    try child.pipeline.syncOperations.addHandler(
                        ForwardingAcceptor(secret, threads, environment, find)
                    )
                }
            }
            .bind(host: address, port: port).get()
        return InterconnectListener(channel)
    }

    /// Stops listening; the connections are their services' to close.
    package func close() async { try? await channel.close().get() }
}

/// Lets a forwarding node prove who it is, then makes its connection one of the SVM's.
private final class ForwardingAcceptor: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer

    private let secret: [UInt8]
    private let threads: NetworkThreads
    private let environment: Environment
    private let find: InterconnectListener.Finder
    private var stream = ByteBuffer()
    private var hello: [UInt8] = []
    private var nonce: [UInt8] = []
    private var deadline: Scheduled<Void>?

    init(
        _ secret: [UInt8],
        _ threads: NetworkThreads,
        _ environment: Environment,
        _ find: @escaping InterconnectListener.Finder
    ) {
        self.secret = secret
        self.threads = threads
        self.environment = environment
        self.find = find
    }

    func channelActive(context: ChannelHandlerContext) {
        let channel = context.channel
        deadline = context.eventLoop.scheduleTask(in: .seconds(ForwardingHandshake.secondsMax)) {
            channel.close(promise: nil)
        }
        context.fireChannelActive()
    }

    func channelInactive(context: ChannelHandlerContext) {
        deadline?.cancel()
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var incoming = unwrapInboundIn(data)
        stream.writeBuffer(&incoming)
        if hello.isEmpty {
            guard let bytes = stream.readBytes(length: ForwardingHandshake.helloBytes) else { return }
            guard ForwardingHandshake.wanted(by: bytes) != nil else { return context.close(promise: nil) }
            hello = bytes
            nonce = ForwardingHandshake.nonce(environment)
            let proof = ForwardingHandshake.proof(.executor, hello: hello, nonce: nonce, secret: secret)
            context.writeAndFlush(NIOAny(ByteBuffer(bytes: nonce + proof)), promise: nil)
        }
        guard let proof = stream.readBytes(length: ForwardingHandshake.proofBytes) else { return }
        guard ForwardingHandshake.isRight(proof, .forwarder, hello: hello, nonce: nonce, secret: secret),
            let wanted = ForwardingHandshake.wanted(by: hello), let connections = find(wanted.svm)
        else { return context.close(promise: nil) }
        accept(wanted, connections, context)
    }

    private func accept(
        _ wanted: ForwardingHandshake.Wanted,
        _ connections: ForwardedConnections,
        _ context: ChannelHandlerContext
    ) {
        deadline?.cancel()
        guard connections.registry.count < ConnectionLimits.connectionsMax, connections.admit(wanted.term) else {
            return context.close(promise: nil)
        }
        let connection = NFSConnection(
            service: connections.service,
            address: wanted.client,
            term: wanted.term,
            threads: threads,
            registry: connections.registry,
            channel: context.channel,
            environment: environment,
            isForwarded: true
        )
        do {
            try context.pipeline.syncOperations.addHandler(connection)
        } catch {
            return context.close(promise: nil)
        }
        // Overtaken before it was one of those that are ended.
        if connections.isOver(wanted.term) { return connection.overtake() }
        if stream.readableBytes > 0 {
            context.fireChannelRead(NIOAny(stream))
            context.fireChannelReadComplete()
        }
        context.pipeline.syncOperations.removeHandler(self, promise: nil)
    }
}
