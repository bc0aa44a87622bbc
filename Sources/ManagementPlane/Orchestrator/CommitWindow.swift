import Environment
import Identity
import Logging
import MigrateOperation
import Replication
import Saga

/// The window in which no side serves: from the hold of the source's gate until the destination's gate opens.
///
/// Everything in it is parallel over the volumes and short: one call holds, drains, exports and snapshots on the source;
/// then the destination finds that everything has come, imports and becomes read-write; one compare-and-set on the source is
/// the point of no return, one write its record here; then the interfaces move and the gate opens.
enum CommitWindow {
    /// Of the hold budget, the part that draining may take.
    static let drainShare: UInt64 = 2
    /// How often the protocol state is taken over before the window.
    static let preloads = 2
    /// How long the source is asked to close its interfaces before the destination serves without its answer.
    static let releaseAttempts = 2

    /// Performs the commit; returns when the source's record is past the point of no return.
    static func perform(_ migration: Migration) async throws {
        let record = migration.record
        // From here on a pause or an abort comes too late: the record says so before anything is held.
        try await migration.update {
            try $0.requireNotInterrupted()
            $0.isCommitting = true
        }
        try await requireFresh(migration, record)
        guard let snapshot = record.finalSnapshot else {
            throw MigrateError(.failed, "the cutover has no final snapshot", remedy: "report this as a defect")
        }
        let marks = try await preload(migration)
        try await migration.askAgain(
            .arm(attempt: record.attempt, budgetMilliseconds: record.options.holdBudgetMilliseconds)
        )
        // The destination's own timer: what is not done by then is undone, whatever the source thinks [146].
        let deadline =
            migration.environment.monotonicNanoseconds() + record.options.holdBudgetMilliseconds * 1_000_000
        var clock = StageClock(migration.environment)
        let held = try await migration.ask(
            .hold(
                attempt: record.attempt,
                snapshot: snapshot,
                drainMilliseconds: record.options.holdBudgetMilliseconds / drainShare,
                since: marks
            )
        )
        guard case .held(let sourceStages, let lastAnswers) = held.answer else { throw Migration.strangeAnswer("hold") }
        let heldNanoseconds = migration.environment.monotonicNanoseconds()
        migration.remember { $0.held = (heldNanoseconds, lastAnswers) }
        clock.end("exchange")
        try await promote(migration, snapshot, held.attachment, deadline)
        migration.remember { $0.importedAttempt = record.attempt }
        try await step("promote", migration, &clock)
        try requireTimeLeft(migration, deadline)
        try await pointOfNoReturn(migration, record.attempt)
        try await step("ponr-source", migration, &clock)
        await serveAtOnce(migration, &clock)
        let stages = merged(sourceStages, clock.stages)
        let now = migration.environment.wallClockNanoseconds()
        try await migration.update {
            $0.window = stages
            $0.outage = ObservedOutage(holdMicroseconds: stages.reduce(0) { $0 + $1.durationMicroseconds }, gaps: [])
            $0.times.cutoverComplete = now
        }
    }

    /// Takes over the protocol state while the source still serves: all of it, then what has come meanwhile, so that only
    /// the rest is left for the window.
    private static func preload(_ migration: Migration) async throws -> [ProtocolStateMark] {
        var marks: [ProtocolStateMark] = []
        for _ in 0..<preloads {
            let reply = try await migration.askAgain(.preload(since: marks))
            guard case .preloaded(let reached) = reply.answer else { throw Migration.strangeAnswer("preload") }
            try await migration.storage.importProtocolState(reply.attachment, of: migration.record.svm)
            marks = reached
        }
        return marks
    }

    /// A commit is only begun with what this process itself prepared: synchronous streams and the held service do not
    /// survive a crash, so a commit that was cut off is given up when the source has not passed the point of no return.
    private static func requireFresh(_ migration: Migration, _ record: DestinationRecord) async throws {
        let source = try await migration.sourceRecord()
        let isFresh = migration.remember {
            $0.preparedAttempt == record.attempt && $0.synchronizedAttempt == record.attempt
        }
        guard isFresh, source.state == .locked, source.attempt == record.attempt else {
            throw MigrateError(
                .failed,
                "the cutover was interrupted (source state \(source.state.rawValue))",
                remedy: "nothing: it is undone and tried again"
            )
        }
    }

    /// Every volume has the final snapshot, and with it everything that the source ever answered, before it becomes
    /// read-write.
    private static func promote(
        _ migration: Migration,
        _ snapshot: OperationSnapshot,
        _ protocolState: [UInt8],
        _ deadline: UInt64
    ) async throws {
        let now = migration.environment.monotonicNanoseconds()
        let missing = try await migration.storage.promote(
            at: snapshot.uuid,
            protocolState,
            of: migration.record.svm,
            withinMilliseconds: (deadline - min(deadline, now)) / 1_000_000
        )
        guard let first = missing.min() else { return }
        let name = migration.record.svm.volumes.first { $0.msid == first }?.name ?? first.description
        throw MigrateError(
            .failed,
            "the final snapshot of volume '\(name)' did not arrive in time",
            remedy: "the cutover is tried again; look at the network between the clusters"
        )
    }

    private static func requireTimeLeft(_ migration: Migration, _ deadline: UInt64) throws(MigrateError) {
        guard migration.environment.monotonicNanoseconds() < deadline else {
            throw MigrateError(
                .failed,
                "the hold budget of \(migration.record.options.holdBudgetMilliseconds) ms was over before the point of no return",
                remedy: "the cutover is tried again; give a larger budget if it happens again"
            )
        }
    }

    /// Asks for the point of no return until the answer is known; serves nothing meanwhile [182].
    private static func pointOfNoReturn(_ migration: Migration, _ attempt: UInt64) async throws {
        try await migration.crashPoints.reached("ponr-source", .before)
        try await migration.askForEver(.pointOfNoReturn(attempt: attempt))
    }

    /// The rest of the window. Past the point of no return nothing is a reason to go back: what fails here is left to
    /// the takeover saga, which repeats all of it until it succeeds.
    ///
    /// The record comes first: it tells an orchestrator that was superseded while it asked the source that the interfaces
    /// are another one's.
    private static func serveAtOnce(_ migration: Migration, _ clock: inout StageClock) async {
        do {
            try await migration.update { $0.isPastPointOfNoReturn = true }
            try await step("ponr-destination", migration, &clock)
            try await migration.storage.bindInterfaces(of: migration.record.svm)
            try await step("bind", migration, &clock)
            try await releaseInterfaces(migration)
            try await step("release", migration, &clock)
            try await migration.storage.openGate(of: migration.record.svm)
            try await step("serve", migration, &clock)
        } catch {
            migration.log.error("the takeover is not complete and goes on: \(error)")
        }
    }

    /// Asks the source to close its interfaces. One that does not answer cannot serve either: past the point of no return
    /// its gate never opens again.
    static func releaseInterfaces(_ migration: Migration) async throws {
        do {
            try await migration.askAgain(.releaseInterfaces, times: releaseAttempts)
        } catch let error as MigrateError where [.unreachable, .failed, .nodeAway].contains(error.kind) {
            migration.log.warning("the source has not confirmed that its interfaces are closed: \(error)")
        }
    }

    /// Notes the gaps that the servers saw at their clients, as far as clients have come back by now.
    static func noteGaps(_ migration: Migration) async {
        guard let held = migration.remember({ $0.held }) else { return }
        do {
            let first = try await migration.storage.firstAnswers(of: migration.record.svm)
            let elapsed = (migration.environment.monotonicNanoseconds() - held.nanoseconds) / 1_000
            let gaps = ObservedOutage.gaps(last: held.lastAnswers, first: first, elapsedMicroseconds: elapsed)
            try await migration.update { $0.outage?.gaps = gaps }
        } catch {
            // It is a report, and no reason to hold the operation up.
            migration.log.warning("the clients' gaps are not known: \(error)")
        }
    }

    private static func step(_ name: String, _ migration: Migration, _ clock: inout StageClock) async throws {
        clock.end(name)
        try await migration.crashPoints.reached(name, .after)
    }

    /// The source's stages take the place of the call that they happened in; what is left of it is the exchange.
    private static func merged(_ source: [WindowStage], _ destination: [WindowStage]) -> [WindowStage] {
        guard var exchange = destination.first else { return source }
        let inside = source.reduce(0) { $0 + $1.durationMicroseconds }
        exchange.durationMicroseconds =
            exchange.durationMicroseconds > inside ? exchange.durationMicroseconds - inside : 0
        return source + [exchange] + destination.dropFirst()
    }

    /// Takes a commit back: the source serves again, the replicas are replicas again.
    static func undo(_ migration: Migration) async throws {
        let record = migration.record
        // A commit that never began has nothing to take back.
        guard record.isCommitting else { return }
        let reason = record.log.events.last { $0.kind == .failed }?.reason ?? "undone"
        let reply = try await migration.askForEver(.recover(attempt: record.attempt, reason: reason))
        guard case .status(let source) = reply.answer else { throw Migration.strangeAnswer("recover") }
        guard !source.isPastPointOfNoReturn else {
            throw MigrateError(
                .pastPointOfNoReturn,
                code: MigrateCode.wrongState,
                "the source is past the point of no return and cannot be recovered",
                remedy: "restart the destination: it goes on from there"
            )
        }
        try await migration.whenNodesAnswer {
            try await TransferPhase.stopMirrors(migration)
            try await migration.storage.setReplica(true, of: record.svm)
        }
        if let snapshot = record.finalSnapshot {
            try await migration.askForEver(.deleteSnapshots([snapshot.uuid]))
            try await migration.whenNodesAnswer {
                try await migration.storage.deleteSnapshots([snapshot.uuid], of: record.svm)
            }
        }
        migration.remember { $0.importedAttempt = nil }
    }
}
