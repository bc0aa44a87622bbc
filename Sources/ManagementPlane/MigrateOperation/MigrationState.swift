/// The states of a migrate operation, by the names of the REST interface [152-155].
package enum MigrationState: String, Codable, CaseIterable, Sendable {
    /// The pre-checks run.
    case precheckStarted = "precheck_started"
    /// Records, SVM, volumes and interfaces are being made on the destination.
    case setupConfiguration = "setup_configuration"
    /// Setup failed.
    case setupConfigurationFailed = "setup_configuration_failed"
    /// Baseline and incremental transfers.
    case transferring
    /// The last transfers were short enough; transfers go on.
    case readyForCutover = "ready_for_cutover"
    /// A cutover was asked for.
    case cutoverTriggered = "cutover_triggered"
    /// Pre-commit and commit.
    case cutoverStarted = "cutover_started"
    /// The destination serves.
    case cutoverComplete = "cutover_complete"
    /// Mirrors and migration snapshots go, the integrity check runs.
    case postCutover = "post_cutover"
    /// Post-cutover failed and is tried again.
    case postCutoverFailed = "post_cutover_failed"
    /// The source waits for its cleanup.
    case readyForSourceCleanup = "ready_for_source_cleanup"
    /// The source is being deleted.
    case sourceCleanup = "source_cleanup"
    /// What an abort or a failure left behind is being deleted.
    case cleanup
    /// Cleanup failed.
    case cleanupFailed = "cleanup_failed"
    /// Everything of the destination is deleted.
    case destinationCleanedUp = "destination_cleaned_up"
    /// A pause was asked for.
    case migratePausing = "migrate_pausing"
    /// Paused.
    case migratePaused = "migrate_paused"
    /// The pause failed.
    case migratePauseFailed = "migrate_pause_failed"
    /// Failed; a reason is kept.
    case migrateFailed = "migrate_failed"
    /// An abort runs.
    case migrateAborting = "migrate_aborting"
    /// The abort failed.
    case migrateAbortFailed = "migrate_abort_failed"
    /// Aborted.
    case migrateAborted = "migrate_aborted"
    /// Complete.
    case migrateComplete = "migrate_complete"
    /// Complete, and something is worth a look.
    case migrateCompleteWithWarnings = "migrate_complete_with_warnings"

    /// Whether the operation stands still until a user resumes it, pauses it or aborts it; the source serves.
    package var isHalted: Bool {
        switch self {
        case .migratePaused, .migratePauseFailed, .migrateFailed, .setupConfigurationFailed, .migrateAbortFailed: true
        default: false
        }
    }

    /// Whether nothing happens any more and no action leads out.
    package var isFinal: Bool {
        switch self {
        case .migrateComplete, .migrateCompleteWithWarnings, .migrateAborted: true
        default: false
        }
    }
}

/// What the orchestrator does when it is started again: one saga or loop each.
package enum MigrationPhase: String, Codable, Sendable {
    /// Makes what the destination needs; what is there already is kept.
    case setup
    /// Baseline, then incremental transfers until the cutover.
    case transfer
    /// Pre-commit and commit up to the point of no return on the source; undone on failure, back to `transfer`.
    case cutover
    /// From the point of no return until the destination serves; only forward.
    case takeover
    /// Mirrors and transfer snapshots deleted, source stopped, integrity check; only forward.
    case postCutover = "post_cutover"
    /// Source deleted; only forward.
    case sourceCleanup = "source_cleanup"
    /// On the way to a stop before the cutover: mirrors end, the source is unlocked, everything made is kept.
    case halting
    /// Stands still until a user acts.
    case halted
    /// Everything that was made is deleted on both sides.
    case aborting
    /// Nothing left to do.
    case ended
}

/// What an operation is doing or has done on request, by the names of the REST interface.
package enum MigrationAction: String, Codable, Sendable {
    /// Nothing.
    case none
    /// Start.
    case start
    /// Cutover.
    case cutover
    /// Source cleanup, or the cleanup of an abort.
    case cleanup
    /// Pause.
    case pause
    /// Resume.
    case resume
}

/// What a user asked for while the operation was at work; it is met before the next extensive step, also by an
/// orchestrator that is started again [156].
package enum PendingRequest: String, Codable, Sendable {
    /// Stand still and keep everything.
    case pause
    /// Delete everything that was made.
    case abort
}

/// Where a halt leads.
package enum HaltGoal: Codable, Equatable, Sendable {
    /// To `migrate_paused`.
    case pause
    /// To a failed state, for this reason.
    case failure(state: MigrationState, code: String, reason: String)
}
