import Synchronization

/// A `ReplicatedDatabase` in the memory of one process: the model that every other engine is compared with, and the
/// database of tests. Nothing survives the process.
package final class InMemoryDatabase: ReplicatedDatabase {
    private struct State {
        var records: [String: DatabaseRecord] = [:]
        var revision: Int64 = 0
        var compactedRevision: Int64 = 0
        var history: [WatchEvent] = []
        var hub = WatchHub()
    }

    private let state = Mutex(State())
    private let historyRevisionsMax: Int64

    /// An empty database at revision 0.
    ///
    /// - Parameter historyRevisionsMax: how many revisions back a watch may start.
    package init(historyRevisionsMax: Int64 = 10_000) { self.historyRevisionsMax = historyRevisionsMax }

    /// The record at a key.
    package func get(_ key: String) async throws(DatabaseError) -> DatabaseRecord? {
        state.withLock { $0.records[key] }
    }

    /// Every record under a prefix, in key order.
    package func range(prefix: String) async throws(DatabaseError) -> (records: [DatabaseRecord], revision: Int64) {
        state.withLock { state in
            let records = state.records.values.filter { $0.key.hasPrefix(prefix) }
            return (records.sorted { utf8Precedes($0.key, $1.key) }, state.revision)
        }
    }

    /// Makes all changes or none.
    package func transact(
        when conditions: [DatabaseCondition],
        _ changes: [DatabaseChange]
    ) async throws(DatabaseError) -> TransactionOutcome {
        let (outcome, ended) = state.withLock { state -> (TransactionOutcome, [WatchHub.EndedWatch]) in
            for condition in conditions where !Self.holds(condition, state.records) {
                return (.conflicted(revision: state.revision), [])
            }
            let revision = state.revision + 1
            var events: [WatchEvent] = []
            for change in EffectiveChange.list(changes) {
                Self.apply(change, at: revision, to: &state.records, &events)
            }
            guard !events.isEmpty else { return (.committed(revision: state.revision), []) }
            state.revision = revision
            state.history.append(contentsOf: events)
            Self.compact(&state, keeping: historyRevisionsMax)
            return (.committed(revision: revision), state.hub.publish(events))
        }
        for watch in ended { watch.finish() }
        return outcome
    }

    /// Every change under a prefix after a revision.
    package func watch(prefix: String, after revision: Int64) -> AsyncThrowingStream<WatchEvent, any Error> {
        let (stream, continuation) = AsyncThrowingStream<WatchEvent, any Error>.makeStream(
            bufferingPolicy: .bufferingOldest(WatchHub.pendingEventsMax)
        )
        let added = state.withLock { state -> (identifier: UInt64, ended: WatchHub.EndedWatch?)? in
            guard revision >= state.compactedRevision else {
                continuation.finish(throwing: DatabaseError.compacted(revision, oldest: state.compactedRevision))
                return nil
            }
            return state.hub.add(
                prefix: prefix,
                history: state.history.filter { $0.revision > revision },
                continuation
            )
        }
        guard let added else { return stream }
        continuation.onTermination = { [weak self] _ in self?.state.withLock { $0.hub.remove(added.identifier) } }
        added.ended?.finish()
        return stream
    }

    private static func holds(_ condition: DatabaseCondition, _ records: [String: DatabaseRecord]) -> Bool {
        switch condition {
        case .modifyRevision(let key, let expected): records[key]?.modifyRevision == expected
        case .absent(let key): records[key] == nil
        case .present(let key): records[key] != nil
        }
    }

    private static func apply(
        _ change: EffectiveChange,
        at revision: Int64,
        to records: inout [String: DatabaseRecord],
        _ events: inout [WatchEvent]
    ) {
        switch change {
        case .put(let key, let value):
            records[key] = DatabaseRecord(
                key: key,
                value: value,
                createRevision: records[key]?.createRevision ?? revision,
                modifyRevision: revision
            )
            events.append(WatchEvent(key: key, value: value, revision: revision))
        case .delete(let key):
            guard records.removeValue(forKey: key) != nil else { return }
            events.append(WatchEvent(key: key, value: nil, revision: revision))
        case .deletePrefix(let prefix, let sparing):
            let keys = records.keys.filter { $0.hasPrefix(prefix) && !sparing.contains($0) }.sorted(by: utf8Precedes)
            for key in keys {
                records[key] = nil
                events.append(WatchEvent(key: key, value: nil, revision: revision))
            }
        }
    }

    private static func compact(_ state: inout State, keeping revisions: Int64) {
        let oldest = state.revision - revisions
        guard oldest > state.compactedRevision else { return }
        let kept = state.history.firstIndex { $0.revision > oldest } ?? state.history.endIndex
        state.history.removeSubrange(..<kept)
        state.compactedRevision = oldest
    }
}

/// Whether a key sorts before another one: by bytes, as every engine stores them, not by Unicode collation.
private func utf8Precedes(_ left: String, _ right: String) -> Bool { left.utf8.lexicographicallyPrecedes(right.utf8) }

extension DatabaseError {
    /// The error of a watch that asks for more history than there is.
    package static func compacted(_ revision: Int64, oldest: Int64) -> DatabaseError {
        DatabaseError(
            .compacted,
            "changes after revision \(revision) are gone, the oldest kept are those after \(oldest); "
                + "read the range and watch from its revision"
        )
    }
}
