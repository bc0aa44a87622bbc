import Environment
import Identity
import Logging
import MigrateOperation
import Saga

/// Setup [123-130]: records on both sides, then the destination SVM, stopped and locked, with volumes and interfaces.
///
/// It is also where a resume begins [159]: what is there already is kept, what the source has changed is reconciled.
/// A failure that does not heal leaves what was made, locked, for a resume or an abort [178].
enum SetupPhase {
    static let steps: [SagaStep<Migration>] = [
        SagaStep(
            "source-record",
            perform: { migration in
                let record = migration.record
                try record.requireNotInterrupted()
                try await migration.askAgain(
                    .register(svm: record.svm.uuid, destinationCluster: migration.clusterName)
                )
            }
        ),
        SagaStep(
            "destination-objects",
            perform: { migration in
                try migration.record.requireNotInterrupted()
                try await Reconciliation.run(migration, isForced: true)
            }
        ),
    ]

    /// Runs the phase.
    static func run(_ migration: Migration) async throws {
        try await migration.progress(.beginSetup)
        var failures: UInt64 = 0
        var backOff = BackOff(minMilliseconds: 100, maxMilliseconds: 5_000)
        while true {
            let outcome = try await migration.run(steps, .forwardOnly)
            if outcome == .finished { break }
            guard case .failed(let step, let reason) = outcome else { continue }
            try migration.record.requireNotInterrupted()
            failures += 1
            switch FailureVerdict(migration.remember { $0.lastFailure }) {
            case .waitForPeer:
                try await PeerHealth.waitForSource(migration)
                failures = 0
            case .waitForNode:
                migration.log.warning("step '\(step)' waits for a node: \(reason)")
                try await migration.update {
                    $0.say(MigrateCode.peerUnreachable, "step '\(step)' waits for a node: \(reason)")
                }
                failures = 0
                try await migration.waitInterruptibly(milliseconds: backOff.next(migration.environment))
            case .tryAgain where failures <= migration.record.options.retriesMax:
                migration.log.warning("step '\(step)' failed and is tried again: \(reason)")
                try await migration.update {
                    $0.say(MigrateCode.startFailed, "step '\(step)' failed and is tried again: \(reason)")
                }
                try await migration.waitInterruptibly(milliseconds: backOff.next(migration.environment))
            case .tryAgain, .giveUp:
                return try await migration.halt(
                    .setupConfigurationFailed,
                    "setup failed at step '\(step)': \(reason)"
                )
            }
        }
        try await migration.progress(.transfer) { $0.enter(.transfer) }
    }
}

extension Migration {
    /// Begins the way to a failed state: mirrors end, the source is unlocked, everything made is kept [177].
    func halt(_ state: MigrationState, _ reason: String) async throws {
        log.error("the migrate operation failed: \(reason)")
        let code = remember { $0.lastFailure?.code } ?? MigrateCode.migrateFailed
        try await update {
            $0.lastFailedState = $0.state
            $0.haltGoal = .failure(state: state, code: code, reason: reason)
            $0.enter(.halting)
        }
    }
}
