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
    private var svm: SVMRecord?
    /// What the last look at the destination's records showed.
    private var records: [DestinationRecord] = []
    private var isAsking = false
    /// What was asked of a daemon's task is done.
    private var isDone = false
    private var startsLeft = 3
    private var resumesLeft = 3
    /// Asks for things again and again.
    private var isRestless = false
    /// Whether the content of the two sides was ever found to differ.
    private var integrityFailure: String?
    /// Nothing was asked for since the records were read.
    private var isFresh = false
    /// Operations that were seen.
    private var seen: Set<ObjectUUID> = []
    private let svmName = "svm"

    init(generator: Generator) { self.generator = generator }

    private var scheduler: Scheduler { simulation.scheduler }
    private var source: Node { simulation.nodes[0] }
    private var destination: Node { simulation.nodes[1] }

    /// Operations that have come to an end.
    var endedCount: Int { seen.count }

    /// Makes what the operation moves; waits for it.
    func prepare() {
        while !source.isUp || !destination.isUp { scheduler.sleep(10_000_000) }
        isDone = false
        source.spawn { [self] in
            do {
                try await makeSVM(source.controller!)
            } catch {
                simulation.violation("the SVM cannot be made: \(error)")
            }
            isDone = true
        }
        while !isDone { scheduler.sleep(10_000_000) }
    }

    private func makeSVM(_ controller: StorageController) async throws {
        let svm = try await controller.createSVM(named: svmName, comment: "")
        self.svm = svm
        let aggregate = try await controller.store.snapshot().aggregates[0].uuid
        try await controller.createVolume(
            VolumeRecord(
                uuid: ObjectUUID.random(controller.environment),
                name: "volume",
                msid: VolumeMSID(rawValue: 77),
                svm: svm.uuid,
                aggregate: aggregate,
                sizeBytes: 1 << 30,
                junctionPath: "/volume"
            )
        )
        try await controller.createLIF(
            LIFRecord(
                uuid: .random(controller.environment),
                name: "lif",
                svm: svm.uuid,
                address: "127.42.2.1",
                port: 2049
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
    }

    /// Looks at the destination again and again, and asks for what is next.
    private func look() {
        let pause = simulation.isSlow ? 5_000_000_000 : generator.within(50_000_000...400_000_000)
        scheduler.after(pause) { [self] in
            defer { look() }
            lookForDamage()
            guard !isAsking, let orchestrator = destination.orchestrator, destination.isUp else { return }
            isAsking = true
            let process = destination.process!
            destination.spawn { [self] in
                await ask(orchestrator)
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

    /// No disk of this world rots: whatever is damaged was damaged by us.
    private func lookForDamage() {
        for node in simulation.nodes {
            for event in node.controller?.events.events ?? [] where event.name == "storage.block.checksumMismatch" {
                simulation.violation("\(node.name): \(event.message)")
            }
        }
    }

    private func ask(_ orchestrator: Orchestrator) async {
        do {
            let list = try await orchestrator.list().map(\.record)
            note(list)
            guard let running = list.first(where: { $0.phase != .ended }) else {
                let isMoved = list.contains { $0.state.isComplete }
                guard !isMoved, startsLeft > 0 else { return }
                startsLeft -= 1
                isFresh = false
                _ = try await orchestrator.start(
                    MigrationRequest(svmName: svmName, peerName: source.name, options: options)
                )
                return
            }
            try await command(running, orchestrator)
        } catch {
            simulation.trace("the user hears: \(error)")
        }
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
        simulation.nodes.allSatisfy(\.isUp) && !isAsking && isFresh
            && (records.contains { $0.state.isComplete }
                || (startsLeft == 0 && records.allSatisfy { $0.phase == .ended }))
    }

    /// What is not at rest.
    var unrest: String {
        let states = records.map { "\($0.phase) \($0.state) \($0.messages.last?.message ?? "")" }
        return "up \(simulation.nodes.map(\.isUp)), operations \(states)"
    }

    /// Looks at both clusters: one serves, nothing is left over, the records agree.
    func inspect() {
        isDone = false
        destination.spawn { [self] in
            do { try await inspectAll() } catch { simulation.violation("the clusters cannot be inspected: \(error)") }
            isDone = true
        }
        let deadline = scheduler.now + 60_000_000_000
        while !isDone && scheduler.now < deadline { scheduler.sleep(10_000_000) }
        if !isDone { simulation.violation("the clusters cannot be inspected in time") }
    }

    private func inspectAll() async throws {
        let here = try await ConfigurationStore(source.database).snapshot()
        let there = try await ConfigurationStore(destination.database).snapshot()
        let isMoved = records.contains { $0.state.isComplete }
        if let integrityFailure { simulation.violation("the two sides differ: \(integrityFailure)") }
        try await inspectSource(here, isMoved)
        let serving = isMoved ? there : here
        let other = isMoved ? here : there
        if !other.svms.isEmpty || !other.volumes.isEmpty || !other.lifs.isEmpty {
            simulation.violation("left over: \(other.svms) \(other.volumes.map(\.name)) \(other.lifs.map(\.name))")
        }
        let otherNode = isMoved ? source : destination
        if let controller = otherNode.controller, controller.volume(msid: VolumeMSID(rawValue: 77)) != nil {
            simulation.violation("the volume is left over on \(otherNode.name)")
        }
        guard let svm = serving.svm(named: svmName) else { return simulation.violation("the SVM is nowhere") }
        if svm.state != .running || svm.configurationLock != nil || svm.migrateRole != .none {
            simulation.violation("the SVM is not whole: \(svm)")
        }
        if serving.volumes.contains(where: \.isReplica) { simulation.violation("the volume is recorded as a replica") }
        guard let volume = (isMoved ? destination : source).controller?.volume(msid: VolumeMSID(rawValue: 77)) else {
            return simulation.violation("the volume is nowhere")
        }
        let problems = try volume.checkConsistency()
        if !problems.isEmpty { simulation.violation("the volume is inconsistent: \(problems)") }
        let snapshots = volume.snapshots()
        if !snapshots.isEmpty { simulation.violation("snapshots are left over: \(snapshots.map(\.name))") }
    }

    private func inspectSource(_ here: ConfigurationSnapshot, _ isMoved: Bool) async throws {
        let left = try await MigrateRecords<SourceRecord>(source.database, prefix: MigrateKeys.sourcePrefix).all()
        for record in left.map(\.record) {
            let isOfMove = records.contains { $0.operation == record.operation && $0.state.isComplete }
            if !isOfMove || record.state != .cleaned {
                simulation.violation(
                    "the source's record of \(record.operation) is left in state \(record.state.rawValue)"
                )
            }
        }
    }
}

extension MigrationState {
    /// Whether the SVM is on the destination and the source is gone.
    var isComplete: Bool { self == .migrateComplete || self == .migrateCompleteWithWarnings }
}
