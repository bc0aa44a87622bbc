import Environment
import FileIO
import NIOCore
import Replication
package import VolumeEngine

/// A TCP connection as a frame channel: bounded both ways, kept alive, and given up after silence.
///
/// Threads of sessions wait here; the event loop only moves bytes. A frame on the wire is a 32-bit little-endian count
/// and that many bytes; a count of zero is a sign of life.
package final class PeerConnection: FrameChannel, @unchecked Sendable {
    // Proof of Sendable: every variable is touched inside `monitor` only; the rest is immutable and thread-safe itself.

    // Both small: the socket's buffers fill a long network, and what waits here has left the processor's cache by the
    // time it is looked at.

    /// Bytes that wait for the session before the connection is no longer read.
    static let inboundBytesMax = 2 << 20
    /// Bytes that wait for the network before senders wait.
    static let outboundBytesMax = 1 << 20

    private let monitor = Monitor()
    let environment: Environment
    private var channel: (any Channel)?
    private var inbound: [[UInt8]] = []
    private var inboundFirst = 0
    private var inboundBytes = 0
    private var outboundBytes = 0
    private var isReadingHeld = false
    private var failure: StorageError?
    private var isClosedHere = false
    private var frameBytesMaxNow = PeerHandshake.frameBytesMax
    private let onEnd: @Sendable (PeerConnection) -> Void

    /// `onEnd` is called once, on any thread, when the connection has ended.
    init(environment: Environment, onEnd: @escaping @Sendable (PeerConnection) -> Void = { _ in }) {
        self.environment = environment
        self.onEnd = onEnd
    }

    // MARK: For sessions

    /// Queues a frame; waits while more than 1 MiB is under way.
    package func send(_ frame: [UInt8]) throws(StorageError) {
        precondition(frame.count <= FrameLimits.frameBytesMax && !frame.isEmpty, "a frame of \(frame.count) bytes")
        let channel = try monitor.locked { () throws(StorageError) -> any Channel in
            while outboundBytes > Self.outboundBytesMax && failure == nil { monitor.wait() }
            if let failure { throw failure }
            guard let channel = self.channel else { throw Self.ended("the connection is not open yet") }
            outboundBytes += frame.count
            return channel
        }
        var buffer = channel.allocator.buffer(capacity: frame.count + 4)
        buffer.writeInteger(UInt32(frame.count), endianness: .little)
        buffer.writeBytes(frame)
        channel.writeAndFlush(buffer).whenComplete { [self] _ in
            monitor.locked {
                outboundBytes -= frame.count
                monitor.broadcast()
            }
        }
    }

    /// The next frame.
    package func receive(isWaiting: Bool) throws(StorageError) -> [UInt8]? {
        let (frame, resumed) = try monitor.locked { () throws(StorageError) -> ([UInt8]?, (any Channel)?) in
            while isWaiting && inboundFirst == inbound.count && failure == nil { monitor.wait() }
            guard inboundFirst < inbound.count, !isClosedHere else {
                if let failure { throw failure }
                return (nil, nil)
            }
            let frame = inbound[inboundFirst]
            inbound[inboundFirst] = []
            inboundFirst += 1
            if inboundFirst == inbound.count {
                inbound.removeAll(keepingCapacity: true)
                inboundFirst = 0
            }
            inboundBytes -= frame.count
            guard isReadingHeld, inboundBytes < Self.inboundBytesMax / 2 else { return (frame, nil) }
            isReadingHeld = false
            return (frame, channel)
        }
        resumed?.triggerUserOutboundEvent(ReadOn(), promise: nil)
        return frame
    }

    /// Ends the connection.
    package func close() {
        let channel = monitor.locked { () -> (any Channel)? in
            isClosedHere = true
            return self.channel
        }
        end(Self.ended("the connection was closed on this side"))
        // What was sent before goes out first: the reason for the end may be among it.
        channel?.eventLoop.execute { channel?.close(promise: nil) }
    }

    static func ended(_ reason: String) -> StorageError {
        StorageError(
            .inputOutput,
            "the replication link has ended: \(reason)",
            remedy: "look at the network between the clusters and at the other side's state"
        )
    }

    // MARK: For the event loop

    /// The connection is there.
    func opened(_ channel: any Channel) { monitor.locked { if self.channel == nil { self.channel = channel } } }

    /// Frames may be of full size from now on: the other side has proven who it is.
    func trustPeer() { monitor.locked { frameBytesMaxNow = FrameLimits.frameBytesMax } }

    /// The most bytes that a frame may have at present.
    var frameBytesMax: Int { monitor.locked { frameBytesMaxNow } }

    /// Takes a frame; returns false when no more should be read for now.
    func accept(_ frame: [UInt8]) {
        monitor.locked {
            inbound.append(frame)
            inboundBytes += frame.count
            monitor.broadcast()
        }
    }

    /// Whether the session has enough to do; if so it will send `ReadOn` later.
    func holdsReading() -> Bool {
        monitor.locked {
            if inboundBytes >= Self.inboundBytesMax { isReadingHeld = true }
            return isReadingHeld
        }
    }

    /// The connection is over.
    func end(_ error: StorageError) {
        let isFirst = monitor.locked { () -> Bool in
            guard failure == nil else { return false }
            failure = error
            monitor.broadcast()
            return true
        }
        if isFirst { onEnd(self) }
    }
}

/// Tells the handler that the session has room again.
struct ReadOn: Sendable {}
