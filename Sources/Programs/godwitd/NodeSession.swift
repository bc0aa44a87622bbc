import ClusterConfiguration
import Environment
import FileIO
import Glibc
import Identity
import Logging
import ReplicatedDatabase
import ReplicatedDatabaseEtcd
import ServiceLifecycle
import Synchronization

/// Keeps a second daemon from running as the same node on the same etcd.
///
/// A key of the node holds a token that each daemon draws anew, and lives with a lease. The token is also in the data
/// directory, whose lock this daemon holds: a token that is found in both belongs to a predecessor that is dead, and is
/// replaced at once. Any other one is waited for, for as long as its lease may live.
///
/// While etcd does not answer the node goes on serving: its aggregates are locked on the disk, so that nobody else can.
final class NodeSession: Service {
    /// Seconds that the key outlives a daemon which ends without a word.
    static let leaseSeconds: Int64 = 5
    /// Seconds that a start waits for another daemon's lease: a new leader of etcd may have given it its time again.
    static let patienceSeconds: Int64 = 2 * leaseSeconds + 2

    private let database: EtcdDatabase
    private let key: String
    private let node: String
    private let token: [UInt8]
    private let lease: Mutex<EtcdLease>
    private let waiting: Waiting
    private let logger = Logger(label: "godwitd.session")

    /// Begins the session.
    ///
    /// - Throws: `node_is_running` when another daemon holds it.
    init(
        _ database: EtcdDatabase,
        _ settings: DaemonConfiguration,
        _ environment: Environment,
        _ waiting: Waiting
    ) async throws {
        self.database = database
        self.waiting = waiting
        node = settings.nodeName
        key = ConfigurationKeys.session(ofNodeNamed: settings.nodeName)
        token = Array("\(ObjectUUID.random(environment)) process \(getpid())".utf8)
        let file = settings.dataDirectory + "/session"
        let predecessor = FileSystem.exists(file) ? try FileSystem.readAll(file) : []
        var lease = try await database.grantLease(seconds: Self.leaseSeconds)
        let deadline = ContinuousClock.now + .seconds(Self.patienceSeconds)
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
            guard ContinuousClock.now < deadline else { throw Self.isRunning(node, found?.value ?? []) }
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

    /// Renews the lease until the daemon ends.
    ///
    /// - Throws: `node_is_running` when another daemon has taken the node over; the daemon must end.
    func run() async throws {
        try await cancelWhenGracefulShutdown {
            var isSilent = false
            while true {
                do {
                    try await self.waiting.milliseconds(UInt64(Self.leaseSeconds) * 1000 / 3)
                    try await self.keep()
                    if isSilent { self.logger.notice("etcd answers again") }
                    isSilent = false
                } catch is CancellationError {
                    return
                } catch let error as DatabaseError {
                    if Task.isCancelled { return }
                    // Once: this may last for hours.
                    if !isSilent { self.logger.warning("the session of node \(self.node) was not renewed: \(error)") }
                    isSilent = true
                }
            }
        }
    }

    private func keep() async throws {
        if try await database.renew(lease.withLock { $0 }) { return }
        // etcd was away for longer than the lease, and the key has gone with it.
        let fresh = try await database.grantLease(seconds: Self.leaseSeconds)
        let outcome = try await database.transact(
            when: [.absent(key: key)],
            [.put(key: key, value: token)],
            with: fresh
        )
        if case .conflicted = outcome {
            let found = try await database.get(key)
            guard found?.value == token else { throw Self.isRunning(node, found?.value ?? []) }
        }
        lease.withLock { $0 = fresh }
        logger.notice("the session of node \(node) was begun again")
    }

    /// Ends the session, so that the next daemon need not wait for the lease.
    func end() async { try? await database.revoke(lease.withLock { $0 }) }
}
