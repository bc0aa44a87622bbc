import Identity
import Logging
import MigrateOperation
import MigrateSource
import Orchestrator
import ReplicatedDatabase
import Synchronization
import Testing

/// What a user does to the operation.
private enum UserAction: Sendable {
    /// Pauses, and resumes when it stands still.
    case pause
    /// Aborts.
    case abort
}

/// Runs one operation to its end, restarting daemons as they die.
private final class Simulation: SourceClusterDirectory, SourceCluster {
    let world: World
    private let sourceDatabase = InMemoryDatabase()
    private let destinationDatabase = InMemoryDatabase()
    private let source = Mutex<(MigrateSource, Process)?>(nil)
    private let sourceCrash: CrashPoint?
    private let destinationCrash: CrashPoint?
    private let action: (deed: Int, what: UserAction)?
    private let options: MigrationOptions
    /// Whether the action was refused.
    let isRefused = Mutex(false)
    /// What the user has done and seen.
    private struct User {
        var operation: ObjectUUID?
        var hasActed = false
        var last: DestinationRecord?

        func aborted() -> DestinationRecord? {
            var record = last
            record?.state = .migrateAborted
            return record
        }
    }
    private let user = Mutex(User())
    let sourcePoints = Mutex<[CrashPoint]>([])
    let destinationWrites: FailingWrite
    let destinationPoints = Mutex<[CrashPoint]>([])

    init(
        failingDeed: Int = -1,
        failingDestinationWrite: Int = -1,
        sourceCrash: CrashPoint? = nil,
        destinationCrash: CrashPoint? = nil,
        drainMilliseconds: UInt64 = 0,
        action: (deed: Int, what: UserAction)? = nil,
        options: MigrationOptions = MigrationOptions()
    ) {
        self.action = action
        destinationWrites = FailingWrite(number: failingDestinationWrite)
        self.options = options
        world = World(failingDeed: failingDeed, drainMilliseconds: drainMilliseconds)
        self.sourceCrash = sourceCrash
        self.destinationCrash = destinationCrash
    }

    private static var log: Logger {
        var log = Logger(label: "simulation", factory: { _ in SwiftLogNoOpLogHandler() })
        log.logLevel = .critical
        return log
    }

    func sourceCluster(peerName: String) async throws -> any SourceCluster { self }

    /// The network and the source's supervisor: a daemon that died answers nothing, and the next call finds a new one.
    func send(_ call: SourceCall) async throws -> SourceReply {
        guard let (current, process) = source.withLock({ $0 }) else {
            throw MigrateError(.unreachable, "no source", remedy: "")
        }
        do {
            let reply = try await current.send(call)
            if process.isDead { throw CancellationError() }
            return reply
        } catch {
            guard process.isDead else { throw error }
            throw MigrateError(.unreachable, "the source died", remedy: "")
        }
    }

    private func superviseSource() async throws {
        var crash = sourceCrash
        while !Task.isCancelled {
            let process = Process(crashAt: crash)
            crash = nil
            let database = ProcessDatabase(database: sourceDatabase, process: process)
            let current = MigrateSource(
                database: database,
                storage: SimulatedSource(world: world, process: process),
                node: ObjectUUID(high: 6, low: 6),
                environment: world.environment,
                waiting: world.waiting(process),
                crashPoints: process.crashPoints,
                log: Self.log
            )
            let silenced = try await current.settle()
            world.state.withLock { state in
                state.sourceIsBound = state.sourceExists && state.sourceIsRecordedRunning && silenced.isEmpty
                state.sourceGateIsOpen = state.sourceIsBound
            }
            try? await current.finishSettling()
            source.withLock { $0 = (current, process) }
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await current.run() }
                while !process.isDead && !Task.isCancelled { await Task.yield() }
                group.cancelAll()
            }
            sourcePoints.withLock { $0 += process.seen.withLock { $0 } }
            if process.isDead { world.state.withLock { $0.crashSource() } }
        }
    }

    private func superviseDestination() async throws -> DestinationRecord {
        var crash = destinationCrash
        while true {
            let process = Process(crashAt: crash)
            crash = nil
            world.state.withLock { $0.startDestination() }
            let orchestrator = Orchestrator(
                database: ProcessDatabase(
                    database: destinationDatabase,
                    process: process,
                    failingWrite: destinationWrites
                ),
                storage: SimulatedDestination(world: world, process: process),
                directory: self,
                node: ObjectUUID(high: 5, low: 5),
                clusterName: "beta",
                environment: world.environment,
                waiting: world.waiting(process),
                crashPoints: process.crashPoints,
                log: Self.log
            )
            let running = Task { try? await orchestrator.run() }
            defer { running.cancel() }
            try await begin(orchestrator)
            let ended = try await follow(orchestrator, process)
            running.cancel()
            await running.value
            destinationPoints.withLock { $0 += process.seen.withLock { $0 } }
            if let ended { return ended }
            world.state.withLock { $0.crashDestination() }
        }
    }

    /// Starts the operation, once.
    private func begin(_ orchestrator: Orchestrator) async throws {
        while user.withLock({ $0.operation }) == nil {
            try Task.checkCancellation()
            let request = MigrationRequest(svmName: "svm", peerName: "alpha", options: options)
            let operation = try? await orchestrator.start(request)
            user.withLock { $0.operation = operation }
            await Task.yield()
        }
    }

    /// Watches the operation as a user would, until it stands still for good (its record) or the daemon dies (nil).
    private func follow(_ orchestrator: Orchestrator, _ process: Process) async throws -> DestinationRecord? {
        var ended: DestinationRecord?
        while ended == nil && !process.isDead {
            try Task.checkCancellation()
            await actWhenDue(orchestrator)
            ended = try await look(orchestrator, process)
            await Task.yield()
        }
        return ended
    }

    private func actWhenDue(_ orchestrator: Orchestrator) async {
        guard let action, world.deeds.withLock({ $0.count }) >= action.deed else { return }
        guard let operation = user.withLock({ $0.hasActed ? nil : $0.operation }) else { return }
        let hasActed = await act(action.what, on: operation, orchestrator)
        user.withLock { $0.hasActed = hasActed }
    }

    /// The record, once nothing more happens by itself; a paused operation is resumed.
    private func look(_ orchestrator: Orchestrator, _ process: Process) async throws -> DestinationRecord? {
        guard let operation = user.withLock({ $0.operation }) else { return nil }
        guard let found = try? await orchestrator.get(operation)?.record else {
            let isForgotten = try await isForgotten(operation)
            // An aborted operation leaves no record.
            return isForgotten && !process.isDead ? user.withLock { $0.aborted() } : nil
        }
        user.withLock { $0.last = found }
        switch found.phase {
        case .ended: return found.state == .migrateAborted ? nil : found
        case .halted where found.pending == nil && found.state == .migratePaused:
            try? await orchestrator.resume(operation, ResumeOptions())
            return nil
        case .halted where found.pending == nil: return found
        default: return nil
        }
    }

    private func isForgotten(_ operation: ObjectUUID) async throws -> Bool {
        try await destinationDatabase.get(MigrateKeys.destination(operation)) == nil
    }

    /// Does what the user wants.
    /// - Returns: Whether it was accepted or refused; false when the daemon died over it.
    private func act(_ action: UserAction, on operation: ObjectUUID, _ orchestrator: Orchestrator) async -> Bool {
        do {
            switch action {
            case .pause: try await orchestrator.pause(operation)
            case .abort: try await orchestrator.abort(operation)
            }
            return true
        } catch let error as MigrateError where error.kind == .refused {
            isRefused.withLock { $0 = true }
            return true
        } catch {
            return false
        }
    }

    /// Whether a database still knows of the operation.
    func hasRecords() async throws -> Bool {
        let here = try await destinationDatabase.range(prefix: MigrateKeys.destinationPrefix).records
        let there = try await sourceDatabase.range(prefix: MigrateKeys.sourcePrefix).records
        return !here.isEmpty || !there.isEmpty
    }

    func run() async throws -> DestinationRecord {
        try await withThrowingTaskGroup(of: DestinationRecord?.self) { group in
            group.addTask {
                try await self.superviseSource()
                return nil
            }
            group.addTask { try await self.superviseDestination() }
            defer { group.cancelAll() }
            while let result = try await group.next() {
                if let record = result { return record }
            }
            throw SimulatedFailure(deed: "nobody finished")
        }
    }

    /// What must hold at the end of every run, whatever happened in between.
    func check(_ record: DestinationRecord, _ what: String) {
        let state = world.state.withLock { $0 }
        #expect(state.violations.isEmpty, "\(what): \(state.violations)")
        if record.state == .migrateAborted {
            #expect(
                !state.destinationExists && !state.destinationVolumesExist && !state.destinationInterfacesExist,
                "\(what): the destination was not cleaned up"
            )
            #expect(
                state.sourceIsBound && state.sourceGateIsOpen && state.sourceLock == nil && state.sourceExists,
                "\(what): the source is not whole"
            )
            #expect(state.sourceSnapshots.isEmpty, "\(what): snapshots were left behind")
            #expect(!state.mirrorIsInSync, "\(what): a mirror was left behind")
            return
        }
        #expect(
            record.state == .migrateComplete || record.state == .migrateCompleteWithWarnings,
            "\(what): \(record.messages)"
        )
        #expect(state.destinationContent == state.acknowledged, "\(what): writes were lost")
        #expect(
            state.destinationIsRecordedServing && state.destinationGateIsOpen && !state.destinationIsReplica,
            "\(what)"
        )
        #expect(!state.sourceExists && state.destinationSnapshots.isEmpty, "\(what): something was left behind")
    }
}

// One after the other: each simulation spins on its virtual clock, so together they only starve each other.
@Suite(.serialized) struct CrashTests {
    @Test func completesWithoutAFailure() async throws {
        let simulation = Simulation()
        let record = try await simulation.run()
        simulation.check(record, "no failure")
        #expect(record.state == .migrateComplete)
        #expect(record.window.map(\.name).prefix(3) == ["hold", "final_snapshot", "exchange"])
        #expect(record.verifiedHashes.count == 1)
    }

    @Test func destinationDiesAtEveryStep() async throws {
        let reference = Simulation()
        _ = try await reference.run()
        let points = Set(reference.destinationPoints.withLock { $0 })
        #expect(points.count > 40)
        for point in points.sorted(by: { $0.description < $1.description }) {
            let simulation = Simulation(destinationCrash: point)
            simulation.check(try await simulation.run(), "destination killed at \(point)")
        }
    }

    @Test func sourceDiesAtEveryStep() async throws {
        let reference = Simulation()
        _ = try await reference.run()
        let points = Set(reference.sourcePoints.withLock { $0 })
        #expect(points.count >= 15)
        for point in points.sorted(by: { $0.description < $1.description }) {
            let simulation = Simulation(sourceCrash: point)
            simulation.check(try await simulation.run(), "source killed at \(point)")
        }
    }

    @Test func everyDeedFailsOnce() async throws {
        let reference = Simulation()
        _ = try await reference.run()
        let deeds = reference.world.deeds.withLock { $0 }
        for (number, deed) in deeds.enumerated() {
            let simulation = Simulation(failingDeed: number)
            let record = try await simulation.run()
            simulation.check(record, "deed \(number) '\(deed)' failed")
        }
    }

    /// The destination's database fails once, at every write: also past the point of no return, from where only the way
    /// forward is left.
    @Test func everyWriteOfTheDestinationFailsOnce() async throws {
        let reference = Simulation()
        _ = try await reference.run()
        let count = reference.destinationWrites.writes
        #expect(count > 40)
        for number in 0..<count {
            let simulation = Simulation(failingDestinationWrite: number)
            simulation.check(try await simulation.run(), "write \(number) of the destination's database failed")
        }
    }

    /// A pause at every deed, each followed by a resume: the operation completes, nothing is lost.
    @Test func pausedAtEveryDeedAndResumed() async throws {
        let reference = Simulation()
        _ = try await reference.run()
        var refused = 0
        for deed in 1...reference.world.deeds.withLock({ $0.count }) {
            let simulation = Simulation(action: (deed, .pause))
            simulation.check(try await simulation.run(), "paused at deed \(deed)")
            if simulation.isRefused.withLock({ $0 }) { refused += 1 }
        }
        // In the commit and after it a pause comes too late.
        #expect(refused > 0)
    }

    /// An abort at every deed leaves nothing behind, or is refused and the operation completes.
    @Test func abortedAtEveryDeed() async throws {
        let reference = Simulation()
        _ = try await reference.run()
        var aborted = 0
        for deed in 1...reference.world.deeds.withLock({ $0.count }) {
            let simulation = Simulation(action: (deed, .abort))
            let record = try await simulation.run()
            simulation.check(record, "aborted at deed \(deed)")
            guard record.state == .migrateAborted else { continue }
            aborted += 1
            #expect(try await !simulation.hasRecords(), "aborted at deed \(deed): a record was left behind")
        }
        #expect(aborted > 10)
    }

    /// The destination's daemon dies at every step of a pause and of an abort: both are met by the next one [156].
    @Test(arguments: [UserAction.pause, .abort]) private func requestsSurviveACrash(action: UserAction) async throws {
        let reference = Simulation()
        _ = try await reference.run()
        // In the middle of the transfers.
        let deed = reference.world.deeds.withLock { $0.firstIndex(of: "transfer")! + 2 }
        let acted = Simulation(action: (deed, action))
        _ = try await acted.run()
        for point in Set(acted.destinationPoints.withLock { $0 }).sorted(by: { $0.description < $1.description }) {
            let simulation = Simulation(destinationCrash: point, action: (deed, action))
            simulation.check(try await simulation.run(), "\(action), destination killed at \(point)")
        }
    }

    /// Cutovers that are always undone end in a failed state with the source serving.
    @Test func cutoversAreNotTriedForEver() async throws {
        var options = MigrationOptions()
        options.cutoverAttemptsMax = 3
        let simulation = Simulation(drainMilliseconds: 20_000, options: options)
        let record = try await simulation.run()
        #expect(record.state == .migrateFailed)
        #expect(record.cutoverFailures == 3)
        let state = simulation.world.state.withLock { $0 }
        #expect(state.violations.isEmpty)
        #expect(state.sourceIsBound && state.sourceGateIsOpen && state.sourceLock == nil && state.destinationExists)
    }

    @Test func pastBudgetTheSourceServesAgain() async throws {
        // Draining takes longer than the budget: each cutover is undone by the timer, and the source goes on serving.
        let simulation = Simulation(drainMilliseconds: 20_000)
        let outcome = await withTaskGroup(of: Bool.self) { group in
            group.addTask { (try? await simulation.run()) != nil }
            group.addTask {
                while simulation.world.deeds.withLock({ $0.filter { $0 == "source-reopen" }.count }) < 3
                    && !Task.isCancelled
                {
                    await Task.yield()
                }
                return false
            }
            defer { group.cancelAll() }
            return await group.next() ?? true
        }
        #expect(!outcome)
        #expect(simulation.world.state.withLock { $0.violations }.isEmpty)
    }
}
