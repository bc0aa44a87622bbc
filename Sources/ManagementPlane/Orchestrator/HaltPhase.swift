import Environment
import Logging
import MigrateOperation
import Saga

/// The way to a standstill before the cutover, for a pause [156-158] and for a failure [177-180]: transfers end, mirrors
/// are released, the source is unlocked; snapshots and everything on the destination are kept, so that a resume goes on
/// from there.
enum HaltPhase {
    static let steps: [SagaStep<Migration>] = [
        SagaStep("halt-settle", perform: { try await settle($0) }),
        SagaStep("halt-mirrors", perform: { try await endMirrors($0) }),
        SagaStep("halt-source", perform: { try await releaseSource($0) }),
    ]

    /// Runs the phase.
    static func run(_ migration: Migration) async throws {
        var failures: UInt64 = 0
        var backOff = BackOff(minMilliseconds: 100, maxMilliseconds: 5_000)
        while true {
            let outcome = try await migration.run(steps, .forwardOnly)
            if try await goesOnAfterPointOfNoReturn(migration) { return }
            guard case .failed(let step, let reason) = outcome else { break }
            failures += 1
            migration.log.warning("step '\(step)' failed and is tried again: \(reason)")
            guard failures <= migration.record.options.retriesMax || migration.record.isCommitting else {
                return try await end(migration, obstacle: "step '\(step)': \(reason)")
            }
            try await migration.waiting.milliseconds(backOff.next(migration.environment))
        }
        try await end(migration, obstacle: nil)
    }

    /// Finds out how a commit ended that was not undone: past the point of no return there is nothing to halt.
    static func settle(_ migration: Migration) async throws {
        guard migration.record.isCommitting else { return }
        let reply = try await migration.ask(
            .recover(attempt: migration.record.attempt, reason: "the operation is halted")
        )
        guard case .status(let source) = reply.answer else { throw Migration.strangeAnswer("recover") }
        try await migration.update {
            $0.isCommitting = false
            $0.isPastPointOfNoReturn = source.isPastPointOfNoReturn
        }
    }

    /// Goes on with the takeover when the point of no return turned out to be recorded.
    static func goesOnAfterPointOfNoReturn(_ migration: Migration) async throws -> Bool {
        guard migration.record.isPastPointOfNoReturn else { return false }
        try await migration.update {
            $0.pending = nil
            $0.haltGoal = nil
            $0.say(MigrateCode.wrongState, "the point of no return was recorded: the operation goes on")
            $0.enter(.takeover)
        }
        return true
    }

    static func endMirrors(_ migration: Migration) async throws {
        if migration.record.isPastPointOfNoReturn { return }
        try await TransferPhase.stopMirrors(migration)
        try await migration.storage.discardPrepared(migration.record.svm)
    }

    private static func releaseSource(_ migration: Migration) async throws {
        if migration.record.isPastPointOfNoReturn { return }
        do {
            try await migration.askAgain(.release(relationshipInfoOnly: true), times: 3)
        } catch let error as MigrateError where error.kind == .notFound {
            // A source without its record has nothing to release.
        }
    }

    /// Stands still. A pause that could not reach the source has failed; a failure is what it was, and a source that was
    /// not reached unlocks itself when its own timer ends.
    private static func end(_ migration: Migration, obstacle: String?) async throws {
        let now = migration.environment.wallClockNanoseconds()
        try await migration.update { record in
            if record.pending == .abort {
                record.haltGoal = nil
                return record.enter(.aborting)
            }
            // A pause that was asked for meanwhile is met by this halt, whatever began it.
            let isPaused = record.haltGoal == .pause || record.state == .migratePausing
            if case .failure(let state, let code, let reason)? = record.haltGoal {
                record.say(code, reason)
                if !isPaused { try record.apply(state == .setupConfigurationFailed ? .failSetup : .fail) }
            }
            if isPaused {
                try record.apply(obstacle == nil ? .finishPause : .failPause)
                record.times.lastPause = now
                record.lastAction = .pause
            } else {
                record.lastAction = record.currentAction
            }
            if let obstacle {
                record.say(MigrateCode.pauseFailed, "the source could not be released: \(obstacle)")
            }
            record.currentAction = .none
            record.haltGoal = nil
            record.pending = nil
            record.enter(.halted)
        }
        // So that the source's record tells it too; one that does not answer learns it with the next call.
        do { _ = try await migration.ask(.status) } catch {
            migration.log.notice("the source does not know that the operation stands still: \(error)")
        }
    }
}
