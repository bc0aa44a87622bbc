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
                let record = migration.record
                try await migration.askForEver(.deleteSnapshots(record.transferSnapshots.map(\.uuid)))
                try await migration.storage.deleteMirrors(
                    of: record.svm,
                    namePrefix: record.snapshotNamePrefix,
                    retaining: .onlyFinal,
                    final: record.finalSnapshot?.uuid
                )
                try await migration.update { $0.transferSnapshots = [] }
            }
        ),
    ]

    /// Runs the phase.
    static func run(_ migration: Migration) async throws {
        try await migration.update { try $0.apply(.beginPostCutover) }
        await CommitWindow.noteGaps(migration)
        guard try await migration.goForward(steps, retry: (.failPostCutover, .beginPostCutover)) else { return }
        await CommitWindow.noteGaps(migration)
        try await migration.update {
            try $0.apply(.finishPostCutover)
            $0.enter(.sourceCleanup)
        }
    }
}
