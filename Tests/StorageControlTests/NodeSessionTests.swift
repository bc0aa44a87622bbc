import ClusterConfiguration
import Environment
import Logging
import ReplicatedDatabase
import StorageControl
import Synchronization
import TestKit
import Testing

/// A shared database whose answers are lost when somebody wants it.
private final class ForgetfulDatabase: LeasingDatabase {
    let inner = InMemoryDatabase()
    let losesAnswer = Mutex(false)
    let leases = Mutex<[DatabaseLease]>([])

    func get(_ key: String) async throws(DatabaseError) -> DatabaseRecord? { try await inner.get(key) }
    func range(prefix: String) async throws(DatabaseError) -> (records: [DatabaseRecord], revision: Int64) {
        try await inner.range(prefix: prefix)
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
        let outcome = try await inner.transact(when: conditions, changes, with: lease)
        let isLost = losesAnswer.withLock { loses in
            defer { loses = false }
            return loses
        }
        if isLost { throw DatabaseError(.unavailable, "the answer was lost") }
        return outcome
    }
    func watch(prefix: String, after revision: Int64) -> AsyncThrowingStream<WatchEvent, any Error> {
        inner.watch(prefix: prefix, after: revision)
    }
    func grantLease(seconds: Int64) async throws(DatabaseError) -> DatabaseLease {
        let lease = try await inner.grantLease(seconds: seconds)
        leases.withLock { $0.append(lease) }
        return lease
    }
    func renew(_ lease: DatabaseLease) async throws(DatabaseError) -> Bool { try await inner.renew(lease) }
    func revoke(_ lease: DatabaseLease) async throws(DatabaseError) { try await inner.revoke(lease) }
}

@Suite struct NodeSessionTests {
    private let database = ForgetfulDatabase()
    private let key = ConfigurationKeys.session(ofNodeNamed: "node")

    private func begin(_ directory: String) async throws -> NodeSession {
        try await NodeSession(
            database,
            nodeName: "node",
            dataDirectory: directory,
            process: "test",
            environment: .system,
            waiting: Waiting { _ in },
            logger: Logger(label: "test")
        )
    }

    /// The key must live with the lease that is renewed, whichever attempt has put it.
    @Test func sessionThatWasBegunAgainUnheardLivesOn() async throws {
        let session = try await begin(try TemporaryDirectory.make())
        let first = try #require(database.leases.withLock { $0.last })
        database.inner.end(first)
        #expect(try await database.get(key) == nil)
        // It is begun again, and nobody hears of it.
        database.losesAnswer.withLock { $0 = true }
        await #expect(throws: DatabaseError.self) { try await session.keep() }
        #expect(try await database.get(key) != nil)
        let unheard = try #require(database.leases.withLock { $0.last })
        try await session.keep()
        // Nobody renews the lease of the attempt that was not heard of.
        database.inner.end(unheard)
        try await session.keep()
        #expect(try await database.get(key) != nil)
        let kept = try #require(database.leases.withLock { $0.last })
        database.inner.end(kept)
        #expect(try await database.get(key) == nil)
    }

    @Test func successorOfADeadDaemonDoesNotWait() async throws {
        let directory = try TemporaryDirectory.make()
        _ = try await begin(directory)
        let first = try await database.get(key)?.value
        _ = try await begin(directory)
        let second = try await database.get(key)?.value
        #expect(first != nil && second != nil && first != second)
    }

    /// A daemon that another one has replaced ends.
    @Test func daemonThatWasReplacedIsTold() async throws {
        let directory = try TemporaryDirectory.make()
        let former = try await begin(directory)
        let lease = try #require(database.leases.withLock { $0.last })
        _ = try await begin(directory)
        database.inner.end(lease)
        await #expect(throws: ManagementError.self) { try await former.keep() }
    }
}
