import ClusterConfiguration
import Identity
import ReplicatedDatabase
import Testing

@Suite("IP spaces, broadcast domains and subnets")
struct NetworkObjectTests {
    private let database = InMemoryDatabase()
    private var store: ConfigurationStore { ConfigurationStore(database) }
    private static let nodes = ThreeNodes.make(partners: ["b": ["a"]])
    private static let (a, b, c) = (nodes[0].uuid, nodes[1].uuid, nodes[2].uuid)
    private static let svm = ThreeNodes.svm
    private static let space = IPSpaceRecord(uuid: ObjectUUID(high: 9, low: 1), name: "blue")

    private func domain(
        _ number: UInt64,
        _ ports: [PortReference] = [],
        edit: (inout BroadcastDomainRecord) -> Void = { _ in }
    ) -> BroadcastDomainRecord {
        var record = BroadcastDomainRecord(
            uuid: ObjectUUID(high: 7, low: number),
            name: "domain\(number)",
            ports: ports
        )
        edit(&record)
        return record
    }

    private func subnet(
        _ number: UInt64,
        _ network: String,
        edit: (inout SubnetRecord) -> Void = { _ in }
    ) -> SubnetRecord {
        var record = SubnetRecord(
            uuid: ObjectUUID(high: 8, low: number),
            name: "subnet\(number)",
            broadcastDomain: ObjectUUID(high: 7, low: 1),
            network: network
        )
        edit(&record)
        return record
    }

    private func lif(edit: (inout LIFRecord) -> Void = { _ in }) -> LIFRecord {
        var record = LIFRecord(
            uuid: ObjectUUID(high: 5, low: 1),
            name: "lif1",
            svm: Self.svm,
            address: "10.0.1.10",
            port: 2049,
            node: Self.a,
            prefixLength: 24,
            homePort: "eth1"
        )
        edit(&record)
        return record
    }

    private func populate() async throws {
        _ = try await store.change(as: .user) { draft throws(ManagementError) in
            try ThreeNodes.put(Self.nodes, in: &draft)
            try draft.putIPSpace(Self.space)
        }
    }

    private func code(_ body: (inout ConfigurationDraft) throws(ManagementError) -> Void) async -> String? {
        await store.refusal(body)
    }

    private func code(_ record: BroadcastDomainRecord) async -> String? {
        await code { draft throws(ManagementError) in try draft.putBroadcastDomain(record) }
    }

    private func code(_ record: SubnetRecord) async -> String? {
        await code { draft throws(ManagementError) in try draft.putSubnet(record) }
    }

    private func code(_ record: LIFRecord) async -> String? {
        await code { draft throws(ManagementError) in try draft.putLIF(record) }
    }

    @Test func recordsComeBackAsTheyWere() async throws {
        try await populate()
        let (one, net) = (domain(1, [PortReference(node: Self.a, name: "eth1")]), subnet(1, "10.0.1.0/24"))
        #expect(await code(one) == nil)
        #expect(await code(net) == nil)
        let snapshot = try await ConfigurationStore(database).snapshot()
        #expect(snapshot.broadcastDomains == [one] && snapshot.subnets == [net] && snapshot.ipSpaces == [Self.space])
        #expect(snapshot.ipSpace(nil) == .standard && snapshot.ipSpace(named: "Default") == .standard)
        #expect(snapshot.subnet(containing: "10.0.1.10", in: nil) == net)
        #expect(snapshot.subnet(containing: "10.0.1.10", in: Self.space.uuid) == nil)
        #expect(snapshot.subnet(containing: "10.0.2.10", in: nil) == nil)
    }

    @Test func theStandardIPSpaceStaysAndUsedOnesToo() async throws {
        try await populate()
        let standard = IPSpaceRecord.standard
        #expect(await code { draft throws(ManagementError) in try draft.putIPSpace(standard) } == "ipspace_standard")
        #expect(
            await code { draft throws(ManagementError) in try draft.deleteIPSpace(standard.uuid) } == "ipspace_standard"
        )
        let second = IPSpaceRecord(uuid: ObjectUUID(high: 9, low: 2), name: "default")
        #expect(await code { draft throws(ManagementError) in try draft.putIPSpace(second) } == "ip_space_exists")
        #expect(await code(domain(1) { $0.ipSpace = Self.space.uuid }) == nil)
        #expect(
            await code { draft throws(ManagementError) in try draft.deleteIPSpace(Self.space.uuid) } == "ipspace_in_use"
        )
    }

    @Test func aPortIsInOneDomain() async throws {
        try await populate()
        let port = PortReference(node: Self.a, name: "eth1")
        #expect(await code(domain(1, [port])) == nil)
        #expect(await code(domain(2, [port])) == "port_in_broadcast_domain")
        #expect(
            await code(
                domain(3, [PortReference(node: Self.b, name: "eth1"), PortReference(node: Self.b, name: "eth1")])
            )
                == "port_in_broadcast_domain"
        )
        #expect(await code(domain(1, [port, PortReference(node: Self.b, name: "eth1")])) == nil)
        #expect(
            await code(domain(2, [PortReference(node: ObjectUUID(high: 3, low: 9), name: "eth1")])) == "node_not_found"
        )
        #expect(await code(domain(2, [PortReference(node: Self.a, name: "eth/1")])) == "port_name_invalid")
        #expect(await code(domain(2) { $0.mtuBytes = 20 }) == "mtu_invalid")
        #expect(await code(domain(2) { $0.name = "domain1" }) == "broadcast_domain_exists")
        #expect(await code(domain(2) { ($0.name, $0.ipSpace) = ("domain1", Self.space.uuid) }) == nil)
        // The node leaves, and its ports with it.
        #expect(await code { draft throws(ManagementError) in try draft.deleteNode(Self.b) } == nil)
        #expect(try await store.snapshot().broadcastDomain(ObjectUUID(high: 7, low: 1))?.ports == [port])
    }

    @Test func subnetsOfAnIPSpaceHaveNoAddressInCommon() async throws {
        try await populate()
        #expect(await code(subnet(1, "10.0.1.0/24")) == "broadcast_domain_not_found")
        #expect(await code(domain(1)) == nil)
        #expect(await code(domain(2) { $0.ipSpace = Self.space.uuid }) == nil)
        #expect(await code(subnet(1, "10.0.1.0/24")) == nil)
        #expect(await code(subnet(2, "10.0.0.0/16")) == "subnet_overlaps")
        #expect(await code(subnet(2, "10.0.1.128/25")) == "subnet_overlaps")
        #expect(await code(subnet(2, "10.0.2.0/24") { $0.ipSpace = Self.space.uuid }) == "subnet_ipspace_differs")
        let elsewhere = subnet(2, "10.0.0.0/16") {
            ($0.ipSpace, $0.broadcastDomain) = (Self.space.uuid, ObjectUUID(high: 7, low: 2))
        }
        #expect(await code(elsewhere) == nil)
        #expect(
            await code { draft throws(ManagementError) in try draft.deleteBroadcastDomain(ObjectUUID(high: 7, low: 1)) }
                == "broadcast_domain_in_use"
        )
        for bad in ["10.0.1.1/24", "10.0.1.0", "224.0.0.0/24", "127.0.0.0/8", "x/24", "10.0.0.0/33", "10.0.0.0/32"] {
            #expect(await code(subnet(3, bad)) == "subnet_invalid")
        }
    }

    @Test func routersAndRangesAreInTheirSubnet() async throws {
        try await populate()
        #expect(await code(domain(1)) == nil)
        for bad in ["10.0.2.1", "10.0.1.0", "10.0.1.255", "router"] {
            #expect(await code(subnet(1, "10.0.1.0/24") { $0.gateway = bad }) == "address_outside_subnet")
        }
        let ranges = { (list: [(String, String)]) in
            subnet(1, "10.0.1.0/24") { $0.ranges = list.map { AddressRange(start: $0.0, end: $0.1) } }
        }
        #expect(await code(ranges([("10.0.1.20", "10.0.1.10")])) == "address_outside_subnet")
        #expect(await code(ranges([("10.0.1.20", "10.0.2.10")])) == "address_outside_subnet")
        #expect(await code(ranges([("10.0.1.10", "10.0.1.20"), ("10.0.1.20", "10.0.1.30")])) == "ranges_overlap")
        #expect(await code(ranges([("10.0.1.30", "10.0.1.30"), ("10.0.1.9", "10.0.1.10")])) == nil)
        #expect(await code(domain(1, [PortReference(node: Self.a, name: "eth1")])) == nil)
        var snapshot = try await store.snapshot()
        let made = try #require(snapshot.subnets.first)
        #expect(made.ranges.map(\.start) == ["10.0.1.9", "10.0.1.30"])
        #expect(snapshot.freeAddress(in: made) == "10.0.1.9")
        #expect(await code(lif { $0.address = "10.0.1.9" }) == nil)
        snapshot = try await store.snapshot()
        #expect(snapshot.freeAddress(in: made) == "10.0.1.10")
        #expect(snapshot.addressCounts(of: made).total == 3 && snapshot.addressCounts(of: made).used == 1)
        #expect(await code { draft throws(ManagementError) in try draft.deleteSubnet(made.uuid) } == "subnet_in_use")
        var moved = made
        (moved.network, moved.ranges) = ("10.0.3.0/24", [])
        #expect(await code(moved) == "subnet_in_use")
    }

    @Test func aLIFIsOnAPortOfTheIPSpaceOfItsSVM() async throws {
        try await populate()
        #expect(
            await code(domain(1, [PortReference(node: Self.a, name: "eth2")]) { $0.ipSpace = Self.space.uuid }) == nil
        )
        #expect(await code(lif { ($0.homePort, $0.currentPort) = ("eth2", "eth2") }) == "port_of_other_ipspace")
        #expect(await code(lif()) == nil)
        let occupied = domain(1, [PortReference(node: Self.a, name: "eth1")]) { $0.ipSpace = Self.space.uuid }
        #expect(await code(occupied) == "port_of_other_ipspace")
        let moved = try #require(try await store.snapshot().svm(Self.svm))
        var other = moved
        other.ipSpace = Self.space.uuid
        let changed = other
        #expect(await code { draft throws(ManagementError) in try draft.putSVM(changed) } == "svm_has_lifs")
        #expect(
            await code { draft throws(ManagementError) in
                try draft.deleteLIF(ObjectUUID(high: 5, low: 1))
                try draft.putSVM(changed)
            } == nil
        )
        #expect(await code(lif()) == "port_of_other_ipspace")
        #expect(await code(lif { ($0.homePort, $0.currentPort) = ("eth2", "eth2") }) == nil)
    }

    /// A port in no broadcast domain is of the IP space `Default`: LIFs of others need theirs to stay in one.
    @Test func aPortStaysInTheIPSpaceOfTheLIFsOnIt() async throws {
        try await populate()
        let ports = ["eth1", "eth2"].map { PortReference(node: Self.a, name: $0) }
        let whole = domain(1, ports) { $0.ipSpace = Self.space.uuid }
        let blue = SVMRecord(
            uuid: ObjectUUID(high: 2, low: 2),
            name: "blue",
            state: .running,
            handleKey: HandleKey(first: 1, second: 2),
            ipSpace: Self.space.uuid
        )
        let away = lif { lif in
            (lif.svm, lif.homePort, lif.currentPort) = (blue.uuid, "eth2", "eth2")
        }
        #expect(await code(whole) == nil)
        #expect(await code { draft throws(ManagementError) in try draft.putSVM(blue) } == nil)
        #expect(await code(away) == nil)
        let delete = { (draft: inout ConfigurationDraft) throws(ManagementError) in
            try draft.deleteBroadcastDomain(whole.uuid)
        }
        let without = { (name: String) in
            domain(1, ports.filter { $0.name != name }) { $0.ipSpace = Self.space.uuid }
        }
        #expect(await code(without("eth2")) == "port_in_use")
        #expect(await code(delete) == "broadcast_domain_in_use")
        do {
            _ = try await store.change(as: .user, delete)
        } catch {
            #expect(error.message.contains("LIF 'lif1' of SVM 'blue'"))
        }
        #expect(await code(without("eth1")) == nil)
        #expect(await code(whole) == nil)
        // The port that it is on counts as well as its home.
        var other = away
        other.currentPort = "eth1"
        #expect(await code(other) == nil)
        for name in ["eth1", "eth2"] { #expect(await code(without(name)) == "port_in_use") }
        #expect(await code { draft throws(ManagementError) in try draft.deleteLIF(away.uuid) } == nil)
        #expect(await code(delete) == nil)
    }

    private func home(_ node: ObjectUUID, _ port: String, _ address: String = "10.0.1.10") -> LIFRecord {
        lif { lif in
            (lif.homeNode, lif.currentNode, lif.address) = (node, node, address)
            (lif.homePort, lif.currentPort) = (port, port)
        }
    }

    @Test func aLIFIsOnAPortOfTheBroadcastDomainOfItsSubnet() async throws {
        try await populate()
        let (lan, wan) = (PortReference(node: Self.a, name: "eth1"), PortReference(node: Self.b, name: "eth1"))
        #expect(await code(domain(1, [lan])) == nil)
        #expect(await code(domain(2, [wan])) == nil)
        #expect(await code(subnet(1, "10.0.1.0/24")) == nil)
        // When it is made, and when it is changed.
        #expect(await code(home(Self.b, "eth1")) == "port_of_other_broadcast_domain")
        #expect(await code(home(Self.a, "eth1")) == nil)
        #expect(await code(home(Self.b, "eth1")) == "port_of_other_broadcast_domain")
        do {
            let other = home(Self.b, "eth1")
            _ = try await store.change(as: .user) { draft throws(ManagementError) in try draft.putLIF(other) }
        } catch {
            #expect(error.message.contains("'b:eth1'") && error.message.contains("subnet 'subnet1' has 10.0.1.10"))
            #expect(error.remedy.contains("a:eth1"))
        }
        // A port in no domain may be on any network; with an address of its own a LIF may go anywhere.
        #expect(await code(home(Self.b, "eth2")) == nil)
        #expect(await code(home(Self.b, "eth1", "10.0.2.10")) == nil)
        // What was said of the networks later is no obstacle to what leaves the LIF where it is, but to going back there.
        #expect(await code(subnet(2, "10.0.2.0/24")) == nil)
        var renamed = home(Self.b, "eth1", "10.0.2.10")
        renamed.name = "lif2"
        #expect(await code(renamed) == nil)
        #expect(await code(home(Self.a, "eth1", "10.0.2.10")) == nil)
        #expect(await code(home(Self.b, "eth1", "10.0.2.10")) == "port_of_other_broadcast_domain")
        // A migrate has heard where the network is.
        let heard = home(Self.b, "eth1", "10.0.2.10")
        _ = try await store.change(as: .operation(ObjectUUID(high: 1, low: 1))) { draft throws(ManagementError) in
            try draft.putLIF(heard)
        }
    }

    @Test func withoutASubnetALIFStaysOnTheEthernetThatItWasOn() async throws {
        try await populate()
        #expect(await code(domain(1, [PortReference(node: Self.a, name: "eth1")])) == nil)
        #expect(await code(domain(2, [PortReference(node: Self.b, name: "eth1")])) == nil)
        #expect(await code(home(Self.a, "eth1")) == nil)
        // To the node alone, whose port of that name is on another network; nothing else is known of it.
        #expect(await code(home(Self.b, "eth1")) == "port_of_other_broadcast_domain")
        #expect(await code(home(Self.c, "eth1")) == nil)
        #expect(await code(home(Self.b, "eth1")) == nil)
    }

    /// Where the LIF goes when node a is down, and to which port: that of the first who has one.
    private func failover() async throws -> String? {
        let snapshot = try await store.snapshot()
        for node in Self.nodes.dropFirst() {
            let plan = FailoverPlan(for: node.uuid, down: [Self.a], in: snapshot)
            if let lif = plan.lifs.first { return "\(node.name):\(snapshot.port(for: lif, on: node.uuid) ?? "")" }
        }
        return nil
    }

    @Test func aLIFFailsOverToAPortOfItsBroadcastDomain() async throws {
        try await populate()
        #expect(await code(lif()) == nil)
        // As long as nothing is said of the port: to the partner, the port of the same name.
        #expect(try await failover() == "b:eth1")
        let home = PortReference(node: Self.a, name: "eth1")
        #expect(await code(domain(1, [home])) == nil)
        #expect(try await failover() == "b:eth1")
        #expect(await code(domain(1, [home, PortReference(node: Self.b, name: "eth7")])) == nil)
        #expect(try await failover() == "b:eth7")
        // The partner's port of that name is on another network: somebody else takes the LIF.
        #expect(await code(domain(2, [PortReference(node: Self.b, name: "eth1")])) == nil)
        #expect(await code(domain(1, [home, PortReference(node: Self.c, name: "eth3")])) == nil)
        #expect(try await failover() == "c:eth3")
        // Nobody has a port in its domain.
        #expect(await code(domain(1, [home])) == nil)
        let onC = domain(2, [PortReference(node: Self.b, name: "eth1"), PortReference(node: Self.c, name: "eth1")])
        #expect(await code(onC) == nil)
        #expect(try await failover() == nil)
        // Nor is it put onto another network by order.
        let snapshot = try await store.snapshot()
        let (node, partner) = (try #require(snapshot.node(Self.a)), try #require(snapshot.node(Self.b)))
        let ordered = await code { draft throws(ManagementError) in try draft.vacate(node, for: partner) }
        #expect(ordered == "lif_without_port")
    }
}
