import ClusterConfiguration
package import Hummingbird
import Identity
import JSON
package import StorageControl

/// `/api/cluster/nodes`: the nodes of the cluster, and what they take over from each other.
package struct NodeRoutes: RouteGroup {
    private let controller: StorageController
    private static let path = "/api/cluster/nodes"
    private static let keys = ["name", "uuid"]

    /// Routes over a controller.
    package init(controller: StorageController) { self.controller = controller }

    /// Adds the routes.
    package func register(on router: Router<BasicRequestContext>) {
        router.rest(.get, Self.path) { call in
            let up = try await controller.namesOfNodesUp()
            let snapshot = try await controller.store.snapshot()
            let nodes = snapshot.nodes.map { Self.json($0, snapshot, isUp: up.contains($0.name)) }
            return try RESTCollection.answer(call, nodes, keys: Self.keys)
        }
        router.rest(.get, Self.path + "/{uuid}") { call in
            let snapshot = try await controller.store.snapshot()
            let node = try Self.node(call, snapshot)
            let isUp = try await controller.namesOfNodesUp().contains(node.name)
            return RESTCollection.answer(call, record: Self.json(node, snapshot, isUp: isUp), keys: Self.keys)
        }
        router.rest(.patch, Self.path + "/{uuid}") { call in
            try call.requireFields(among: ["partner.name", "partner.uuid"])
            let snapshot = try await controller.store.snapshot()
            let node = try Self.node(call, snapshot)
            let count: Int
            switch call.query("action") {
            case "takeover":
                let named = try call.node(in: snapshot, "partner")
                count = try await controller.vacate(node, for: try named ?? Self.onlyPartner(of: node, snapshot))
            case "giveback": count = try await controller.giveBack(to: node)
            case let other:
                throw ManagementError(
                    .invalid,
                    "value_invalid",
                    other.map { "'\($0)' is not an action of a node" } ?? "the query field 'action' is missing",
                    remedy: "give action=takeover or action=giveback",
                    target: "action"
                )
            }
            return .ok(.fields(["num_records": .count(count)]))
        }
        router.rest(.delete, Self.path + "/{uuid}") { call in
            let snapshot = try await controller.store.snapshot()
            try await controller.removeNode(try Self.node(call, snapshot))
            return .ok()
        }
    }

    private static func node(_ call: RESTCall, _ snapshot: ConfigurationSnapshot) throws(ManagementError) -> NodeRecord
    {
        let uuid = try call.uuid()
        guard let node = snapshot.node(uuid) else { throw .notFound("node", uuid.description) }
        return node
    }

    private static func onlyPartner(
        of node: NodeRecord,
        _ snapshot: ConfigurationSnapshot
    ) throws(ManagementError) -> NodeRecord {
        let partners = FailoverPlan.partners(of: node, snapshot)
        guard partners.count == 1 else {
            throw ManagementError(
                .invalid,
                "field_missing",
                "\(partners.count) nodes take over the aggregates of node '\(node.name)', and none is named",
                remedy: partners.isEmpty
                    ? "name '\(node.name)' among the 'partners' in the configuration file of another node"
                    : "name one of: \(partners.map(\.name).joined(separator: ", "))",
                target: "partner"
            )
        }
        return partners[0]
    }

    private static func json(_ node: NodeRecord, _ snapshot: ConfigurationSnapshot, isUp: Bool) -> JSONValue {
        let partners = FailoverPlan.partners(of: node, snapshot)
        let away = snapshot.aggregates.filter { $0.home == node.uuid && $0.node != node.uuid }
        return .fields([
            "uuid": .text(node.uuid), "name": .string(node.name), "state": .string(isUp ? "up" : "down"),
            "membership": .string("member"),
            "version": ProductVersion.json,
            "ha": .fields([
                "enabled": .bool(!partners.isEmpty),
                "partners": .array(partners.map { .reference($0.name, $0.uuid) }),
                "takeover": .fields(["state": .string(away.isEmpty ? "not_attempted" : "in_takeover")]),
            ]),
            "management_interfaces": .array([.fields(["ip": .fields(["address": .string(node.management.address)])])]),
            "godwit": .fields([
                "management_endpoint": .text(node.management), "replication_endpoint": .text(node.replication),
                "interconnect_endpoint": node.interconnect.map { .text($0) },
                "partners": .array(partners.map { .string($0.name) }),
                "aggregates_away": .array(away.map { .string($0.name) }),
            ]),
            "_links": .selfLink("\(path)/\(node.uuid)"),
        ])
    }
}
