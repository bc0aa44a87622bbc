/// The watchers of a database that lives in this process.
///
/// A value without a lock of its own: the database that owns it registers and publishes under the same lock (or on the
/// same serial queue) under which it commits, so no watcher misses a change or sees two in the wrong order.
package struct WatchHub {
    /// Events that may wait for one reader; a reader further behind is ended and must read the range again.
    package static let pendingEventsMax = 65_536

    private struct Watcher {
        let prefix: String
        let continuation: AsyncThrowingStream<WatchEvent, any Error>.Continuation
    }

    private var watchers: [UInt64: Watcher] = [:]
    private var nextIdentifier: UInt64 = 1

    /// A hub without watchers.
    package init() {}

    /// How many streams are open.
    package var count: Int { watchers.count }

    /// A stream that must end. Whoever gets one ends it after releasing the lock of the hub: ending a stream calls back
    /// into `remove`.
    package struct EndedWatch: Sendable {
        let continuation: AsyncThrowingStream<WatchEvent, any Error>.Continuation
        let error: DatabaseError?

        /// Ends the stream.
        package func finish() { continuation.finish(throwing: error) }
    }

    /// Registers a stream and first gives it what `history` holds for it.
    ///
    /// - Returns: a number for `remove`, and the stream again when its history alone is too much for it.
    package mutating func add(
        prefix: String,
        history: [WatchEvent],
        _ continuation: AsyncThrowingStream<WatchEvent, any Error>.Continuation
    ) -> (identifier: UInt64, ended: EndedWatch?) {
        let identifier = nextIdentifier
        nextIdentifier += 1
        watchers[identifier] = Watcher(prefix: prefix, continuation: continuation)
        return (identifier, deliver(history, to: identifier))
    }

    /// Forgets a stream; unknown numbers are no error.
    package mutating func remove(_ identifier: UInt64) { watchers[identifier] = nil }

    /// Gives the events of one committed transaction to every stream that watches their keys.
    ///
    /// - Returns: streams whose readers are too far behind, or have gone.
    package mutating func publish(_ events: [WatchEvent]) -> [EndedWatch] {
        guard !events.isEmpty else { return [] }
        return watchers.keys.sorted().compactMap { deliver(events, to: $0) }
    }

    /// Forgets every stream and returns them all, to be ended.
    package mutating func removeAll() -> [EndedWatch] {
        defer { watchers.removeAll() }
        return watchers.keys.sorted().compactMap { identifier in
            watchers[identifier].map { EndedWatch(continuation: $0.continuation, error: nil) }
        }
    }

    private mutating func deliver(_ events: [WatchEvent], to identifier: UInt64) -> EndedWatch? {
        guard let watcher = watchers[identifier] else { return nil }
        for event in events where event.key.hasPrefix(watcher.prefix) {
            switch watcher.continuation.yield(event) {
            case .enqueued: continue
            case .dropped:
                // A gap would be worse than an end: the reader starts over from a range.
                watchers[identifier] = nil
                let error = DatabaseError(
                    .compacted,
                    "the reader of the watch on '\(watcher.prefix)' is \(Self.pendingEventsMax) events behind; "
                        + "read the range and watch again"
                )
                return EndedWatch(continuation: watcher.continuation, error: error)
            default:
                // Its reader has gone. The stream is given back all the same: whoever lets the last reference to it go calls
                // `remove`, and must not have the lock.
                watchers[identifier] = nil
                return EndedWatch(continuation: watcher.continuation, error: nil)
            }
        }
        return nil
    }
}
