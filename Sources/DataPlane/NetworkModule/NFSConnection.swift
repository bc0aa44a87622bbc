internal import CLinux
import Environment
import FileService
import HostNetwork
import Identity
import NFSServer
import NIOCore
import NIOPosix
import ONCRPC
import Synchronization
import VolumeEngine

/// Named limits of a connection.
package enum ConnectionLimits {
    /// Bytes of requests that wait in a connection (held by the gate, or for a worker) before it stops reading.
    package static let waitingBytesMax = 32 << 20
    /// Bytes of answers that were not taken by the client before its connection stops reading.
    package static let unsentBytesMax = 32 << 20
    /// Connections of a listener.
    package static let connectionsMax = 4096
    /// Requests that one worker takes at a time.
    package static let batchMax = 32
}

/// One client's connection: cuts records, runs them on the event loop, and sends answers in bursts.
///
/// All requests of one read are executed where they arrive, their answers go into one buffer and out with one write. What
/// needs the disk goes to a worker, what waits for durability comes back from a committer's thread.
final class NFSConnection: ChannelInboundHandler, @unchecked Sendable {
    // Proof of Sendable: everything but `inbox` and `outlet` is touched on the channel's event loop only; `inbox` is a
    // mutex, and `outlet` has one.
    typealias InboundIn = ByteBuffer

    var context: ChannelHandlerContext?
    let client: ClientContext
    let threads: NetworkThreads
    private let registry: ConnectionRegistry
    let eventLoop: any EventLoop
    /// -1 while there is none.
    private let socket: Int32
    /// Where answers leave.
    let outlet: AnswerOutlet
    /// The LIF's that the client came to, here or at the node that forwards.
    let term: LIFTerm
    /// Whether another node serves the LIF by now, so that nothing more that this connection brings is executed. Only for one
    /// that another node forwards; set from any thread.
    let isOvertaken = Atomic<Bool>(false)
    /// The connection's own ends; nil for one that another node forwards.
    let ends: TransportConnection?
    // The run-time check of exclusive access to the two buffers could find nothing: what is called while one of them is
    // in use never comes back to the connection but through the event loop's queue.
    @exclusivity(unchecked) private var stream = ByteBuffer()
    @exclusivity(unchecked) var output: ByteBuffer
    /// Requests that the gate holds.
    private var held: [ByteBuffer] = []
    /// Requests for volumes that no node can be asked for at present.
    var parked: [ByteBuffer] = []
    /// Requests that other nodes execute.
    var forwardedCount = 0
    var forwarder: RequestForwarder?
    var isPlaceCheckScheduled = false
    /// When this connection's event loop was last seen at work, and whether it once was not for long.
    var standstill = (lastNanoseconds: UInt64(0), wasThere: false)
    let environment: Environment
    /// Requests of this burst that need the disk.
    private var blocked: [PendingRequest] = []
    var waitingBytes = 0
    private var isReading = true
    var isClosed = false
    private var hasUnflushed = false
    private let answerClock = AnswerClock()
    private let remote: String
    /// Writes that the channel has not finished.
    private var queuedWrites = 0
    /// Capacity of an output buffer that every connection may keep, and connections that may keep more.
    private static let keptOutputBytesMax = 128 << 10
    private static let keptOutputsMax = 64
    /// Bytes of the answers of this burst that were made on the event loop.
    private var burstBytes = 0
    /// From here on, large reads of the burst go to workers, so that the loop is not held for long.
    private static let burstBytesMax = 2 << 20
    /// Answers that leave before the rest of their burst is executed.
    private static let largeAnswerBytes = 256 << 10
    /// Answers from workers that are not copied into the burst.
    static let largeReplyBytes = 32 << 10
    /// How often it is looked whether what waits for another node should go elsewhere by now.
    static let placeCheckMilliseconds: Int64 = 100
    /// Records of which more than this has not arrived yet are read straight into their buffer.
    private static let largeRecordBytes = 32 << 10
    /// Answers from other threads.
    private let inbox = Mutex(Inbox())

    private struct Inbox {
        var answers: [Completion] = []
        var isScheduled = false
    }

    /// An answer that has become ready on another thread.
    private struct Completion {
        var reply: ByteBuffer
        var requestBytes: Int
    }

    private struct PendingRequest: Sendable {
        var record: ByteBuffer
        var isClaimed: Bool
        /// When it was executed first, on the event loop.
        var beganNanoseconds: UInt64
    }

    var gate: RequestGate { client.service.gate }

    init(
        service: SVMFileService,
        address: ClientAddress,
        term: LIFTerm,
        threads: NetworkThreads,
        registry: ConnectionRegistry,
        channel: any Channel,
        environment: Environment,
        isForwarded: Bool = false
    ) {
        client = ClientContext(service: service, client: address, isForwarded: isForwarded)
        self.term = term
        self.environment = environment
        self.threads = threads
        self.registry = registry
        eventLoop = channel.eventLoop
        output = channel.allocator.buffer(capacity: 64 << 10)
        remote = "\(address):\(channel.remoteAddress?.port ?? 0)"
        ends = isForwarded ? nil : TransportConnection(of: channel)
        let operations = channel.pipeline.syncOperations
        // What another node forwards over TLS must not go past the channel.
        let isSecured = isForwarded && threads.security != nil
        let handle =
            isSecured ? nil : try? operations.withUnsafeTransportIfAvailable(of: NIOBSDSocket.Handle.self) { $0 }
        socket = handle ?? -1
        outlet = AnswerOutlet(duplicating: handle)
    }

    /// When the client was answered; nil when it was not yet.
    var answerAges: AnswerAges? { answerClock.ages(of: remote) }

    // MARK: Channel

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        watchForStandstill()
        let (isFrozen, isOver) = registry.add(self)
        if isFrozen { outlet.freeze() }
        if isOver { shutDown() }
    }

    func handlerRemoved(context: ChannelHandlerContext) { close() }

    func channelInactive(context: ChannelHandlerContext) {
        close()
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

    private func close() {
        guard !isClosed else { return }
        isClosed = true
        outlet.close()
        // What was let in is executed even if nobody waits for it any more: the client sends it again elsewhere.
        sendBlocked()
        registry.remove(self)
        held = []
        parked = []
        forwarder?.keepOnly([])
        forwarder = nil
        context = nil
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var incoming = Self.unwrapInboundIn(data)
        if stream.readableBytes == 0 { stream = incoming } else { stream.writeBuffer(&incoming) }
        refresh()
        do throws(RecordError) {
            repeat {
                while let record = try RecordMarking.next(from: &stream) { receive(record) }
                keepRest()
            } while receiveRest(context)
        } catch {
            registry.counters.countMalformed()
            context.close(promise: nil)
        }
    }

    /// Reads what has arrived of a large record straight into its buffer: through the channel it would be copied once more.
    /// Whether the record is whole now.
    private func receiveRest(_ context: ChannelHandlerContext) -> Bool {
        // A request may have closed the connection, and its socket with it.
        guard stream.readableBytes >= 4, socket >= 0, !isClosed, context.channel.isActive else { return false }
        var missing = missingRecordBytes - stream.readableBytes
        guard missing > Self.largeRecordBytes else { return false }
        while missing > 0 {
            let count = stream.writeWithUnsafeMutableBytes(minimumWritableBytes: missing) { memory in
                max(0, godwit_receive_now(socket, memory.baseAddress, missing))
            }
            // Nothing more yet, or an end or error, which the channel will meet itself.
            if count == 0 { return false }
            missing -= count
        }
        return true
    }

    /// Moves the beginning of a record that has not arrived whole into a buffer that it will fit into: requests that
    /// workers still hold share the old one, and growing step by step would copy it again and again.
    private func keepRest() {
        guard stream.readableBytes > 0 else {
            stream = ByteBuffer()
            return
        }
        guard stream.readerIndex > 0 || stream.capacity - stream.readerIndex < missingRecordBytes else { return }
        var rest = ByteBuffer()
        rest.reserveCapacity(max(missingRecordBytes, stream.readableBytes))
        rest.writeImmutableBuffer(stream)
        stream = rest
    }

    /// Bytes of the record that has begun to arrive, with its mark.
    private var missingRecordBytes: Int {
        let mark = stream.getInteger(at: stream.readerIndex, as: UInt32.self) ?? 0
        return Int(mark & 0x7fff_ffff) + 4
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        burstBytes = 0
        sendBlocked()
        flush()
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) { adjustReading() }

    // MARK: Requests

    private func receive(_ record: ByteBuffer) {
        registry.counters.countRequest()
        admit(record)
    }

    func admit(_ record: ByteBuffer) {
        // One load of a flag that is hardly ever written.
        if isOvertaken.load(ordering: .acquiring) { return }
        guard gate.enter() else {
            if gate.current == .closed { return }
            held.append(record)
            waitingBytes += record.readableBytes
            return adjustReading()
        }
        run(record)
    }

    /// Runs a request that the gate has let in.
    private func run(_ record: ByteBuffer) {
        let start = output.writerIndex
        let isShort = burstBytes >= Self.burstBytesMax
        let began = environment.monotonicNanoseconds()
        let outcome = NFSServer.execute(
            record,
            client,
            .cachedOnly,
            isShort: isShort,
            isClaimed: false,
            into: &output
        ) { [self] in deliver($0) }
        switch outcome {
        case .answered:
            client.measure.count(since: began, environment)
            gate.leave()
            burstBytes += output.writerIndex - start
            // The client takes a large answer while the next request is executed.
            if output.readableBytes >= Self.largeAnswerBytes { flush() }
        case .answeredWhenDurable(let volume, let ticket):
            // The answer leaves the burst: its bytes are copied out, since the buffer is used on.
            var copy = ByteBuffer()
            copy.writeImmutableBuffer(output.getSlice(at: start, length: output.writerIndex - start)!)
            let kept = copy
            output.moveWriterIndex(to: start)
            let measure = client.measure
            volume.whenDurable(ticket) { [self] in
                measure.count(since: began, environment)
                complete(kept, isAlone: $0)
            }
        case .wouldBlock:
            waitingBytes += record.readableBytes
            blocked.append(PendingRequest(record: record, isClaimed: true, beganNanoseconds: began))
        case .elsewhere(let target): forward(record, to: target)
        case .misdirected:
            gate.leave()
            context?.close(promise: nil)
        case .none: gate.leave()
        case .malformed:
            gate.leave()
            registry.counters.countMalformed()
            context?.close(promise: nil)
        }
    }

    /// Hands the requests of this burst that need the disk to workers.
    func sendBlocked() {
        while !blocked.isEmpty {
            // Large reads and writes are spread over the workers; small requests go together.
            let isLarge = waitingBytes > 256 << 10
            let part = Array(blocked.prefix(isLarge ? 1 : ConnectionLimits.batchMax))
            blocked.removeFirst(part.count)
            let client = ClientContext(copying: client)
            threads.workers.submit { [self] state in
                guard state == .active else { return }
                for request in part { runBlocking(request, client) }
            }
        }
        adjustReading()
    }

    /// Runs a request on a worker.
    private func runBlocking(_ request: PendingRequest, _ client: ClientContext) {
        var reply = ByteBuffer()
        let bytes = request.record.readableBytes
        let outcome = NFSServer.execute(
            request.record,
            client,
            .blocking,
            isClaimed: request.isClaimed,
            into: &reply
        ) { [self] in deliver($0) }
        switch outcome {
        case .answered:
            client.measure.count(since: request.beganNanoseconds, environment)
            complete(reply, requestBytes: bytes)
        case .answeredWhenDurable(let volume, let ticket):
            let answer = reply
            let measure = client.measure
            volume.whenDurable(ticket) { [self] _ in
                measure.count(since: request.beganNanoseconds, environment)
                complete(answer, requestBytes: bytes)
            }
        case .elsewhere(let target):
            eventLoop.execute { [self] in
                waitingBytes -= bytes
                forward(request.record, to: target)
                adjustReading()
            }
        case .misdirected:
            complete(ByteBuffer(), requestBytes: bytes)
            shutDown()
        case .none, .malformed, .wouldBlock: complete(ByteBuffer(), requestBytes: bytes)
        }
    }

    /// Takes the answer of the same request that was executed for another connection.
    private func deliver(_ cached: CachedReply) {
        var reply = ByteBuffer()
        let start = RecordMarking.begin(in: &reply)
        reply.writeBytes(cached.bytes)
        RecordMarking.finish(from: start, in: &reply)
        let answer = reply
        // This request has left the gate already.
        gate.rejoin()
        if let volume = cached.volume {
            volume.whenDurable(cached.ticket) { [self] in complete(answer, isAlone: $0) }
        } else {
            complete(answer, requestBytes: 0)
        }
    }

    /// Answers a request that was let in on the event loop, from any thread: at once when there is one answer only,
    /// otherwise in a burst.
    private func complete(_ reply: ByteBuffer, isAlone: Bool) {
        guard isAlone else { return complete(reply, requestBytes: 0) }
        answerClock.note()
        switch outlet.send(reply) {
        case .nothing: return complete(reply, requestBytes: 0)
        case .everything: break
        case .part: eventLoop.execute { [self] in queueRest() }
        }
        gate.leave()
    }

    /// Queues an answer, from any thread; one burst of them wakes the event loop once.
    private func complete(_ reply: ByteBuffer, requestBytes: Int) {
        let mustSchedule = inbox.withLock { inbox in
            inbox.answers.append(Completion(reply: reply, requestBytes: requestBytes))
            defer { inbox.isScheduled = true }
            return !inbox.isScheduled
        }
        if mustSchedule { eventLoop.execute { [self] in takeInbox() } }
    }

    private func takeInbox() {
        let answers = inbox.withLock { inbox in
            defer { inbox = Inbox() }
            return inbox.answers
        }
        for var answer in answers {
            waitingBytes -= answer.requestBytes
            if answer.reply.readableBytes >= Self.largeReplyBytes {
                // A large answer goes out as it is, behind what is before it.
                writeOutput()
                if let context, !isClosed { queue(answer.reply, context) }
            } else {
                output.writeBuffer(&answer.reply)
            }
            gate.leave()
        }
        flush()
        adjustReading()
    }

    // MARK: Output and backpressure

    func flush() {
        sendNow()
        writeOutput()
        guard hasUnflushed, let context, !isClosed else { return }
        hasUnflushed = false
        answerClock.note()
        context.flush()
    }

    /// Gives the burst to the kernel at once, where the channel has nothing queued before it: the channel's queue costs more
    /// than most requests, and the buffer stays here, warm. What the socket does not take is left to the channel, and so
    /// is every error.
    private func sendNow() {
        guard queuedWrites == 0, output.readableBytes > 0, !isClosed, let context, context.channel.isActive else {
            return
        }
        let count = output.withUnsafeReadableBytes { outlet.sendNow($0) }
        guard count > 0 else { return }
        answerClock.note()
        output.moveReaderIndex(forwardBy: count)
        guard output.readableBytes == 0 else { return }
        // A few connections may keep the memory of large answers; thousands may not.
        if output.capacity > Self.keptOutputBytesMax && registry.count > Self.keptOutputsMax {
            output = context.channel.allocator.buffer(capacity: 16 << 10)
        } else {
            output.clear()
        }
    }

    /// Hands the burst to the channel, without flushing it.
    func writeOutput() {
        guard output.readableBytes > 0 else { return }
        guard let context, !isClosed else { return output.clear() }
        let burst = output
        output = context.channel.allocator.buffer(capacity: 16 << 10)
        queue(burst, context)
    }

    /// Puts bytes behind everything that the channel has queued, and behind what another thread could not send.
    func queue(_ bytes: ByteBuffer, _ context: ChannelHandlerContext) {
        if let rest = outlet.beginQueueing() { write(rest, context) }
        write(bytes, context)
    }

    private func write(_ bytes: ByteBuffer, _ context: ChannelHandlerContext) {
        queuedWrites += 1
        hasUnflushed = true
        let promise = context.eventLoop.makePromise(of: Void.self)
        promise.futureResult.whenComplete { [self] _ in
            queuedWrites -= 1
            if queuedWrites == 0 { outlet.endQueueing() }
        }
        context.write(Self.wrapOutboundOut(bytes), promise: promise)
    }

    /// Queues what another thread could not send, unless it went before other bytes already.
    private func queueRest() {
        guard let context, !isClosed else { return }
        if let rest = outlet.beginQueueing() { write(rest, context) }
        if queuedWrites == 0 { outlet.endQueueing() }
        flush()
    }

    func adjustReading() {
        guard let context, !isClosed else { return }
        let mayRead = waitingBytes < ConnectionLimits.waitingBytesMax && context.channel.isWritable
        guard mayRead != isReading else { return }
        isReading = mayRead
        forwarder?.setReading(context.channel.isWritable)
        context.channel.setOption(.autoRead, value: mayRead).whenFailure { _ in }
        if mayRead { context.read() }
    }

    // MARK: For the gate

    /// Runs what the gate held, after it was opened.
    func runHeld() {
        eventLoop.execute { [self] in
            let records = held
            held = []
            refresh()
            for record in records {
                waitingBytes -= record.readableBytes
                admit(record)
            }
            sendBlocked()
            flush()
            adjustReading()
        }
    }

    /// Calls back when everything that was written before has been handed to the kernel, with the channel.
    func whenFlushed(_ body: @escaping @Sendable ((any Channel)?) -> Void) {
        eventLoop.execute { [self] in
            flush()
            guard let context, !isClosed else { return body(nil) }
            let channel = context.channel
            context.writeAndFlush(Self.wrapOutboundOut(ByteBuffer())).whenComplete { _ in body(channel) }
        }
    }

    /// Acknowledges at once what has come from other nodes.
    func acknowledgeAnswers() { eventLoop.execute { [self] in forwarder?.acknowledge() } }

    /// Waits until the socket is closed.
    func ended() async {
        let channel = try? await eventLoop.submit { [self] in context?.channel }.get()
        try? await channel?.closeFuture.get()
    }

    /// Calls back on the event loop with whether everything that other nodes have answered was taken.
    func whenAsked(_ body: @escaping @Sendable (_ hasTakenAnswers: Bool) -> Void) {
        eventLoop.execute { [self] in body(isClosed || hasTakenAnswers()) }
    }

    /// Closes the connection.
    func shutDown() { eventLoop.execute { [self] in context?.close(promise: nil) } }
}

extension TransportConnection {
    /// The ends of a channel; nil when they are not of IPv4.
    fileprivate init?(of channel: any Channel) {
        guard let local = channel.localAddress, let remote = channel.remoteAddress,
            let own = local.ipAddress.flatMap({ HostAddress($0) }),
            let other = remote.ipAddress.flatMap({ HostAddress($0) }),
            let ownPort = local.port, let otherPort = remote.port
        else { return nil }
        self.init(
            local: own,
            localPort: UInt16(truncatingIfNeeded: ownPort),
            remote: other,
            remotePort: UInt16(truncatingIfNeeded: otherPort)
        )
    }
}

extension NFSConnection {
    fileprivate static func wrapOutboundOut(_ buffer: ByteBuffer) -> NIOAny { NIOAny(buffer) }
}
