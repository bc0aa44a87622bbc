import ClusterConfiguration
import Environment
import GroupControl
import Identity
import Logging
import MigrateOperation
import MigrateSource
import Orchestrator
import ReplicatedDatabase
import Saga
import StorageControl

/// The clocks of a node: the monotonic one drifts, the other one jumps as well.
final class NodeClock {
    /// Parts per million by which the clocks of this node are fast.
    let driftPartsPerMillion: Int64
    private var jumpNanoseconds: Int64 = 0

    init(driftPartsPerMillion: Int64) { self.driftPartsPerMillion = driftPartsPerMillion }

    var monotonic: UInt64 {
        let now = Int64(simulation.scheduler.now)
        return UInt64(now + now * driftPartsPerMillion / 1_000_000)
    }

    var wall: Int64 { 1_700_000_000_000_000_000 + Int64(monotonic) + jumpNanoseconds }

    func jump(_ nanoseconds: Int64) { jumpNanoseconds += nanoseconds }

    /// What a time by this clock is by the world's.
    func worldNanoseconds(_ nanoseconds: UInt64) -> UInt64 {
        let nanoseconds = Int64(min(nanoseconds, 1 << 60))
        return UInt64(max(0, nanoseconds - nanoseconds / 1_000_000 * driftPartsPerMillion))
    }
}

/// A cluster of one node: what of it outlives its daemon, and the daemon when it runs.
final class Node: @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    let index: Int
    let name: String
    let disk: SimulatedDisk
    let clock: NodeClock
    let database = InMemoryDatabase()
    private(set) var process: SimulatedProcess?
    private(set) var controller: StorageController?
    private(set) var source: MigrateSource?
    private(set) var orchestrator: Orchestrator?
    /// The daemon answers calls.
    private(set) var isUp = false
    var isDatabaseDown = false
    var databaseLosesOneIn = 0
    var databaseLatencyNanosecondsMax: UInt64 = 300_000
    /// Starts that failed although nothing went wrong any more.
    private var startFailures = 0
    private static let startFailuresMax = 20
    private var generator: Generator

    init(index: Int, generator: inout Generator) {
        self.index = index
        name = index == 0 ? "alpha" : "beta"
        self.generator = generator.split()
        disk = SimulatedDisk(generator: generator.split())
        let widest: Int64 = generator.oneIn(8) ? 20_000 : 200
        clock = NodeClock(driftPartsPerMillion: Int64(generator.below(Int(2 * widest + 1))) - widest)
        disk.makeDirectories("/" + name)
        disk.forgetNothing()
    }

    func databaseLatency() -> UInt64 { 20_000 + generator.within(0...databaseLatencyNanosecondsMax) }

    func losesDatabaseAnswer() -> Bool { databaseLosesOneIn > 0 && generator.oneIn(databaseLosesOneIn) }

    var environment: Environment {
        Environment(
            monotonicNanoseconds: { self.clock.monotonic },
            wallClockNanoseconds: { self.clock.wall },
            randomBits: { self.generator.bits() }
        )
    }

    // MARK: The daemon

    /// Starts a task of the daemon.
    func spawn(_ body: @escaping @Sendable () async -> Void) {
        guard let process else { return }
        simulation.scheduler.run(as: process) { _ = Task.detached { await body() } }
    }

    /// Starts the daemon, in the order of godwitd.
    func start() {
        let process = SimulatedProcess(name)
        self.process = process
        simulation.trace("\(name) starts")
        process.onDeath = { [self] in ended() }
        spawn { [self] in
            do {
                try await run(process)
            } catch {
                simulation.trace("\(name) cannot start: \(error)")
                if simulation.isHealing && !isUp { startFailures += 1 }
                if startFailures > Self.startFailuresMax { simulation.violation("\(name) cannot start: \(error)") }
                simulation.scheduler.kill(process)
            }
        }
    }

    private func run(_ process: SimulatedProcess) async throws {
        let facade = SimulatedDatabase(node: self, process: process)
        let store = ConfigurationStore(facade)
        let endpoint = { (port: Int) in NetworkEndpoint(address: "127.42.\(self.index).1", port: port) }
        let node = try await StorageController.register(
            clusterName: name,
            nodeName: name + "-1",
            management: endpoint(8080),
            replication: endpoint(8081),
            in: store,
            environment: environment
        )
        let controller = StorageController(
            store: store,
            node: node,
            environment: environment,
            logger: simulation.logger(name),
            pool: BlockingPool { simulation.scheduler.start(in: process, $0) },
            transport: SimulatedTransport(node: index, process: process),
            makeService: { SimulatedService($0, node: self, process: process) }
        )
        self.controller = controller
        let waiting = simulation.waiting(self, process)
        let crashPoints = CrashPoints { name, moment in simulation.faults.reached(self, name, moment) }
        let executor = GroupExecutor(controller, waiting: waiting, addressObstacle: { _, _ in nil })
        let group = Group(controller, SoleNodeDirectory(executor))
        let source = MigrateSource(
            database: facade,
            storage: SourceGroup(group, executor),
            node: node.uuid,
            environment: environment,
            waiting: waiting,
            crashPoints: crashPoints,
            log: simulation.logger(name)
        )
        let orchestrator = Orchestrator(
            database: facade,
            storage: DestinationGroup(group, executor),
            directory: SimulatedDirectory(node: self, process: process),
            node: node.uuid,
            clusterName: name,
            environment: environment,
            waiting: waiting,
            crashPoints: crashPoints,
            log: simulation.logger(name)
        )
        let silenced = try await source.settle()
        var aggregate = AggregateSetting(name: "aggregate", directory: "/\(name)/aggregate", capacityBytes: 1 << 32)
        // So small that its halves are filled often.
        aggregate.journalBytes = 64 << 10
        try await controller.start(aggregates: [aggregate], holding: silenced)
        try await source.finishSettling()
        self.source = source
        self.orchestrator = orchestrator
        isUp = true
        simulation.trace("\(name) is up")
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await source.run() }
            group.addTask { try await orchestrator.run() }
            group.addTask { await controller.retryFailures(waiting) }
            // A service that fails ends the daemon, which is started again.
            while try await group.next() != nil {}
        }
    }

    /// The daemon is gone; another one is started later.
    private func ended() {
        guard let process else { return }
        simulation.retire(process, of: index)
        isUp = false
        source = nil
        orchestrator = nil
        controller = nil
        self.process = nil
        simulation.network.died(process, at: index, withMachine: process.hasLostMachine)
        for service in simulation.services where service.process === process { service.died() }
        simulation.services.removeAll { $0.process === process }
        disk.processDied()
        simulation.restart(self)
    }
}

/// The one peer of a node.
struct SimulatedDirectory: SourceClusterDirectory, @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    let node: Node
    let process: SimulatedProcess

    func sourceCluster(peerName: String) async throws -> any SourceCluster {
        SimulatedPeer(node: node, process: process)
    }
}

/// The other cluster, over the simulated network.
struct SimulatedPeer: SourceCluster, @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    let node: Node
    let process: SimulatedProcess

    func send(_ call: SourceCall) async throws -> SourceReply {
        if let reply = simulation.defects.answerBeforeAsking(call, node, process) { return reply }
        return try await simulation.network.call(call, from: node, process)
    }
}
