import Foundation
import MigrateOperation
import Testing

/// The states that a list of events leads through.
private func walk(_ events: [OperationEvent], from start: MigrationState = .precheckStarted) throws -> [MigrationState]
{
    var state = start
    return try events.map { event in
        state = try state.after(event)
        return state
    }
}

@Suite struct StateTests {
    @Test func everyStateIsReachable() {
        var reached: Set<MigrationState> = [.precheckStarted]
        var frontier = reached
        while !frontier.isEmpty {
            frontier = Set(frontier.flatMap(\.successors)).subtracting(reached)
            reached.formUnion(frontier)
        }
        #expect(reached == Set(MigrationState.allCases))
    }

    @Test func finalStatesHaveNoWayOutAndAllOthersHaveOne() {
        for state in MigrationState.allCases {
            #expect(state.successors.isEmpty == state.isFinal, "\(state)")
            if state.isHalted { #expect(state.successors.contains(.migrateAborting), "\(state)") }
        }
    }

    @Test func everyEventMayBeRepeatedAndEveryOtherIsRefused() throws {
        for event in OperationEvent.allCases {
            for state in MigrationState.allCases {
                if event.origins.contains(state) || event.target == state {
                    let after = try state.after(event)
                    #expect(after == event.target)
                    #expect(try after.after(event) == after)
                } else {
                    #expect(throws: MigrateError.self) { try state.after(event) }
                }
            }
        }
    }

    /// Paused: only resume or abort [158]. After the point of no return neither a pause nor an abort.
    @Test func whatMayNotBeDoneIsRefused() {
        #expect(MigrationState.migratePaused.successors == [.setupConfiguration, .migrateAborting])
        let later: [MigrationState] = [
            .cutoverComplete, .postCutover, .postCutoverFailed, .readyForSourceCleanup, .sourceCleanup,
            .migrateComplete,
        ]
        for state in later {
            #expect(!state.successors.contains(.migratePausing), "\(state)")
            #expect(!state.successors.contains(.migrateAborting), "\(state)")
        }
    }

    /// FIG. 6 without a disturbance: pre-check, setup, transfer, ready for cutover, pre-commit and commit, post-commit,
    /// post-cutover, source cleanup, complete.
    @Test func figure6() throws {
        let states = try walk([
            .beginSetup, .transfer, .becomeReady, .triggerCutover, .beginCutover, .completeCutover, .beginPostCutover,
            .finishPostCutover, .beginSourceCleanup, .complete,
        ])
        #expect(
            states.map(\.rawValue) == [
                "setup_configuration", "transferring", "ready_for_cutover", "cutover_triggered", "cutover_started",
                "cutover_complete", "post_cutover", "ready_for_source_cleanup", "source_cleanup", "migrate_complete",
            ]
        )
    }

    /// FIG. 7A: a pause during the transfer, and during pre-commit; the resume begins with setup.
    @Test func figure7A() throws {
        let duringTransfer = try walk([.beginSetup, .transfer, .requestPause, .finishPause, .beginSetup, .transfer])
        #expect(
            duringTransfer.map(\.rawValue) == [
                "setup_configuration", "transferring", "migrate_pausing", "migrate_paused", "setup_configuration",
                "transferring",
            ]
        )
        let duringPreCommit = try walk(
            [
                .triggerCutover, .beginCutover, .requestPause, .finishPause, .requestAbort, .beginCleanup,
                .cleanDestination, .finishAbort,
            ],
            from: .readyForCutover
        )
        #expect(
            duringPreCommit.map(\.rawValue) == [
                "cutover_triggered", "cutover_started", "migrate_pausing", "migrate_paused", "migrate_aborting",
                "cleanup",
                "destination_cleaned_up", "migrate_aborted",
            ]
        )
    }

    /// FIG. 7E: what is undone leads back to the transfer; post-cutover and cleanup begin again from their own phase.
    @Test func figure7E() throws {
        #expect(
            try walk([.beginCutover, .undoCutover, .becomeReady], from: .cutoverTriggered).last == .readyForCutover
        )
        #expect(
            try walk([.failPostCutover, .beginPostCutover, .finishPostCutover], from: .postCutover).last
                == .readyForSourceCleanup
        )
        #expect(
            try walk([.failSourceCleanup, .beginSourceCleanup, .complete], from: .sourceCleanup).last
                == .migrateComplete
        )
    }

    /// FIG. 7F: each phase before the point of no return has its failed state, and from each a resume or an abort leads on.
    @Test func figure7F() throws {
        let failures: [(MigrationState, OperationEvent)] = [
            (.setupConfiguration, .failSetup), (.transferring, .fail), (.readyForCutover, .fail),
            (.cutoverStarted, .fail),
        ]
        for (state, event) in failures {
            let failed = try state.after(event)
            #expect(failed.isHalted)
            #expect(try failed.after(.beginSetup) == .setupConfiguration)
            #expect(try failed.after(.requestAbort) == .migrateAborting)
        }
    }

    /// The drawing in the documentation is the code's. To draw it anew: GODWIT_DRAW=1 with this test.
    @Test func theDocumentedDiagramIsThatOfTheCode() throws {
        let page = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("docs/migrate-states.md")
        let drawing = "```mermaid\n\(MigrationDiagram.mermaid)```\n"
        if ProcessInfo.processInfo.environment["GODWIT_DRAW"] != nil {
            let old = try String(contentsOf: page, encoding: .utf8)
            let head = old.components(separatedBy: "```mermaid").first ?? ""
            try (head + drawing).write(to: page, atomically: true, encoding: .utf8)
        }
        #expect(try String(contentsOf: page, encoding: .utf8).hasSuffix(drawing))
    }
}
