import Environment
import GroupControl
import Identity
import Logging
import MigrateOperation
import Replication
import Saga

/// Cutover up to the point of no return on the source [139-148]; undone as a whole, back to transfers, when it fails.
enum CutoverPhase {
    static let steps: [SagaStep<Migration>] = [
        SagaStep(
            "lock",
            perform: { migration in
                let record = migration.record
                try record.requireNotInterrupted()
                try await migration.askAgain(
                    .lock(
                        attempt: record.attempt,
                        budgetMilliseconds: record.options.preCommitBudgetMilliseconds
                    )
                )
            },
            undo: { try await $0.askForEver(.unlock(attempt: $0.record.attempt)) }
        ),
        // With the configuration locked, this applies what of it was still pending, too.
        SagaStep(
            "last-transfer",
            perform: { migration in
                try await TransferPhase.transferOnce(migration)
                try await Reconciliation.requireComplete(migration)
            }
        ),
        SagaStep(
            "prepare",
            perform: { migration in
                let record = migration.record
                try record.requireNotInterrupted()
                try await migration.storage.prepareToServe(record.svm)
                migration.remember { $0.preparedAttempt = record.attempt }
            },
            undo: { migration in
                migration.remember { $0.preparedAttempt = nil }
                try await migration.whenNodesAnswer {
                    try await migration.storage.discardPrepared(migration.record.svm)
                }
            }
        ),
        SagaStep(
            "synchronize",
            perform: { try await synchronize($0) },
            undo: { migration in
                migration.remember { $0.synchronizedAttempt = nil }
                try await migration.whenNodesAnswer { try await TransferPhase.stopMirrors(migration) }
            }
        ),
        SagaStep(
            "commit",
            perform: { try await CommitWindow.perform($0) },
            undo: { try await CommitWindow.undo($0) },
            isDone: { try await isPastPointOfNoReturn($0) }
        ),
    ]

    /// Runs the phase.
    static func run(_ migration: Migration) async throws {
        let now = migration.environment.wallClockNanoseconds()
        try await migration.update {
            // A cutover that a user interrupts is run all the same: to undo what it has done.
            guard $0.pending == nil else { return }
            try $0.apply(.beginCutover)
            $0.times.cutoverStart = now
        }
        switch try await migration.run(steps, .reversible) {
        case .finished:
            try await migration.update { $0.enter(.takeover) }
        case .undone(let step, let reason), .failed(let step, let reason):
            try await undone(migration, "at step '\(step)'", reason)
        case .stuck(let step, let reason):
            if try await isPastPointOfNoReturn(migration) {
                // The commit failed after its point of no return, when this side could not record it: only the way
                // forward is left.
                migration.log.warning("step '\(step)' is past the point of no return and goes on: \(reason)")
                try await migration.update { $0.enter(.takeover) }
                return
            }
            try await migration.halt(
                .migrateFailed,
                "the cutover failed, and the undo of step '\(step)' too: \(reason); look at both clusters"
            )
        }
    }

    /// Whether the source's record, the arbiter, says that this attempt has passed the point of no return.
    private static func isPastPointOfNoReturn(_ migration: Migration) async throws -> Bool {
        let source = try await migration.sourceRecord()
        return source.isPastPointOfNoReturn && source.attempt == migration.record.attempt
    }

    /// The source serves again. The operation goes back to its transfers, unless it was undone too often [181] or a user
    /// wants something else.
    private static func undone(_ migration: Migration, _ place: String, _ reason: String) async throws {
        let verdict = FailureVerdict(migration.remember { $0.lastFailure })
        let record = try await migration.update {
            $0.isCommitting = false
            $0.finalSnapshot = nil
            guard $0.pending == nil else { return $0.enter(.transfer) }
            $0.cutoverFailures += 1
            $0.say(
                MigrateCode.wrongState,
                "cutover \($0.attempt) was undone \(place), the source serves, it is tried again: \(reason)"
            )
            $0.lastFailedState = $0.state
            $0.restartCount += 1
            try $0.apply(.undoCutover)
            $0.enter(.transfer)
        }
        guard record.pending == nil else { return }
        migration.log.warning("the cutover was undone \(place): \(reason)")
        let isHopeless = verdict == .giveUp && migration.remember { $0.lastFailure?.kind != .commitRecovered }
        guard isHopeless || record.cutoverFailures >= record.options.cutoverAttemptsMax else { return }
        try await migration.halt(
            .migrateFailed,
            "\(record.cutoverFailures) cutovers in a row were undone, the last one \(place): \(reason)"
        )
    }

    /// Brings every volume, each on its own, from asynchronous to synchronous and waits until all are INSYNC.
    private static func synchronize(_ migration: Migration) async throws {
        let record = migration.record
        try await migration.storage.startSynchronous(record.svm)
        let deadline =
            migration.environment.monotonicNanoseconds() + record.options.synchronizeMilliseconds * 1_000_000
        while true {
            try migration.record.requireNotInterrupted()
            var waitingFor: [String] = []
            let statuses = try await migration.storage.mirrorStatuses(of: record.svm)
            for volume in record.svm.volumes {
                let status = statuses[volume.msid] ?? .idle
                if let failure = status.failure, status.state != .inSync && status.state != .transitioning {
                    throw MigrateError(
                        .failed,
                        "volume '\(volume.name)' cannot be synchronised: \(failure)",
                        remedy: "the cutover is tried again; look at the network between the clusters"
                    )
                }
                if status.state != .inSync { waitingFor.append(volume.name) }
            }
            if waitingFor.isEmpty, try await sourceIsInSync(migration) { break }
            guard migration.environment.monotonicNanoseconds() < deadline else {
                throw MigrateError(
                    .failed,
                    "not INSYNC within \(record.options.synchronizeMilliseconds) ms: \(waitingFor.joined(separator: ", "))",
                    remedy: "the cutover is tried again; look at the write load and the network between the clusters"
                )
            }
            try await migration.waiting.milliseconds(10)
        }
        migration.remember { $0.synchronizedAttempt = record.attempt }
    }

    private static func sourceIsInSync(_ migration: Migration) async throws -> Bool {
        guard case .mirrorStates(let states) = try await migration.askAgain(.mirrorStates).answer else {
            throw Migration.strangeAnswer("mirrorStates")
        }
        return migration.record.svm.volumes.allSatisfy { states[$0.msid.description] == .inSync }
    }
}
