/// What can happen to a migrate operation [FIG. 6]. The names are those of the edges in the state diagram.
package enum OperationEvent: String, CaseIterable, Sendable {
    /// The pre-checks found nothing, or a user resumed: records, SVM, volumes and interfaces are made.
    case beginSetup = "begin setup"
    /// Setup gave up.
    case failSetup = "fail setup"
    /// Transfers go on: setup is done, or the last ones were not short enough.
    case transfer
    /// The last transfers of every volume were short enough.
    case becomeReady = "become ready"
    /// The cutover was asked for, by the user or by the policy.
    case triggerCutover = "trigger cutover"
    /// Pre-commit begins.
    case beginCutover = "begin cutover"
    /// The cutover was undone before the point of no return: the source serves.
    case undoCutover = "undo cutover"
    /// The destination serves.
    case completeCutover = "complete cutover"
    /// Mirrors and transfer snapshots are deleted.
    case beginPostCutover = "begin post-cutover"
    /// Post-cutover failed and is tried again.
    case failPostCutover = "fail post-cutover"
    /// Only the source is left to be deleted.
    case finishPostCutover = "finish post-cutover"
    /// The source is compared and deleted.
    case beginSourceCleanup = "begin source cleanup"
    /// The source cleanup stopped, most of all because the two sides differ.
    case failSourceCleanup = "fail source cleanup"
    /// Everything is done.
    case complete
    /// Everything is done, and something is worth a look.
    case completeWithWarnings = "complete with warnings"
    /// A user asked for a pause.
    case requestPause = "request pause"
    /// The operation stands still.
    case finishPause = "finish pause"
    /// The pause could not reach the source.
    case failPause = "fail pause"
    /// The operation gave up before the point of no return, and stands still.
    case fail
    /// A user asked for an abort.
    case requestAbort = "request abort"
    /// The abort deletes what was made.
    case beginCleanup = "begin cleanup"
    /// Nothing of the operation is left on the destination.
    case cleanDestination = "clean destination"
    /// Nothing of the operation is left on either side.
    case finishAbort = "finish abort"
    /// The abort could not reach the source, or could not delete something.
    case failAbort = "fail abort"

    /// The state that the event leads to.
    package var target: MigrationState {
        switch self {
        case .beginSetup: .setupConfiguration
        case .failSetup: .setupConfigurationFailed
        case .transfer, .undoCutover: .transferring
        case .becomeReady: .readyForCutover
        case .triggerCutover: .cutoverTriggered
        case .beginCutover: .cutoverStarted
        case .completeCutover: .cutoverComplete
        case .beginPostCutover: .postCutover
        case .failPostCutover: .postCutoverFailed
        case .finishPostCutover: .readyForSourceCleanup
        case .beginSourceCleanup: .sourceCleanup
        case .failSourceCleanup: .cleanupFailed
        case .complete: .migrateComplete
        case .completeWithWarnings: .migrateCompleteWithWarnings
        case .requestPause: .migratePausing
        case .finishPause: .migratePaused
        case .failPause: .migratePauseFailed
        case .fail: .migrateFailed
        case .requestAbort: .migrateAborting
        case .beginCleanup: .cleanup
        case .cleanDestination: .destinationCleanedUp
        case .finishAbort: .migrateAborted
        case .failAbort: .migrateAbortFailed
        }
    }

    /// The states in which it may happen. A state that it leads to already is left as it is: events may be repeated.
    package var origins: Set<MigrationState> {
        switch self {
        case .beginSetup:
            [.precheckStarted, .setupConfigurationFailed, .migratePaused, .migratePauseFailed, .migrateFailed]
        case .failSetup: [.setupConfiguration]
        case .transfer: [.setupConfiguration, .readyForCutover]
        case .becomeReady: [.transferring]
        case .triggerCutover: [.readyForCutover]
        case .beginCutover: [.cutoverTriggered]
        case .undoCutover: [.cutoverTriggered, .cutoverStarted]
        case .completeCutover: [.cutoverStarted]
        case .beginPostCutover: [.cutoverComplete, .postCutoverFailed]
        case .failPostCutover: [.postCutover]
        case .finishPostCutover: [.postCutover]
        case .beginSourceCleanup: [.readyForSourceCleanup, .cleanupFailed]
        case .failSourceCleanup: [.sourceCleanup]
        case .complete, .completeWithWarnings: [.sourceCleanup]
        case .requestPause:
            [
                .setupConfiguration, .transferring, .readyForCutover, .cutoverTriggered, .cutoverStarted,
                .setupConfigurationFailed, .migrateFailed, .migratePauseFailed,
            ]
        case .finishPause, .failPause: [.migratePausing]
        case .fail:
            [
                .precheckStarted, .transferring, .readyForCutover, .cutoverTriggered, .cutoverStarted,
            ]
        case .requestAbort:
            [
                .precheckStarted, .setupConfiguration, .setupConfigurationFailed, .transferring, .readyForCutover,
                .cutoverTriggered, .cutoverStarted, .migratePausing, .migratePaused, .migratePauseFailed,
                .migrateFailed, .migrateAbortFailed,
            ]
        case .beginCleanup: [.migrateAborting]
        case .cleanDestination: [.cleanup]
        case .finishAbort: [.destinationCleanedUp]
        case .failAbort: [.migrateAborting, .cleanup, .destinationCleanedUp]
        }
    }
}

extension MigrationState {
    /// The state after an event: the one transition function of the operation.
    /// - Throws: `.refused` when the event may not happen in this state.
    package func after(_ event: OperationEvent) throws(MigrateError) -> MigrationState {
        if self == event.target { return self }
        guard event.origins.contains(self) else {
            throw MigrateError(
                .refused,
                code: MigrateCode.wrongState,
                "'\(event.rawValue)' cannot happen to a migrate operation in state \(rawValue)",
                remedy: "it may happen in: \(event.origins.map(\.rawValue).sorted().joined(separator: ", "))"
            )
        }
        return event.target
    }

    /// The states that may follow this one.
    package var successors: Set<MigrationState> {
        Set(OperationEvent.allCases.filter { $0.origins.contains(self) }.map(\.target))
    }
}

/// The state diagram as a drawing in the Mermaid language; `docs/migrate-states.md` holds it, and a test compares.
package enum MigrationDiagram {
    /// The diagram, one line per edge.
    package static var mermaid: String {
        var lines = ["stateDiagram-v2", "    [*] --> \(MigrationState.precheckStarted.rawValue)"]
        for event in OperationEvent.allCases {
            for origin in MigrationState.allCases where event.origins.contains(origin) {
                lines.append("    \(origin.rawValue) --> \(event.target.rawValue): \(event.rawValue)")
            }
        }
        for state in MigrationState.allCases where state.isFinal { lines.append("    \(state.rawValue) --> [*]") }
        return lines.joined(separator: "\n") + "\n"
    }
}
