import ClusterConfiguration
import Environment
import Identity
import Logging
package import MigrateOperation
import Replication
import Saga

// The answers to the orchestrator's requests. Each is idempotent and fenced by the caller's epoch.
extension MigrateSource {
    /// Answers one call of an orchestrator, through the node that owns its operation.
    /// - Throws: `MigrateError`; errors of the storage below come as kind `.failed`.
    package func send(_ call: SourceCall) async throws -> SourceReply { try await reply(to: call, isPassedOn: false) }

    /// Answers a call that another node of this cluster passes on, since this one owns its operation.
    package func sendPassedOn(_ call: SourceCall) async throws -> SourceReply {
        try await reply(to: call, isPassedOn: true)
    }

    private func reply(to call: SourceCall, isPassedOn: Bool) async throws -> SourceReply {
        guard call.protocolVersion == migrateProtocolVersion else {
            throw MigrateError(
                .wrongVersion,
                code: MigrateCode.wrongVersion,
                "the caller speaks version \(call.protocolVersion) of the migrate protocol, this cluster \(migrateProtocolVersion)",
                remedy: "run the same version of the software on both clusters"
            )
        }
        do {
            if let record = try await recordOfOther(call) {
                guard !isPassedOn else { throw Self.elsewhere(record) }
                return try await pass(call, record)
            }
            return try await answer(call)
        } catch let error as MigrateError where error.kind == .fenced {
            throw await fence(error, of: call)
        } catch let error as MigrateError {
            throw error
        } catch let error as CancellationError {
            throw error
        } catch {
            throw MigrateError(.failed, "\(error)", remedy: "mend the cause; the operation tries again by itself")
        }
    }

    /// Tells two fences apart. One is about the caller: another orchestrator has taken its operation over, and it must end.
    /// The other one is about this node, which the nodes of its cluster refuse as a former owner of the operation: the caller
    /// would end for nothing, and the operation stand still.
    private func fence(_ error: MigrateError, of call: SourceCall) async -> MigrateError {
        do {
            guard let record = try await records.get(call.operation)?.record else { return error }
            do throws(MigrateError) { _ = try record.fenced(by: call) } catch { return error }
            owned.remove(call.operation)
            return Self.elsewhere(record)
        } catch {
            // The caller asks again.
            return MigrateError(.failed, "\(error)", remedy: "mend the cause; the operation tries again by itself")
        }
    }

    private func answer(_ call: SourceCall) async throws -> SourceReply {
        switch call.request {
        case .describe(let name): return try await describe(name, call)
        case .refresh: return try await refresh(call)
        case .configuration(let after, let wait): return try await configuration(after: after, wait, call)
        case .probe(let bytes): return try probe(bytes)
        case .release(let relationshipInfoOnly): try await release(relationshipInfoOnly, call)
        case .register(let svm, let cluster): return try await register(svm, cluster, call)
        case .forget(let svm): return try await forget(svm, call)
        case .status: return SourceReply(.status(try await current(call)))
        case .takeSnapshot(let snapshot):
            let record = try await current(call)
            try await storage(of: record).takeSnapshot(snapshot, of: record.svm)
        case .deleteSnapshots(let snapshots):
            let record = try await current(call)
            try await storage(of: record).deleteSnapshots(snapshots, of: record.svm)
        case .lock(let attempt, let budget): try await lock(attempt, budget, call)
        case .unlock(let attempt): try await unlock(attempt, call)
        case .mirrorStates:
            let record = try await current(call)
            let states = try await storage(of: record).mirrorStates(of: record.svm)
            let named = states.map { ($0.key.description, $0.value) }
            return SourceReply(.mirrorStates(Dictionary(uniqueKeysWithValues: named)))
        case .arm(let attempt, let budget): try await arm(attempt, budget, call)
        case .preload(let marks):
            let record = try await current(call)
            let (state, reached) = try await storage(of: record).exportProtocolState(of: record.svm, since: marks)
            return SourceReply(.preloaded(reached), attachment: state)
        case .hold(let attempt, let snapshot, let drain, let marks):
            if let held = try await heldReply(attempt, marks, call) { return held }
            return try await hold(attempt, snapshot, drain, marks, call)
        case .recover(let attempt, let reason): return try await recover(attempt, reason, call)
        case .pointOfNoReturn(let attempt): try await pointOfNoReturn(attempt, call)
        case .releaseInterfaces: try await releaseInterfaces(call)
        case .stop: try await stop(call)
        case .contentHash(let volume, let snapshot):
            let record = try await current(call)
            let hash = try await storage(of: record).contentHash(of: volume, in: record.svm, snapshot: snapshot)
            return SourceReply(.contentHash(hash))
        case .deleteSVM: try await deleteSVM(call)
        }
        return SourceReply(.done)
    }

    /// The record, with the caller's epoch remembered.
    func current(_ call: SourceCall) async throws -> SourceRecord {
        try await change(call.operation, on: call) { $0 }
    }

    private func describe(_ name: String, _ call: SourceCall) async throws -> SourceReply {
        guard let found = try await storage.describe(svmName: name) else {
            throw MigrateError(
                .notFound,
                code: MigrateCode.unknownSVM,
                "the source cluster has no SVM '\(name)'",
                remedy: "list the SVMs of the source cluster and use one of their names"
            )
        }
        var findings = found.findings
        for other in try await records(of: found.description.uuid) where other.operation != call.operation {
            findings.append(
                PrecheckFinding(
                    code: MigrateCode.svmInMigrate,
                    "SVM '\(name)' already takes part in operation \(other.operation) (source state \(other.state.rawValue))",
                    remedy: "wait until that operation is complete"
                )
            )
        }
        return SourceReply(.description(found.description, findings: findings))
    }

    private func register(_ svm: ObjectUUID, _ cluster: String, _ call: SourceCall) async throws -> SourceReply {
        while true {
            if let stored = try await records.get(call.operation) {
                let record = try await current(call)
                try await storage(of: record).setOperation(call.operation, of: stored.record.svm)
                return SourceReply(.done)
            }
            guard let name = try await storage.name(of: svm) else {
                throw MigrateError(
                    .notFound,
                    code: MigrateCode.unknownSVM,
                    "the source cluster has no SVM \(svm)",
                    remedy: "list the SVMs of the source cluster and start again"
                )
            }
            var record = SourceRecord(
                operation: call.operation,
                epoch: call.epoch,
                owningNode: node,
                svm: svm,
                svmName: name,
                destinationCluster: cluster
            )
            if let state = call.operationState { record.operationState = state }
            try await crashPoints.reached("source-register", .before)
            if try await records.put(record, of: call.operation, at: 0) != nil {
                try await crashPoints.reached("source-register", .after)
            }
        }
    }

    private func refresh(_ call: SourceCall) async throws -> SourceReply {
        let record = try await current(call)
        guard let name = try await storage.name(of: record.svm),
            let found = try await storage.describe(svmName: name)
        else {
            throw MigrateError(
                .refused,
                code: MigrateCode.unknownSVM,
                "the source cluster has no SVM \(record.svm) any more",
                remedy: "abort the operation"
            )
        }
        // A volume that is left out would be taken for one that was deleted, and its replica with it.
        let described = Set(found.description.volumes.map(\.uuid))
        if let missing = found.description.configuration.volumes.first(where: { !described.contains($0.uuid) }) {
            let reasons = found.findings.map(\.message).joined(separator: "; ")
            throw MigrateError(
                .nodeAway,
                "volume '\(missing.name)' cannot be described: \(reasons.isEmpty ? "its node does not have it open now" : reasons)",
                remedy: "look at the aggregates and events of the source; it is asked again"
            )
        }
        return SourceReply(.description(found.description, findings: found.findings))
    }

    private func probe(_ answerBytes: UInt64) throws -> SourceReply {
        guard answerBytes <= Self.probeBytesMax else {
            throw MigrateError(
                .refused,
                "a probe of \(answerBytes) bytes is more than \(Self.probeBytesMax)",
                remedy: "ask for less"
            )
        }
        return SourceReply(
            .probed(wallClockNanoseconds: environment.wallClockNanoseconds()),
            attachment: [UInt8](repeating: 0x5a, count: Int(answerBytes))
        )
    }

    private func lock(_ attempt: UInt64, _ budgetMilliseconds: UInt64, _ call: SourceCall) async throws {
        try await crashPoints.reached("source-lock", .before)
        let deadline = environment.wallClockNanoseconds() + Int64(clamping: budgetMilliseconds) * 1_000_000
        let record = try await change(call.operation, on: call) { record throws(MigrateError) in
            try record.after(.lock(attempt: attempt, deadlineWallClockNanoseconds: deadline))
        }
        startTimer(.lock, call.operation, attempt, milliseconds: budgetMilliseconds)
        try await storage(of: record).lockConfiguration(of: record.svm, for: call.operation)
        // The timer may have ended the lock before it was made.
        if try await records.get(call.operation)?.record.state == .recovered {
            try await storage(of: record).unlockConfiguration(of: record.svm, from: call.operation)
        }
        try await crashPoints.reached("source-lock", .after)
    }

    func unlock(_ attempt: UInt64, _ call: SourceCall) async throws {
        let before = try await current(call)
        // An unlock that comes late must not touch what a newer attempt has locked.
        _ = try before.after(.unlock(attempt: attempt))
        // The gate first: an SVM is never left held without a record that says so.
        if before.state == .recovered { try await reopenGate(of: before) }
        if !before.isPastPointOfNoReturn {
            try await storage(of: before).unlockConfiguration(of: before.svm, from: call.operation)
        }
        _ = try await change(call.operation, on: call) { record throws(MigrateError) in
            try record.after(.unlock(attempt: attempt))
        }
    }

    private func arm(_ attempt: UInt64, _ budgetMilliseconds: UInt64, _ call: SourceCall) async throws {
        try await crashPoints.reached("source-arm", .before)
        // The timer starts before the record is written, so that the budget is never longer than was asked.
        startTimer(.commit, call.operation, attempt, milliseconds: budgetMilliseconds)
        let deadline = environment.wallClockNanoseconds() + Int64(budgetMilliseconds) * 1_000_000
        _ = try await change(call.operation, on: call) { record throws(MigrateError) in
            try record.after(.arm(attempt: attempt, deadlineWallClockNanoseconds: deadline))
        }
        try await crashPoints.reached("source-arm", .after)
    }

    /// What `hold` answered before for the same attempt. A destination that has lost what it preloaded asks without marks
    /// and gets the whole state: the gate is held, so that it has not changed.
    private func heldReply(
        _ attempt: UInt64,
        _ marks: [ProtocolStateMark],
        _ call: SourceCall
    ) async throws -> SourceReply? {
        guard let held = heldReplies[call.operation], held.attempt == attempt else { return nil }
        var reply = held.reply
        if marks.isEmpty {
            let record = try await current(call)
            reply.attachment = try await storage(of: record).exportProtocolState(of: record.svm, since: []).state
        }
        return reply
    }

    private func hold(
        _ attempt: UInt64,
        _ snapshot: OperationSnapshot,
        _ drainMilliseconds: UInt64,
        _ marks: [ProtocolStateMark],
        _ call: SourceCall
    ) async throws -> SourceReply {
        let record = try await current(call)
        let storage = storage(of: record)
        try requireCommit(record, attempt)
        var stages = StageClock(environment)
        try await crashPoints.reached("source-hold", .before)
        do {
            let began = environment.monotonicNanoseconds()
            let isDrained = try await holdGate(of: record, attempt: attempt, drainMilliseconds: drainMilliseconds)
            // The timer may have given the commit up, and reopened the gate, before the gate was held.
            guard let stored = try await records.get(call.operation) else { throw Self.unknown(call.operation) }
            try requireCommit(stored.record, attempt)
            try await crashPoints.reached("source-hold", .after)
            guard isDrained else { throw Self.notDrained(drainMilliseconds) }
            stages.end("hold")
            let passed = (environment.monotonicNanoseconds() - began) / 1_000_000
            let sealed = try await storage.seal(
                record.svm,
                snapshot,
                attempt: attempt,
                since: marks,
                withinMilliseconds: drainMilliseconds - min(drainMilliseconds, passed)
            )
            guard let sealed else { throw Self.notDrained(drainMilliseconds) }
            try Self.requireInSync(sealed.mirrorStates)
            try await crashPoints.reached("source-snapshot", .after)
            stages.end("final_snapshot")
            let reply = SourceReply(
                .held(stages.stages, lastAnswers: sealed.lastAnswers),
                attachment: sealed.protocolState
            )
            if heldReplies[call.operation]?.attempt ?? 0 < attempt {
                heldReplies[call.operation] = HeldReply(attempt: attempt, reply: reply)
            }
            return reply
        } catch {
            // Whoever gave the commit up may have reopened the gate before this held it, and the record may be further
            // by now: the gate is reopened whatever became of the attempt, unless the point of no return won.
            let settled = try await give(up: call.operation, attempt, "the source could not hold: \(error)")
            if !settled.isPastPointOfNoReturn { try await reopenGate(of: record) }
            throw error
        }
    }

    private func requireCommit(_ record: SourceRecord, _ attempt: UInt64) throws(MigrateError) {
        guard record.state == .commit, record.attempt == attempt else {
            // The transition has the words for each state.
            _ = try record.after(.pointOfNoReturn(attempt: attempt))
            throw MigrateError(
                .pastPointOfNoReturn,
                code: MigrateCode.wrongState,
                "the point of no return has been recorded",
                remedy: "go on with the destination"
            )
        }
    }

    private static func notDrained(_ drainMilliseconds: UInt64) -> MigrateError {
        MigrateError(
            .failed,
            "the clients' requests were not drained within \(drainMilliseconds) ms",
            remedy: "the cutover is tried again; look for slow disks or stuck clients"
        )
    }

    private static func requireInSync(_ states: [VolumeMSID: MirrorState]) throws(MigrateError) {
        for (volume, state) in states.sorted(by: { $0.key < $1.key }) where state != .inSync {
            throw MigrateError(
                .failed,
                "volume \(volume) fell out of synchronisation during the commit (\(state.rawValue))",
                remedy: "the cutover is tried again; look at the network between the clusters"
            )
        }
    }

    private func recover(_ attempt: UInt64, _ reason: String, _ call: SourceCall) async throws -> SourceReply {
        _ = try await current(call)
        let record = try await give(up: call.operation, attempt, reason)
        if record.state == .recovered { try await reopenGate(of: record) }
        return SourceReply(.status(record))
    }

    private func pointOfNoReturn(_ attempt: UInt64, _ call: SourceCall) async throws {
        try await crashPoints.reached("source-ponr", .before)
        let record = try await change(call.operation, on: call) { record throws(MigrateError) in
            // A commit without its hold in this daemon's memory has nothing to hand over.
            if record.state == .commit && heldReplies[call.operation]?.attempt != attempt {
                throw MigrateError(
                    .refused,
                    code: MigrateCode.wrongState,
                    "the commit of attempt \(attempt) is not held",
                    remedy: "undo the cutover and try again"
                )
            }
            return try record.after(.pointOfNoReturn(attempt: attempt))
        }
        try await crashPoints.reached("source-ponr", .after)
        // A call that comes late: the SVM may be back by another operation, and its addresses with it.
        if record.state == .cleaned { return }
        // Before the answer, which says that the addresses have left.
        try await storage.surrenderInterfaces(of: record.svm)
        log.notice(
            "the point of no return of operation \(call.operation) is recorded: this cluster serves '\(record.svmName)' no more"
        )
    }

    private func releaseInterfaces(_ call: SourceCall) async throws {
        let record = try await current(call)
        try requirePastPointOfNoReturn(record)
        // A call that comes late: the SVM may be back by another operation, and then has its interfaces here again.
        if record.state == .cleaned { return }
        try await crashPoints.reached("source-release", .before)
        try await storage(of: record).releaseInterfaces(of: record.svm)
        try await crashPoints.reached("source-release", .after)
    }

    private func stop(_ call: SourceCall) async throws {
        let record = try await current(call)
        try requirePastPointOfNoReturn(record)
        if record.state == .cleaned { return }
        try await crashPoints.reached("source-stop", .before)
        try await storage(of: record).releaseInterfaces(of: record.svm)
        try await storage(of: record).stop(record.svm, for: call.operation)
        _ = try await change(call.operation, on: call) { record throws(MigrateError) in
            try record.after(.release)
        }
        heldReplies[call.operation] = nil
        try await crashPoints.reached("source-stop", .after)
    }

    private func deleteSVM(_ call: SourceCall) async throws {
        let record = try await current(call)
        try requirePastPointOfNoReturn(record)
        if record.state == .cleaned { return }
        try await crashPoints.reached("source-delete", .before)
        try await storage(of: record).deleteSVM(record.svm)
        _ = try await change(call.operation, on: call) { record throws(MigrateError) in
            try record.after(.clean)
        }
        try await crashPoints.reached("source-delete", .after)
    }

    private func requirePastPointOfNoReturn(_ record: SourceRecord) throws(MigrateError) {
        guard record.isPastPointOfNoReturn else {
            throw MigrateError(
                .refused,
                code: MigrateCode.wrongState,
                "the source still serves '\(record.svmName)' (state \(record.state.rawValue))",
                remedy: "this is only allowed after the point of no return"
            )
        }
    }
}
