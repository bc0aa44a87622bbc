import ClusterConfiguration
import Environment
import Hummingbird
import HummingbirdTesting
import Identity
import Logging
import RESTAPI
import StorageControl
import TestKit
import Testing

/// What a change of a network object keeps of what others do between its reading and its commit.
@Suite("Network routes")
struct NetworkRouteTests {
    private static let domain = BroadcastDomainRecord(uuid: ObjectUUID(high: 7, low: 1), name: "lan")
    private static let subnet = SubnetRecord(
        uuid: ObjectUUID(high: 8, low: 1),
        name: "one",
        broadcastDomain: domain.uuid,
        network: "10.0.1.0/24"
    )
    private static let space = IPSpaceRecord(uuid: ObjectUUID(high: 9, low: 1), name: "blue")
    private static let domains = "/api/network/ethernet/broadcast-domains/\(domain.uuid)"
    private static let subnets = "/api/network/ip/subnets/\(subnet.uuid)"
    private static let spaces = "/api/network/ipspaces/\(space.uuid)"

    private let database = InterruptedDatabase()
    private var others: ConfigurationStore { ConfigurationStore(database.database) }

    /// Sends a PATCH, right before whose commit others change something.
    private func patch(
        _ uri: String,
        _ body: String,
        while change: @escaping @Sendable (inout ConfigurationDraft) throws(ManagementError) -> Void = { _ in }
    ) async throws -> HTTPResponse.Status {
        let endpoint = NetworkEndpoint(address: "127.0.0.1", port: 1)
        let store = ConfigurationStore(database)
        let node = try await StorageController.register(
            clusterName: "alpha",
            nodeName: "alpha-01",
            management: endpoint,
            replication: endpoint,
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
            makeService: { _ in preconditionFailure("nothing is served here") }
        )
        let router = Router(context: BasicRequestContext.self)
        NetworkRoutes(controller: controller).register(on: router)
        SubnetRoutes(controller: controller).register(on: router)
        let others = others
        try await Self.populate(others)
        database.interrupt { _ = try await others.change(as: .user, change) }
        return try await Application(router: router).test(.router) { client in
            try await client.execute(uri: uri, method: .patch, body: ByteBuffer(string: body)).status
        }
    }

    private static func populate(_ store: ConfigurationStore) async throws {
        _ = try await store.change(as: .user) { draft throws(ManagementError) in
            try draft.putIPSpace(space)
            try draft.putBroadcastDomain(domain)
            try draft.putSubnet(subnet)
        }
    }

    private static func port(_ name: String, _ snapshot: ConfigurationSnapshot) -> PortReference {
        PortReference(node: snapshot.nodes.first?.uuid ?? ObjectUUID(high: 0, low: 0), name: name)
    }

    @Test func whatOthersChangeMeanwhileStays() async throws {
        let isRenamed = try await patch(Self.domains, #"{"name": "wan"}"#) { draft throws(ManagementError) in
            var record = Self.domain
            (record.mtuBytes, record.ports) = (9000, [Self.port("eth7", draft.snapshot)])
            try draft.putBroadcastDomain(record)
        }
        #expect(isRenamed == .ok)
        let domain = try #require(try await others.snapshot().broadcastDomain(Self.domain.uuid))
        #expect(domain.name == "wan" && domain.mtuBytes == 9000 && domain.ports.map(\.name) == ["eth7"])
        let isMended = try await patch(Self.subnets, #"{"gateway": "10.0.1.1"}"#) { draft throws(ManagementError) in
            var record = Self.subnet
            record.ranges = [AddressRange(start: "10.0.1.10", end: "10.0.1.19")]
            try draft.putSubnet(record)
        }
        #expect(isMended == .ok)
        let subnet = try #require(try await others.snapshot().subnet(Self.subnet.uuid))
        #expect(subnet.gateway == "10.0.1.1" && subnet.ranges.count == 1)
    }

    @Test func whatOthersDeleteMeanwhileDoesNotComeBack() async throws {
        let domain = try await patch(Self.domains, #"{"mtu": 9000}"#) { draft throws(ManagementError) in
            try draft.deleteSubnet(Self.subnet.uuid)
            try draft.deleteBroadcastDomain(Self.domain.uuid)
        }
        #expect(domain == .notFound)
        #expect(try await others.snapshot().broadcastDomains.isEmpty)
        let subnet = try await patch(Self.subnets, #"{"gateway": ""}"#) { draft throws(ManagementError) in
            try draft.deleteSubnet(Self.subnet.uuid)
        }
        #expect(subnet == .notFound)
        #expect(try await others.snapshot().subnets.isEmpty)
        let space = try await patch(Self.spaces, #"{"name": "red"}"#) { draft throws(ManagementError) in
            try draft.deleteIPSpace(Self.space.uuid)
        }
        #expect(space == .notFound)
        #expect(try await others.snapshot().ipSpaces.isEmpty)
    }

    @Test func portsComeAndGoBesideThoseThatOthersChange() async throws {
        let body = """
            {"godwit": {"add_ports": [{"name": "eth1", "node": {"name": "alpha-01"}}],
                        "remove_ports": [{"name": "eth2", "node": {"name": "alpha-01"}}]}}
            """
        let change = { @Sendable (draft: inout ConfigurationDraft) throws(ManagementError) in
            var record = Self.domain
            record.ports = ["eth2", "eth3"].map { Self.port($0, draft.snapshot) }
            try draft.putBroadcastDomain(record)
        }
        // The second time there is nothing to add and nothing to take out.
        for _ in 0..<2 {
            #expect(try await patch(Self.domains, body, while: change) == .ok)
            let domain = try await others.snapshot().broadcastDomain(Self.domain.uuid)
            #expect(domain?.ports.map(\.name) == ["eth1", "eth3"])
        }
        let both = #"{"ports": [], "godwit": {"add_ports": []}}"#
        #expect(try await patch(Self.domains, both) == .badRequest)
    }
}
