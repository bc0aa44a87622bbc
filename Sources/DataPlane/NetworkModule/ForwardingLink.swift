import CLinux
import Environment
import FileService
import NIOCore
import NIOPosix
import ONCRPC
import TransportSecurity

/// One client's requests to one other node: sends records, and gives their answers back as they come.
///
/// A link per client and node, not one for all clients: the other node then treats it as the client's own connection, with
/// its gate, duplicate requests, workers and backpressure, and one client's large answers stand in nobody else's way. It
/// lives on the event loop of the client's connection, so that an answer is handed over without a lock.
final class ForwardingLink: ChannelInboundHandler, @unchecked Sendable {
    // Proof of Sendable: everything is touched on `eventLoop` only.
    typealias InboundIn = ByteBuffer

    /// A request that has not been answered.
    struct Request {
        let xid: UInt32
        let record: ByteBuffer
    }

    /// What the link tells its connection.
    struct Callbacks {
        /// An answer without its record mark, and the bytes of its request.
        var answered: (ByteBuffer, Int) -> Void
        /// The answers that one read of the socket brought are complete.
        var burstEnded: () -> Void
        /// The link is over; these requests have no answer.
        var lost: ([ByteBuffer]) -> Void
    }

    private enum State {
        case connecting
        case proving
        case open
        case ended
    }

    private let secret: [UInt8]
    private let hello: [UInt8]
    private let eventLoop: any EventLoop
    private let callbacks: Callbacks
    private var state = State.connecting
    private var channel: (any Channel)?
    private var stream = ByteBuffer()
    private var outstanding: [Request] = []
    /// Requests of `outstanding` that were not written yet.
    private var unsentCount = 0
    private var isReading = true
    /// Whether it ends when everything is answered.
    private var isEnding = false

    /// Milliseconds within which a connection is made or given up.
    private static let connectMilliseconds: Int64 = 1000

    /// Begins to connect.
    init(
        to target: ForwardingTarget,
        _ wanted: ForwardingHandshake.Wanted,
        _ eventLoop: any EventLoop,
        _ security: TransportSecurity?,
        _ environment: Environment,
        _ callbacks: Callbacks
    ) {
        secret = target.secret
        hello = ForwardingHandshake.hello(wanted, environment)
        self.eventLoop = eventLoop
        self.callbacks = callbacks
        let option = { (number: CInt) in ChannelOptions.Types.SocketOption(level: .tcp, name: .init(rawValue: number)) }
        ClientBootstrap(group: eventLoop)
            .connectTimeout(.milliseconds(Self.connectMilliseconds))
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            // A node that vanishes without a word is noticed within 5 seconds: by probes while nothing is under way
            // (idle 4, interval 5, count 6), by the time that sent bytes may stay unacknowledged otherwise (18, ms).
            .channelOption(.socketOption(.so_keepalive), value: 1)
            .channelOption(option(4), value: 2)
            .channelOption(option(5), value: 1)
            .channelOption(option(6), value: 3)
            .channelOption(option(18), value: 5000)
            .channelOption(
                .recvAllocator,
                value: AdaptiveRecvByteBufferAllocator(minimum: 4096, initial: 64 << 10, maximum: 1 << 20)
            )
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let security { try channel.pipeline.syncOperations.addHandler(security.makeClientHandler()) }
                    try channel.pipeline.syncOperations.addHandler(self)
                }
            }
            .connect(host: target.address, port: target.port)
            .whenFailure { [self] _ in end() }
    }

    /// Sends a request, as soon as the link is open.
    func send(_ record: ByteBuffer) {
        // An address that nothing leads to fails before the link is known to anybody.
        guard state != .ended else { return callbacks.lost([record]) }
        let xid = record.getInteger(at: record.readerIndex, as: UInt32.self) ?? 0
        isEnding = false
        outstanding.append(Request(xid: xid, record: record))
        unsentCount += 1
        // In the same pass of the loop: the rest of the burst goes along.
        if state == .open && unsentCount == 1 { eventLoop.execute { [self] in sendRest() } }
    }

    private func sendRest() {
        guard state == .open, let channel, unsentCount > 0 else { return }
        // One allocation for the marks of a burst. The records are not copied behind them: they may be large.
        var marks = channel.allocator.buffer(capacity: 4 * unsentCount)
        for request in outstanding.suffix(unsentCount) {
            marks.writeInteger(UInt32(request.record.readableBytes) | 0x8000_0000)
            if let mark = marks.readSlice(length: 4) { channel.write(mark, promise: nil) }
            channel.write(request.record, promise: nil)
        }
        unsentCount = 0
        channel.flush()
    }

    /// Whether nothing has come that was not given to the connection: neither in the socket nor a part of an answer.
    var hasTakenAnswers: Bool {
        guard state == .open, let channel, channel.isActive else { return true }
        let unread = try? channel.pipeline.syncOperations.withUnsafeTransportIfAvailable(
            of: NIOBSDSocket.Handle.self
        ) { Int(godwit_socket_unread_bytes($0)) }
        return stream.readableBytes == 0 && (unread ?? 0) <= 0
    }

    /// Acknowledges at once what has come (TCP_QUICKACK, 12). While the gate is held there is nothing to send that would carry
    /// the acknowledgement, and the other node waits for it; the kernel would take 40 ms.
    func acknowledge() {
        let option = ChannelOptions.Types.SocketOption(level: .tcp, name: .init(rawValue: 12))
        try? channel?.syncOptions?.setOption(option, value: 1)
    }

    /// Whether answers may come: not while the client takes none.
    func setReading(_ isReading: Bool) {
        guard isReading != self.isReading else { return }
        self.isReading = isReading
        guard let channel else { return }
        channel.setOption(.autoRead, value: isReading).whenFailure { _ in }
        if isReading { channel.read() }
    }

    /// Ends the link once everything is answered. The node that has executed a request and holds its volume no more is the
    /// only one that knows the answer.
    func endWhenAnswered() {
        isEnding = true
        if outstanding.isEmpty { end() }
    }

    /// Ends the link.
    func end() {
        guard state != .ended else { return }
        state = .ended
        channel?.close(promise: nil)
        let requests = outstanding
        outstanding = []
        unsentCount = 0
        callbacks.lost(requests.map(\.record))
    }

    // MARK: Channel

    func channelActive(context: ChannelHandlerContext) {
        guard state == .connecting else { return context.close(promise: nil) }
        channel = context.channel
        state = .proving
        context.writeAndFlush(NIOAny(ByteBuffer(bytes: hello)), promise: nil)
        // Read before the other side had anything to say.
        if !isReading { context.channel.setOption(.autoRead, value: false).whenFailure { _ in } }
        eventLoop.scheduleTask(in: .seconds(ForwardingHandshake.secondsMax)) { [self] in
            if state == .proving { end() }
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        end()
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { end() }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var incoming = unwrapInboundIn(data)
        if stream.readableBytes == 0 { stream = incoming } else { stream.writeBuffer(&incoming) }
        if state == .proving && !prove(context) { return }
        guard state == .open else { return }
        do throws(RecordError) {
            while let record = try RecordMarking.next(from: &stream) { answer(record) }
        } catch { end() }
        // What is left is the beginning of a record; the memory of the others belongs to their answers.
        if stream.readableBytes == 0 { stream = ByteBuffer() }
    }

    /// Checks the other side's proof and gives the own one; false when more must come first, or it is wrong.
    private func prove(_ context: ChannelHandlerContext) -> Bool {
        guard let bytes = stream.readBytes(length: ForwardingHandshake.answerBytes) else { return false }
        let nonce = Array(bytes[..<ForwardingHandshake.nonceBytes])
        let proof = Array(bytes[ForwardingHandshake.nonceBytes...])
        guard ForwardingHandshake.isRight(proof, .executor, hello: hello, nonce: nonce, secret: secret) else {
            end()
            return false
        }
        let own = ForwardingHandshake.proof(.forwarder, hello: hello, nonce: nonce, secret: secret)
        context.write(NIOAny(ByteBuffer(bytes: own)), promise: nil)
        context.flush()
        state = .open
        sendRest()
        return true
    }

    private func answer(_ record: ByteBuffer) {
        let xid = record.getInteger(at: record.readerIndex, as: UInt32.self)
        // Answers come nearly in order: the search is short.
        guard let index = outstanding.firstIndex(where: { $0.xid == xid }) else { return end() }
        let request = outstanding.remove(at: index)
        callbacks.answered(record, request.record.readableBytes)
        if isEnding && outstanding.isEmpty { end() }
    }

    func channelReadComplete(context: ChannelHandlerContext) { if state == .open { callbacks.burstEnded() } }
}
