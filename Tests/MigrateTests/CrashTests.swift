import Identity
import Logging
import MigrateOperation
import MigrateSource
import Orchestrator
import ReplicatedDatabase
import Synchronization
import Testing

/// Runs one operation to its end, restarting daemons as they die.
private final class Simulation: SourceClusterDirectory, SourceCluster {
    let world: World
    private let sourceDatabase = InMemoryDatabase()
    private let destinationDatabase = InMemoryDatabase()
    private let source = Mutex<(MigrateSource, Process)?>(nil)
    private let sourceCrash: CrashPoint?
    private let destinationCrash: CrashPoint?
    let sourcePoints = Mutex<[CrashPoint]>([])
    let destinationPoints = Mutex<[CrashPoint]>([])

    init(
        failingDeed: Int = -1,
        sourceCrash: CrashPoint? = nil,
        destinationCrash: CrashPoint? = nil,
        drainMilliseconds: UInt64 = 0
    ) {
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
                environment: world.environment,
                waiting: world.waiting(process),
                crashPoints: process.crashPoints,
                log: Self.log
            )
            let silenced = try await current.settleAfterRestart()
            world.state.withLock { state in
                state.sourceIsBound = state.sourceExists && state.sourceIsRecordedRunning && silenced.isEmpty
                state.sourceGateIsOpen = state.sourceIsBound
            }
            try? await current.finishAfterRestart()
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
        var operation: ObjectUUID?
        while true {
            let process = Process(crashAt: crash)
            crash = nil
            world.state.withLock { $0.startDestination() }
            let orchestrator = Orchestrator(
                database: ProcessDatabase(database: destinationDatabase, process: process),
                storage: SimulatedDestination(world: world, process: process),
                directory: self,
                node: ObjectUUID(high: 5, low: 5),
                clusterName: "beta",
                environment: world.environment,
                waiting: world.waiting(process),
                crashPoints: process.crashPoints,
                log: Self.log
            )
            let ended = try await withThrowingTaskGroup(of: Void.self) { group -> DestinationRecord? in
                group.addTask { try? await orchestrator.run() }
                defer { group.cancelAll() }
                while operation == nil {
                    try Task.checkCancellation()
                    operation = try? await orchestrator.start(
                        MigrationRequest(svmName: "svm", peerName: "alpha", options: MigrationOptions())
                    )
                    await Task.yield()
                }
                while !process.isDead {
                    try Task.checkCancellation()
                    if let record = try? await orchestrator.get(operation!)?.record, record.phase == .ended {
                        return record
                    }
                    await Task.yield()
                }
                return nil
            }
            destinationPoints.withLock { $0 += process.seen.withLock { $0 } }
            if let ended { return ended }
            world.state.withLock { $0.crashDestination() }
        }
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
        if record.state == .setupConfigurationFailed {
            #expect(!state.destinationExists, "\(what): the destination was not cleaned up")
            #expect(
                state.sourceIsBound && state.sourceGateIsOpen && state.sourceLock == nil,
                "\(what): the source is not whole"
            )
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
        #expect(record.window.map(\.name).prefix(4) == ["hold", "drain", "state", "final_snapshot"])
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
