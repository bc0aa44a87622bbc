import Environment
import Logging
import MigrateOperation
import Saga

/// From the point of no return until the destination serves. Without a crash the commit has done all of it already and
/// each step finds that out; after one, this is where the destination goes on. There is no way back.
enum TakeoverPhase {
    static let steps: [SagaStep<Migration>] = [
        SagaStep("record-ponr", perform: { try await $0.update { $0.isPastPointOfNoReturn = true } }),
        SagaStep("takeover-volumes", perform: { try await openVolumes($0) }),
        SagaStep("takeover-service", perform: { try await serve($0) }),
    ]

    /// Runs the phase.
    static func run(_ migration: Migration) async throws {
        // Clients wait: what a node that died had is served by its partner at any moment.
        guard try await migration.goForward(steps, retry: nil, pauseMillisecondsMax: 500) else { return }
        let now = migration.environment.wallClockNanoseconds()
        try await migration.update {
            try $0.apply(.completeCutover)
            $0.isCommitting = false
            $0.cutoverFailures = 0
            if $0.times.cutoverComplete == nil { $0.times.cutoverComplete = now }
            $0.lastAction = .cutover
            $0.currentAction = .none
            $0.enter(.postCutover)
        }
        migration.log.notice("the destination serves SVM '\(migration.record.svm.name)'")
    }

    private static func openVolumes(_ migration: Migration) async throws {
        try await migration.storage.setReplica(false, of: migration.record.svm)
    }

    private static func serve(_ migration: Migration) async throws {
        do {
            try await serveOnce(migration)
        } catch {
            // A node that was prepared may be another one now, or have been restarted: the next try does everything.
            migration.remember { $0.importedAttempt = nil }
            throw error
        }
    }

    private static func serveOnce(_ migration: Migration) async throws {
        let record = migration.record
        let isImported = migration.remember { $0.importedAttempt == record.attempt }
        if !isImported {
            // This process is not the one that made the commit: build the service again. What had an effect the volumes
            // bring along (decision 0030); the rest of what the clients were answered the source keeps until it is stopped.
            try await openVolumes(migration)
            try await migration.storage.prepareToServe(record.svm)
            try await fetchProtocolState(migration, record)
        }
        try await migration.storage.bindInterfaces(of: record.svm)
        try await CommitWindow.releaseInterfaces(migration)
        try await migration.storage.openGate(of: record.svm)
        // In the same step: until it is recorded, a daemon that was started again must do all of this again.
        try await migration.storage.recordServing(record.svm, for: migration.operation)
    }

    private static func fetchProtocolState(_ migration: Migration, _ record: DestinationRecord) async throws {
        guard let snapshot = record.finalSnapshot else { return }
        do {
            let reply = try await migration.askAgain(
                .hold(attempt: record.attempt, snapshot: snapshot, drainMilliseconds: 0, since: []),
                times: 2
            )
            try await migration.storage.importProtocolState(reply.attachment, of: record.svm)
            migration.remember { $0.importedAttempt = record.attempt }
        } catch let error as MigrateError {
            migration.log.notice(
                "the source has no protocol state any more, and what the volumes keep is all: \(error)"
            )
        }
    }
}

extension Migration {
    /// Runs a saga that only goes forward until it finishes.
    ///
    /// - Parameters:
    ///   - retry: the events that say that a failed step waits for its next try, and that it is tried again; nil keeps the
    ///     state.
    ///   - pauseMillisecondsMax: the longest pause before the next try.
    /// - Returns: Whether it finished; false when it is stuck, which ends the operation.
    func goForward(
        _ steps: [SagaStep<Migration>],
        retry: (failed: OperationEvent, again: OperationEvent)?,
        pauseMillisecondsMax: UInt64 = 5_000
    ) async throws -> Bool {
        var backOff = BackOff(minMilliseconds: 50, maxMilliseconds: pauseMillisecondsMax)
        while true {
            switch try await run(steps, .forwardOnly) {
            case .finished:
                return true
            case .failed(let step, let reason), .undone(let step, let reason):
                log.warning("step '\(step)' failed and is tried again: \(reason)")
                try await update {
                    $0.say(MigrateCode.wrongState, "step '\(step)' failed and is tried again: \(reason)")
                    if let retry { try $0.apply(retry.failed) }
                }
                try await waiting.milliseconds(backOff.next(environment))
                if let retry { try await update { try $0.apply(retry.again) } }
            case .stuck(let step, let reason):
                log.critical("step '\(step)' is stuck: \(reason)")
                return false
            }
        }
    }
}
