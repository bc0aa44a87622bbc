import MigrateOperation
import Saga

/// Post-cutover [149]: mirrors end, the source stops, migration snapshots go save the final one.
enum PostCutoverPhase {
    static let steps: [SagaStep<Migration>] = [
        SagaStep("stop-mirrors", perform: { try await TransferPhase.stopMirrors($0) }),
        SagaStep("stop-source", perform: { try await $0.askForEver(.stop) }),
        SagaStep(
            "delete-transfer-snapshots",
            perform: { migration in
                let snapshots = migration.record.transferSnapshots.map(\.uuid)
                try await migration.askForEver(.deleteSnapshots(snapshots))
                try await migration.storage.deleteSnapshots(snapshots, of: migration.record.svm)
                try await migration.update { $0.transferSnapshots = [] }
            }
        ),
    ]

    /// Runs the phase.
    static func run(_ migration: Migration) async throws {
        try await migration.update { try $0.move(to: .postCutover) }
        guard try await migration.goForward(steps, retryState: .postCutoverFailed) else { return }
        try await migration.update {
            try $0.move(to: .readyForSourceCleanup)
            $0.enter(.sourceCleanup)
        }
    }
}
