import NIOCore
import Synchronization

/// When a client's connection got its first and its last answer, as ages, so that they mean the same on every machine.
package struct AnswerAges: Equatable, Sendable {
    /// The client's address and port, as `192.0.2.7:903`.
    package var client: String
    /// Since the first answer.
    package var firstMicroseconds: UInt64
    /// Since the last one.
    package var lastMicroseconds: UInt64
}

/// Notes when a connection answered. One store per burst of answers, no lock: it is read from other threads.
final class AnswerClock: Sendable {
    private let firstNanoseconds = Atomic<UInt64>(0)
    private let lastNanoseconds = Atomic<UInt64>(0)

    /// Answers go out now.
    func note() {
        let now = NIODeadline.now().uptimeNanoseconds
        if lastNanoseconds.load(ordering: .relaxed) == 0 { firstNanoseconds.store(now, ordering: .relaxed) }
        lastNanoseconds.store(now, ordering: .relaxed)
    }

    /// The ages; nil when nothing was answered yet.
    func ages(of client: String) -> AnswerAges? {
        let last = lastNanoseconds.load(ordering: .relaxed)
        if last == 0 { return nil }
        let first = firstNanoseconds.load(ordering: .relaxed)
        let now = NIODeadline.now().uptimeNanoseconds
        return AnswerAges(
            client: client,
            firstMicroseconds: (now - min(now, first)) / 1_000,
            lastMicroseconds: (now - min(now, last)) / 1_000
        )
    }
}
