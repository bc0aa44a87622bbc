import ClusterConfiguration
package import Environment
import FileIO
import Identity
package import Logging
package import ReplicatedDatabase
import Synchronization

/// Keeps a second daemon from running as the same node on the same shared database, and tells the other nodes that this
/// one is up.
///
/// A key of the node holds a token that each daemon draws anew, and lives with a lease. The token is also in the data
/// directory, whose lock this daemon holds: a token that is found in both belongs to a predecessor that is dead, and is
/// replaced at once. Any other one is waited for, for as long as its lease may live.
///
/// While the database does not answer the node goes on serving: its aggregates are locked on the disk, so that nobody else
/// can.
package final class NodeSession: Sendable {
    /// Seconds that the key outlives a daemon which ends without a word.
    package static let leaseSeconds: Int64 = 5
    /// Seconds that a start waits for another daemon's lease: a new leader of etcd may have given it its time again.
    package static let patienceSeconds: Int64 = 2 * leaseSeconds + 2

    /// Milliseconds between two attempts while the database does not answer: the session may have ended, and others wait only
    /// so long (`FailureDetector.graceNanoseconds`).
    private static let retryMilliseconds: UInt64 = 250

    private let database: any LeasingDatabase
    private let key: String
    private let node: String
    private let token: [UInt8]
    private let lease: Mutex<DatabaseLease>
    private let waiting: Waiting
    private let logger: Logger

    /// Begins the session.
    ///
    /// - Parameters:
    ///   - nodeName: the name of the node.
    ///   - dataDirectory: where the token is kept; the caller holds its lock.
    ///   - process: what tells this daemon from others, for people to read.
    /// - Throws: `node_is_running` when another daemon holds it.
    package init(
        _ database: any LeasingDatabase,
        nodeName: String,
        dataDirectory: String,
        process: String,
        environment: Environment,
        waiting: Waiting,
        logger: Logger
    ) async throws {
        self.database = database
        self.waiting = waiting
        self.logger = logger
        node = nodeName
        key = ConfigurationKeys.session(ofNodeNamed: nodeName)
        token = Array("\(ObjectUUID.random(environment)) \(process)".utf8)
        let file = dataDirectory + "/session"
        let predecessor = FileSystem.exists(file) ? try FileSystem.readAll(file) : []
        var lease = try await database.grantLease(seconds: Self.leaseSeconds)
        let deadline = environment.monotonicNanoseconds() + UInt64(Self.patienceSeconds) * 1_000_000_000
        while true {
            let found = try await database.get(key)
            let condition: DatabaseCondition? =
                switch found {
                case nil: .absent(key: key)
                case .some(let record) where record.value == predecessor:
                    .modifyRevision(key: key, equals: record.modifyRevision)
                default: nil
                }
            if let condition,
                case .committed = try await database.transact(
                    when: [condition],
                    [.put(key: key, value: token)],
                    with: lease
                )
            {
                break
            }
            guard environment.monotonicNanoseconds() < deadline else {
                throw Self.isRunning(nodeName, found?.value ?? [])
            }
            try await waiting.milliseconds(200)
            if !(try await database.renew(lease)) {
                lease = try await database.grantLease(seconds: Self.leaseSeconds)
            }
        }
        try FileSystem.writeAtomically(token, to: file)
        self.lease = Mutex(lease)
    }

    private static func isRunning(_ node: String, _ token: [UInt8]) -> ManagementError {
        ManagementError(
            .conflict,
            "node_is_running",
            "another godwitd runs as node '\(node)' on this etcd (\(String(decoding: token, as: UTF8.self)))",
            remedy: "end that daemon, or give this node a name or a database.etcd.prefix of its own"
        )
    }

    /// Renews the lease until the task is cancelled.
    ///
    /// - Throws: `node_is_running` when another daemon has taken the node over; the daemon must end.
    package func run() async throws {
        var isSilent = false
        while true {
            do {
                try await waiting.milliseconds(isSilent ? Self.retryMilliseconds : UInt64(Self.leaseSeconds) * 1000 / 3)
                try await keep()
                if isSilent { logger.notice("etcd answers again") }
                isSilent = false
            } catch is CancellationError {
                return
            } catch let error as DatabaseError {
                if Task.isCancelled { return }
                // Once: this may last for hours.
                if !isSilent { logger.warning("the session of node \(node) was not renewed: \(error)") }
                isSilent = true
            }
        }
    }

    /// One turn of `run`: renews the lease, or begins the session again.
    package func keep() async throws {
        if try await database.renew(lease.withLock { $0 }) { return }
        // The database was away for longer than the lease, and the key has gone with it.
        let fresh = try await database.grantLease(seconds: Self.leaseSeconds)
        var outcome = try await database.transact(
            when: [.absent(key: key)],
            [.put(key: key, value: token)],
            with: fresh
        )
        if case .conflicted = outcome {
            let found = try await database.get(key)
            guard let found, found.value == token else { throw Self.isRunning(node, found?.value ?? []) }
            // An earlier attempt did this and did not hear of it. Its lease is not known any more: the key would go with
            // that one, and the node be held for dead as long as it lives.
            outcome = try await database.transact(
                when: [.modifyRevision(key: key, equals: found.modifyRevision)],
                [.put(key: key, value: token)],
                with: fresh
            )
            // Just now it has gone. The next turn begins again.
            guard case .committed = outcome else { return }
        }
        lease.withLock { $0 = fresh }
        logger.notice("the session of node \(node) was begun again")
    }

    /// Ends the session, so that the next daemon need not wait for the lease.
    package func end() async { try? await database.revoke(lease.withLock { $0 }) }
}
