import ClusterConfiguration
import Environment
import Identity
import Logging
import ReplicatedDatabase
import StorageControl
import Synchronization
import TestKit
import Testing
import VolumeEngine

/// Keeps what it was told.
private final class RecordingObserver: OwnershipObserver {
    struct Seen: Equatable {
        var willServe: [Set<ObjectUUID>] = []
        var didOpen: [Set<ObjectUUID>] = []
        var relinquished: [VolumeMSID] = []
        var deputyOf: Set<ObjectUUID> = []
    }

    let seen = Mutex(Seen())
    let silenced = Mutex<Set<ObjectUUID>>([])

    func willServe(_ svms: Set<ObjectUUID>) async throws -> Set<ObjectUUID> {
        seen.withLock { $0.willServe.append(svms) }
        return silenced.withLock { $0.intersection(svms) }
    }
    func didOpen(_ svms: Set<ObjectUUID>) async throws { seen.withLock { $0.didOpen.append(svms) } }
    func willRelinquish(_ volumes: [VolumeMSID]) async { seen.withLock { $0.relinquished += volumes } }
    func standIn(for nodes: Set<ObjectUUID>) async throws { seen.withLock { $0.deputyOf.formUnion(nodes) } }
}

/// Two nodes of a cluster in one process; `near` is a volume of the first, `far` of the second.
private final class TwoNodes {
    let directory: String
    let database = InMemoryDatabase()
    var controllers: [StorageController] = []
    let observers = [RecordingObserver(), RecordingObserver()]
    var svm: SVMRecord?
    var detector = FailureDetector(nowNanoseconds: 0)

    init() async throws {
        directory = try TemporaryDirectory.make()
        for index in 0..<2 { controllers.append(try await start(index)) }
        let made = try await controllers[0].createSVM(named: "tenant", comment: "")
        svm = made
        for (index, name) in ["near", "far"].enumerated() {
            let aggregate = try await controllers[index].store.snapshot().aggregate(named: "aggr\(index + 1)")
            try await controllers[index].createVolume(
                VolumeRecord(
                    uuid: .random(.system),
                    name: name,
                    msid: VolumeMSID(rawValue: UInt64(index + 1)),
                    svm: made.uuid,
                    aggregate: try #require(aggregate).uuid,
                    sizeBytes: 64 << 20,
                    junctionPath: "/" + name
                )
            )
            try await controllers[index].createLIF(
                LIFRecord(
                    uuid: .random(.system),
                    name: "lif-\(name)",
                    svm: made.uuid,
                    address: "127.0.1.\(index + 1)",
                    port: 2049,
                    node: controllers[index].node.uuid
                )
            )
        }
        for controller in controllers { await controller.reconcile() }
    }

    func start(_ index: Int) async throws -> StorageController {
        let endpoint = NetworkEndpoint(address: "127.0.0.1", port: 1 + index)
        let store = ConfigurationStore(database)
        let node = try await StorageController.register(
            clusterName: "alpha",
            nodeName: "alpha-0\(index + 1)",
            management: endpoint,
            replication: endpoint,
            interconnect: endpoint,
            partners: ["alpha-0\(2 - index)"],
            isDatabaseShared: true,
            in: store,
            environment: .system
        )
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        let controller = StorageController(
            store: store,
            node: node,
            environment: .system,
            logger: logger,
            makeService: { _ in RecordingService() }
        )
        controller.observe(ownershipBy: observers[index])
        try await setUp(true, index)
        try await controller.open([
            AggregateSetting(
                name: "aggr\(index + 1)",
                directory: directory + "/aggr\(index + 1)",
                capacityBytes: 1 << 30
            )
        ])
        try await controller.startServices()
        return controller
    }

    func setUp(_ isUp: Bool, _ index: Int) async throws {
        let key = ConfigurationKeys.session(ofNodeNamed: "alpha-0\(index + 1)")
        _ = try await database.transact(when: [], [isUp ? .put(key: key, value: [1]) : .delete(key: key)])
    }

    /// Lets a node look until it has noticed that the other one is not there.
    func noticeThatOneIsDown(by index: Int) async throws {
        try await setUp(true, index)
        let controller = controllers[index]
        // Two looks would do, unless they are so far apart that the node does not trust what it sees.
        for _ in 0..<100 {
            try await controller.watchNodesOnce(&detector)
            if try await controller.store.snapshot().aggregates.allSatisfy({ $0.node == controller.node.uuid }) {
                return
            }
            try await Task.sleep(nanoseconds: FailureDetector.absenceNanosecondsMin / 4)
        }
        Issue.record("nothing was taken over")
    }

    func service(_ index: Int) throws -> RecordingService {
        let svm = try #require(svm)
        return try #require(controllers[index].service(of: svm.uuid) as? RecordingService)
    }

    func volumeNames(_ index: Int) throws -> [String] { try service(index).volumeNames.sorted() }

    func endpoints(_ index: Int) throws -> [String] {
        try service(index).boundEndpoints.map(\.description).sorted()
    }

    func stop() async {
        for controller in controllers { await controller.stop() }
        TemporaryDirectory.remove(directory)
    }
}

@Suite("Aggregates that change hands", .serialized)
struct OwnershipTests {
    @Test func partnerServesWhatADeadNodeHadAndGivesItBack() async throws {
        let nodes = try await TwoNodes()
        let svm = try #require(nodes.svm).uuid
        #expect(try nodes.volumeNames(0) == ["near"])
        await nodes.controllers[1].stop()
        try await nodes.setUp(false, 1)
        try await nodes.noticeThatOneIsDown(by: 0)
        #expect(try nodes.volumeNames(0) == ["far", "near"])
        #expect(try nodes.endpoints(0) == ["127.0.1.1:2049", "127.0.1.2:2049"])
        #expect(nodes.observers[0].seen.withLock { $0.willServe } == [[svm]])
        #expect(nodes.observers[0].seen.withLock { $0.didOpen } == [[svm]])
        #expect(nodes.observers[0].seen.withLock { $0.deputyOf } == [nodes.controllers[1].node.uuid])

        // It comes back, and has nothing until it is given it.
        nodes.controllers[1] = try await nodes.start(1)
        await nodes.controllers[1].keepAggregatesOnce()
        #expect(try nodes.volumeNames(1) == [])
        let count = try await nodes.controllers[1].giveBack(to: nodes.controllers[1].node)
        #expect(count == 2)
        // The new owner waits for the former one.
        await nodes.controllers[1].keepAggregatesOnce()
        #expect(try nodes.volumeNames(1) == [])
        await nodes.controllers[0].reconcile()
        await nodes.controllers[0].keepAggregatesOnce()
        #expect(try nodes.volumeNames(0) == ["near"])
        #expect(try !nodes.service(0).isHeld)
        #expect(nodes.observers[0].seen.withLock { $0.relinquished } == [VolumeMSID(rawValue: 2)])
        await nodes.controllers[1].keepAggregatesOnce()
        #expect(try nodes.volumeNames(1) == ["far"])
        #expect(try nodes.endpoints(1) == ["127.0.1.2:2049"])
        await nodes.stop()
    }

    /// Nodes that execute requests refuse what comes from earlier terms of a LIF: one must never come back.
    @Test func aMoveOfALIFThatIsTakenBackIsAnotherTerm() async throws {
        let nodes = try await TwoNodes()
        let node = nodes.controllers[1].node.uuid
        let before = try #require(try await nodes.controllers[0].store.snapshot().lifs.first { $0.currentNode != node })
        #expect(try nodes.service(0).term(at: before.endpoint) == LIFTerm(lif: before.uuid, number: 0))
        await #expect {
            try await nodes.controllers[1].modifyLIF(before.uuid) { lif in
                lif.port = RecordingService.takenPort
                lif.homeNode = node
                lif.move(to: node, port: nil)
            }
        } throws: {
            ($0 as? ManagementError)?.code == "address_in_use"
        }
        let after = try #require(try await nodes.controllers[0].store.snapshot().lif(before.uuid))
        #expect(after.currentNode == before.currentNode && after.port == before.port && after.formerNode == node)
        #expect(after.term.number == 2)
        await nodes.controllers[0].reconcile()
        #expect(try nodes.service(0).term(at: after.endpoint) == after.term)
        await nodes.stop()
    }

    @Test func nodeThatIsHeldForDeadLetsGoWhenItWakesUp() async throws {
        let nodes = try await TwoNodes()
        // It stands still: its session has gone, and its lock has not.
        try await nodes.setUp(false, 1)
        try await nodes.noticeThatOneIsDown(by: 0)
        let snapshot = try await nodes.controllers[0].store.snapshot()
        let aggregate = try #require(snapshot.aggregate(named: "aggr2"))
        #expect(aggregate.node == nodes.controllers[0].node.uuid)
        #expect(try nodes.volumeNames(0) == ["near"])
        #expect(nodes.controllers[0].failure(of: aggregate.uuid) != nil)
        // Awake, it need not even know the configuration: the directory tells it.
        #expect(try nodes.volumeNames(1) == ["far"])
        await nodes.controllers[1].keepAggregatesOnce()
        #expect(try nodes.volumeNames(1) == [])
        #expect(try nodes.endpoints(1) == [])
        await nodes.controllers[0].keepAggregatesOnce()
        #expect(try nodes.volumeNames(0) == ["far", "near"])
        #expect(nodes.controllers[0].failure(of: aggregate.uuid) == nil)
        await nodes.stop()
    }

    @Test func whatAMigrateHasTakenAwayIsNotServedByThePartner() async throws {
        let nodes = try await TwoNodes()
        let svm = try #require(nodes.svm).uuid
        nodes.observers[0].silenced.withLock { $0 = [svm] }
        await nodes.controllers[1].stop()
        try await nodes.setUp(false, 1)
        try await nodes.noticeThatOneIsDown(by: 0)
        #expect(try nodes.service(0).isHeld)
        await nodes.stop()
    }

    @Test func directoryThatIsNotThereIsNotMadeByThePartner() async throws {
        let nodes = try await TwoNodes()
        await nodes.controllers[1].stop()
        try await nodes.setUp(false, 1)
        TemporaryDirectory.remove(nodes.directory + "/aggr2")
        try await nodes.noticeThatOneIsDown(by: 0)
        let aggregate = try #require(try await nodes.controllers[0].store.snapshot().aggregate(named: "aggr2"))
        #expect(nodes.controllers[0].failure(of: aggregate.uuid)?.code == "aggregate_absent")
        #expect(!Aggregate.isPresent(in: nodes.directory + "/aggr2"))
        await nodes.stop()
    }
}
