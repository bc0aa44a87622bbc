import Environment
import Identity
import Logging
import MigrateOperation
import Saga

/// Source cleanup [150-151]: the final snapshot is compared on both sides, then the source goes, then the snapshot.
enum SourceCleanupPhase {
    static let steps: [SagaStep<Migration>] = [
        SagaStep("integrity", perform: { try await compare($0) }),
        SagaStep("delete-source", perform: { try await $0.askForEver(.deleteSVM) }),
        SagaStep(
            "delete-final-snapshot",
            perform: { migration in
                guard let snapshot = migration.record.finalSnapshot else { return }
                try await migration.storage.deleteSnapshots([snapshot.uuid], of: migration.record.svm)
            }
        ),
    ]

    /// Runs the phase, once it is due.
    /// - Returns: Whether there is more to do; false leaves the operation waiting for a new request.
    static func run(_ migration: Migration) async throws -> Bool {
        while !migration.record.options.isAutoSourceCleanup && !migration.record.isSourceCleanupRequested {
            try await migration.waiting.milliseconds(100)
        }
        try await migration.update {
            try $0.apply(.beginSourceCleanup)
            $0.currentAction = .cleanup
        }
        switch try await migration.run(steps, .forwardOnly) {
        case .finished:
            let now = migration.environment.wallClockNanoseconds()
            try await migration.update {
                try $0.apply($0.messages.isEmpty ? .complete : .completeWithWarnings)
                $0.lastAction = .cleanup
                $0.currentAction = .none
                $0.times.end = now
                $0.enter(.ended)
            }
        case .failed(let step, let reason), .undone(let step, let reason), .stuck(let step, let reason):
            migration.log.error("the source cleanup failed at step '\(step)': \(reason)")
            guard migration.remember({ $0.isDifferent }) else {
                try await migration.update {
                    $0.say(MigrateCode.wrongState, "step '\(step)' is tried again: \(reason)")
                }
                try await migration.waiting.milliseconds(1_000)
                return true
            }
            migration.remember { $0.isDifferent = false }
            try await migration.update {
                $0.lastFailedState = $0.state
                try $0.apply(.failSourceCleanup)
                $0.say(MigrateCode.integrity, "source cleanup failed at step '\(step)': \(reason)")
                // A difference between the two sides is never met by deleting one of them: somebody must look first.
                $0.options.isAutoSourceCleanup = false
                $0.isSourceCleanupRequested = false
            }
        }
        return true
    }

    /// Walks the final snapshot on both sides at the same time and compares the hashes.
    private static func compare(_ migration: Migration) async throws {
        guard let snapshot = migration.record.finalSnapshot else { return }
        var verified: [String: String] = [:]
        // One volume after the other: this is work in the background, and clients are being served.
        for volume in migration.record.svm.volumes {
            async let here = migration.storage.contentHash(
                of: volume.msid,
                in: migration.record.svm,
                snapshot: snapshot.uuid
            )
            let reply = try await migration.askForEver(.contentHash(volume: volume.msid, snapshot: snapshot.uuid))
            guard case .contentHash(let there) = reply.answer else { throw Migration.strangeAnswer("contentHash") }
            let local = try await here
            guard local == there else {
                migration.remember { $0.isDifferent = true }
                throw MigrateError(
                    .refused,
                    code: MigrateCode.integrity,
                    "the final snapshot of volume '\(volume.name)' differs: \(there) on the source, \(local) here",
                    remedy: "keep the source; scrub the volume on both sides and compare the snapshots"
                )
            }
            verified[volume.msid.description] = local
        }
        let hashes = verified
        try await migration.update { $0.verifiedHashes = hashes }
    }
}
