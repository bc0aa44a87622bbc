import Environment
import Identity
import Logging
import MigrateOperation
import Replication
import Saga

/// Transfer [131-137]: a baseline, then back-to-back incremental transfers until the cutover begins.
enum TransferPhase {
    /// Between two transfers when the operation waits for the user's cutover: it grows from the first to the last.
    static let idleMillisecondsMin: UInt64 = 1_000
    static let idleMillisecondsMax: UInt64 = 30_000
    /// After a failure.
    static let retryMillisecondsMin: UInt64 = 200
    static let retryMillisecondsMax: UInt64 = 10_000

    /// Runs transfers until the cutover is due.
    static func run(_ migration: Migration) async throws {
        var retryMilliseconds = retryMillisecondsMin
        var idleMilliseconds = idleMillisecondsMin
        try await waitAfterUndoneCutover(migration)
        while true {
            do {
                try await transferOnce(migration)
                retryMilliseconds = retryMillisecondsMin
            } catch let error as MigrateError where error.kind == .refused || error.kind == .wrongVersion {
                try await stopMirrors(migration)
                return try await migration.end(.migrateFailed, "the transfer cannot go on: \(error)")
            } catch let error as MigrateError where error.kind == .fenced || error.kind == .notFound {
                throw error
            } catch let error as CancellationError {
                throw error
            } catch {
                migration.log.warning("a transfer failed and is tried again: \(error)")
                try await migration.update {
                    $0.say(MigrateCode.startFailed, "a transfer failed and is tried again: \(error)")
                }
                try await migration.waiting.milliseconds(retryMilliseconds)
                retryMilliseconds = min(retryMilliseconds * 2, retryMillisecondsMax)
                continue
            }
            let record = try await migration.update {
                if $0.isReadyForCutover { try $0.move(to: .readyForCutover) } else { try $0.move(to: .transferring) }
            }
            guard record.state == .readyForCutover else { continue }
            if try await beginCutover(migration) { return }
            try await idle(migration, milliseconds: idleMilliseconds)
            idleMilliseconds = min(idleMilliseconds * 2, idleMillisecondsMax)
            if try await beginCutover(migration) { return }
        }
    }

    /// One transfer of every volume up to a new snapshot.
    static func transferOnce(_ migration: Migration) async throws {
        // The snapshot is in the record before it exists, so that a crash never leaves one that nobody knows.
        let record = try await migration.update { record in
            record.transferNumber += 1
            record.transferSnapshots.append(
                OperationSnapshot(
                    uuid: ObjectUUID.random(migration.environment),
                    name: "\(record.snapshotNamePrefix)-\(record.transferNumber)"
                )
            )
        }
        let snapshot = record.transferSnapshots[record.transferSnapshots.count - 1]
        let step = record.progress.isEmpty ? "baseline" : "incremental"
        try await migration.crashPoints.reached(step, .before)
        try await migration.askAgain(.takeSnapshot(snapshot))
        try await migration.forEachVolume { volume in
            let statistics = try await migration.storage.transfer(
                volume.msid,
                of: record.svm,
                upTo: snapshot.uuid,
                throttleBytesPerSecond: record.options.throttleBytesPerSecond
            )
            try await migration.update {
                $0.noteTransfer(
                    of: volume.msid,
                    bytes: statistics.bytes,
                    milliseconds: statistics.durationNanoseconds / 1_000_000
                )
            }
        }
        try await migration.crashPoints.reached(step, .after)
        try await forgetOlderSnapshots(migration, than: snapshot)
    }

    /// Deletes the transfer snapshots before the newest one, which is the common ground for the next transfer.
    private static func forgetOlderSnapshots(_ migration: Migration, than newest: OperationSnapshot) async throws {
        let old = migration.record.transferSnapshots.map(\.uuid).filter { $0 != newest.uuid }
        if old.isEmpty { return }
        try await migration.askAgain(.deleteSnapshots(old))
        try await migration.storage.deleteSnapshots(old, of: migration.record.svm)
        try await migration.update { $0.transferSnapshots.removeAll { $0.uuid != newest.uuid } }
    }

    /// Waits, and stops waiting when the user asks for the cutover.
    private static func idle(_ migration: Migration, milliseconds: UInt64) async throws {
        var waited: UInt64 = 0
        while waited < milliseconds && !migration.record.isCutoverRequested {
            try await migration.waiting.milliseconds(100)
            waited += 100
        }
    }

    /// After a cutover that was undone the next one waits longer each time, so that clients are not held again and again.
    private static func waitAfterUndoneCutover(_ migration: Migration) async throws {
        let failures = migration.remember { $0.cutoverFailures }
        if failures == 0 { return }
        try await migration.waiting.milliseconds(min(30_000, 500 << UInt64(min(failures, 6))))
    }

    /// Moves on to the cutover when it is due.
    private static func beginCutover(_ migration: Migration) async throws -> Bool {
        let record = migration.record
        guard record.options.isAutoCutover || record.isCutoverRequested else { return false }
        let now = migration.environment.wallClockNanoseconds()
        try await migration.update {
            try $0.move(to: .cutoverTriggered)
            $0.currentAction = .cutover
            $0.lastAction = .start
            if $0.times.cutoverTrigger == nil { $0.times.cutoverTrigger = now }
            $0.attempt += 1
            $0.finalSnapshot = OperationSnapshot(
                uuid: ObjectUUID.random(migration.environment),
                name: "\($0.snapshotNamePrefix)-final-\($0.attempt)"
            )
            $0.enter(.cutover)
        }
        return true
    }

    /// Ends every mirror.
    static func stopMirrors(_ migration: Migration) async throws {
        try await migration.forEachVolume { try await migration.storage.stopMirror($0.msid) }
    }
}
