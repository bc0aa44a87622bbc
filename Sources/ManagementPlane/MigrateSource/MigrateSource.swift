package import Environment
package import Identity
package import Logging
package import MigrateOperation
package import ReplicatedDatabase
import Saga

/// The source's side of migrate operations: answers the orchestrator of the other cluster and acts alone when it
/// cannot be heard [33, 107].
///
/// Its records in the source's database are the arbiter of the point of no return: a commit ends either as `recovered`,
/// by the timer, or as `ponr`, by the destination's request, and one compare-and-set decides which.
package actor MigrateSource: SourceCluster {
    let records: MigrateRecords<SourceRecord>
    let storage: any SourceStorage
    let environment: Environment
    let crashPoints: CrashPoints
    let log: Logger
    private let waiting: Waiting
    private let deadlines: AsyncStream<CommitDeadline>
    private let deadlineSink: AsyncStream<CommitDeadline>.Continuation
    /// The reply to the last `hold` of each operation, so that a repeated request gets the same answer.
    var heldReplies: [ObjectUUID: HeldReply] = [:]

    /// A commit that ends by itself.
    struct CommitDeadline: Sendable {
        var operation: ObjectUUID
        var attempt: UInt64
        var monotonicNanoseconds: UInt64
    }

    /// What `hold` answered for an attempt.
    struct HeldReply: Sendable {
        var attempt: UInt64
        var reply: SourceReply
    }

    /// Makes the source side of a cluster.
    package init(
        database: any ReplicatedDatabase,
        storage: any SourceStorage,
        environment: Environment,
        waiting: Waiting,
        crashPoints: CrashPoints = .none,
        log: Logger
    ) {
        records = MigrateRecords(database, prefix: MigrateKeys.sourcePrefix)
        self.storage = storage
        self.environment = environment
        self.waiting = waiting
        self.crashPoints = crashPoints
        self.log = log
        (deadlines, deadlineSink) = AsyncStream.makeStream(of: CommitDeadline.self)
    }

    /// What a daemon that was started again must do *before* it serves any SVM.
    ///
    /// A commit that was under way is given up: its held connections died with the daemon, so there is nothing left
    /// to wait for, and the point of no return is refused from here on.
    /// - Returns: The SVMs that must not be served, because the point of no return won.
    package func settleAfterRestart() async throws -> Set<ObjectUUID> {
        var silenced: Set<ObjectUUID> = []
        for stored in try await records.all() {
            let operation = stored.record.operation
            let settled: SourceRecord
            if stored.record.state == .commit {
                settled = try await give(up: operation, stored.record.attempt, "the source daemon was restarted")
            } else {
                settled = stored.record
            }
            if !settled.mayServe { silenced.insert(settled.svm) }
        }
        return silenced
    }

    /// Finishes, after the storage is up, what `settleAfterRestart` decided: an SVM past the point of no return is
    /// recorded as stopped, whatever its record said when the daemon died.
    package func finishAfterRestart() async throws {
        for stored in try await records.all() where stored.record.state == .ponr || stored.record.state == .released {
            try await storage.stop(stored.record.svm, for: stored.record.operation)
        }
    }

    /// Watches the commit deadlines until the task is cancelled.
    package func run() async {
        await withDiscardingTaskGroup { group in
            for await deadline in deadlines {
                group.addTask { await self.watch(deadline) }
            }
        }
    }

    /// Whether the daemon takes part in an operation as the source of this SVM.
    package func records(of svm: ObjectUUID) async throws -> [SourceRecord] {
        try await records.all().map(\.record).filter { $0.svm == svm }
    }

    private func watch(_ deadline: CommitDeadline) async {
        do {
            let now = environment.monotonicNanoseconds()
            if deadline.monotonicNanoseconds > now {
                try await waiting.nanoseconds(deadline.monotonicNanoseconds - now)
            }
            try await expire(deadline)
        } catch {
            // Only a cancelled wait throws: the daemon stops, and its next start settles the commit.
        }
    }

    private func expire(_ deadline: CommitDeadline) async throws {
        while true {
            do {
                guard let stored = try await records.get(deadline.operation),
                    stored.record.attempt == deadline.attempt
                else { return }
                switch stored.record.state {
                case .locked:
                    // The timer was faster than the write that arms the commit: wait for it.
                    try await waiting.milliseconds(20)
                    continue
                case .commit, .recovered: break
                case .prepared, .ponr, .released, .cleaned: return
                }
                let record = try await give(up: deadline.operation, deadline.attempt, "the hold budget was over")
                if record.state == .recovered {
                    try await storage.reopenGate(of: record.svm)
                    log.warning("the hold budget of operation \(deadline.operation) was over: the source serves again")
                }
                return
            } catch let error as CancellationError {
                throw error
            } catch {
                // Until the record is known to be recovered the gate stays held: ask the database again.
                log.error("the commit of operation \(deadline.operation) cannot be given up yet: \(error)")
                try await waiting.milliseconds(20)
            }
        }
    }

    /// Records a commit as recovered, or finds that the point of no return was first.
    func give(up operation: ObjectUUID, _ attempt: UInt64, _ reason: String) async throws -> SourceRecord {
        try await crashPoints.reached("source-recover", .before)
        do {
            let record = try await change(operation, epoch: nil) { record throws(MigrateError) in
                try record.after(.recover(attempt: attempt, reason: reason))
            }
            heldReplies[operation] = nil
            try await crashPoints.reached("source-recover", .after)
            return record
        } catch let error as MigrateError where error.kind == .pastPointOfNoReturn {
            guard let stored = try await records.get(operation) else { throw error }
            return stored.record
        }
    }

    /// Starts the timer of a commit.
    func startTimer(_ operation: ObjectUUID, _ attempt: UInt64, milliseconds: UInt64) {
        let deadline = environment.monotonicNanoseconds() + milliseconds * 1_000_000
        deadlineSink.yield(
            CommitDeadline(operation: operation, attempt: attempt, monotonicNanoseconds: deadline)
        )
    }

    /// Changes a record by compare-and-set until it succeeds or the change is refused. A nil epoch is the source's own.
    func change(
        _ operation: ObjectUUID,
        epoch: UInt64?,
        _ body: (SourceRecord) throws(MigrateError) -> SourceRecord
    ) async throws -> SourceRecord {
        while true {
            guard let stored = try await records.get(operation) else { throw Self.unknown(operation) }
            var record = stored.record
            if let epoch { record = try record.fenced(by: epoch) }
            record = try body(record)
            if record == stored.record { return record }
            if try await records.put(record, of: operation, at: stored.revision) != nil { return record }
        }
    }

    static func unknown(_ operation: ObjectUUID) -> MigrateError {
        MigrateError(
            .notFound,
            code: MigrateCode.unknownOperation,
            "the source knows no operation \(operation)",
            remedy: "start the operation again"
        )
    }
}
