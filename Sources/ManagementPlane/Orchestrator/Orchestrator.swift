package import Environment
package import Identity
package import Logging
package import MigrateOperation
package import ReplicatedDatabase

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

    /// Makes a failure out of at least one finding.
    package init(findings: [PrecheckFinding]) { self.findings = findings }

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
    private let records: MigrateRecords<DestinationRecord>
    private let storage: any DestinationStorage
    private let directory: any SourceClusterDirectory
    private let node: ObjectUUID
    private let clusterName: String
    private let environment: Environment
    private let waiting: Waiting
    private let crashPoints: CrashPoints
    private let log: Logger
    private var migrations: [ObjectUUID: Migration] = [:]
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
                group.addTask { await MigrationDriver.drive(migration) }
            }
        }
    }

    /// Runs the pre-checks of both clusters [126].
    /// - Returns: The source's description with an aggregate chosen for each volume, and all findings.
    package func precheck(
        _ request: MigrationRequest,
        operation: ObjectUUID
    ) async throws -> (svm: SVMDescription, findings: [PrecheckFinding]) {
        let source = try await directory.sourceCluster(peerName: request.peerName)
        let call = SourceCall(operation: operation, epoch: 1, request: .describe(svmName: request.svmName))
        guard case .description(var svm, var findings) = try await source.send(call).answer else {
            throw Migration.strangeAnswer("describe")
        }
        if svm.protocolVersion != migrateProtocolVersion {
            findings.append(
                PrecheckFinding(
                    code: MigrateCode.wrongVersion,
                    "the source speaks version \(svm.protocolVersion) of the migrate protocol, this cluster \(migrateProtocolVersion)",
                    remedy: "run the same version of the software on both clusters"
                )
            )
        }
        if svm.volumes.isEmpty {
            findings.append(
                PrecheckFinding(
                    code: MigrateCode.noVolumes,
                    "SVM '\(svm.name)' has no volume",
                    remedy: "create a volume first, or create the SVM anew on the destination"
                )
            )
        }
        let here = try await storage.precheck(svm, request.options)
        svm.volumes = here.volumes
        return (svm, findings + here.findings)
    }

    /// Starts an operation.
    /// - Throws: `PrecheckFailure` with every finding; `MigrateError` when the source cannot be asked.
    package func start(_ request: MigrationRequest) async throws -> ObjectUUID {
        let operation = ObjectUUID.random(environment)
        let (svm, findings) = try await precheck(request, operation: operation)
        guard findings.isEmpty else { throw PrecheckFailure(findings: findings) }
        for stored in try await records.all() where stored.record.svm.uuid == svm.uuid && stored.record.phase != .ended
        {
            throw MigrateError(
                .refused,
                code: MigrateCode.svmInMigrate,
                "SVM '\(svm.name)' is already being migrated by operation \(stored.record.operation)",
                remedy: "wait for that operation"
            )
        }
        var record = DestinationRecord(
            operation: operation,
            owningNode: node,
            options: request.options,
            peerName: request.peerName,
            svm: svm
        )
        record.times.start = environment.wallClockNanoseconds()
        guard let revision = try await records.put(record, of: operation, at: 0) else {
            throw MigrateError(.failed, "the operation's identifier is in use", remedy: "start again")
        }
        begin(Stored(record: record, revision: revision))
        return operation
    }

    /// The user's cutover.
    package func cutover(_ operation: ObjectUUID) async throws {
        let migration = try find(operation)
        try await migration.update { record in
            if record.isCutoverRequested && record.phase == .transfer { return }
            guard record.phase == .transfer, record.state == .readyForCutover else {
                throw MigrateError(
                    .refused,
                    code: MigrateCode.wrongState,
                    "operation \(operation) is in state \(record.state.rawValue), not ready_for_cutover",
                    remedy: "wait for ready_for_cutover"
                )
            }
            record.isCutoverRequested = true
        }
    }

    /// The user's source cleanup.
    package func sourceCleanup(_ operation: ObjectUUID) async throws {
        let migration = try find(operation)
        try await migration.update { record in
            guard record.phase == .sourceCleanup else {
                throw MigrateError(
                    .refused,
                    code: MigrateCode.wrongState,
                    "operation \(operation) is in state \(record.state.rawValue), not ready_for_source_cleanup",
                    remedy: "wait for ready_for_source_cleanup"
                )
            }
            record.isSourceCleanupRequested = true
        }
    }

    /// Every operation, by identifier, running or ended.
    package func list() async throws -> [MigrationView] {
        try await records.all().map { view($0.record) }
    }

    /// One operation; nil when there is none.
    package func get(_ operation: ObjectUUID) async throws -> MigrationView? {
        try await records.get(operation).map { view($0.record) }
    }

    private func view(_ record: DestinationRecord) -> MigrationView {
        MigrationView(record: record, mirrors: record.svm.volumes.map { storage.mirrorStatus(of: $0.msid) })
    }

    private func find(_ operation: ObjectUUID) throws(MigrateError) -> Migration {
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

    /// Takes over what a former daemon left: each operation gets a new epoch, so that the former orchestrator, should it
    /// still live, is refused everywhere.
    private func resumeAll() async throws {
        for stored in try await records.all() where stored.record.phase != .ended {
            var record = stored.record
            record.epoch += 1
            record.restartCount += 1
            record.owningNode = node
            guard let revision = try await records.put(record, of: record.operation, at: stored.revision) else {
                continue
            }
            log.notice("operation \(record.operation) goes on in phase \(record.phase.rawValue)")
            begin(Stored(record: record, revision: revision))
        }
    }

    private func begin(_ stored: Stored<DestinationRecord>) {
        let migration = Migration(
            stored,
            records: records,
            directory: directory,
            storage: storage,
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

/// Drives one operation phase by phase.
enum MigrationDriver {
    static func drive(_ migration: Migration) async {
        var delayMilliseconds: UInt64 = 50
        while migration.record.phase != .ended {
            do {
                guard try await advance(migration) else { return }
                delayMilliseconds = 50
            } catch is CancellationError {
                return
            } catch let error as MigrateError where error.kind == .fenced {
                migration.log.notice("\(error)")
                return
            } catch {
                // Most of all a database that does not answer: nothing is decided without it.
                migration.log.error("the operation is interrupted and goes on from its record: \(error)")
                do {
                    try await migration.waiting.milliseconds(delayMilliseconds)
                    delayMilliseconds = min(delayMilliseconds * 2, 5_000)
                    try await migration.reload()
                } catch is CancellationError {
                    return
                } catch let error as MigrateError where error.kind == .fenced || error.kind == .notFound {
                    migration.log.notice("\(error)")
                    return
                } catch {
                    continue
                }
            }
        }
    }

    private static func advance(_ migration: Migration) async throws -> Bool {
        switch migration.record.phase {
        case .setup: try await SetupPhase.run(migration)
        case .transfer: try await TransferPhase.run(migration)
        case .cutover: try await CutoverPhase.run(migration)
        case .takeover: try await TakeoverPhase.run(migration)
        case .postCutover: try await PostCutoverPhase.run(migration)
        case .sourceCleanup: return try await SourceCleanupPhase.run(migration)
        case .ended: return false
        }
        return true
    }
}
