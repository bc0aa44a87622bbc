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

/// A node of a cluster: what of it outlives its daemon, and the daemon when it runs.
final class Node: @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    /// Its place among the nodes of both clusters.
    let index: Int
    unowned let cluster: Cluster
    let name: String
    /// The address of everything that it listens on.
    let address: String
    /// The disk of its own aggregate, which the other nodes of the cluster reach as well.
    let disk: SimulatedDisk
    /// What no other node reaches.
    let privateDisk: SimulatedDisk
    let clock: NodeClock
    private(set) var process: SimulatedProcess?
    /// How often its daemon was started.
    private(set) var startCount = 0
    private(set) var record: NodeRecord?
    private(set) var controller: StorageController?
    private(set) var source: MigrateSource?
    private(set) var orchestrator: Orchestrator?
    private(set) var executor: GroupExecutor?
    /// The daemon answers calls.
    private(set) var isUp = false
    /// Nothing gets from the node or to it, save to the disks.
    var isIsolated = false
    var isDatabaseDown = false
    var databaseLosesOneIn = 0
    var databaseLatencyNanosecondsMax: UInt64 = 300_000
    /// When its session was begun or lived on last, by the world's clock.
    var lastSessionNanoseconds: UInt64 = 0
    /// How long the next death lasts; nil for what chance says.
    var downNanoseconds: UInt64?
    /// Starts that failed although nothing went wrong any more.
    private var startFailures = 0
    private static let startFailuresMax = 20
    private var generator: Generator

    init(index: Int, in cluster: Cluster, at position: Int, name: String, generator: inout Generator) {
        self.index = index
        self.cluster = cluster
        self.name = name
        address = "127.42.\(cluster.index).\(position + 1)"
        self.generator = generator.split()
        disk = SimulatedDisk(generator: generator.split())
        privateDisk = SimulatedDisk(generator: Generator(seed: UInt64(index)))
        let widest: Int64 = generator.oneIn(8) ? 20_000 : 200
        clock = NodeClock(driftPartsPerMillion: Int64(generator.below(Int(2 * widest + 1))) - widest)
        disk.makeDirectories("/" + name)
        disk.forgetNothing()
        privateDisk.makeDirectories(privateDirectory)
        privateDisk.forgetNothing()
    }

    /// The directory that no other node reaches.
    var privateDirectory: String { "/private-" + name }

    func databaseLatency() -> UInt64 { 20_000 + generator.within(0...databaseLatencyNanosecondsMax) }

    func losesDatabaseAnswer() -> Bool { databaseLosesOneIn > 0 && generator.oneIn(databaseLosesOneIn) }

    /// Whether the database does not answer this node.
    var isDatabaseUnreachable: Bool { isDatabaseDown || isIsolated || cluster.isDatabaseDown }

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
        let process = SimulatedProcess(name, node: self)
        self.process = process
        startCount += 1
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
        let database = SimulatedDatabase(node: self, process: process)
        let waiting = simulation.waiting(self, process)
        let session = cluster.isShared ? try await beginSession(database, process, waiting) : nil
        let store = ConfigurationStore(database)
        let node = try await register(in: store)
        record = node
        let controller = StorageController(
            store: store,
            node: node,
            environment: environment,
            logger: simulation.logger(name),
            pool: BlockingPool { simulation.scheduler.start(in: process, $0) },
            transport: SimulatedTransport(node: self, process: process),
            makeService: { SimulatedService($0, node: self, process: process) }
        )
        self.controller = controller
        let parts = SimulatedParts(self, process, database, controller, waiting)
        if cluster.isShared { controller.observe(ownershipBy: parts) }
        let silenced = try await parts.source.settle()
        var aggregate = AggregateSetting(
            name: cluster.isShared ? "aggregate-\(name)" : "aggregate",
            directory: "/\(name)/aggregate",
            capacityBytes: 1 << 32
        )
        // So small that its halves are filled often.
        aggregate.journalBytes = 64 << 10
        try await controller.start(aggregates: [aggregate], holding: silenced)
        try await parts.source.finishSettling()
        source = parts.source
        orchestrator = parts.orchestrator
        executor = parts.executor
        isUp = true
        simulation.trace("\(name) is up")
        try await serve(parts, controller, session, process, waiting)
    }

    private func serve(
        _ parts: SimulatedParts,
        _ controller: StorageController,
        _ session: NodeSession?,
        _ process: SimulatedProcess,
        _ waiting: Waiting
    ) async throws {
        let polling = simulation.waiting(self, process, isPolling: true)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await parts.source.run() }
            group.addTask { try await parts.orchestrator.run() }
            group.addTask { await controller.retryFailures(waiting) }
            if let session {
                group.addTask { try await session.run() }
                group.addTask { await controller.followConfiguration(waiting) }
                group.addTask { await controller.keepAggregates(polling) }
                group.addTask { await controller.watchNodes(polling) }
            }
            // A service that fails ends the daemon, which is started again.
            while try await group.next() != nil {}
        }
    }

    private func beginSession(
        _ database: SimulatedDatabase,
        _ process: SimulatedProcess,
        _ waiting: Waiting
    ) async throws -> NodeSession {
        try await NodeSession(
            database,
            nodeName: name,
            dataDirectory: privateDirectory,
            process: "start \(simulation.startCount)",
            environment: environment,
            waiting: waiting,
            logger: simulation.logger(name)
        )
    }

    private func register(in store: ConfigurationStore) async throws -> NodeRecord {
        let endpoint = { (port: Int) in NetworkEndpoint(address: self.address, port: port) }
        return try await StorageController.register(
            clusterName: cluster.name,
            nodeName: cluster.isShared ? name : name + "-1",
            management: endpoint(8080),
            replication: endpoint(8081),
            interconnect: cluster.isShared ? endpoint(8082) : nil,
            partners: cluster.nodes.filter { $0 !== self }.map(\.name),
            isDatabaseShared: cluster.isShared,
            in: store,
            environment: environment
        )
    }

    /// The daemon is gone; another one is started later.
    private func ended() {
        guard let process else { return }
        simulation.retire(process, of: index)
        isUp = false
        source = nil
        orchestrator = nil
        executor = nil
        controller = nil
        self.process = nil
        simulation.network.died(process, at: self, withMachine: process.hasLostMachine)
        for service in simulation.services where service.process === process { service.died() }
        simulation.services.removeAll { $0.process === process }
        simulation.invariants.gatesChanged()
        cluster.died(process)
        simulation.restart(self)
    }
}

/// Both sides of migrates in a daemon, put together as godwitd does it.
struct SimulatedParts: OwnershipObserver, @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    let source: MigrateSource
    let orchestrator: Orchestrator
    let executor: GroupExecutor

    init(
        _ node: Node,
        _ process: SimulatedProcess,
        _ database: SimulatedDatabase,
        _ controller: StorageController,
        _ waiting: Waiting
    ) {
        let crashPoints = CrashPoints { name, moment in simulation.faults.reached(node, name, moment) }
        executor = GroupExecutor(controller, waiting: waiting, addressObstacle: { _, _ in nil })
        let group = Group(controller, SimulatedNodes(node: node, process: process, own: executor))
        source = MigrateSource(
            database: database,
            storage: SourceGroup(group, executor),
            node: controller.node.uuid,
            environment: controller.environment,
            waiting: waiting,
            crashPoints: crashPoints,
            log: simulation.logger(node.name)
        )
        executor.answer { [weak source] call in
            guard let source else { throw CancellationError() }
            return try await source.sendPassedOn(call)
        }
        orchestrator = Orchestrator(
            database: database,
            storage: DestinationGroup(group, executor),
            directory: SimulatedDirectory(node: node, process: process),
            node: controller.node.uuid,
            clusterName: node.cluster.name,
            environment: controller.environment,
            waiting: waiting,
            crashPoints: crashPoints,
            log: simulation.logger(node.name)
        )
    }

    func willServe(_ svms: Set<ObjectUUID>) async throws -> Set<ObjectUUID> { try await source.settle(svms) }

    func didOpen(_ svms: Set<ObjectUUID>) async throws { try await source.finishSettling(svms) }

    func willRelinquish(_ volumes: [VolumeMSID]) async { await executor.stopMirrors(volumes) }

    func standIn(for nodes: Set<ObjectUUID>) async throws {
        try await source.rehome(from: nodes)
        try await orchestrator.rehome(from: nodes)
    }
}
