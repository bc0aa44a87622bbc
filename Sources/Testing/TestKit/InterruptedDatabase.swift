package import ReplicatedDatabase
import Synchronization

/// A database in which somebody else is faster, once: what it was told to do comes right before the next transaction.
package final class InterruptedDatabase: ReplicatedDatabase {
    /// The database beneath, which others change.
    package let database = InMemoryDatabase()
    private let interruption = Mutex<(@Sendable () async throws -> Void)?>(nil)

    /// An empty database, in which nobody interrupts anything yet.
    package init() {}

    /// Lets something happen right before the next transaction.
    package func interrupt(_ body: @escaping @Sendable () async throws -> Void) { interruption.withLock { $0 = body } }

    /// Reads a record.
    package func get(_ key: String) async throws(DatabaseError) -> DatabaseRecord? { try await database.get(key) }
    /// Reads the records under a prefix.
    package func range(prefix: String) async throws(DatabaseError) -> (records: [DatabaseRecord], revision: Int64) {
        try await database.range(prefix: prefix)
    }
    /// Commits, after the interruption that is due.
    package func transact(
        when conditions: [DatabaseCondition],
        _ changes: [DatabaseChange]
    ) async throws(DatabaseError) -> TransactionOutcome {
        let due = interruption.withLock { next in
            defer { next = nil }
            return next
        }
        if let due {
            do { try await due() } catch { throw DatabaseError(.unavailable, "the interruption failed: \(error)") }
        }
        return try await database.transact(when: conditions, changes)
    }
    /// Watches what is beneath.
    package func watch(prefix: String, after revision: Int64) -> AsyncThrowingStream<WatchEvent, any Error> {
        database.watch(prefix: prefix, after: revision)
    }
}
