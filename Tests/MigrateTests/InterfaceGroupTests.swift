import ClusterConfiguration
import Environment
import GroupControl
import Identity
import Logging
import MigrateOperation
import Orchestrator
import ReplicatedDatabase
import Replication
import StorageControl
import Synchronization
import Testing

/// Interfaces that find their places over the nodes of a cluster.
@Suite struct InterfaceGroupTests {
    private static let nodes = (1...4).map { ObjectUUID(high: 3, low: UInt64($0)) }
    private static let svm = ObjectUUID(high: 2, low: 2)
    private static let hardware = "02:00:00:00:00:aa"

    /// Nodes in memory: the second one is of an older version, the third does not answer.
    private final class MemoryNodes: GroupNodeDirectory {
        let asked = Mutex<[GroupStep]>([])

        struct Node: GroupNode {
            let uuid: ObjectUUID
            let nodes: MemoryNodes

            func send(_ call: GroupCall) async throws -> GroupReply {
                nodes.asked.withLock { $0.append(call.step) }
                switch call.step {
                case .survey:
                    return GroupReply(.survey(try InterfaceGroupTests.survey(of: uuid)))
                case .probePorts where uuid == InterfaceGroupTests.nodes[1]:
                    throw MigrateError(.wrongVersion, "the request cannot be read", remedy: "run the same version")
                case .probePorts where uuid == InterfaceGroupTests.nodes[2]:
                    throw MigrateError(.nodeAway, "it does not answer", remedy: "")
                case .probePorts(let addresses, _):
                    let heard = addresses.contains("10.0.1.10") ? ["10.0.1.10": [InterfaceGroupTests.hardware]] : [:]
                    return GroupReply(
                        .ports(
                            ["eth0", "eth1"].map { name in
                                let port = NodePort(uuid: uuid, name: name, hardwareAddress: "02:00:00:00:00:01")
                                return ProbedPort(port, answers: name == "eth0" ? heard : [:])
                            }
                        )
                    )
                default: return GroupReply()
                }
            }
        }

        func node(_ uuid: ObjectUUID) async throws -> any GroupNode { Node(uuid: uuid, nodes: self) }
    }

    /// What a node could take; the first one has by far the most room.
    private static func survey(of node: ObjectUUID) throws -> NodeSurvey {
        let bytes: UInt64 = node.low == 1 ? 1 << 40 : 1 << 30
        let room = #"{"aggregate":"\#(ObjectUUID(high: 5, low: node.low))","availableBytes":\#(bytes)}"#
        let json = #"{"rooms":[\#(room)],"obstacles":{},"ports":{},"present":[]}"#
        return try ConfigurationCoding.decode(NodeSurvey.self, from: Array(json.utf8), key: "test")
    }

    private func destination(_ nodes: MemoryNodes) async throws -> DestinationGroup {
        let database = InMemoryDatabase()
        let store = ConfigurationStore(database)
        let endpoint = { (port: Int) in NetworkEndpoint(address: "127.0.0.1", port: port) }
        _ = try await store.change(as: .system) { draft throws(ManagementError) in
            try draft.putCluster(ClusterRecord(uuid: ObjectUUID(high: 4, low: 4), name: "beta"))
            for (index, uuid) in Self.nodes.enumerated() {
                try draft.putNode(
                    NodeRecord(
                        uuid: uuid,
                        name: "beta-0\(index + 1)",
                        management: endpoint(8_000 + index),
                        replication: endpoint(8_100 + index),
                        replicationSecret: "secret",
                        interconnect: endpoint(8_200 + index),
                        interconnectSecret: "other"
                    )
                )
                try draft.putAggregate(
                    AggregateRecord(
                        uuid: ObjectUUID(high: 5, low: uuid.low),
                        name: "aggr\(index + 1)",
                        node: uuid,
                        directory: "/aggregates/\(index)",
                        capacityBytes: 1 << 40
                    )
                )
                draft.also(.put(key: ConfigurationKeys.session(ofNodeNamed: "beta-0\(index + 1)"), value: [1]))
            }
        }
        let controller = StorageController(
            store: store,
            node: try await store.snapshot().nodes[0],
            environment: .system,
            logger: Logger(label: "group", factory: { _ in SwiftLogNoOpLogHandler() }),
            makeService: { _ in preconditionFailure("nothing is served here") }
        )
        return DestinationGroup(Group(controller, nodes), GroupExecutor(controller, waiting: .system))
    }

    private func description() -> SVMDescription {
        let svm = SVMRecord(uuid: Self.svm, name: "svm", state: .running, handleKey: HandleKey(first: 1, second: 2))
        let lif = { (number: UInt64, address: String, length: Int?) in
            LIFRecord(
                uuid: ObjectUUID(high: 7, low: number),
                name: "lif\(number)",
                svm: Self.svm,
                address: address,
                port: 2049,
                prefixLength: length,
                homePort: length.map { _ in "eth1" }
            )
        }
        let lifs = [lif(1, "10.0.1.10", 24), lif(2, "127.0.1.1", nil)]
        return SVMDescription(
            uuid: Self.svm,
            name: "svm",
            clusterName: "alpha",
            clusterUUID: ObjectUUID(high: 4, low: 5),
            protocolVersion: migrateProtocolVersion,
            services: [],
            volumes: [
                VolumeDescription(
                    uuid: ObjectUUID(high: 6, low: 1),
                    name: "one",
                    msid: VolumeMSID(rawValue: 100),
                    sizeBytes: 1 << 30,
                    isSpaceGuaranteed: false,
                    usedBytes: 1 << 20,
                    source: VolumeSource(
                        nodeName: "alpha-01",
                        endpoint: PeerEndpoint(address: "127.0.0.1", port: 1),
                        secret: "secret"
                    )
                )
            ],
            interfaces: lifs.map {
                InterfaceDescription(
                    name: $0.name,
                    address: $0.address,
                    port: $0.port,
                    holder: $0.prefixLength.map { _ in InterfaceHolder(hardwareAddresses: [Self.hardware]) }
                )
            },
            configuration: SVMConfiguration(svm: svm, exportPolicies: [], volumes: [], interfaces: lifs)
        )
    }

    @Test func thePrecheckPlacesEveryInterfaceAndSaysWhy() async throws {
        let found = try await destination(MemoryNodes()).precheck(description(), MigrationOptions())
        #expect(found.findings.isEmpty)
        #expect(
            found.svm.interfaces.map(\.destination) == [
                InterfacePlace(node: Self.nodes[0], port: "eth0"), InterfacePlace(node: Self.nodes[0], port: nil),
            ]
        )
        let decision = try #require(found.decisions.first { $0.name == "lif1" })
        #expect(decision.choice == "beta-01:eth0" && found.decisions.count { $0.kind == .interface } == 2)
        // The node that does not hold the volumes is possible; those that could not be asked say why.
        #expect(decision.options.first { $0.name == "beta-04:eth0" }?.refusal == nil)
        #expect(decision.options.first { $0.name == "beta-02:*" }?.refusal?.contains("cannot be read") == true)
        #expect(decision.options.first { $0.name == "beta-03:*" }?.refusal?.contains("does not answer") == true)
    }

    @Test func whatIsPlacedIsNotPlacedAgain() async throws {
        let nodes = MemoryNodes()
        let destination = try await destination(nodes)
        var svm = try await destination.precheck(description(), MigrationOptions()).svm
        svm.interfaces[0].destination?.port = "eth1"
        nodes.asked.withLock { $0 = [] }
        let again = try await destination.placeInterfaces(of: svm, MigrationOptions())
        #expect(again.interfaces == svm.interfaces && again.decisions.isEmpty)
        #expect(nodes.asked.withLock { $0.isEmpty })
        // A place on a node that is not here any more is chosen anew.
        svm.interfaces[0].destination?.node = ObjectUUID(high: 3, low: 9)
        let anew = try await destination.placeInterfaces(of: svm, MigrationOptions())
        #expect(anew.interfaces[0].destination == InterfacePlace(node: Self.nodes[0], port: "eth0"))
    }

    @Test func choicesAndIPSpacesThatAreNotHereAreFound() async throws {
        let destination = try await destination(MemoryNodes())
        var options = MigrationOptions()
        options.interfaces = [
            InterfaceChoice(interface: "lif1", node: Self.nodes[3], port: "eth0"),
            InterfaceChoice(interface: "lif2", node: Self.nodes[3], port: "eth0"),
            InterfaceChoice(interface: "lif9", node: Self.nodes[3], port: "eth0"),
        ]
        let found = try await destination.precheck(description(), options)
        #expect(found.svm.interfaces[0].destination == InterfacePlace(node: Self.nodes[3], port: "eth0"))
        #expect(found.findings.map(\.message).count { $0.contains("'lif9'") } == 1)
        #expect(found.findings.map(\.message).count { $0.contains("on no port") } == 1)
        var elsewhere = description()
        elsewhere.ipSpaceName = "blue"
        let space = try await destination.precheck(elsewhere, MigrationOptions())
        #expect(space.findings.contains { $0.message.contains("IP space 'blue'") })
        options = MigrationOptions()
        options.ipSpace = IPSpaceRecord.standard.uuid
        #expect(try await destination.precheck(elsewhere, options).findings.isEmpty)
    }

    @Test func withoutChecksNobodyIsAskedFor() async throws {
        let nodes = MemoryNodes()
        var options = MigrationOptions()
        options.skipsNetworkChecks = true
        let found = try await destination(nodes).precheck(description(), options)
        #expect(found.svm.interfaces[0].destination == InterfacePlace(node: Self.nodes[0], port: "eth1"))
        #expect(
            nodes.asked.withLock { steps in
                steps.contains { if case .probePorts(let addresses, _) = $0 { addresses.isEmpty } else { false } }
            }
        )
    }

    @Test func recordsOfOlderVersionsAreRead() throws {
        let interface = try ConfigurationCoding.decode(
            InterfaceDescription.self,
            from: Array(#"{"name":"lif1","address":"10.0.1.10","port":2049}"#.utf8),
            key: "test"
        )
        #expect(interface.holder == nil && interface.destination == nil)
        var json = String(
            decoding: try ConfigurationCoding.encode(GroupAnswer.described([], connectionCount: 3)),
            as: UTF8.self
        )
        #expect(!json.contains("holders"))
        let answer = try ConfigurationCoding.decode(GroupAnswer.self, from: Array(json.utf8), key: "test")
        #expect(answer == .described([], connectionCount: 3))
        json = String(decoding: try ConfigurationCoding.encode(MigrationOptions()), as: UTF8.self)
        #expect(!json.contains("interfaces") && !json.contains("ipSpace") && !json.contains("skipsNetworkChecks"))
        #expect(
            try ConfigurationCoding.decode(MigrationOptions.self, from: Array(json.utf8), key: "test")
                == MigrationOptions()
        )
    }
}
