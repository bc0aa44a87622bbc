import ClusterConfiguration
import Environment
import Identity
import Logging
import MigrateOperation
import MigrateSource
import Orchestrator
import ReplicatedDatabase
import Replication
import Saga
import Synchronization
import Testing

/// Places that are chosen anew when an operation is resumed.
@Suite(.timeLimit(.minutes(2))) struct ResumePlacesTests {
    private struct Directory: SourceClusterDirectory {
        let source: MigrateSource
        func sourceCluster(peerName: String) async throws -> any SourceCluster { source }
    }

    private static let log = Logger(label: "resume", factory: { _ in SwiftLogNoOpLogHandler() })
    private static let node = ObjectUUID(high: 3, low: 1)
    private static let aggregate = ObjectUUID(high: 5, low: 1)

    private func until(_ holds: () async throws -> Bool) async throws {
        while try await !holds() {
            try Task.checkCancellation()
            try await Task.sleep(for: .milliseconds(2))
        }
    }

    private func code(_ body: () async throws -> Void) async -> String? {
        do {
            try await body()
            return nil
        } catch {
            return (error as? MigrateError)?.code
        }
    }

    private func orchestrator(_ world: World) async throws -> Orchestrator {
        let process = Process(crashAt: nil)
        let store = ConfigurationStore(InMemoryDatabase())
        _ = try await store.change(as: .system) { draft throws(ManagementError) in
            try draft.putSVM(
                SVMRecord(uuid: svmUUID, name: "svm", state: .running, handleKey: HandleKey(first: 1, second: 2)),
                defaultPolicyIdentifier: 7
            )
        }
        let source = MigrateSource(
            database: store.database,
            storage: SimulatedSource(world: world, process: process),
            node: ObjectUUID(high: 6, low: 6),
            environment: world.environment,
            waiting: world.waiting(process),
            log: Self.log
        )
        return Orchestrator(
            database: InMemoryDatabase(),
            storage: SimulatedDestination(world: world, process: process),
            directory: Directory(source: source),
            node: ObjectUUID(high: 5, low: 5),
            clusterName: "beta",
            environment: world.environment,
            waiting: world.waiting(process),
            log: Self.log
        )
    }

    /// The room that the pre-check saw is gone when setup comes to it.
    @Test func anOperationThatFailedForWantOfAPlaceGoesOnWithAnother() async throws {
        let world = World()
        world.state.withLock { $0.destinationTier = .capacity }
        let orchestrator = try await orchestrator(world)
        let running = Task { try? await orchestrator.run() }
        defer { running.cancel() }
        var options = MigrationOptions()
        options.isAutoCutover = false
        let operation = try await orchestrator.start(
            MigrationRequest(svmName: "svm", peerName: "alpha", options: options)
        )
        let record = { try await orchestrator.get(operation)?.record }
        let isAt = { (state: MigrationState) in try await record()?.state == state }
        try await until { try await isAt(.setupConfigurationFailed) }
        #expect(try await record()?.messages.last?.code == MigrateCode.noCapacity)
        var choice = ResumeOptions()
        choice.tier = .performance
        try await orchestrator.resume(operation, choice)
        #expect(try await record()?.svm.volumes.map(\.destinationAggregate) == [nil])
        try await until { try await isAt(.setupConfigurationFailed) }
        choice.tier = .capacity
        try await orchestrator.resume(operation, choice)
        try await until { try await isAt(.readyForCutover) }
        // Now it is made: too late for another choice, and not for going on.
        try await orchestrator.pause(operation)
        try await until { try await isAt(.migratePaused) }
        #expect(await code { try await orchestrator.resume(operation, choice) } == MigrateCode.placedAlready)
        #expect(try await isAt(.migratePaused))
        try await orchestrator.resume(operation, ResumeOptions())
        try await until { try await isAt(.readyForCutover) }
        try await orchestrator.cutover(operation)
        // The failures are in its messages.
        try await until { try await isAt(.migrateCompleteWithWarnings) }
    }

    // MARK: - What is chosen, and what it does to the record

    private static func volume(_ number: UInt64) -> VolumeDescription {
        VolumeDescription(
            uuid: ObjectUUID(high: 6, low: number),
            name: "v\(number)",
            msid: VolumeMSID(rawValue: number),
            sizeBytes: 1,
            isSpaceGuaranteed: false,
            usedBytes: 0,
            source: VolumeSource(nodeName: "", endpoint: PeerEndpoint(address: "", port: 0), secret: ""),
            destinationAggregate: aggregate
        )
    }

    private static func lif(_ number: UInt64, _ port: String?) -> LIFRecord {
        LIFRecord(
            uuid: ObjectUUID(high: 7, low: number),
            name: "lif\(number)",
            svm: svmUUID,
            address: port == nil ? "127.0.1.\(number)" : "10.0.1.\(number)",
            port: 2049,
            node: node,
            prefixLength: port.map { _ in 24 },
            homePort: port
        )
    }

    /// An operation of two volumes and three interfaces, the last one of the loopback, all of which have a place.
    private func record() -> DestinationRecord {
        let record = SVMRecord(
            uuid: svmUUID,
            name: "svm",
            state: .running,
            handleKey: HandleKey(first: 1, second: 2)
        )
        var svm = MemoryCluster.description(of: record)
        svm.volumes = [Self.volume(1), Self.volume(2)]
        svm.configuration.interfaces = [Self.lif(1, "eth1"), Self.lif(2, "eth1"), Self.lif(3, nil)]
        svm.interfaces = svm.configuration.interfaces.map {
            var interface = InterfaceDescription(name: $0.name, address: $0.address, port: $0.port)
            interface.destination = InterfacePlace(node: Self.node, port: $0.homePort)
            return interface
        }
        return DestinationRecord(
            operation: ObjectUUID(high: 1, low: 1),
            owningNode: Self.node,
            options: MigrationOptions(),
            peerName: "alpha",
            svm: svm
        )
    }

    /// The SVM is here with its first volume, and its first interface on port `eth4`.
    private func half() -> ObjectsHere {
        var here = ObjectsHere()
        here.svm = record().svm.configuration.svm
        here.volumes = [Self.volume(1).uuid]
        here.interfaces = [Self.lif(1, "eth4")]
        return here
    }

    private func chosen(
        _ here: ObjectsHere,
        edit: (inout ResumeOptions) -> Void
    ) throws -> DestinationRecord {
        var (record, choice) = (record(), ResumeOptions())
        edit(&choice)
        try record.choosePlaces(choice, record.svm, here)
        return record
    }

    private func refusal(_ here: ObjectsHere, edit: (inout ResumeOptions) -> Void) -> MigrateError? {
        do {
            _ = try chosen(here, edit: edit)
            return nil
        } catch {
            return error as? MigrateError
        }
    }

    @Test func onlyWhatIsNotHereIsPlacedAnew() throws {
        let other = ObjectUUID(high: 5, low: 2)
        let found = try chosen(half()) { choice in
            choice.aggregates = [other]
            choice.tier = .capacity
            choice.interfaces = [InterfaceChoice(interface: "lif2", node: Self.node, port: "eth2")]
        }
        #expect(found.options.aggregates == [other] && found.options.tier == .capacity)
        #expect(found.svm.volumes.map(\.destinationAggregate) == [Self.aggregate, nil])
        #expect(found.svm.interfaces.map { $0.destination == nil } == [false, true, false])
        #expect(found.options.interfaces?.map(\.interface) == ["lif2"])
        let unchecked = try chosen(half()) { $0.checksNetwork = false }
        #expect(unchecked.options.skipsNetworkChecks == true)
        #expect(unchecked.svm.interfaces.map { $0.destination == nil } == [false, true, true])
        #expect(unchecked.svm.volumes.map(\.destinationAggregate) == [Self.aggregate, Self.aggregate])
        #expect(try chosen(half()) { $0.tier = .some(nil) }.options.tier == nil)
        // Before the SVM is made it can come to another IP space, where other ports are.
        let space = ObjectUUID(high: 9, low: 1)
        let moved = try chosen(ObjectsHere()) { $0.ipSpace = space }
        #expect(moved.svm.destinationIPSpace == space && moved.svm.interfaces.allSatisfy { $0.destination == nil })
    }

    @Test func whatIsHereStaysAndTheRefusalSaysSo() throws {
        var whole = half()
        whole.volumes = [Self.volume(1).uuid, Self.volume(2).uuid]
        whole.interfaces = [Self.lif(1, "eth4"), Self.lif(2, "eth4"), Self.lif(3, nil)]
        let refusals = [
            refusal(whole) { $0.tier = .capacity },
            refusal(whole) { $0.aggregates = [Self.aggregate] },
            refusal(whole) { $0.checksNetwork = false },
            refusal(half()) { $0.ipSpace = ObjectUUID(high: 9, low: 1) },
            refusal(half()) { $0.interfaces = [InterfaceChoice(interface: "lif1", node: Self.node, port: "eth2")] },
        ]
        for refusal in refusals {
            #expect(refusal?.code == MigrateCode.placedAlready)
            #expect(refusal?.remedy.contains("abort") == true)
        }
        // Where it is already is no other place.
        let same = InterfaceChoice(interface: "lif1", node: Self.node, port: "eth4")
        #expect(refusal(whole) { $0.interfaces = [same] } == nil)
        #expect(refusal(whole) { $0.ipSpace = IPSpaceRecord.standard.uuid } == nil)
        // What makes no sense at any time.
        let unknown = InterfaceChoice(interface: "lif9", node: Self.node, port: "eth4")
        #expect(refusal(half()) { $0.interfaces = [unknown] }?.message.contains("'lif9'") == true)
        let loopback = InterfaceChoice(interface: "lif3", node: Self.node, port: "eth4")
        #expect(refusal(half()) { $0.interfaces = [loopback] }?.message.contains("on no port") == true)
    }

    /// What the source has got since then has no place yet, and a volume that lost its baseline is made anew.
    @Test func whatTheSourceHasGotSinceIsPlacedAsChosen() throws {
        var (whole, choice) = (half(), ResumeOptions())
        whole.volumes = [Self.volume(1).uuid, Self.volume(2).uuid]
        choice.tier = .capacity
        var (later, source) = (record(), record().svm)
        source.volumes.append(Self.volume(3))
        try later.choosePlaces(choice, source, whole)
        #expect(later.options.tier == .capacity)
        #expect(later.svm.volumes.map(\.destinationAggregate) == [Self.aggregate, Self.aggregate])
        var lost = record()
        lost.baselineLost = [Self.volume(2).msid.description]
        try lost.choosePlaces(choice, lost.svm, whole)
        #expect(lost.svm.volumes.map(\.destinationAggregate) == [Self.aggregate, nil])
    }
}
