import ClusterConfiguration
import Environment
import GroupControl
import Identity
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

    /// Nodes of which the second one is of an older version, and the third does not answer when it is asked for its ports.
    private static func memoryNodes() -> MemoryNodes {
        MemoryNodes { call, uuid in
            switch call.step {
            case .survey:
                return GroupReply(.survey(try survey(of: uuid)))
            case .probePorts where uuid == nodes[1]:
                throw MigrateError(.wrongVersion, "the request cannot be read", remedy: "run the same version")
            case .probePorts where uuid == nodes[2]:
                throw MigrateError(.nodeAway, "it does not answer", remedy: "")
            case .probePorts(let addresses, _):
                let heard = addresses.contains("10.0.1.10") ? ["10.0.1.10": [hardware]] : [:]
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

    /// What a node could take; the first one has by far the most room.
    private static func survey(of node: ObjectUUID) throws -> NodeSurvey {
        let bytes: UInt64 = node.low == 1 ? 1 << 40 : 1 << 30
        let room = #"{"aggregate":"\#(ObjectUUID(high: 5, low: node.low))","availableBytes":\#(bytes)}"#
        let json = #"{"rooms":[\#(room)],"obstacles":{},"ports":{},"present":[]}"#
        return try ConfigurationCoding.decode(NodeSurvey.self, from: Array(json.utf8), key: "test")
    }

    private func destination(_ nodes: MemoryNodes) async throws -> DestinationGroup {
        let controller = try await MemoryCluster.make("beta", of: Self.nodes, areUp: true, in: InMemoryDatabase())
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
        var description = MemoryCluster.description(of: svm)
        description.volumes = [
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
        ]
        description.interfaces = lifs.map {
            InterfaceDescription(
                name: $0.name,
                address: $0.address,
                port: $0.port,
                holder: $0.prefixLength.map { _ in InterfaceHolder(hardwareAddresses: [Self.hardware]) }
            )
        }
        description.configuration.interfaces = lifs
        return description
    }

    @Test func thePrecheckPlacesEveryInterfaceAndSaysWhy() async throws {
        let found = try await destination(Self.memoryNodes()).precheck(description(), MigrationOptions())
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
        let nodes = Self.memoryNodes()
        let destination = try await destination(nodes)
        var svm = try await destination.precheck(description(), MigrationOptions()).svm
        svm.interfaces[0].destination?.port = "eth1"
        nodes.calls.withLock { $0 = [] }
        let again = try await destination.placeInterfaces(of: svm, MigrationOptions())
        #expect(again.interfaces == svm.interfaces && again.decisions.isEmpty)
        #expect(nodes.steps.isEmpty)
        // A place on a node that is not here any more is chosen anew.
        svm.interfaces[0].destination?.node = ObjectUUID(high: 3, low: 9)
        let anew = try await destination.placeInterfaces(of: svm, MigrationOptions())
        #expect(anew.interfaces[0].destination == InterfacePlace(node: Self.nodes[0], port: "eth0"))
    }

    @Test func choicesAndIPSpacesThatAreNotHereAreFound() async throws {
        let destination = try await destination(Self.memoryNodes())
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
        let nodes = Self.memoryNodes()
        var options = MigrationOptions()
        options.skipsNetworkChecks = true
        let found = try await destination(nodes).precheck(description(), options)
        #expect(found.svm.interfaces[0].destination == InterfacePlace(node: Self.nodes[0], port: "eth1"))
        #expect(
            nodes.steps.contains { if case .probePorts(let addresses, _) = $0 { addresses.isEmpty } else { false } }
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
