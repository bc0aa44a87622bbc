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

    /// Registers a stream and first gives it what `history` holds for it.
    ///
    /// - Returns: a number for `remove`.
    package mutating func add(
        prefix: String,
        history: [WatchEvent],
        _ continuation: AsyncThrowingStream<WatchEvent, any Error>.Continuation
    ) -> UInt64 {
        let identifier = nextIdentifier
        nextIdentifier += 1
        watchers[identifier] = Watcher(prefix: prefix, continuation: continuation)
        deliver(history, to: identifier)
        return identifier
    }

    /// Forgets a stream; unknown numbers are no error.
    package mutating func remove(_ identifier: UInt64) { watchers[identifier] = nil }

    /// Gives the events of one committed transaction to every stream that watches their keys.
    package mutating func publish(_ events: [WatchEvent]) {
        guard !events.isEmpty else { return }
        for identifier in watchers.keys.sorted() { deliver(events, to: identifier) }
    }

    /// Ends every stream.
    package mutating func finish(throwing error: DatabaseError?) {
        for identifier in watchers.keys.sorted() { watchers[identifier]?.continuation.finish(throwing: error) }
        watchers.removeAll()
    }

    private mutating func deliver(_ events: [WatchEvent], to identifier: UInt64) {
        guard let watcher = watchers[identifier] else { return }
        for event in events where event.key.hasPrefix(watcher.prefix) {
            switch watcher.continuation.yield(event) {
            case .enqueued: continue
            case .dropped:
                // A gap would be worse than an end: the reader starts over from a range.
                watcher.continuation.finish(
                    throwing: DatabaseError(
                        .compacted,
                        "the reader of the watch on '\(watcher.prefix)' is \(Self.pendingEventsMax) events behind; "
                            + "read the range and watch again"
                    )
                )
                watchers[identifier] = nil
                return
            default:
                watchers[identifier] = nil
                return
            }
        }
    }
}
