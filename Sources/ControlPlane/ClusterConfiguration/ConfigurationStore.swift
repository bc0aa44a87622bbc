package import ReplicatedDatabase
import Synchronization

/// The configuration of the cluster: typed, validated reads and writes over the replicated database.
package struct ConfigurationStore: Sendable {
    /// How often a change is tried again because somebody else changed the configuration in between.
    package static let attemptsMax = 16

    /// The database beneath, for records that are not of the configuration.
    package let database: any ReplicatedDatabase

    /// The configuration as it was read last. It holds as long as the guard, which every change writes, has its revision:
    /// reading that one key is much cheaper than reading and decoding everything, and a cutover reads inside its window.
    private final class Cache: Sendable {
        let last = Mutex<ConfigurationSnapshot?>(nil)
        /// What records were decoded to.
        let reader = Mutex(RecordReader())
    }
    private let cache = Cache()

    /// A store over a database.
    package init(_ database: any ReplicatedDatabase) { self.database = database }

    /// The whole configuration, now.
    package func snapshot() async throws(ManagementError) -> ConfigurationSnapshot {
        do {
            let guardRevision = try await database.get(ConfigurationKeys.writeGuard)?.modifyRevision
            if let guardRevision, let last = cache.last.withLock({ $0 }), last.guardRevision == guardRevision {
                return last
            }
            let read = try await read()
            cache.last.withLock { $0 = read }
            return read
        } catch let error as DatabaseError {
            throw ManagementError(database: error)
        } catch let error as ManagementError {
            throw error
        } catch {
            throw ManagementError(.failed, "unexpected", "\(error)", remedy: "report this as a defect")
        }
    }

    private func read() async throws(ManagementError) -> ConfigurationSnapshot {
        do {
            let (records, revision) = try await database.range(prefix: ConfigurationKeys.all)
            // Worked on as a copy: two reads at a time cost one of them its memory, and nothing else.
            var reader = cache.reader.withLock { $0 }
            let snapshot = try ConfigurationSnapshot(records: records, revision: revision, reader: &reader)
            let newest = reader
            cache.reader.withLock { $0 = newest }
            return snapshot
        } catch let error as DatabaseError {
            throw ManagementError(database: error)
        } catch let error as ManagementError {
            throw error
        } catch {
            throw ManagementError(.failed, "unexpected", "\(error)", remedy: "report this as a defect")
        }
    }

    /// Changes the configuration by compare-and-set: all of the draft's changes happen, or none.
    ///
    /// - Parameters:
    ///   - actor: on whose behalf; a locked SVM refuses everybody but the operation that locked it.
    ///   - body: edits the draft; called again on the newer state when somebody else was faster, so it must not have
    ///     effects of its own.
    /// - Returns: what the body returned, and the configuration as it was committed.
    package func change<Result: Sendable>(
        as actor: ConfigurationActor,
        _ body: (inout ConfigurationDraft) throws(ManagementError) -> Result
    ) async throws(ManagementError) -> (result: Result, snapshot: ConfigurationSnapshot) {
        try await change(as: actor, beside: nil) { draft, _ throws(ManagementError) in try body(&draft) }
    }

    /// The same for a change that depends on a record outside of the configuration, too: it happens only if that is still what
    /// the body was given, which is called again with the newer one otherwise.
    ///
    /// - Parameter key: where that record is; nil for none.
    package func change<Result: Sendable>(
        as actor: ConfigurationActor,
        beside key: String?,
        _ body: (inout ConfigurationDraft, DatabaseRecord?) throws(ManagementError) -> Result
    ) async throws(ManagementError) -> (result: Result, snapshot: ConfigurationSnapshot) {
        for _ in 0..<Self.attemptsMax {
            let base = try await snapshot()
            var draft = ConfigurationDraft(base, actor: actor)
            let other = try await other(key)
            if let key {
                draft.require(
                    other.map { .modifyRevision(key: key, equals: $0.modifyRevision) } ?? .absent(key: key)
                )
            }
            let result = try body(&draft, other)
            guard !draft.changes.isEmpty else { return (result, base) }
            let unchanged: DatabaseCondition =
                base.guardRevision == 0
                ? .absent(key: ConfigurationKeys.writeGuard)
                : .modifyRevision(key: ConfigurationKeys.writeGuard, equals: base.guardRevision)
            let outcome: TransactionOutcome
            do {
                outcome = try await database.transact(
                    when: [unchanged] + draft.conditions,
                    draft.changes + [.put(key: ConfigurationKeys.writeGuard, value: [])]
                )
            } catch {
                throw ManagementError(database: error)
            }
            guard case .committed(let revision) = outcome else { continue }
            var committed = draft.snapshot
            committed.revision = revision
            committed.guardRevision = revision
            return (result, committed)
        }
        throw ManagementError(
            .conflict,
            "configuration_changed",
            "the configuration was changed by others \(Self.attemptsMax) times during this change",
            remedy: "try again"
        )
    }

    private func other(_ key: String?) async throws(ManagementError) -> DatabaseRecord? {
        guard let key else { return nil }
        do { return try await database.get(key) } catch { throw ManagementError(database: error) }
    }
}

extension ManagementError {
    /// The error of a replicated database that does not answer.
    package init(database error: DatabaseError) {
        switch error.code {
        case .unavailable, .compacted:
            self.init(
                .unavailable,
                "database_unavailable",
                error.description,
                remedy: "look at the state with GET or the 'show' command, then try again"
            )
        case .damaged:
            self.init(.failed, "database_damaged", error.description, remedy: "restore the database from a backup")
        }
    }
}
