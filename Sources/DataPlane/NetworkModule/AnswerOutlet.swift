internal import CLinux
import Glibc
import NIOCore
import Synchronization

/// The socket of a connection, for answers that do not go through the channel: those of the event loop, and the one that a
/// committer's thread gives at once, which spares a client with one request at a time the wake of the event loop.
///
/// Has a lock, which is free but for the moment in which both send, because a record must go out whole before the next.
final class AnswerOutlet: Sendable {
    private struct State {
        /// A descriptor of its own, since the channel may close the socket's and its number be given to another client
        /// while a committer's thread sends; -1 when there is none.
        var descriptor: Int32
        /// Whether bytes wait in the channel, or in `rest`, that must go out first.
        var isQueued = false
        /// The end of an answer that the socket did not take.
        var rest: ByteBuffer?
    }

    private let state: Mutex<State>

    /// The outlet of a socket, or none.
    init(duplicating socket: Int32?) {
        state = Mutex(State(descriptor: socket.map { fcntl($0, F_DUPFD_CLOEXEC, 0) } ?? -1))
    }

    deinit { close() }

    /// Sends no more.
    func close() {
        state.withLock { state in
            guard state.descriptor >= 0 else { return }
            Glibc.close(state.descriptor)
            state.descriptor = -1
            state.rest = nil
        }
    }

    /// Drops what arrives at the socket, unacknowledged.
    func freeze() { withDescriptor { _ = godwit_drop_everything($0) } }

    /// Takes what arrives again.
    func thaw() { withDescriptor { _ = godwit_drop_nothing($0) } }

    /// Makes the socket end without a packet when it is closed. Where that is not allowed it ends as any other.
    func silence() { withDescriptor { _ = godwit_silence($0) } }

    private func withDescriptor(_ body: (Int32) -> Void) {
        state.withLock { if $0.descriptor >= 0 { body($0.descriptor) } }
    }

    /// Gives bytes to the kernel at once; returns how many it took, none while others wait before them.
    func sendNow(_ bytes: UnsafeRawBufferPointer) -> Int {
        state.withLock { state in
            guard state.descriptor >= 0, !state.isQueued else { return 0 }
            return max(0, godwit_send_now(state.descriptor, bytes.baseAddress, bytes.count))
        }
    }

    /// Gives a whole answer to the kernel, from any thread.
    func send(_ answer: ByteBuffer) -> Sent {
        state.withLock { state in
            guard state.descriptor >= 0, !state.isQueued else { return .nothing }
            let count = answer.withUnsafeReadableBytes {
                max(0, godwit_send_now(state.descriptor, $0.baseAddress, $0.count))
            }
            if count == 0 { return .nothing }
            if count == answer.readableBytes { return .everything }
            state.rest = answer.getSlice(at: answer.readerIndex + count, length: answer.readableBytes - count)
            state.isQueued = true
            return .part
        }
    }

    /// What became of an answer.
    enum Sent {
        case nothing, everything
        /// The event loop must queue the rest.
        case part
    }

    /// From now on bytes wait in the channel. Returns what must be queued first.
    func beginQueueing() -> ByteBuffer? {
        state.withLock { state in
            state.isQueued = true
            defer { state.rest = nil }
            return state.rest
        }
    }

    /// The channel has nothing left.
    func endQueueing() { state.withLock { $0.isQueued = $0.rest != nil } }
}
