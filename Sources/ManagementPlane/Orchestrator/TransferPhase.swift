import Environment
import GroupControl
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
    /// How often a running transfer looks whether a user wants it to end.
    static let interruptPollMilliseconds: UInt64 = 50

    /// Runs transfers until the cutover is due.
    static func run(_ migration: Migration) async throws {
        try await ConfigurationStream.following(migration) { try await transfers(migration) }
    }

    private static func transfers(_ migration: Migration) async throws {
        var idleMilliseconds = idleMillisecondsMin
        try await waitAfterUndoneCutover(migration)
        while true {
            guard try await transferOrHalt(migration) else { return }
            let record = try await migration.update {
                try $0.requireNotInterrupted()
                try $0.apply($0.isReadyForCutover ? .becomeReady : .transfer)
            }
            guard record.state == .readyForCutover else { continue }
            if try await beginCutover(migration) { return }
            let revision = record.configurationStream?.revision
            try await migration.waitInterruptibly(milliseconds: idleMilliseconds) {
                $0.isCutoverRequested || $0.configurationStream?.revision != revision
            }
            idleMilliseconds = min(idleMilliseconds * 2, idleMillisecondsMax)
            if try await beginCutover(migration) { return }
        }
    }

    /// Transfers until it succeeds [173-174].
    /// - Returns: Whether it succeeded; false when the operation is on its way to a failed state.
    private static func transferOrHalt(_ migration: Migration) async throws -> Bool {
        var backOff = BackOff(minMilliseconds: retryMillisecondsMin, maxMilliseconds: retryMillisecondsMax)
        var failures: UInt64 = 0
        var bytesBefore = bytesTransferred(migration)
        while true {
            do {
                try await transferOnce(migration)
                return true
            } catch let error as CancellationError {
                throw error
            } catch let error as MigrateError where error.kind == .fenced || error.kind == .interrupted {
                throw error
            } catch {
                try migration.record.requireNotInterrupted()
                // What was moved since the last failure says that it was another one.
                let bytes = bytesTransferred(migration)
                failures = bytes > bytesBefore ? 1 : failures + 1
                bytesBefore = bytes
                migration.log.warning("a transfer failed: \(error)")
                let verdict = FailureVerdict(error)
                guard verdict != .giveUp, verdict == .waitForNode || failures <= migration.record.options.retriesMax
                else {
                    migration.remember { $0.lastFailure = error as? MigrateError }
                    try await migration.halt(.migrateFailed, "the transfer cannot go on: \(error)")
                    return false
                }
                if verdict == .waitForNode {
                    failures -= 1
                    migration.log.warning("a node is waited for: \(error)")
                    try await migration.update { $0.say(MigrateCode.peerUnreachable, "a node is waited for: \(error)") }
                    try await migration.waitInterruptibly(milliseconds: backOff.next(migration.environment))
                    continue
                }
                // A broken link shows at the replication connection first; whether the peer lives, the control path says.
                try await PeerHealth.waitForSource(migration)
                if verdict == .waitForPeer { continue }
                try await migration.update {
                    $0.say(MigrateCode.startFailed, "a transfer failed and is tried again: \(error)")
                }
                try await migration.waitInterruptibly(milliseconds: backOff.next(migration.environment))
            }
        }
    }

    private static func bytesTransferred(_ migration: Migration) -> UInt64 {
        let record = migration.record
        return record.svm.volumes.reduce(0) { sum, volume in
            sum + (record.progress[volume.msid.description]?.bytesTransferred ?? 0)
                + migration.storage.mirrorStatus(of: volume.msid).transfer.bytes
        }
    }

    /// One transfer of every volume up to a new snapshot, after what the source has changed is taken over.
    static func transferOnce(_ migration: Migration) async throws {
        try migration.record.requireNotInterrupted()
        try await Reconciliation.run(migration)
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
        do {
            try await interruptibly(migration) {
                try await migration.forEachVolume { volume in
                    try await migration.slots.run(migration) {
                        let statistics = try await transfer(volume, upTo: snapshot, migration)
                        migration.remember { $0.finishedTransfers[volume.msid] = statistics }
                    }
                }
            }
        } catch {
            try await recordFinished(migration)
            throw error
        }
        try await recordFinished(migration)
        try await migration.crashPoints.reached(step, .after)
        try await forgetOlderSnapshots(migration, than: snapshot)
    }

    /// Puts the volumes that are done into the record, together, because the record of many volumes is large.
    private static func recordFinished(_ migration: Migration) async throws {
        let finished = migration.remember { $0.finishedTransfers }
        if finished.isEmpty { return }
        // Whatever comes of it: the next transfer must neither show nor record them again.
        defer { migration.remember { $0.finishedTransfers = [:] } }
        let nodes = finished.reduce(into: [:]) { $0[$1.key] = migration.storage.nodeName(holding: $1.key) }
        try await migration.update { record in
            for (msid, volume) in finished.sorted(by: { $0.key < $1.key }) {
                record.noteTransfer(
                    of: msid,
                    to: nodes[msid] ?? "",
                    bytes: volume.bytes,
                    milliseconds: volume.durationNanoseconds / 1_000_000
                )
            }
        }
    }

    private static func transfer(
        _ volume: VolumeDescription,
        upTo snapshot: OperationSnapshot,
        _ migration: Migration
    ) async throws -> TransferStatistics {
        let record = migration.record
        try record.requireNotInterrupted()
        // The limit is the operation's: each of its volumes gets the same part of it.
        let limit = record.options.throttleBytesPerSecond
        let share = limit == 0 ? 0 : max(1, limit / UInt64(record.svm.volumes.count))
        do {
            return try await migration.storage.transfer(
                volume,
                of: record.svm,
                upTo: snapshot.uuid,
                throttleBytesPerSecond: share
            )
        } catch {
            if error is CancellationError || migration.record.pending != nil { throw error }
            // It was deleted meanwhile, and the stream was faster: the others go on.
            let places = try await migration.storage.placements(of: record.svm)
            if places[volume.uuid] == nil { return TransferStatistics() }
            if let error = error as? MigrateError, error.kind == .baselineLost {
                try await migration.update { $0.baselineLost.insert(volume.msid.description) }
            }
            throw error
        }
    }

    /// Runs transfers and ends them when a user asks for a pause or an abort [116].
    private static func interruptibly(
        _ migration: Migration,
        _ body: @escaping @Sendable () async throws -> Void
    ) async throws {
        try await withThrowingTaskGroup(of: Bool.self) { group in
            group.addTask {
                try await body()
                return true
            }
            group.addTask {
                while true {
                    // What has not begun yet finds the request by itself; what runs is ended here.
                    if migration.record.pending != nil { try await stopMirrors(migration) }
                    try await migration.waiting.milliseconds(interruptPollMilliseconds)
                }
            }
            defer { group.cancelAll() }
            _ = try await group.next()
        }
    }

    /// Deletes the transfer snapshots before the newest one, which is the common ground for the next transfer.
    private static func forgetOlderSnapshots(_ migration: Migration, than newest: OperationSnapshot) async throws {
        let old = migration.record.transferSnapshots.map(\.uuid).filter { $0 != newest.uuid }
        if old.isEmpty { return }
        try await migration.askAgain(.deleteSnapshots(old))
        try await migration.storage.deleteSnapshots(old, of: migration.record.svm)
        try await migration.update { $0.transferSnapshots.removeAll { $0.uuid != newest.uuid } }
    }

    /// After a cutover that was undone the next one waits longer each time, so that clients are not held again and again.
    private static func waitAfterUndoneCutover(_ migration: Migration) async throws {
        let record = migration.record
        if record.cutoverFailures == 0 { return }
        let doubled = record.options.cutoverRetryMilliseconds << min(record.cutoverFailures, 6)
        try await migration.waitInterruptibly(milliseconds: min(record.options.cutoverRetryMillisecondsMax, doubled))
    }

    /// Moves on to the cutover when it is due.
    private static func beginCutover(_ migration: Migration) async throws -> Bool {
        let record = migration.record
        guard record.options.isAutoCutover || record.isCutoverRequested else { return false }
        let prediction = await Prediction.measure(migration)
        let now = migration.environment.wallClockNanoseconds()
        try await migration.progress(.triggerCutover) {
            $0.currentAction = .cutover
            $0.lastAction = .start
            if $0.times.cutoverTrigger == nil { $0.times.cutoverTrigger = now }
            $0.attempt += 1
            $0.prediction = prediction
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
        let svm = migration.record.svm
        try await migration.storage.stopMirrors(svm.volumes.map(\.msid), of: svm)
    }
}
