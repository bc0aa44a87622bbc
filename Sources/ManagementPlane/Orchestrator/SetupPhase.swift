import Environment
import Identity
import Logging
import MigrateOperation
import Saga

/// Setup [123-130]: records on both sides, then the destination SVM, stopped and locked, with volumes and interfaces.
/// Undone as a whole when a step fails.
enum SetupPhase {
    static let steps: [SagaStep<Migration>] = [
        SagaStep(
            "source-record",
            perform: { migration in
                let record = migration.record
                try await migration.askAgain(
                    .register(svm: record.svm.uuid, destinationCluster: migration.clusterName)
                )
            },
            undo: { migration in
                let snapshots = migration.record.transferSnapshots.map(\.uuid)
                try await migration.askForEver(.forget(snapshots: snapshots))
            }
        ),
        SagaStep(
            "destination-svm",
            perform: { try await $0.storage.createSVM($0.record.svm, for: $0.operation) },
            undo: { try await $0.storage.deleteSVM($0.record.svm, for: $0.operation) }
        ),
        // The undo of the SVM takes what is in it along, so these two need none.
        SagaStep(
            "destination-volumes",
            perform: { try await $0.storage.createVolumes($0.record.svm, for: $0.operation) }
        ),
        SagaStep(
            "destination-interfaces",
            perform: { try await $0.storage.createInterfaces($0.record.svm, for: $0.operation) }
        ),
    ]

    /// Runs the phase.
    static func run(_ migration: Migration) async throws {
        try await migration.update { try $0.move(to: .setupConfiguration) }
        switch try await migration.run(steps, .reversible) {
        case .finished:
            try await migration.update {
                try $0.move(to: .transferring)
                $0.enter(.transfer)
            }
        case .undone(let step, let reason), .failed(let step, let reason):
            try await migration.end(.setupConfigurationFailed, "setup failed at step '\(step)': \(reason)")
        case .stuck(let step, let reason):
            try await migration.end(
                .setupConfigurationFailed,
                "setup failed, and the undo of step '\(step)' too: \(reason); remove what is left by hand"
            )
        }
    }
}

extension Migration {
    /// Ends the operation in a failed state, with its reason.
    func end(_ state: MigrationState, _ reason: String) async throws {
        log.error("the migrate operation failed: \(reason)")
        try await update {
            $0.lastFailedState = $0.state
            try $0.move(to: state)
            $0.say(MigrateCode.startFailed, reason)
            $0.enter(.ended)
            $0.lastAction = $0.currentAction
            $0.currentAction = .none
            $0.times.end = self.environment.wallClockNanoseconds()
        }
    }
}
