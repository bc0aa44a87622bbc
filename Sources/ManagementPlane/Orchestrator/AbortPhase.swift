import Environment
import Logging
import MigrateOperation
import Saga

/// Abort [155]: everything that the operation made is deleted on both sides, and only that; the source serves as ever.
enum AbortPhase {
    static let steps: [SagaStep<Migration>] = [
        SagaStep("abort-settle", perform: { try await HaltPhase.settle($0) }),
        SagaStep("abort-mirrors", perform: { try await HaltPhase.endMirrors($0) }),
        SagaStep(
            "abort-destination",
            perform: { migration in
                if migration.record.isPastPointOfNoReturn { return }
                try await migration.update { if $0.state == .migrateAborting { try $0.apply(.beginCleanup) } }
                try await migration.storage.deleteSVM(migration.record.svm, for: migration.operation)
                try await migration.update { try $0.apply(.cleanDestination) }
            }
        ),
        SagaStep(
            "abort-source",
            perform: { migration in
                if migration.record.isPastPointOfNoReturn { return }
                try await migration.askAgain(.forget(svm: migration.record.svm.uuid))
            }
        ),
    ]

    /// Runs the phase.
    static func run(_ migration: Migration) async throws {
        var failures: UInt64 = 0
        var backOff = BackOff(minMilliseconds: 100, maxMilliseconds: 5_000)
        while true {
            let outcome = try await migration.run(steps, .forwardOnly)
            if try await HaltPhase.goesOnAfterPointOfNoReturn(migration) { return }
            guard case .failed(let step, let reason) = outcome else { break }
            failures += 1
            migration.log.warning("step '\(step)' failed and is tried again: \(reason)")
            guard failures <= migration.record.options.retriesMax || migration.record.isCommitting else {
                return try await giveUp(migration, "step '\(step)': \(reason)")
            }
            try await migration.waiting.milliseconds(backOff.next(migration.environment))
        }
        let now = migration.environment.wallClockNanoseconds()
        try await migration.update {
            try $0.apply(.finishAbort)
            $0.pending = nil
            $0.haltGoal = nil
            $0.lastAction = .cleanup
            $0.currentAction = .none
            $0.times.end = now
            $0.enter(.ended)
        }
        migration.log.notice("the migrate operation is aborted and nothing of it is left")
    }

    private static func giveUp(_ migration: Migration, _ reason: String) async throws {
        try await migration.update {
            $0.lastFailedState = $0.state
            try $0.apply(.failAbort)
            $0.say(MigrateCode.abortFailed, "the abort stopped at \(reason); abort again when it is mended")
            $0.pending = nil
            $0.currentAction = .none
            $0.enter(.halted)
        }
    }
}
