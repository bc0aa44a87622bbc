import ConfigurationReplication
package import Environment
import GroupControl
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
    let configuration: ConfigurationFeedReader
    /// The storage for what no operation is needed for; see `storage(of:)`.
    let storage: any SourceStorage
    let node: ObjectUUID
    let environment: Environment
    let crashPoints: CrashPoints
    let log: Logger
    private let waiting: Waiting
    private let deadlines: AsyncStream<Deadline>
    private let deadlineSink: AsyncStream<Deadline>.Continuation
    /// Largest answer to a probe.
    static let probeBytesMax: UInt64 = 16 << 20
    /// Longest wait for something new of the configuration.
    static let configurationWaitMillisecondsMax: UInt64 = 30_000
    /// The reply to the last `hold` of each operation, so that a repeated request gets the same answer.
    var heldReplies: [ObjectUUID: HeldReply] = [:]
    /// The newest attempt of each operation that held the gate; what an older one still wants of it is out of date.
    var gateAttempts: [ObjectUUID: UInt64] = [:]
    /// Operations that this node was found to be the owner of. Whether it still is, each change of the record finds out.
    var owned: Set<ObjectUUID> = []

    /// What ends by itself.
    enum DeadlineKind: Sendable {
        /// The lock of the configuration in pre-commit.
        case lock
        /// The commit.
        case commit
    }

    /// When something ends by itself.
    struct Deadline: Sendable {
        var kind: DeadlineKind
        var operation: ObjectUUID
        var attempt: UInt64
        var monotonicNanoseconds: UInt64
    }

    /// What `hold` answered for an attempt.
    struct HeldReply: Sendable {
        var attempt: UInt64
        var reply: SourceReply
    }

    /// Makes the source side of a cluster on one of its nodes.
    package init(
        database: any ReplicatedDatabase,
        storage: any SourceStorage,
        node: ObjectUUID,
        environment: Environment,
        waiting: Waiting,
        crashPoints: CrashPoints = .none,
        log: Logger
    ) {
        records = MigrateRecords(database, prefix: MigrateKeys.sourcePrefix)
        configuration = ConfigurationFeedReader(database, waiting: waiting)
        self.storage = storage
        self.node = node
        self.environment = environment
        self.waiting = waiting
        self.crashPoints = crashPoints
        self.log = log
        (deadlines, deadlineSink) = AsyncStream.makeStream(of: Deadline.self)
    }

    /// What must be done *before* SVMs are served by a daemon that was started again, or by a node that has taken them over.
    ///
    /// A commit that was under way is given up: its held connections died with the former daemon, so there is nothing left
    /// to wait for, and the point of no return is refused from here on.
    ///
    /// A node that does not own the operation gives the commit up all the same. The gates that other nodes hold are reopened
    /// by the owner: at once when that is this node, when the hold budget is over at the latest.
    ///
    /// - Parameter svms: the SVMs that come; nil for all that have a part here, and those whose operations this node owns.
    /// - Returns: The SVMs that must not be served, because the point of no return won.
    package func settle(_ svms: Set<ObjectUUID>? = nil) async throws -> Set<ObjectUUID> {
        var silenced: Set<ObjectUUID> = []
        for stored in try await records.all() {
            guard try await comes(stored.record, svms) else { continue }
            let operation = stored.record.operation
            let settled: SourceRecord
            if stored.record.state == .commit {
                settled = try await give(
                    up: operation,
                    stored.record.attempt,
                    svms == nil ? "the source daemon was restarted" : "another node took over the source"
                )
            } else {
                settled = stored.record
            }
            storage.note(settled)
            watchAgain(settled)
            if !settled.mayServe { silenced.insert(settled.svm) }
        }
        return silenced
    }

    private func comes(_ record: SourceRecord, _ svms: Set<ObjectUUID>?) async throws -> Bool {
        if let svms { return svms.contains(record.svm) }
        if record.owningNode == node { return true }
        return try await storage.isConcerned(by: record.svm)
    }

    /// Watches, as the owner, what ends by itself: a lock for the time that is left of it (the wall clock says how much,
    /// because the monotonic one began anew), and a commit that was given up until the gates of all nodes are open again.
    func watchAgain(_ record: SourceRecord) {
        guard record.owningNode == node else { return }
        switch record.state {
        case .locked:
            guard let deadline = record.lockDeadlineWallClockNanoseconds else { return }
            let left = max(0, deadline - environment.wallClockNanoseconds())
            startTimer(.lock, record.operation, record.attempt, milliseconds: UInt64(left) / 1_000_000)
        case .recovered: startTimer(.commit, record.operation, record.attempt, milliseconds: 0)
        case .prepared, .commit, .ponr, .released, .cleaned: break
        }
    }

    /// Finishes, after the storage is up, what `settle` decided: an SVM past the point of no return is recorded as stopped,
    /// whatever its record said when the former daemon died.
    package func finishSettling(_ svms: Set<ObjectUUID>? = nil) async throws {
        for stored in try await records.all() where stored.record.state == .ponr || stored.record.state == .released {
            guard try await comes(stored.record, svms) else { continue }
            do {
                try await storage(of: stored.record).stop(stored.record.svm, for: stored.record.operation)
            } catch let error as MigrateError where error.kind == .nodeAway {
                // What concerns this node is done; the destination asks for the rest until it is done, too.
                log.warning("SVM '\(stored.record.svmName)' is not stopped on all nodes yet: \(error)")
            }
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

    /// Every operation that this cluster is the source of.
    package func list() async throws -> [SourceRecord] { try await records.all().map(\.record) }

    /// The operations that an SVM takes part in as the source. One that has deleted its source is over: the SVM may have
    /// come back since, and may leave again.
    package func records(of svm: ObjectUUID) async throws -> [SourceRecord] {
        try await records.all().map(\.record).filter { $0.svm == svm && $0.state != .cleaned }
    }

    private func watch(_ deadline: Deadline) async {
        do {
            let now = environment.monotonicNanoseconds()
            if deadline.monotonicNanoseconds > now {
                try await waiting.nanoseconds(deadline.monotonicNanoseconds - now)
            }
            switch deadline.kind {
            case .lock: try await expireLock(deadline)
            case .commit: try await expire(deadline)
            }
        } catch {
            // Only a cancelled wait throws: the daemon stops, and its next start settles the commit.
        }
    }

    /// Ends a pre-commit that took too long: one compare-and-set decides between it and the commit [140].
    private func expireLock(_ deadline: Deadline) async throws {
        while true {
            do {
                guard let stored = try await records.get(deadline.operation),
                    stored.record.attempt == deadline.attempt, stored.record.owningNode == node
                else { return }
                let record = try await change(deadline.operation, on: nil) { record throws(MigrateError) in
                    try record.after(.expireLock(attempt: deadline.attempt))
                }
                guard record.state == .recovered, record.attempt == deadline.attempt else { return }
                try await storage(of: record).endMirrors(of: record.svm)
                try await storage(of: record).unlockConfiguration(of: record.svm, from: deadline.operation)
                return log.warning("the pre-commit of operation \(deadline.operation) took too long: unlocked")
            } catch let error as CancellationError {
                throw error
            } catch let error as MigrateError where error.kind == .notFound {
                return
            } catch {
                log.error("the lock of operation \(deadline.operation) cannot be ended yet: \(error)")
                try await waiting.milliseconds(100)
            }
        }
    }

    private func expire(_ deadline: Deadline) async throws {
        while true {
            do {
                // The timer of an owner that was superseded is its successor's.
                guard let stored = try await records.get(deadline.operation),
                    stored.record.attempt == deadline.attempt, stored.record.owningNode == node
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
                    try await reopenGate(of: record)
                    // Nobody was heard in time: a write must not wait for the word of a destination that may be gone. Only
                    // here, because a request that comes late must not end what a newer attempt has synchronised.
                    try await storage(of: record).endMirrors(of: record.svm)
                    log.warning("the hold budget of operation \(deadline.operation) was over: the source serves again")
                }
                return
            } catch let error as CancellationError {
                throw error
            } catch {
                // Until the record is known to be recovered the gate stays held: ask the database again.
                log.error("the commit of operation \(deadline.operation) cannot be given up yet: \(error)")
                try await waiting.milliseconds(Self.isNodeAway(error) ? 200 : 20)
            }
        }
    }

    /// Records a commit as recovered, or finds that the point of no return was first.
    func give(up operation: ObjectUUID, _ attempt: UInt64, _ reason: String) async throws -> SourceRecord {
        try await crashPoints.reached("source-recover", .before)
        do {
            let record = try await change(operation, on: nil) { record throws(MigrateError) in
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

    /// Holds the gate for an attempt and drains what is executed; false when that took too long.
    /// - Throws: `.refused` when a newer attempt has held it: this call was on its way for too long.
    func holdGate(of record: SourceRecord, attempt: UInt64, drainMilliseconds: UInt64) async throws -> Bool {
        guard attempt >= gateAttempts[record.operation] ?? 0 else {
            throw MigrateError(
                .refused,
                code: MigrateCode.wrongState,
                "a newer cutover than \(attempt) has held the gate of '\(record.svmName)'",
                remedy: "read the record again and go on from its state"
            )
        }
        gateAttempts[record.operation] = attempt
        return try await storage(of: record).holdGate(
            of: record.svm,
            attempt: attempt,
            drainMilliseconds: drainMilliseconds
        )
    }

    /// Reopens the gate after `record` was given up, unless a newer attempt has held it since.
    func reopenGate(of record: SourceRecord) async throws {
        guard record.attempt >= gateAttempts[record.operation] ?? 0 else { return }
        try await storage(of: record).reopenGate(of: record.svm, attempt: record.attempt)
    }

    /// Starts a timer.
    func startTimer(_ kind: DeadlineKind, _ operation: ObjectUUID, _ attempt: UInt64, milliseconds: UInt64) {
        let deadline = environment.monotonicNanoseconds() + milliseconds * 1_000_000
        deadlineSink.yield(
            Deadline(kind: kind, operation: operation, attempt: attempt, monotonicNanoseconds: deadline)
        )
    }

    /// The storage for the owner of an operation.
    func storage(of record: SourceRecord) -> any SourceStorage {
        storage.acting(
            as: GroupAuthority(operation: record.operation, side: .source, epoch: record.ownerEpoch)
        )
    }

    /// Changes a record by compare-and-set until it succeeds or the change is refused. Without a call it is the
    /// source's own change.
    /// - Throws: `.nodeAway` for a call when another node owns the operation by now: it is made again, and finds that node.
    func change(
        _ operation: ObjectUUID,
        on call: SourceCall?,
        _ body: (SourceRecord) throws(MigrateError) -> SourceRecord
    ) async throws -> SourceRecord {
        while true {
            guard let stored = try await records.get(operation) else { throw Self.unknown(operation) }
            var record = stored.record
            if let call {
                guard record.owningNode == node else {
                    owned.remove(operation)
                    throw Self.elsewhere(record)
                }
                record = try record.fenced(by: call)
            }
            record = try body(record)
            if record == stored.record { return record }
            if try await records.put(record, of: operation, at: stored.revision) != nil { return record }
        }
    }

    private static func isNodeAway(_ error: any Error) -> Bool { (error as? MigrateError)?.kind == .nodeAway }

    static func elsewhere(_ record: SourceRecord) -> MigrateError {
        MigrateError(
            .nodeAway,
            "operation \(record.operation) has just moved to another node of the source cluster",
            remedy: "nothing: it is asked again"
        )
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
