import Environment
import CSimulation
import ClusterConfiguration
import FileIO
import Identity
import Logging
import MigrateOperation

/// The run that is under way. Everything of the simulated world finds the rest of it here.
nonisolated(unsafe) var simulation: Simulation!

/// One run: two clusters, their clients and their user, from a seed.
final class Simulation: @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    /// What a run takes.
    static let clientCount = 3
    /// When the faults end, after the first operation began.
    static let faultNanosecondsMax: UInt64 = 30_000_000_000
    /// How long all may take to come to rest after that: whoever waits for an answer of a machine that vanished waits for
    /// an hour where the answer may take that long.
    static let healingNanosecondsMax: UInt64 = 7_300_000_000_000

    let seed: UInt64
    let scheduler: Scheduler
    /// Nodes of each cluster.
    let nodeCount: Int
    private(set) var clusters: [Cluster] = []
    private(set) var nodes: [Node] = []
    let network: Network
    let faults: Faults
    var defects: Defects
    var services: [SimulatedService] = []
    let invariants = Invariants()
    var registers = RegisterChecker()
    private(set) var clients: [Client] = []
    private(set) var user: User!
    /// Daemons that were started.
    var startCount = 0
    /// Those of them that another node had had before.
    var handoverCount = 0
    private let watchdog = Watchdog()
    /// The clients shall come to an end.
    private(set) var clientsShallStop = false
    private(set) var isHealing = false
    /// When that began.
    private var healedNanoseconds: UInt64 = 0
    /// Whether every node has a session that does not end with what went wrong before: until then others may still take
    /// over from it.
    var isEverySessionSafe: Bool { nodes.allSatisfy { $0.lastSessionNanoseconds > healedNanoseconds } }
    /// Everything takes long: clients do less, so that the run does not.
    private(set) var isSlow = false
    private var clientLossOneIn = 0
    private var generator: Generator
    private var stepsOfDeadProcesses: [UInt64]
    private let sink: ((String) -> Void)?
    private(set) var isOver = false

    /// Prepares the run of a seed.
    ///
    /// - Parameters:
    ///   - faults: the faults; nil for those of the seed.
    ///   - sink: gets each line of the trace.
    init(
        seed: UInt64,
        nodeCount: Int,
        faults: [Fault]?,
        defects: Set<Defect>,
        thread: OpaquePointer,
        sink: ((String) -> Void)?
    ) {
        self.seed = seed
        self.nodeCount = nodeCount
        stepsOfDeadProcesses = [UInt64](repeating: 0, count: 2 * nodeCount)
        self.sink = sink
        var generator = Generator(seed: seed &* 0x2545_f491_4f6c_dd1d &+ 1)
        scheduler = Scheduler(generator: generator.split(), thread: thread)
        network = Network(generator: generator.split())
        var faultGenerator = generator.split()
        let own =
            nodeCount == 1 ? Faults.make(&faultGenerator) : Faults.make(&faultGenerator, nodes: nodeCount)
        self.faults = Faults(faults ?? own)
        self.defects = Defects(planted: defects)
        self.generator = generator
    }

    /// Builds the world; `simulation` must be this run.
    func build() {
        clusters = (0...1).map { Cluster(index: $0, nodeCount: nodeCount, generator: &generator) }
        nodes = clusters.flatMap(\.nodes)
        if defects.planted.contains(.checkpointBeforeData) {
            for node in clusters[1].nodes { node.disk.forgetsToSynchronize = true }
        }
        user = User(generator: generator.split())
        for node in nodes { node.start() }
        scheduler.start(in: scheduler.world) { [self] in
            user.prepare()
            if nodeCount > 1 { age() }
            for number in 0..<Self.clientCount {
                addClient(number, user.movingSVM, path: user.movingPaths[number % user.movingPaths.count])
            }
            for (position, path) in user.widePaths.enumerated() {
                addClient(Self.clientCount + position, user.wideSVM, path: path)
            }
            scheduler.sleep(generator.within(0...1_000_000_000))
            faults.arm()
            user.begin()
            letThingsGoWrong(for: generator.within(5_000_000_000...Self.faultNanosecondsMax))
            heal()
            rest()
        }
    }

    /// Lets nodes become old enough to hold those for dead that they have never seen, in some runs.
    private func age() {
        watchdog.begin()
        if generator.oneIn(12) { scheduler.sleep(generator.within(14_000_000_000...16_000_000_000)) }
    }

    private func addClient(_ number: Int, _ svm: ObjectUUID, path: String) {
        let client = Client(number: number, svm: svm, path: path, generator: generator.split())
        clients.append(client)
        scheduler.start(in: scheduler.world) { client.run() }
    }

    // MARK: Phases

    /// Waits while faults happen; not much longer than there is something left that they could disturb.
    private func letThingsGoWrong(for nanoseconds: UInt64) {
        let end = scheduler.now + nanoseconds
        while scheduler.now < end {
            scheduler.sleep(500_000_000)
            if user.isAtRest { return scheduler.sleep(generator.within(0...1_000_000_000)) }
        }
    }

    /// Ends all that goes wrong.
    private func heal() {
        trace("healing begins")
        faults.disarm()
        isHealing = true
        healedNanoseconds = scheduler.now
        for cluster in clusters {
            network.change(from: cluster.index) { $0 = Network.Direction() }
            network.change(inside: cluster.index) { $0 = Network.Direction() }
            if cluster.isDatabaseDown { cluster.setDatabaseDown(false) }
        }
        for node in nodes {
            network.isolate(node, false)
            node.isDatabaseDown = false
            node.databaseLosesOneIn = 0
            node.disk.isFull = false
            node.disk.latencyNanosecondsMax = 800_000
            if let process = node.process { scheduler.resume(process) }
        }
        clientLossOneIn = 0
        user.caretaker.forget()
    }

    /// Waits until all has come to rest, and looks at what is left.
    private func rest() {
        let deadline = scheduler.now + Self.healingNanosecondsMax
        let slow = scheduler.now + 10_000_000_000
        while !user.isAtRest {
            guard scheduler.now < deadline else { return end("it did not come to rest: \(user.unrest)") }
            isSlow = scheduler.now > slow
            scheduler.sleep(isSlow ? 5_000_000_000 : 200_000_000)
        }
        isSlow = false
        trace("at rest")
        // Whoever serves now serves everybody.
        let answered = clients.map(\.answered)
        while zip(clients, answered).contains(where: { $0.answered < $1 + 5 }) {
            guard scheduler.now < deadline else { return end("the clients are not served") }
            scheduler.sleep(100_000_000)
        }
        clientsShallStop = true
        while clients.contains(where: { !$0.hasStopped }) {
            guard scheduler.now < deadline else { return end("a client waits for ever") }
            scheduler.sleep(50_000_000)
        }
        clients[0].readAll()
        if clients.count > Self.clientCount { clients[Self.clientCount].readAll() }
        user.inspect()
        end(nil)
    }

    private func end(_ violation: String?) {
        if let violation { self.violation(violation) }
        isOver = true
    }

    // MARK: Running

    /// Runs to the end.
    func run() {
        while !isOver && invariants.violations.isEmpty {
            guard scheduler.step() else {
                violation("nothing will ever happen again")
                break
            }
            invariants.check()
        }
        for node in nodes { node.disk.clear() }
    }

    /// What a step of a daemon's counts up to.
    func stepCount(of node: Int) -> UInt64 { stepsOfDeadProcesses[node] + (nodes[node].process?.stepCount ?? 0) }

    /// The steps of a process that has died go on being counted.
    func retire(_ process: SimulatedProcess, of node: Int) { stepsOfDeadProcesses[node] += process.stepCount }

    /// A process of a node has made a step.
    func stepped(_ process: SimulatedProcess) {
        guard let node = process.node, node.process === process else { return }
        faults.stepped(node.index, stepCount(of: node.index))
    }

    /// Starts a node's daemon again, some time after it ended.
    func restart(_ node: Node) {
        trace("\(node.name) has ended")
        let pause = isHealing ? 100_000_000 : node.downNanoseconds ?? generator.spread(50_000_000...5_000_000_000)
        node.downNanoseconds = nil
        scheduler.after(pause) { if node.process == nil { node.start() } }
    }

    /// The disk that a path lies on.
    func disk(of path: String) -> SimulatedDisk? {
        for node in nodes {
            if path.hasPrefix("/" + node.name + "/") { return node.disk }
            if path.hasPrefix(node.privateDirectory) { return node.privateDisk }
        }
        return nil
    }

    // MARK: Faults

    /// Makes something go wrong.
    func apply(_ action: Fault.Action, at place: Node?) {
        trace("fault: \(action)")
        switch action {
        case .crash(let node, let losesUnsynced, let downNanoseconds):
            crash(node.map { nodes[$0] } ?? place, losesUnsynced, downNanoseconds)
        case .pause(let node, let nanoseconds): pause(node.map { nodes[$0] } ?? place, nanoseconds)
        case .isolate(let node, let nanoseconds): isolate(node.map { nodes[$0] } ?? place, nanoseconds)
        case .breakLinks: network.breakLinks()
        case .clockJump(let node, let nanoseconds): nodes[node].clock.jump(nanoseconds)
        case .lossyClients(let lossOneIn, let nanoseconds):
            clientLossOneIn = lossOneIn
            scheduler.after(nanoseconds) { self.clientLossOneIn = 0 }
        case .cut, .slowNetwork, .lossyNetwork, .disturbInterconnect: disturbNetwork(action)
        case .slowDisk, .fullDisk, .databaseDown, .databaseDownForAll, .databaseMute: disturbNode(action)
        }
    }

    private func crash(_ node: Node?, _ losesUnsynced: Bool, _ downNanoseconds: UInt64?) {
        guard let node, let process = node.process else { return }
        node.downNanoseconds = downNanoseconds
        if losesUnsynced {
            process.hasLostMachine = true
            for other in node.cluster.nodes where other.disk.isOf(process) { other.disk.crash() }
            node.privateDisk.crash()
        }
        scheduler.kill(process)
    }

    private func isolate(_ node: Node?, _ nanoseconds: UInt64) {
        guard let node, !node.isIsolated else { return }
        network.isolate(node, true)
        scheduler.after(nanoseconds) { self.network.isolate(node, false) }
    }

    private func pause(_ node: Node?, _ nanoseconds: UInt64) {
        guard let process = node?.process, !process.isPaused else { return }
        scheduler.pause(process)
        scheduler.after(nanoseconds) { self.scheduler.resume(process) }
    }

    private func disturbNetwork(_ action: Fault.Action) {
        switch action {
        case .cut(let from, let nanoseconds):
            let directions = from.map { [$0] } ?? [0, 1]
            for direction in directions { network.change(from: direction) { $0.isCut = true } }
            scheduler.after(nanoseconds) {
                for direction in directions { self.network.change(from: direction) { $0.isCut = false } }
            }
        case .slowNetwork(let delayNanosecondsMax, let nanoseconds):
            for node in 0...1 { network.change(from: node) { $0.delayNanosecondsMax = delayNanosecondsMax } }
            scheduler.after(nanoseconds) {
                for node in 0...1 { self.network.change(from: node) { $0.delayNanosecondsMax = 400_000 } }
            }
        case .disturbInterconnect(let cluster, let direction, let nanoseconds):
            network.change(inside: cluster) { $0 = direction }
            scheduler.after(nanoseconds) { self.network.change(inside: cluster) { $0 = Network.Direction() } }
        case .lossyNetwork(let lossOneIn, let duplicateOneIn, let nanoseconds):
            for node in 0...1 {
                network.change(from: node) { ($0.lossOneIn, $0.duplicateOneIn) = (lossOneIn, duplicateOneIn) }
            }
            scheduler.after(nanoseconds) {
                for node in 0...1 { self.network.change(from: node) { ($0.lossOneIn, $0.duplicateOneIn) = (0, 0) } }
            }
        default: break
        }
    }

    private func disturbNode(_ action: Fault.Action) {
        switch action {
        case .slowDisk(let node, let latencyNanosecondsMax, let nanoseconds):
            nodes[node].disk.latencyNanosecondsMax = latencyNanosecondsMax
            scheduler.after(nanoseconds) { self.nodes[node].disk.latencyNanosecondsMax = 800_000 }
        case .fullDisk(let node, let nanoseconds):
            nodes[node].disk.isFull = true
            scheduler.after(nanoseconds) { self.nodes[node].disk.isFull = false }
        case .databaseDown(let node, let nanoseconds):
            nodes[node].isDatabaseDown = true
            scheduler.after(nanoseconds) { self.nodes[node].isDatabaseDown = false }
        case .databaseDownForAll(let cluster, let nanoseconds):
            clusters[cluster].setDatabaseDown(true)
            scheduler.after(nanoseconds) { self.clusters[cluster].setDatabaseDown(false) }
        case .databaseMute(let node, let lossOneIn, let nanoseconds):
            nodes[node].databaseLosesOneIn = lossOneIn
            scheduler.after(nanoseconds) { self.nodes[node].databaseLosesOneIn = 0 }
        default: break
        }
    }

    /// Whether a message of a client is lost.
    func losesClientMessage() -> Bool { clientLossOneIn > 0 && generator.oneIn(clientLossOneIn) }

    // MARK: Telling

    /// A line of the trace.
    func trace(_ line: @autoclosure () -> String) {
        guard let sink else { return }
        let now = scheduler.now
        let digits = String(now % 1_000_000_000 / 1_000)
        let micro = String(repeating: "0", count: 6 - digits.count) + digits
        sink("\(now / 1_000_000_000).\(micro) \(line())")
    }

    /// Something is not as it must be.
    func violation(_ words: String) {
        trace("VIOLATION: \(words)")
        invariants.violated(words)
    }

    /// The log of a daemon: part of the trace.
    func logger(_ name: String) -> Logger {
        guard sink != nil else {
            var logger = Logger(label: name, factory: { _ in SwiftLogNoOpLogHandler() })
            logger.logLevel = .critical
            return logger
        }
        return Logger(label: name, factory: { TraceLog(label: $0) })
    }

    // MARK: Waiting

    /// Lets a task wait; nothing can cut it short.
    func delay(_ nanoseconds: UInt64, _ process: SimulatedProcess) async {
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            scheduler.after(nanoseconds, in: process) { continuation.resume() }
        }
    }

    /// How a daemon waits: by its node's clock.
    ///
    /// - Parameter isPolling: whether it looks again and again at what has hardly ever changed: less often while
    ///   everything takes long.
    func waiting(_ node: Node, _ process: SimulatedProcess, isPolling: Bool = false) -> Waiting {
        Waiting { nanoseconds in
            let nanoseconds = isPolling && self.isSlow ? max(nanoseconds, 2_000_000_000) : nanoseconds
            try Task.checkCancellation()
            let sleeper = Sleeper(process)
            try await withTaskCancellationHandler {
                try await withUnsafeThrowingContinuation { continuation in
                    sleeper.continuation = continuation
                    if Task.isCancelled { return sleeper.wake(CancellationError()) }
                    let time = node.clock.worldNanoseconds(nanoseconds)
                    simulation.scheduler.after(time, in: process) { sleeper.wake(nil) }
                }
            } onCancel: {
                sleeper.wake(CancellationError())
            }
        }
    }
}

/// A task that waits.
private final class Sleeper: @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    let process: SimulatedProcess
    var continuation: UnsafeContinuation<Void, any Error>?

    init(_ process: SimulatedProcess) { self.process = process }

    func wake(_ error: (any Error)?) {
        guard let continuation else { return }
        self.continuation = nil
        simulation.scheduler.run(as: process) {
            if let error { continuation.resume(throwing: error) } else { continuation.resume() }
        }
    }
}

/// Writes a daemon's log into the trace.
private struct TraceLog: LogHandler {
    let label: String
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.debug

    init(label: String) { self.label = label }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) { simulation.trace("\(label) says \(event.level): \(event.message)") }
}
