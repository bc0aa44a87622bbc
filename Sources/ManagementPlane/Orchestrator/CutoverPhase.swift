import Environment
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
            perform: { try await $0.askAgain(.lock(attempt: $0.record.attempt)) },
            undo: { try await $0.askForEver(.unlock(attempt: $0.record.attempt)) }
        ),
        SagaStep("last-transfer", perform: { try await TransferPhase.transferOnce($0) }),
        SagaStep(
            "prepare",
            perform: { migration in
                let record = migration.record
                try await migration.storage.prepareToServe(record.svm)
                migration.remember { $0.preparedAttempt = record.attempt }
            },
            undo: { migration in
                migration.remember { $0.preparedAttempt = nil }
                try await migration.storage.discardPrepared(migration.record.svm)
            }
        ),
        SagaStep(
            "synchronize",
            perform: { try await synchronize($0) },
            undo: { migration in
                migration.remember { $0.synchronizedAttempt = nil }
                try await TransferPhase.stopMirrors(migration)
            }
        ),
        SagaStep(
            "commit",
            perform: { try await CommitWindow.perform($0) },
            undo: { try await CommitWindow.undo($0) },
            isDone: { migration in
                let source = try await migration.sourceRecord()
                return source.isPastPointOfNoReturn && source.attempt == migration.record.attempt
            }
        ),
    ]

    /// Runs the phase.
    static func run(_ migration: Migration) async throws {
        let now = migration.environment.wallClockNanoseconds()
        try await migration.update {
            try $0.move(to: .cutoverStarted)
            $0.times.cutoverStart = now
        }
        switch try await migration.run(steps, .reversible) {
        case .finished:
            try await migration.update { $0.enter(.takeover) }
        case .undone(let step, let reason), .failed(let step, let reason):
            migration.remember { $0.cutoverFailures += 1 }
            migration.log.warning("the cutover was undone at step '\(step)': \(reason)")
            try await migration.update {
                $0.say(
                    MigrateCode.wrongState,
                    "cutover \($0.attempt) was undone at step '\(step)', the source serves, it is tried again: \(reason)"
                )
                $0.lastFailedState = $0.state
                $0.restartCount += 1
                $0.finalSnapshot = nil
                try $0.move(to: .transferring)
                $0.enter(.transfer)
            }
        case .stuck(let step, let reason):
            try await migration.end(
                .migrateFailed,
                "the cutover failed, and the undo of step '\(step)' too: \(reason); look at both clusters"
            )
        }
    }

    /// Brings every volume, each on its own, from asynchronous to synchronous and waits until all are INSYNC.
    private static func synchronize(_ migration: Migration) async throws {
        let record = migration.record
        try await migration.forEachVolume { try await migration.storage.startSynchronous($0.msid, of: record.svm) }
        let deadline =
            migration.environment.monotonicNanoseconds() + record.options.synchronizeMilliseconds * 1_000_000
        while true {
            var waitingFor: [String] = []
            for volume in record.svm.volumes {
                let status = migration.storage.mirrorStatus(of: volume.msid)
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
