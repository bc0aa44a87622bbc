import Environment
import ReplicatedDatabase

/// The replicated database of a cluster as one process sees it: it may be slow, not there, or lose its answer.
struct SimulatedDatabase: LeasingDatabase, @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    let node: Node
    let process: SimulatedProcess

    private var shared: SharedDatabase { node.cluster.database }
    private var database: InMemoryDatabase { shared.store }

    /// Waits as long as the database takes; throws when it is not there.
    private func come() async throws(DatabaseError) {
        await simulation.delay(node.databaseLatency(), process)
        if node.isDatabaseUnreachable {
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
        try await transact(when: conditions, changes, with: nil)
    }

    func transact(
        when conditions: [DatabaseCondition],
        _ changes: [DatabaseChange],
        with lease: DatabaseLease?
    ) async throws(DatabaseError) -> TransactionOutcome {
        try await come()
        let outcome = try await database.transact(when: conditions, changes, with: lease)
        if lease != nil, case .committed = outcome { node.lastSessionNanoseconds = simulation.scheduler.now }
        // Done, and nobody will know until he asks again.
        if node.losesDatabaseAnswer() { throw Self.lost }
        await simulation.delay(node.databaseLatency(), process)
        if node.cluster.isShared && node.isDatabaseUnreachable { throw Self.lost }
        return outcome
    }

    private static let lost = DatabaseError(.unavailable, "the answer of the database was lost")

    func watch(prefix: String, after revision: Int64) -> AsyncThrowingStream<WatchEvent, any Error> {
        shared.watch(prefix: prefix, after: revision, by: node, process)
    }

    // MARK: Leases

    func grantLease(seconds: Int64) async throws(DatabaseError) -> DatabaseLease {
        try await come()
        let lease = try await database.grantLease(seconds: seconds)
        shared.renewed(lease)
        return lease
    }

    func renew(_ lease: DatabaseLease) async throws(DatabaseError) -> Bool {
        try await come()
        guard try await database.renew(lease) else { return false }
        shared.renewed(lease)
        node.lastSessionNanoseconds = simulation.scheduler.now
        if node.losesDatabaseAnswer() { throw Self.lost }
        return true
    }

    func revoke(_ lease: DatabaseLease) async throws(DatabaseError) {
        try await come()
        shared.revoked(lease)
        try await database.revoke(lease)
    }
}
