import Synchronization

/// A `ReplicatedDatabase` in the memory of one process: the model that every other engine is compared with, and the
/// database of tests. Nothing survives the process.
package final class InMemoryDatabase: LeasingDatabase {
    private struct State {
        var records: [String: DatabaseRecord] = [:]
        var revision: Int64 = 0
        var compactedRevision: Int64 = 0
        var history: [WatchEvent] = []
        var hub = WatchHub()
        /// The keys of each lease.
        var leases: [Int64: Set<String>] = [:]
        var nextLease: Int64 = 1
    }

    private let state = Mutex(State())
    private let historyRevisionsMax: Int64
    private let onCommit: @Sendable ([WatchEvent]) -> Void

    /// An empty database at revision 0.
    ///
    /// - Parameters:
    ///   - historyRevisionsMax: how many revisions back a watch may start.
    ///   - onCommit: told of the changes of each transaction, in their order, before it returns.
    package init(
        historyRevisionsMax: Int64 = 10_000,
        onCommit: @escaping @Sendable ([WatchEvent]) -> Void = { _ in }
    ) {
        self.historyRevisionsMax = historyRevisionsMax
        self.onCommit = onCommit
    }

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
        try await transact(when: conditions, changes, with: nil)
    }

    /// The same; what is put lives as long as the lease, which must be there.
    package func transact(
        when conditions: [DatabaseCondition],
        _ changes: [DatabaseChange],
        with lease: DatabaseLease?
    ) async throws(DatabaseError) -> TransactionOutcome {
        if let lease, state.withLock({ $0.leases[lease.identifier] == nil }) {
            throw DatabaseError(.unavailable, "the lease has ended; grant another one and try again")
        }
        return commit(when: conditions, changes, with: lease)
    }

    private func commit(
        when conditions: [DatabaseCondition],
        _ changes: [DatabaseChange],
        with lease: DatabaseLease?
    ) -> TransactionOutcome {
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
            for event in events {
                for other in state.leases.keys { state.leases[other]?.remove(event.key) }
                if let lease, event.value != nil { state.leases[lease.identifier]?.insert(event.key) }
            }
            onCommit(events)
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

    // MARK: Leases

    /// Begins a lease, which lives until it is revoked: whoever uses this database says when its time is over.
    package func grantLease(seconds: Int64) async throws(DatabaseError) -> DatabaseLease {
        state.withLock { state in
            defer { state.nextLease += 1 }
            state.leases[state.nextLease] = []
            return DatabaseLease(identifier: state.nextLease, seconds: seconds)
        }
    }

    /// Whether a lease is there.
    package func renew(_ lease: DatabaseLease) async throws(DatabaseError) -> Bool {
        state.withLock { $0.leases[lease.identifier] != nil }
    }

    /// Ends a lease and with it its keys; no error when it has ended already.
    package func revoke(_ lease: DatabaseLease) async throws(DatabaseError) { end(lease) }

    /// The same, for whoever keeps the time.
    package func end(_ lease: DatabaseLease) {
        let keys = state.withLock { $0.leases.removeValue(forKey: lease.identifier) } ?? []
        _ = commit(when: [], keys.sorted(by: utf8Precedes).map { .delete(key: $0) }, with: nil)
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
