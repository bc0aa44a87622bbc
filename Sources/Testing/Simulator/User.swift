import ClusterConfiguration
import Identity
import MigrateOperation
import Orchestrator
import StorageControl
import VolumeEngine

/// The administrator of both clusters: makes the SVM, moves it, and looks at what became of it.
final class User: @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    private var generator: Generator
    private var options = MigrationOptions()
    /// The SVM that is moved, and what of it is found by its identity.
    private(set) var movingSVM = ObjectUUID(high: 0, low: 0)
    private(set) var movingPaths: [String] = []
    var movingVolumes: [VolumeMSID] {
        (0..<max(1, movingPaths.count)).map { VolumeMSID(rawValue: 77 + UInt64($0)) }
    }
    /// An SVM with a volume and an address on each node of a cluster, which stays where it is.
    private(set) var wideSVM = ObjectUUID(high: 0, low: 0)
    private(set) var widePaths: [String] = []
    private(set) var wideCluster = 0
    /// The node that drives the operation which runs, as far as is known.
    private var drivingNode: ObjectUUID?
    /// What the last look at the destination's records showed.
    private(set) var records: [DestinationRecord] = []
    private var isAsking = false
    /// What was asked of a daemon's task is done.
    private var isDone = false
    private var startsLeft = 3
    private var failuresLeft = 12
    private var resumesLeft = 3
    /// Asks for things again and again.
    private var isRestless = false
    /// Whether the content of the two sides was ever found to differ.
    private(set) var integrityFailure: String?
    /// Nothing was asked for since the records were read.
    private var isFresh = false
    /// Operations that were seen.
    private var seen: Set<ObjectUUID> = []
    let svmName = "svm"

    let caretaker: Caretaker
    let configurer: Configurer

    init(generator: Generator) {
        self.generator = generator
        caretaker = Caretaker(generator: Generator(seed: simulation.seed &+ 77))
        configurer = Configurer(generator: Generator(seed: simulation.seed &+ 78))
    }

    private var scheduler: Scheduler { simulation.scheduler }
    private var source: Cluster { simulation.clusters[0] }
    private var destination: Cluster { simulation.clusters[1] }
    private var isShared: Bool { source.isShared }

    /// Operations that have come to an end.
    var endedCount: Int { seen.count }

    /// Makes what the operation moves, and what stays; waits for it.
    func prepare() {
        while !simulation.nodes.allSatisfy(\.isUp) { scheduler.sleep(10_000_000) }
        carryOut(on: source.contact) { [self] in try await makeSVM($0) }
        movingPaths = ["/volume"]
        guard isShared else { return }
        let spread = Self.spreadMax(generator.below(simulation.nodeCount))
        for (position, node) in source.nodes.prefix(1 + spread).enumerated().dropFirst() {
            carryOut(on: node) { [self] in
                try await makePart("volume\(position)", VolumeMSID(rawValue: 77 + UInt64(position)), of: movingSVM, $0)
            }
            // Sometimes all clients come by the first node's address.
            if generator.oneIn(2) {
                carryOut(on: node) { [self] in try await makeLIF("127.42.2.\(position + 1)", of: movingSVM, $0) }
            }
            movingPaths.append("/volume\(position)")
        }
        if !generator.oneIn(3) { prepareWide() }
    }

    /// Nodes beside the first one that have volumes of the SVM that moves.
    private static func spreadMax(_ wanted: Int) -> Int { wanted }

    private func prepareWide() {
        wideCluster = generator.below(2)
        let nodes = simulation.clusters[wideCluster].nodes
        carryOut(on: nodes[0]) { [self] in wideSVM = try await $0.createSVM(named: "wide", comment: "").uuid }
        for (position, node) in nodes.enumerated() {
            carryOut(on: node) { [self] in
                try await makePart("part\(position)", VolumeMSID(rawValue: 100 + UInt64(position)), of: wideSVM, $0)
                try await makeLIF("127.42.3.\(position + 1)", of: wideSVM, $0)
            }
            widePaths.append("/part\(position)")
        }
        // One or two clients are enough to use all of it.
        widePaths = Array(widePaths.prefix(1 + generator.below(2)))
    }

    /// Lets a daemon do something for the administrator, and waits for it.
    private func carryOut(on node: Node, _ body: @escaping @Sendable (StorageController) async throws -> Void) {
        isDone = false
        node.spawn { [self] in
            do { try await body(node.controller!) } catch {
                simulation.violation("what the run needs cannot be made: \(error)")
            }
            isDone = true
        }
        while !isDone { scheduler.sleep(10_000_000) }
    }

    private func makeSVM(_ controller: StorageController) async throws {
        movingSVM = try await controller.createSVM(named: svmName, comment: "").uuid
        try await makePart("volume", movingVolumes[0], of: movingSVM, controller)
        try await makeLIF("127.42.2.1", of: movingSVM, controller)
    }

    /// Makes a volume on a node's own aggregate.
    private func makePart(
        _ name: String,
        _ msid: VolumeMSID,
        of svm: ObjectUUID,
        _ controller: StorageController
    ) async throws {
        let aggregates = try await controller.store.snapshot().aggregates
        try await controller.createVolume(
            VolumeRecord(
                uuid: ObjectUUID.random(controller.environment),
                name: name,
                msid: msid,
                svm: svm,
                aggregate: (aggregates.first { $0.node == controller.node.uuid } ?? aggregates[0]).uuid,
                sizeBytes: 1 << 30,
                junctionPath: "/" + name
            )
        )
    }

    /// Makes an address on a node.
    private func makeLIF(_ address: String, of svm: ObjectUUID, _ controller: StorageController) async throws {
        try await controller.createLIF(
            LIFRecord(
                uuid: .random(controller.environment),
                name: "lif-" + address,
                svm: svm,
                address: address,
                port: 2049,
                node: isShared ? controller.node.uuid : nil
            )
        )
    }

    /// Begins the operation, and looks after it from now on.
    func begin() {
        options.isAutoCutover = !generator.oneIn(4)
        options.isAutoSourceCleanup = !generator.oneIn(4)
        options.holdBudgetMilliseconds = [500, 2_000, 5_000][generator.below(3)]
        options.readyTransferCount = 1 + generator.below(3)
        options.synchronizeMilliseconds = [5_000, 20_000][generator.below(2)]
        options.cutoverRetryMillisecondsMax = 2_000
        options.preCommitBudgetMilliseconds = [2_000, 60_000][generator.below(2)]
        isRestless = generator.oneIn(4)
        look()
        configurer.begin()
        if isShared { caretaker.begin() }
    }

    /// Looks at the destination again and again, and asks for what is next.
    private func look() {
        let pause = simulation.isSlow ? 5_000_000_000 : generator.within(50_000_000...400_000_000)
        scheduler.after(pause) { [self] in
            defer { look() }
            lookForDamage()
            guard !isAsking, let node = askedNode(), let orchestrator = node.orchestrator, node.isUp else { return }
            isAsking = true
            let process = node.process!
            node.spawn { [self] in
                await ask(orchestrator, node)
                isAsking = false
            }
            // A daemon that dies does not answer.
            let before = process.onDeath
            process.onDeath = { [self] in
                isAsking = false
                before()
            }
        }
    }

    /// The node of the destination that is asked now: the one that drives the operation, or any.
    private func askedNode() -> Node? {
        guard isShared else { return destination.contact }
        let up = destination.nodes.filter { $0.isUp && !$0.isIsolated && $0.process?.isPaused == false }
        if let driving = up.first(where: { $0.record?.uuid == drivingNode }), !generator.oneIn(8) { return driving }
        return up.isEmpty ? nil : up[generator.below(up.count)]
    }

    /// No disk of this world rots: whatever is damaged was damaged by us.
    private func lookForDamage() {
        for node in simulation.nodes {
            for event in node.controller?.events.events ?? [] where event.name == "storage.block.checksumMismatch" {
                simulation.violation("\(node.name): \(event.message)")
            }
        }
    }

    private func ask(_ orchestrator: Orchestrator, _ node: Node) async {
        do {
            let list = try await orchestrator.list().map(\.record)
            note(list)
            guard let running = list.first(where: { $0.phase != .ended }) else {
                let isMoved = list.contains { $0.state.isComplete }
                guard !isMoved, startsLeft > 0 else { return }
                // Where nothing can be placed nobody would begin.
                if isShared, await !hasAggregate(node) { return }
                // Of clusters of several nodes something is away more often than not.
                if isShared, failuresLeft > 0 { failuresLeft -= 1 } else { startsLeft -= 1 }
                isFresh = false
                _ = try await orchestrator.start(
                    MigrationRequest(svmName: svmName, peerName: source.name, options: options)
                )
                return
            }
            drivingNode = running.owningNode
            // Any other node passes a request on.
            guard !isShared || node.record?.uuid == running.owningNode else { return }
            try await command(running, orchestrator)
        } catch {
            simulation.trace("the user hears: \(error)")
        }
    }

    private func hasAggregate(_ node: Node) async -> Bool {
        guard let controller = node.controller, let snapshot = try? await controller.store.snapshot() else {
            return false
        }
        return snapshot.aggregates.contains { controller.aggregate($0.uuid) != nil }
    }

    private func note(_ list: [DestinationRecord]) {
        isFresh = true
        records = list
        for record in list {
            seen.insert(record.operation)
            for message in record.messages where message.code == MigrateCode.integrity {
                integrityFailure = message.message
            }
            // No disk of this world rots.
            for message in record.messages where message.message.contains("scrub the volume to find the damage") {
                simulation.violation("a volume is damaged: \(message.message)")
            }
        }
    }

    /// While things go wrong the user asks for anything; afterwards for what brings the operation to its end.
    private func command(_ record: DestinationRecord, _ orchestrator: Orchestrator) async throws {
        isFresh = false
        let operation = record.operation
        if !simulation.isHealing && generator.oneIn(isRestless ? 6 : 60) {
            let choice = generator.below(5)
            simulation.trace("the user asks for \(["pause", "abort", "resume", "cutover", "cleanup"][choice])")
            switch choice {
            case 0: try await orchestrator.pause(operation)
            case 1: try await orchestrator.abort(operation)
            case 2: try await orchestrator.resume(operation, ResumeOptions())
            case 3: try await orchestrator.cutover(operation)
            default: try await orchestrator.sourceCleanup(operation)
            }
            return
        }
        guard simulation.isHealing || generator.oneIn(4) else { return }
        switch record.state {
        case .readyForCutover where !record.options.isAutoCutover: try await orchestrator.cutover(operation)
        case .readyForSourceCleanup, .cleanupFailed:
            if record.phase == .sourceCleanup { try await orchestrator.sourceCleanup(operation) }
        case .migrateAbortFailed: try await orchestrator.abort(operation)
        default:
            guard record.phase == .halted else { return }
            if resumesLeft > 0 {
                resumesLeft -= 1
                try await orchestrator.resume(operation, ResumeOptions())
            } else {
                startsLeft = 0
                try await orchestrator.abort(operation)
            }
        }
    }

    // MARK: The end

    /// Whether nothing more will happen by itself.
    var isAtRest: Bool {
        simulation.nodes.allSatisfy(\.isUp) && !isAsking && isFresh && (!isShared || caretaker.isAllHome)
            && (records.contains { $0.state.isComplete }
                || (startsLeft == 0 && records.allSatisfy { $0.phase == .ended }))
    }

    /// What is not at rest.
    var unrest: String {
        let states = records.map { "\($0.phase) \($0.state) \($0.messages.last?.message ?? "")" }
        return "up \(simulation.nodes.map(\.isUp)), at home \(caretaker.isAllHome), operations \(states)"
    }
}

extension User {
    /// Looks at both clusters; waits for it.
    func inspect() {
        // The last change of the configuration is on its way to the nodes.
        if isShared { scheduler.sleep(1_000_000_000) }
        isDone = false
        destination.contact.spawn { [self] in
            do { try await Inspection(user: self).inspectAll() } catch {
                simulation.violation("the clusters cannot be inspected: \(error)")
            }
            isDone = true
        }
        let deadline = scheduler.now + 60_000_000_000
        while !isDone && scheduler.now < deadline { scheduler.sleep(10_000_000) }
        if !isDone { simulation.violation("the clusters cannot be inspected in time") }
    }
}

extension MigrationState {
    /// Whether the SVM is on the destination and the source is gone.
    var isComplete: Bool { self == .migrateComplete || self == .migrateCompleteWithWarnings }
}
