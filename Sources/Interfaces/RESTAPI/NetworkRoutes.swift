import ClusterConfiguration
import Environment
package import Hummingbird
import Identity
import JSON
package import StorageControl

/// `/api/network/ethernet/ports`, `/api/network/ethernet/broadcast-domains` and `/api/network/ipspaces`.
package struct NetworkRoutes: RouteGroup {
    private let controller: StorageController
    private static let portsPath = "/api/network/ethernet/ports"
    private static let domainsPath = "/api/network/ethernet/broadcast-domains"
    private static let spacesPath = "/api/network/ipspaces"
    /// Of a change of a broadcast domain: a list of all ports would undo what others change at the same time.
    private static let (addedPorts, removedPorts) = ("godwit.add_ports", "godwit.remove_ports")
    private static let keys = ["name", "uuid"]
    private static let portKeys = ["name", "uuid", "node.name", "node.uuid"]

    /// Routes over a controller.
    package init(controller: StorageController) { self.controller = controller }

    /// Adds the routes.
    package func register(on router: Router<BasicRequestContext>) {
        registerPorts(on: router)
        registerDomains(on: router)
        registerSpaces(on: router)
    }

    // MARK: - Ports

    private func registerPorts(on router: Router<BasicRequestContext>) {
        router.rest(.get, Self.portsPath) { call in
            try RESTCollection.answer(call, try await ports().map(\.json), keys: Self.portKeys)
        }
        router.rest(.get, Self.portsPath + "/{uuid}") { call in
            let uuid = try call.uuid()
            guard let port = try await ports().first(where: { $0.uuid == uuid }) else {
                throw ManagementError.notFound("port", uuid.description)
            }
            return RESTCollection.answer(call, record: port.json, keys: Self.portKeys)
        }
    }

    /// The ports of all nodes as they told them last; those of this node as they are.
    private func ports() async throws -> [(uuid: ObjectUUID, json: JSONValue)] {
        try await controller.reportPorts()
        let snapshot = try await controller.store.snapshot()
        let (reported, up) = (try await controller.reportedPorts(), try await controller.namesOfNodesUp())
        return snapshot.nodes.flatMap { node in
            (reported[node.uuid] ?? []).map { port in
                (port.uuid, Self.json(port, node, snapshot, isNodeUp: up.contains(node.name)))
            }
        }
    }

    private static func json(
        _ port: NodePort,
        _ node: NodeRecord,
        _ snapshot: ConfigurationSnapshot,
        isNodeUp: Bool
    ) -> JSONValue {
        let domain = snapshot.broadcastDomain(of: PortReference(node: node.uuid, name: port.name))
        let type = port.kind == "vlan" ? "vlan" : port.kind == "bond" ? "lag" : "physical"
        let isUp = isNodeUp && port.obstacle == nil
        let vlan = port.vlan.map { tag in
            JSONValue.fields([
                "tag": .count(tag),
                "base_port": port.parent.map {
                    .fields(["name": .string($0), "node": .fields(["name": .string(node.name)])])
                },
            ])
        }
        let obstacle = isNodeUp ? port.obstacle : "its node is down"
        return .fields([
            "uuid": .text(port.uuid), "name": .string(port.name), "node": .reference(node.name, node.uuid),
            "type": .string(type), "state": .string(isUp ? "up" : "down"), "enabled": .bool(port.isUp),
            "mtu": .count(port.mtuBytes), "speed": port.speedMegabitsPerSecond.map { .count($0) },
            "mac_address": .string(port.hardwareAddress), "vlan": vlan,
            "broadcast_domain": domain.map { domain in
                .fields([
                    "name": .string(domain.name), "uuid": .text(domain.uuid),
                    "ipspace": .fields(["name": snapshot.ipSpace(domain.ipSpace).map { .string($0.name) }]),
                ])
            },
            "godwit": .fields([
                "kind": port.kind.map { .string($0) }, "addresses": .array(port.addresses.map { .string($0) }),
                "obstacle": obstacle.map { .string($0) },
                "lifs": .count(snapshot.lifs.count { $0.currentNode == node.uuid && $0.currentPort == port.name }),
            ]),
            "_links": .selfLink("\(portsPath)/\(port.uuid)"),
        ])
    }

    // MARK: - Broadcast domains

    private func registerDomains(on router: Router<BasicRequestContext>) {
        router.rest(.get, Self.domainsPath) { call in
            let snapshot = try await controller.store.snapshot()
            let records = snapshot.broadcastDomains.map { Self.json($0, snapshot) }
            return try RESTCollection.answer(call, records, keys: Self.keys)
        }
        router.rest(.get, Self.domainsPath + "/{uuid}") { call in
            let snapshot = try await controller.store.snapshot()
            let record = Self.json(try Self.domain(call, snapshot), snapshot)
            return RESTCollection.answer(call, record: record, keys: Self.keys)
        }
        router.rest(.post, Self.domainsPath) { call in
            try call.requireFields(
                among: ["name", "mtu", "ipspace.name", "ipspace.uuid", "ports.name", "ports.node.name"]
            )
            let snapshot = try await controller.store.snapshot()
            let record = BroadcastDomainRecord(
                uuid: .random(controller.environment),
                name: try call.required(try call.string("name"), "name"),
                ipSpace: try call.ipSpace(in: snapshot)?.reference,
                mtuBytes: Int(clamping: try call.int("mtu") ?? 1500),
                ports: try Self.ports(call, snapshot) ?? []
            )
            try await controller.change(as: .user) { draft throws(ManagementError) in
                try draft.putBroadcastDomain(record)
            }
            return try .created(
                call,
                at: "\(Self.domainsPath)/\(record.uuid)",
                Self.json(record, try await controller.store.snapshot())
            )
        }
        router.rest(.patch, Self.domainsPath + "/{uuid}") { call in
            try call.requireFields(
                among: [
                    "name", "mtu", "ipspace.name", "ipspace.uuid", "ports", "ports.name", "ports.node.name",
                    Self.addedPorts, Self.removedPorts,
                ]
            )
            try await controller.modifyBroadcastDomain(try call.uuid()) { record, snapshot throws(ManagementError) in
                if let name = try call.string("name") { record.name = name }
                if let mtu = try call.int("mtu") { record.mtuBytes = Int(clamping: mtu) }
                if let space = try call.ipSpace(in: snapshot) { record.ipSpace = space.reference }
                try Self.changePorts(of: &record, call, snapshot)
            }
            return .ok()
        }
        router.rest(.delete, Self.domainsPath + "/{uuid}") { call in
            let domain = try Self.domain(call, try await controller.store.snapshot())
            try await controller.change(as: .user) { draft throws(ManagementError) in
                try draft.deleteBroadcastDomain(domain.uuid)
            }
            return .ok()
        }
    }

    private static func domain(
        _ call: RESTCall,
        _ snapshot: ConfigurationSnapshot
    ) throws(ManagementError) -> BroadcastDomainRecord {
        let uuid = try call.uuid()
        guard let domain = snapshot.broadcastDomain(uuid) else {
            throw .notFound("broadcast domain", uuid.description)
        }
        return domain
    }

    /// Gives a domain the `ports` of a body, all of them; or lets single ones come to those that it has now, and go. Done
    /// again, it changes nothing.
    private static func changePorts(
        of record: inout BroadcastDomainRecord,
        _ call: RESTCall,
        _ snapshot: ConfigurationSnapshot
    ) throws(ManagementError) {
        let (all, added) = (try ports(call, snapshot), try ports(call, snapshot, addedPorts))
        let removed = try ports(call, snapshot, removedPorts)
        if let all {
            guard added == nil && removed == nil else {
                throw ManagementError(
                    .invalid,
                    "ports_twice",
                    "both all ports and single ones that come or go are given",
                    remedy: "give either 'ports', or '\(addedPorts)' and '\(removedPorts)'",
                    target: "ports"
                )
            }
            record.ports = all
        }
        if let removed { record.ports.removeAll { removed.contains($0) } }
        for port in added ?? [] where !record.ports.contains(port) { record.ports.append(port) }
    }

    /// The ports in a list of a body; nil when it has none.
    private static func ports(
        _ call: RESTCall,
        _ snapshot: ConfigurationSnapshot,
        _ field: String = "ports"
    ) throws(ManagementError) -> [PortReference]? {
        guard let elements = try call.elements(field) else { return nil }
        var ports: [PortReference] = []
        for element in elements {
            let name = try call.required(element[path: "name"]?.plain, "\(field).name")
            let node = try call.required(element[path: "node.name"]?.plain, "\(field).node.name")
            guard let found = snapshot.node(named: node) else {
                throw .notFound("node", node, target: "\(field).node.name")
            }
            ports.append(PortReference(node: found.uuid, name: name))
        }
        return ports
    }

    private static func json(_ domain: BroadcastDomainRecord, _ snapshot: ConfigurationSnapshot) -> JSONValue {
        let space = snapshot.ipSpace(domain.ipSpace)
        let ports = domain.ports.map { port in
            JSONValue.fields([
                "name": .string(port.name), "node": .reference(snapshot.node(port.node)?.name, port.node),
            ])
        }
        return .fields([
            "uuid": .text(domain.uuid), "name": .string(domain.name), "mtu": .count(domain.mtuBytes),
            "ipspace": .reference(space?.name, space?.uuid), "ports": .array(ports),
            "_links": .selfLink("\(domainsPath)/\(domain.uuid)"),
        ])
    }

    // MARK: - IP spaces

    private func registerSpaces(on router: Router<BasicRequestContext>) {
        router.rest(.get, Self.spacesPath) { call in
            let spaces = [.standard] + (try await controller.store.snapshot()).ipSpaces
            return try RESTCollection.answer(call, spaces.map(Self.json), keys: Self.keys)
        }
        router.rest(.get, Self.spacesPath + "/{uuid}") { call in
            let space = try Self.space(call, try await controller.store.snapshot())
            return RESTCollection.answer(call, record: Self.json(space), keys: Self.keys)
        }
        router.rest(.post, Self.spacesPath) { call in
            try call.requireFields(among: ["name"])
            let record = IPSpaceRecord(
                uuid: .random(controller.environment),
                name: try call.required(try call.string("name"), "name")
            )
            try await controller.change(as: .user) { draft throws(ManagementError) in try draft.putIPSpace(record) }
            return try .created(call, at: "\(Self.spacesPath)/\(record.uuid)", Self.json(record))
        }
        router.rest(.patch, Self.spacesPath + "/{uuid}") { call in
            try call.requireFields(among: ["name"])
            let name = try call.required(try call.string("name"), "name")
            try await controller.modifyIPSpace(try call.uuid()) { $0.name = name }
            return .ok()
        }
        router.rest(.delete, Self.spacesPath + "/{uuid}") { call in
            let space = try Self.space(call, try await controller.store.snapshot())
            try await controller.change(as: .user) { draft throws(ManagementError) in
                try draft.deleteIPSpace(space.uuid)
            }
            return .ok()
        }
    }

    private static func space(
        _ call: RESTCall,
        _ snapshot: ConfigurationSnapshot
    ) throws(ManagementError) -> IPSpaceRecord {
        let uuid = try call.uuid()
        guard let space = snapshot.ipSpace(uuid) else { throw .notFound("IP space", uuid.description) }
        return space
    }

    private static func json(_ space: IPSpaceRecord) -> JSONValue {
        .fields([
            "uuid": .text(space.uuid), "name": .string(space.name),
            "_links": .selfLink("\(spacesPath)/\(space.uuid)"),
        ])
    }
}
