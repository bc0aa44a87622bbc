package import Environment
package import GroupControl
package import Identity
package import Logging
package import MigrateOperation
package import ReplicatedDatabase
import Replication

/// What a user asks for when a migrate operation is started.
package struct MigrationRequest: Sendable {
    /// The name of the SVM on the source.
    package var svmName: String
    /// The name of the peer that is the source.
    package var peerName: String
    /// Choices.
    package var options: MigrationOptions

    /// Makes a request.
    package init(svmName: String, peerName: String, options: MigrationOptions) {
        self.svmName = svmName
        self.peerName = peerName
        self.options = options
    }
}

/// Everything that the pre-checks found; nothing was made.
package struct PrecheckFailure: Error, Sendable, CustomStringConvertible {
    /// The findings of both clusters, at least one.
    package var findings: [PrecheckFinding]
    /// What was looked at for each place.
    package var decisions: [PlacementDecision]

    /// Makes a failure out of a report with at least one finding.
    package init(report: PrecheckReport) { (findings, decisions) = (report.findings, report.decisions) }

    /// All of them in words.
    package var description: String {
        findings.map { "\($0.message) (\($0.remedy))" }.joined(separator: "; ")
    }
}

/// An operation as a user sees it.
package struct MigrationView: Sendable {
    /// The record.
    package var record: DestinationRecord
    /// What each volume's mirror is doing, in the order of the record's volumes.
    package var mirrors: [VolumeMirrorStatus]
}

/// Runs the migrate operations of which this cluster is the destination [89, 95]: a resumable saga each.
package actor Orchestrator {
    let database: any ReplicatedDatabase
    let records: MigrateRecords<DestinationRecord>
    private let slots = TransferSlots()
    let storage: any DestinationStorage
    let directory: any SourceClusterDirectory
    private let node: ObjectUUID
    private let clusterName: String
    let environment: Environment
    private let waiting: Waiting
    private let crashPoints: CrashPoints
    let log: Logger
    private var migrations: [ObjectUUID: Migration] = [:]
    private var overtakenLookNanoseconds: UInt64 = 0
    /// How often at most it is looked whether another node has taken over what runs here.
    private static let overtakenLookEveryNanoseconds: UInt64 = 1_000_000_000
    private let begun: AsyncStream<Migration>
    private let begunSink: AsyncStream<Migration>.Continuation

    /// Makes the orchestrator of a node.
    package init(
        database: any ReplicatedDatabase,
        storage: any DestinationStorage,
        directory: any SourceClusterDirectory,
        node: ObjectUUID,
        clusterName: String,
        environment: Environment,
        waiting: Waiting,
        crashPoints: CrashPoints = .none,
        log: Logger
    ) {
        self.database = database
        records = MigrateRecords(database, prefix: MigrateKeys.destinationPrefix)
        self.storage = storage
        self.directory = directory
        self.node = node
        self.clusterName = clusterName
        self.environment = environment
        self.waiting = waiting
        self.crashPoints = crashPoints
        self.log = log
        (begun, begunSink) = AsyncStream.makeStream(of: Migration.self)
    }

    /// Resumes what a former daemon left and drives every operation until the task is cancelled.
    package func run() async throws {
        try await resumeAll()
        await withDiscardingTaskGroup { group in
            for await migration in begun {
                group.addTask {
                    await MigrationDriver.drive(migration)
                    await self.finished(migration)
                }
            }
        }
    }

    /// Starts an operation.
    /// - Throws: `PrecheckFailure` with every finding; `MigrateError` when the source cannot be asked.
    package func start(_ request: MigrationRequest) async throws -> ObjectUUID {
        let operation = ObjectUUID.random(environment)
        let report = try await precheck(request, operation: operation)
        guard report.findings.isEmpty else { throw PrecheckFailure(report: report) }
        var record = DestinationRecord(
            operation: operation,
            owningNode: node,
            options: request.options,
            peerName: request.peerName,
            svm: report.svm
        )
        record.prediction = report.prediction
        record.times.start = environment.wallClockNanoseconds()
        do {
            guard let revision = try await records.put(record, of: operation, at: 0) else {
                throw MigrateError(.failed, "the operation's identifier is in use", remedy: "start again")
            }
            begin(Stored(record: record, revision: revision))
        } catch let error as DatabaseError {
            guard try await adopt(record) else {
                throw MigrateError(.failed, "\(error)", remedy: "start again")
            }
        }
        return operation
    }

    /// Finds out whether a record was written whose answer was lost: one that is there and that nobody drives would stand
    /// in the way of its SVM until the next start of the daemon.
    ///
    /// - Returns: whether it was, and is driven now.
    private func adopt(_ record: DestinationRecord) async throws -> Bool {
        var backOff = BackOff(minMilliseconds: 50, maxMilliseconds: 1_000)
        while true {
            do {
                guard let found = try await records.get(record.operation), found.record.owningNode == node,
                    found.record.epoch == record.epoch
                else { return false }
                begin(found)
                return true
            } catch let unanswered as DatabaseError where unanswered.code == .unavailable {
                log.warning(
                    "the database does not say whether operation \(record.operation) is recorded: \(unanswered)"
                )
            }
            try await waiting.milliseconds(backOff.next(environment))
        }
    }

    /// Every operation, by identifier, running or ended.
    package func list() async throws -> [MigrationView] {
        await forgetOvertaken()
        // Those that run are in memory, and need not be read and decoded for everybody who watches.
        return try await records.all(except: Set(migrations.keys)).map(\.record).map(view)
            + migrations.values.map(\.record).sorted { $0.operation < $1.operation }.map(view)
    }

    /// One operation; nil when there is none.
    package func get(_ operation: ObjectUUID) async throws -> MigrationView? {
        await forgetOvertaken()
        if let migration = migrations[operation] { return view(migration.record) }
        return try await records.get(operation).map { view($0.record) }
    }

    func view(_ record: DestinationRecord) -> MigrationView {
        // A volume that is done and not in the record yet is shown as one that is at its end: what was transferred must
        // not seem to be gone until the others are done.
        let finished = migrations[record.operation]?.remember { $0.finishedTransfers } ?? [:]
        return MigrationView(
            record: record,
            mirrors: record.svm.volumes.map { volume in
                finished[volume.msid].map { VolumeMirrorStatus(state: .transferring, transfer: $0, failure: nil) }
                    ?? storage.mirrorStatus(of: volume.msid)
            }
        )
    }

    func find(_ operation: ObjectUUID) throws(MigrateError) -> Migration {
        guard let migration = migrations[operation] else {
            throw MigrateError(
                .notFound,
                code: MigrateCode.unknownOperation,
                "there is no running migrate operation \(operation)",
                remedy: "list the operations with GET /api/svm/migrations"
            )
        }
        return migration
    }

    /// Takes over what a former daemon of this node left.
    private func resumeAll() async throws {
        for stored in try await records.all() where stored.record.owningNode == node {
            if stored.record.state == .migrateAborted { try await drop(stored.record.operation) }
            try await takeOver(stored)
        }
    }

    /// Takes over the operations of nodes that are down, as soon as what this node has of theirs is open. What other nodes
    /// have of them is waited for by the operations.
    package func rehome(from nodes: Set<ObjectUUID>) async throws {
        for stored in try await records.all(except: Set(migrations.keys)) {
            guard nodes.contains(stored.record.owningNode), try await storage.isReady(for: stored.record.svm) else {
                continue
            }
            try await takeOver(stored)
        }
    }

    /// Goes on with an operation that has not ended. It gets a new epoch, so that the former orchestrator, should it still
    /// live, is refused everywhere.
    private func takeOver(_ stored: Stored<DestinationRecord>) async throws {
        if stored.record.phase == .ended { return }
        var record = stored.record
        let former = record.owningNode
        record.epoch += 1
        record.restartCount += 1
        record.owningNode = node
        do {
            guard let revision = try await records.put(record, of: record.operation, at: stored.revision) else {
                return
            }
            begin(Stored(record: record, revision: revision))
        } catch is DatabaseError {
            guard try await adopt(record) else { return }
        }
        let origin = former == node ? "" : ", taken over from node \(former)"
        log.notice("operation \(record.operation) goes on in phase \(record.phase.rawValue)\(origin)")
    }

    /// Lets go of operations that other nodes have taken over. What drives one here may hear of it an hour later, when a call
    /// ends that was lost with this node's links; until then it must tell nobody of a state that is no more.
    private func forgetOvertaken() async {
        let now = environment.monotonicNanoseconds()
        guard now >= overtakenLookNanoseconds + Self.overtakenLookEveryNanoseconds else { return }
        overtakenLookNanoseconds = now
        for operation in migrations.keys.sorted() {
            // While the database does not answer what is known is told.
            guard let stored = try? await records.get(operation), let known = migrations[operation],
                stored.record.owningNode != node, stored.record.epoch > known.record.epoch
            else { continue }
            migrations[operation] = nil
        }
    }

    private func finished(_ migration: Migration) async {
        // An operation that another node has taken over is that node's to tell of.
        if let stored = try? await records.get(migration.operation), stored.record.owningNode != node {
            migrations[migration.operation] = nil
            return
        }
        guard migration.record.state == .migrateAborted else { return }
        // The next start does it again if the database does not answer now.
        do { try await drop(migration.operation) } catch { log.error("an aborted operation's record stays: \(error)") }
    }

    /// Lets an operation that was aborted go: nothing of it is left, not even its record.
    func drop(_ operation: ObjectUUID) async throws {
        try await records.delete(operation)
        migrations[operation] = nil
    }

    private func begin(_ stored: Stored<DestinationRecord>) {
        let migration = Migration(
            stored,
            database: database,
            directory: directory,
            storage: storage,
            slots: slots,
            clusterName: clusterName,
            environment: environment,
            waiting: waiting,
            crashPoints: crashPoints,
            log: log
        )
        migrations[migration.operation] = migration
        begunSink.yield(migration)
    }
}
