import Environment
import NIOCore
import Replication

/// Cuts the byte stream into frames, keeps the link alive and notices when the other side has gone silent.
final class FrameHandler: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    /// How often a sign of life is sent.
    static let keepAliveMilliseconds: Int64 = 500
    /// How long nothing at all may come.
    static let silenceNanosecondsMax: UInt64 = 3_000_000_000
    private static let headerBytes = 4

    private let connection: PeerConnection
    private var header: UInt32 = 0
    private var headerCount = 0
    private var frame: [UInt8] = []
    private var missing = 0
    private var isReadWanted = false
    private var lastHeardNanoseconds: UInt64 = 0
    private var ticker: RepeatedTask?

    init(connection: PeerConnection) { self.connection = connection }

    private var now: UInt64 { connection.environment.monotonicNanoseconds() }

    func channelActive(context: ChannelHandlerContext) {
        connection.opened(context.channel)
        lastHeardNanoseconds = now
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        ticker = context.eventLoop.scheduleRepeatedTask(
            initialDelay: .milliseconds(Self.keepAliveMilliseconds),
            delay: .milliseconds(Self.keepAliveMilliseconds)
        ) { _ in
            let (handler, context) = bound.value
            handler.tick(context)
        }
        context.fireChannelActive()
    }

    private func tick(_ context: ChannelHandlerContext) {
        // While reading is held nothing can be heard, which is this side's doing.
        if !isReadWanted && now - lastHeardNanoseconds > Self.silenceNanosecondsMax {
            connection.end(PeerConnection.ended("the other side was silent for 3 seconds"))
            context.close(promise: nil)
            return
        }
        guard context.channel.isWritable else { return }
        var buffer = context.channel.allocator.buffer(capacity: Self.headerBytes)
        buffer.writeInteger(UInt32(0), endianness: .little)
        context.writeAndFlush(wrapOutboundOut(buffer), promise: nil)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var buffer = unwrapInboundIn(data)
        lastHeardNanoseconds = now
        while buffer.readableBytes > 0 {
            if missing == 0 {
                guard readHeader(&buffer, context) else { return }
                continue
            }
            let count = min(missing, buffer.readableBytes)
            buffer.readWithUnsafeReadableBytes { bytes in
                frame.append(contentsOf: bytes.prefix(count))
                return count
            }
            missing -= count
            if missing == 0 {
                connection.accept(frame)
                frame = []
            }
        }
    }

    /// Reads one byte of a frame's count; returns false when the count is refused.
    private func readHeader(_ buffer: inout ByteBuffer, _ context: ChannelHandlerContext) -> Bool {
        guard let byte: UInt8 = buffer.readInteger() else { return true }
        header |= UInt32(byte) << UInt32(8 * headerCount)
        headerCount += 1
        guard headerCount == Self.headerBytes else { return true }
        missing = Int(header)
        (header, headerCount) = (0, 0)
        guard missing <= connection.frameBytesMax else {
            connection.end(PeerConnection.ended("the other side announced a frame of \(missing) bytes"))
            context.close(promise: nil)
            return false
        }
        frame.reserveCapacity(missing)
        return true
    }

    func read(context: ChannelHandlerContext) {
        if connection.holdsReading() { isReadWanted = true } else { context.read() }
    }

    func triggerUserOutboundEvent(context: ChannelHandlerContext, event: Any, promise: EventLoopPromise<Void>?) {
        guard event is ReadOn else { return context.triggerUserOutboundEvent(event, promise: promise) }
        promise?.succeed()
        guard isReadWanted else { return }
        isReadWanted = false
        lastHeardNanoseconds = now
        context.read()
    }

    func channelInactive(context: ChannelHandlerContext) {
        ticker?.cancel()
        ticker = nil
        connection.end(PeerConnection.ended("the other side closed the connection"))
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        connection.end(PeerConnection.ended("\(error)"))
        context.close(promise: nil)
    }
}
