import Environment
package import Identity
import MigrateOperation

// What a user may ask of an operation. Each may be repeated; what does not fit the state is refused.
extension Orchestrator {
    /// The user's cutover.
    package func cutover(_ operation: ObjectUUID) async throws {
        let migration = try find(operation)
        try await migration.update { record in
            if record.isCutoverRequested && (record.phase == .transfer || record.phase == .cutover) { return }
            guard record.phase == .transfer, record.state == .readyForCutover else {
                throw Self.refused(record, MigrateCode.wrongState, "cut over", "wait for ready_for_cutover")
            }
            record.isCutoverRequested = true
        }
    }

    /// The user's pause: before the commit, or to mend something after a failure [156].
    package func pause(_ operation: ObjectUUID) async throws {
        let migration = try find(operation)
        try await migration.update { record in
            if record.state == .migratePaused || record.state == .migratePausing { return }
            guard !record.isCommitting, !record.isPastPointOfNoReturn, record.pending == nil,
                OperationEvent.requestPause.origins.contains(record.state)
            else {
                throw Self.refused(
                    record,
                    MigrateCode.pauseFailed,
                    "be paused",
                    record.isCommitting && !record.isPastPointOfNoReturn
                        ? "wait a moment: the cutover is in its commit" : "pause before the cutover"
                )
            }
            try record.apply(.requestPause)
            record.pending = .pause
            record.currentAction = .pause
        }
    }

    /// The user's resume: from paused or failed, incremental and reconciled [159].
    package func resume(_ operation: ObjectUUID, _ options: ResumeOptions) async throws {
        let migration = try find(operation)
        try Self.requireResumable(migration.record)
        // Nothing is made while it stands still: what is here now is what is here when the record is changed.
        let known =
            options.isAboutPlaces
            ? (
                source: try await describedForResume(migration),
                here: try await storage.objectsHere(of: migration.record.svm)
            ) : nil
        let now = environment.wallClockNanoseconds()
        try await migration.update { record in
            try Self.requireResumable(record)
            if let known { try record.choosePlaces(options, known.source, known.here) }
            if let choice = options.isAutoCutover { record.options.isAutoCutover = choice }
            if let choice = options.isAutoSourceCleanup { record.options.isAutoSourceCleanup = choice }
            if let choice = options.throttleBytesPerSecond { record.options.throttleBytesPerSecond = choice }
            try record.apply(.beginSetup)
            record.isCutoverRequested = false
            record.cutoverFailures = 0
            record.restartCount += 1
            record.currentAction = .resume
            record.times.lastResume = now
            record.enter(.setup)
        }
    }

    private static func requireResumable(_ record: DestinationRecord) throws(MigrateError) {
        guard record.phase == .halted, record.pending == nil, record.state != .migrateAbortFailed else {
            throw refused(record, MigrateCode.wrongState, "be resumed", "resume from paused or failed")
        }
    }

    /// The SVM as the source has it now: volumes and interfaces that it got lately have no place yet.
    private func describedForResume(_ migration: Migration) async throws -> SVMDescription {
        do {
            guard case .description(let svm, _) = try await migration.ask(.refresh).answer else {
                throw Migration.strangeAnswer("refresh")
            }
            return svm
        } catch let error as MigrateError where error.kind == .notFound {
            // The operation failed before the source knew of it.
            return migration.record.svm
        }
    }

    /// The user's abort: from paused, failed or any state before the commit; deletes what was made [155].
    package func abort(_ operation: ObjectUUID) async throws {
        let migration = try find(operation)
        try await migration.update { record in
            if record.state == .migrateAborting || record.phase == .aborting { return }
            guard !record.isCommitting, !record.isPastPointOfNoReturn,
                OperationEvent.requestAbort.origins.contains(record.state)
            else {
                throw Self.refused(
                    record,
                    MigrateCode.abortRefused,
                    "be aborted",
                    record.isPastPointOfNoReturn || record.phase == .ended
                        ? "after the point of no return the operation can only be completed"
                        : "wait a moment: the cutover is in its commit"
                )
            }
            try record.apply(.requestAbort)
            record.pending = .abort
            record.currentAction = .cleanup
        }
    }

    /// The user's source cleanup.
    package func sourceCleanup(_ operation: ObjectUUID) async throws {
        let migration = try find(operation)
        try await migration.update { record in
            guard record.phase == .sourceCleanup else {
                throw Self.refused(
                    record,
                    MigrateCode.wrongState,
                    "clean its source up",
                    "wait for ready_for_source_cleanup"
                )
            }
            record.isSourceCleanupRequested = true
        }
    }

    private static func refused(
        _ record: DestinationRecord,
        _ code: String,
        _ what: String,
        _ remedy: String
    ) -> MigrateError {
        MigrateError(
            .refused,
            code: code,
            "operation \(record.operation) is in state \(record.state.rawValue) and cannot \(what)",
            remedy: remedy
        )
    }
}
