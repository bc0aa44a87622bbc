import Environment
import GroupControl
package import Identity
import Logging
package import MigrateOperation
import ReplicatedDatabase
import Replication
import Saga
import Synchronization

/// One operation at work: its record, and the two sides that its steps act on.
package final class Migration: Sendable {
    /// The operation.
    package let operation: ObjectUUID
    let storage: any DestinationStorage
    let slots: TransferSlots
    let clusterName: String
    let environment: Environment
    let waiting: Waiting
    let crashPoints: CrashPoints
    let log: Logger
    private let directory: any SourceClusterDirectory
    private let database: any ReplicatedDatabase
    private let records: MigrateRecords<DestinationRecord>
    private let epoch: UInt64
    private let stored: Mutex<Stored<DestinationRecord>>
    private let memory = Mutex(Memory())

    /// What a step prepared in this process; gone after a crash, which is why it is not in the record.
    struct Memory: Sendable {
        /// The cutover that the service was built for.
        var preparedAttempt: UInt64?
        /// The cutover that every volume became INSYNC for.
        var synchronizedAttempt: UInt64?
        /// The cutover whose protocol state was imported.
        var importedAttempt: UInt64?
        /// When the source's answer to `hold` came, and how long before that each client was answered last.
        var held: (nanoseconds: UInt64, lastAnswers: [ClientAnswerAge])?
        /// Volumes whose part of the running transfer is done, and is not in the record yet.
        var finishedTransfers: [VolumeMSID: TransferStatistics] = [:]
        /// The integrity check found a difference.
        var isDifferent = false
        /// The revision of the source's database up to which nothing of the configuration is missing.
        var configurationSeen: Int64 = 0
        /// Something of the configuration is being applied.
        var isReplicating = false
        /// Why the last step of a saga failed, when it said so in a form that decides what is done about it.
        var lastFailure: MigrateError?
    }

    init(
        _ stored: Stored<DestinationRecord>,
        database: any ReplicatedDatabase,
        directory: any SourceClusterDirectory,
        storage: any DestinationStorage,
        slots: TransferSlots,
        clusterName: String,
        environment: Environment,
        waiting: Waiting,
        crashPoints: CrashPoints,
        log: Logger
    ) {
        operation = stored.record.operation
        epoch = stored.record.epoch
        self.stored = Mutex(stored)
        self.database = database
        records = MigrateRecords(database, prefix: MigrateKeys.destinationPrefix)
        self.directory = directory
        self.storage = storage.acting(
            as: GroupAuthority(operation: stored.record.operation, side: .destination, epoch: stored.record.epoch)
        )
        self.slots = slots
        self.clusterName = clusterName
        self.environment = environment
        self.waiting = waiting
        self.crashPoints = crashPoints
        var log = log
        log[metadataKey: "operation"] = "\(operation)"
        self.log = log
    }

    /// The record as it was written last.
    package var record: DestinationRecord { stored.withLock { $0.record } }

    /// Reads or changes what only this process knows.
    @discardableResult
    func remember<Result: Sendable>(_ body: (inout Memory) -> Result) -> Result { memory.withLock { body(&$0) } }

    /// Changes the record durably.
    /// - Throws: `.fenced` when another orchestrator has taken the operation over.
    @discardableResult
    package func update(_ body: (inout DestinationRecord) throws -> Void) async throws -> DestinationRecord {
        while true {
            let before = stored.withLock { $0 }
            var next = before.record
            try body(&next)
            if next == before.record { return next }
            if let revision = try await records.put(next, of: operation, at: before.revision) {
                stored.withLock { if revision > $0.revision { $0 = Stored(record: next, revision: revision) } }
                return next
            }
            try await reload()
        }
    }

    /// Reads the record again, after a write whose outcome is unknown or that somebody else was faster with.
    func reload() async throws {
        guard let fresh = try await records.get(operation) else {
            throw MigrateError(
                .notFound,
                code: MigrateCode.unknownOperation,
                "the record of operation \(operation) is gone",
                remedy: "start the operation again"
            )
        }
        guard fresh.record.epoch == epoch else {
            throw MigrateError(
                .fenced,
                "another orchestrator has taken over operation \(operation)",
                remedy: "nothing: it goes on there"
            )
        }
        stored.withLock { if fresh.revision > $0.revision { $0 = fresh } }
    }

    /// Moves to the state that an event leads to, unless a user has asked for a pause or an abort.
    /// - Throws: `.interrupted` when a user has.
    @discardableResult
    func progress(
        _ event: OperationEvent,
        _ body: (inout DestinationRecord) throws -> Void = { _ in }
    ) async throws -> DestinationRecord {
        try await update {
            try $0.requireNotInterrupted()
            try $0.apply(event)
            try body(&$0)
        }
    }

    /// Deletes the record: nothing is left of the operation.
    func forget() async throws { try await records.delete(operation) }

    /// Measures the way to the source.
    func measurePath() async throws -> PathMeasurement {
        try await Prediction.path(
            to: try await directory.sourceCluster(peerName: record.peerName),
            operation: operation,
            database: database,
            environment: environment,
            measuresRate: false
        )
    }

    /// Asks the source once.
    func ask(_ request: SourceRequest) async throws -> SourceReply {
        let record = record
        let source = try await directory.sourceCluster(peerName: record.peerName)
        return try await source.send(
            SourceCall(operation: operation, epoch: epoch, operationState: record.state, request: request)
        )
    }

    /// Asks the source a few times when it does not answer [173].
    @discardableResult
    func askAgain(_ request: SourceRequest, times: Int = 5) async throws -> SourceReply {
        var backOff = BackOff(minMilliseconds: 50, maxMilliseconds: 5_000)
        for _ in 1..<times {
            do {
                return try await ask(request)
            } catch let error as MigrateError where error.kind == .unreachable || error.kind == .nodeAway {
                try await waiting.milliseconds(backOff.next(environment))
            }
        }
        return try await ask(request)
    }

    /// Does something on the own cluster that must not fail because a node is away: it comes back, or its partner takes its
    /// place and opens what it had. Ends when another orchestrator has taken over.
    func whenNodesAnswer(_ body: () async throws -> Void) async throws {
        var backOff = BackOff(minMilliseconds: 50, maxMilliseconds: 1_000)
        var failures: UInt64 = 0
        while true {
            do {
                return try await body()
            } catch let error as MigrateError where error.kind == .nodeAway || error.kind == .failed {
                // What fails on nodes that answer does not heal for ever.
                if error.kind == .failed { failures += 1 }
                guard failures <= 3 * record.options.retriesMax else { throw error }
                log.warning("a node of this cluster is waited for: \(error)")
                try await waiting.milliseconds(backOff.next(environment))
                do { try await reload() } catch let error as DatabaseError {
                    log.warning("whether another orchestrator has taken over is not known: \(error)")
                }
            }
        }
    }

    /// Waits in short pieces, and stops waiting when a user asks for something.
    /// - Throws: `.interrupted` when a pause or an abort was asked for.
    func waitInterruptibly(milliseconds: UInt64, until isOver: (DestinationRecord) -> Bool = { _ in false })
        async throws
    {
        var waited: UInt64 = 0
        while waited < milliseconds {
            let record = record
            try record.requireNotInterrupted()
            if isOver(record) { return }
            let piece = min(100, milliseconds - waited)
            try await waiting.milliseconds(piece)
            waited += piece
        }
    }

    /// Asks the source until it answers; only an answer that makes asking useless is thrown.
    @discardableResult
    func askForEver(_ request: SourceRequest) async throws -> SourceReply {
        var delayMilliseconds: UInt64 = 10
        while true {
            do {
                return try await ask(request)
            } catch let error as MigrateError
                where error.kind == .unreachable || error.kind == .failed || error.kind == .nodeAway
            {
                if delayMilliseconds > 500 { log.warning("the source does not answer, asking again: \(error)") }
                try await waiting.milliseconds(delayMilliseconds)
                delayMilliseconds = min(delayMilliseconds * 2, 1_000)
            }
        }
    }

    /// How far the source is, once it answers.
    func sourceRecord() async throws -> SourceRecord {
        guard case .status(let record) = try await askForEver(.status).answer else {
            throw Self.strangeAnswer("status")
        }
        return record
    }

    /// Runs a deed for every volume of the SVM at once.
    func forEachVolume(
        _ body: @escaping @Sendable (VolumeDescription) async throws -> Void
    ) async throws {
        let volumes = record.svm.volumes
        if volumes.count == 1 { return try await body(volumes[0]) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for volume in volumes { group.addTask { try await body(volume) } }
            try await group.waitForAll()
        }
    }

    /// Runs a saga from where the record's log stands.
    func run(_ steps: [SagaStep<Migration>], _ direction: SagaPlan.Direction) async throws -> SagaOutcome {
        var sagaLog = record.log
        let remembering = steps.map { step in
            SagaStep<Migration>(
                step.name,
                perform: { migration in
                    migration.remember { $0.lastFailure = nil }
                    do { try await step.perform(migration) } catch let error as MigrateError {
                        migration.remember { $0.lastFailure = error }
                        throw error
                    }
                },
                undo: step.undo,
                isDone: step.isDone
            )
        }
        return try await SagaRunner(remembering, direction: direction).run(
            self,
            log: &sagaLog,
            persist: { events in try await self.update { $0.log = events } },
            reached: { name, moment in try await self.crashPoints.reached(name, moment) }
        )
    }

    static func strangeAnswer(_ request: String) -> MigrateError {
        MigrateError(
            .wrongVersion,
            code: MigrateCode.wrongVersion,
            "the source answered '\(request)' with something else",
            remedy: "run the same version of the software on both clusters"
        )
    }
}
