import Environment
import ReplicatedDatabase

/// The replicated database of a cluster as one process sees it: it may be slow, not there, or lose its answer.
struct SimulatedDatabase: ReplicatedDatabase, @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    let node: Node
    let process: SimulatedProcess

    private var database: InMemoryDatabase { node.database }

    /// Waits as long as the database takes; throws when it is not there.
    private func come() async throws(DatabaseError) {
        await simulation.delay(node.databaseLatency(), process)
        if node.isDatabaseDown {
            // As long as a client of the database waits for it.
            await simulation.delay(500_000_000, process)
            throw DatabaseError(.unavailable, "the database does not answer")
        }
    }

    func get(_ key: String) async throws(DatabaseError) -> DatabaseRecord? {
        try await come()
        return try await database.get(key)
    }

    func range(prefix: String) async throws(DatabaseError) -> (records: [DatabaseRecord], revision: Int64) {
        try await come()
        return try await database.range(prefix: prefix)
    }

    func transact(
        when conditions: [DatabaseCondition],
        _ changes: [DatabaseChange]
    ) async throws(DatabaseError) -> TransactionOutcome {
        try await come()
        let outcome = try await database.transact(when: conditions, changes)
        // Done, and nobody will know until he asks again.
        if node.losesDatabaseAnswer() {
            throw DatabaseError(.unavailable, "the answer of the database was lost")
        }
        await simulation.delay(node.databaseLatency(), process)
        return outcome
    }

    func watch(prefix: String, after revision: Int64) -> AsyncThrowingStream<WatchEvent, any Error> {
        database.watch(prefix: prefix, after: revision)
    }
}
