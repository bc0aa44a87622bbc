import ClusterConfiguration
package import Hummingbird
import Identity
package import StorageControl
import JSON

/// `/api/network/ip/interfaces`: LIFs.
package struct InterfaceRoutes: RouteGroup {
    private let controller: StorageController
    private let others: OtherNodes
    private static let path = "/api/network/ip/interfaces"
    private let portDefault: Int
    private static let keys = ["name", "uuid", "svm.name", "svm.uuid"]

    /// Routes over a controller.
    ///
    /// - Parameter portDefault: the port of a LIF that is made without one.
    package init(controller: StorageController, others: OtherNodes, portDefault: Int) {
        self.controller = controller
        self.others = others
        self.portDefault = portDefault
    }

    /// Adds the routes.
    package func register(on router: Router<BasicRequestContext>) {
        router.rest(.get, "/api/network/ip/interfaces") { call in
            let snapshot = try await controller.store.snapshot()
            let elsewhere = await others.records(Self.path, for: call, controller, snapshot.nodes)
            let records = snapshot.lifs.map { lif in
                elsewhere.record(lif.uuid, of: snapshot.node(serving: lif)) ?? json(lif, snapshot)
            }
            return try RESTCollection.answer(call, records, keys: Self.keys)
        }
        router.rest(.get, "/api/network/ip/interfaces/{uuid}") { call in
            let snapshot = try await controller.store.snapshot()
            let lif = try lifNamed(by: call, snapshot)
            try controller.requireHere(snapshot.node(serving: lif))
            return RESTCollection.answer(call, record: json(lif, snapshot), keys: Self.keys)
        }
        router.rest(.post, "/api/network/ip/interfaces") { try await create($0) }
        router.rest(.patch, "/api/network/ip/interfaces/{uuid}") { try await modify($0) }
        router.rest(.delete, "/api/network/ip/interfaces/{uuid}") { call in
            let snapshot = try await controller.store.snapshot()
            let lif = try lifNamed(by: call, snapshot)
            try controller.requireHere(snapshot.node(serving: lif))
            try await controller.change(as: .user) { draft throws(ManagementError) in try draft.deleteLIF(lif.uuid) }
            return .ok()
        }
    }

    private func create(_ call: RESTCall) async throws -> RESTAnswer {
        try call.requireFields(
            among: [
                "name", "svm.name", "svm.uuid", "ip.address", "ip.netmask", "enabled", "godwit.nfs_port",
                "location.home_node.name", "location.home_node.uuid", "location.home_port.name", "subnet.name",
            ])
        let snapshot = try await controller.store.snapshot()
        let svm = try call.svm(in: snapshot)
        let given = try subnetAddress(call, svm, snapshot)
        let home = try call.node(in: snapshot, "location.home_node") ?? preferredNode(of: svm, snapshot)
        try controller.requireHere(home)
        let address = try call.required(try given?.address ?? call.string("ip.address"), "ip.address")
        let record = LIFRecord(
            uuid: .random(controller.environment),
            name: try call.required(try call.string("name"), "name"),
            svm: svm.uuid,
            address: address,
            port: try port(call) ?? portDefault,
            isEnabled: try call.bool("enabled") ?? true,
            node: home.uuid,
            prefixLength: try given?.prefixLength ?? prefixLength(call, for: address),
            homePort: try call.string("location.home_port.name") ?? given?.ports.first { $0.node == home.uuid }?.name
        )
        if let port = record.currentPort { try await controller.requirePort(port) }
        try await controller.createLIF(record)
        return try .created(
            call,
            at: "/api/network/ip/interfaces/\(record.uuid)",
            json(record, try await controller.store.snapshot())
        )
    }

    private func modify(_ call: RESTCall) async throws -> RESTAnswer {
        try call.requireFields(
            among: [
                "name", "ip.address", "ip.netmask", "enabled", "godwit.nfs_port", "location.home_node.name",
                "location.home_node.uuid", "location.home_port.name",
            ]
        )
        let snapshot = try await controller.store.snapshot()
        let lif = try lifNamed(by: call, snapshot)
        let home = try call.node(in: snapshot, "location.home_node")
        // The node that will have it must be able to bind it.
        try controller.requireHere(home ?? snapshot.node(serving: lif))
        let (name, address) = (try call.string("name"), try call.string("ip.address"))
        let (port, isEnabled) = (try port(call), try call.bool("enabled"))
        let prefixLength = try prefixLength(call, for: address ?? lif.address)
        let homePort = try call.string("location.home_port.name")
        // Before the node that has the address gives it up.
        let newPort = homePort ?? home.flatMap { snapshot.port(for: lif, on: $0.uuid) }
        if let newPort { try await controller.requirePort(newPort) }
        try await controller.modifyLIF(lif.uuid) { record throws(ManagementError) in
            if let address, address != record.address {
                record.address = address
                record.formerNode = nil
                if IPv4Address(address)?.isLoopback == true {
                    (record.prefixLength, record.homePort, record.currentPort) = (nil, nil, nil)
                }
            }
            if let prefixLength { record.prefixLength = prefixLength }
            if let home {
                record.homeNode = home.uuid
                record.move(to: home.uuid, port: snapshot.port(for: record, on: home.uuid))
                record.homePort = record.currentPort
            }
            if let homePort {
                if record.currentNode == record.homeNode { record.currentPort = homePort }
                record.homePort = homePort
            }
            if let name { record.name = name }
            if let port { record.port = port }
            if let isEnabled { record.isEnabled = isEnabled }
        }
        return .ok()
    }

    private func port(_ call: RESTCall) throws(ManagementError) -> Int? {
        try call.int("godwit.nfs_port").map { Int(clamping: $0) }
    }

    /// The length of the subnet's prefix; nil when none is given. For an address of the loopback, whose netmask nobody can
    /// choose, the one that it has is as good as none.
    private func prefixLength(_ call: RESTCall, for address: String) throws(ManagementError) -> Int? {
        let isNumber = if case .int? = call.body[path: "ip.netmask"] { true } else { false }
        guard let text = isNumber ? try call.int("ip.netmask").map(String.init) : try call.string("ip.netmask") else {
            return nil
        }
        guard let length = IPv4Address.prefixLength(ofNetmask: text) else {
            throw ManagementError(
                .invalid,
                "lif_netmask_invalid",
                "'\(text)' is not a netmask",
                remedy: "give the length of the subnet's prefix, such as 24, or 255.255.255.0",
                target: "ip.netmask"
            )
        }
        return IPv4Address(address)?.isLoopback == true ? nil : length
    }

    /// The address that a subnet gives a LIF which names it, and the ports on which it may be; nil when none is named.
    private func subnetAddress(
        _ call: RESTCall,
        _ svm: SVMRecord,
        _ snapshot: ConfigurationSnapshot
    ) throws(ManagementError) -> (address: String, prefixLength: Int, ports: [PortReference])? {
        guard let name = try call.string("subnet.name") else { return nil }
        guard call.body[path: "ip"] == nil else {
            throw ManagementError(
                .invalid,
                "lif_address_twice",
                "both an address and a subnet that gives one are named",
                remedy: "give one of the two",
                target: "subnet.name"
            )
        }
        let found = snapshot.subnets.first { $0.name == name && $0.ipSpace == svm.ipSpace }
        guard let subnet = found, let network = IPv4Network(subnet.network) else {
            throw .notFound("subnet", name, target: "subnet.name")
        }
        guard let address = snapshot.freeAddress(in: subnet) else {
            throw ManagementError(
                .conflict,
                "subnet_full",
                "subnet '\(name)' has no address left that it may give a LIF",
                remedy: "give it more ranges (godwit subnet modify --ip-ranges), or name an address",
                target: "subnet.name"
            )
        }
        return (address, network.prefixLength, snapshot.broadcastDomain(subnet.broadcastDomain)?.ports ?? [])
    }

    private func lifNamed(by call: RESTCall, _ snapshot: ConfigurationSnapshot) throws(ManagementError) -> LIFRecord {
        let uuid = try call.uuid()
        guard let lif = snapshot.lif(uuid) else { throw .notFound("LIF", uuid.description) }
        return lif
    }

    /// The node that holds most of the SVM's volumes, so that most requests need not be forwarded; this one if none does.
    private func preferredNode(of svm: SVMRecord, _ snapshot: ConfigurationSnapshot) -> NodeRecord {
        let holders = snapshot.volumes(of: svm.uuid).compactMap { snapshot.node(holding: $0)?.uuid }
        let counts = Dictionary(holders.map { ($0, 1) }, uniquingKeysWith: +)
        let most = snapshot.nodes.filter { counts[$0.uuid] != nil }.max { counts[$0.uuid]! < counts[$1.uuid]! }
        return most ?? controller.node
    }

    private static func port(_ name: String, _ node: NodeRecord?) -> JSONValue {
        .fields(["name": .string(name), "node": .fields(["name": node.map { .string($0.name) }])])
    }

    private func json(_ lif: LIFRecord, _ snapshot: ConfigurationSnapshot) -> JSONValue {
        let node = snapshot.node(serving: lif)
        let home = lif.homeNode.flatMap { snapshot.node($0) } ?? node
        let state = node?.uuid != controller.node.uuid ? "unknown" : controller.isUp(lif) ? "up" : "down"
        let failure = controller.failure(of: lif.uuid)
        let space = snapshot.ipSpace(snapshot.svm(lif.svm)?.ipSpace)
        let domain = node.flatMap { node in
            lif.currentPort.flatMap { snapshot.broadcastDomain(of: PortReference(node: node.uuid, name: $0)) }
        }
        return .fields([
            "uuid": .text(lif.uuid), "name": .string(lif.name),
            "svm": .reference(snapshot.svm(lif.svm)?.name, lif.svm), "scope": .string("svm"),
            "ipspace": .reference(space?.name, space?.uuid),
            "ip": .fields([
                "address": .string(lif.address), "netmask": .string(String(lif.prefixLength ?? 8)),
                "family": .string("ipv4"),
            ]),
            "enabled": .bool(lif.isEnabled), "state": .string(state),
            "services": .array([.string("data_nfs")]),
            "location": .fields([
                "home_node": .reference(home?.name, home?.uuid), "node": .reference(node?.name, node?.uuid),
                "home_port": lif.homePort.map { Self.port($0, home) },
                "port": lif.currentPort.map { Self.port($0, node) },
                "broadcast_domain": domain.map { .reference($0.name, $0.uuid) },
                "is_home": .bool(home?.uuid == node?.uuid && lif.homePort == lif.currentPort),
            ]),
            "godwit": .fields([
                "nfs_port": .count(lif.port), "failure": failure.map { .string($0.description) },
            ]),
            "_links": .selfLink("/api/network/ip/interfaces/\(lif.uuid)"),
        ])
    }
}
