import ClusterConfiguration
package import Hummingbird
import Identity
package import StorageControl
import JSON

/// `/api/network/ip/interfaces`: LIFs.
package struct InterfaceRoutes: RouteGroup {
    private let controller: StorageController
    private let portDefault: Int
    private static let keys = ["name", "uuid", "svm.name", "svm.uuid"]

    /// Routes over a controller.
    ///
    /// - Parameter portDefault: the port of a LIF that is made without one.
    package init(controller: StorageController, portDefault: Int) {
        self.controller = controller
        self.portDefault = portDefault
    }

    /// Adds the routes.
    package func register(on router: Router<BasicRequestContext>) {
        router.rest(.get, "/api/network/ip/interfaces") { call in
            let snapshot = try await controller.store.snapshot()
            return try RESTCollection.answer(call, snapshot.lifs.map { json($0, snapshot) }, keys: Self.keys)
        }
        router.rest(.get, "/api/network/ip/interfaces/{uuid}") { call in
            let snapshot = try await controller.store.snapshot()
            let uuid = try call.uuid()
            guard let lif = snapshot.lif(uuid) else { throw ManagementError.notFound("LIF", uuid.description) }
            return RESTCollection.answer(call, record: json(lif, snapshot), keys: Self.keys)
        }
        router.rest(.post, "/api/network/ip/interfaces") { call in
            try call.requireFields(
                among: ["name", "svm.name", "svm.uuid", "ip.address", "ip.netmask", "enabled", "godwit.nfs_port"])
            let snapshot = try await controller.store.snapshot()
            let record = LIFRecord(
                uuid: .random(controller.environment),
                name: try call.required(try call.string("name"), "name"),
                svm: try call.svm(in: snapshot).uuid,
                address: try call.required(try call.string("ip.address"), "ip.address"),
                port: try port(call) ?? portDefault,
                isEnabled: try call.bool("enabled") ?? true
            )
            try await controller.createLIF(record)
            return try .created(
                call,
                at: "/api/network/ip/interfaces/\(record.uuid)",
                json(record, try await controller.store.snapshot())
            )
        }
        router.rest(.patch, "/api/network/ip/interfaces/{uuid}") { call in
            try call.requireFields(among: ["name", "ip.address", "ip.netmask", "enabled", "godwit.nfs_port"])
            let (name, address) = (try call.string("name"), try call.string("ip.address"))
            let (port, isEnabled) = (try port(call), try call.bool("enabled"))
            try await controller.modifyLIF(try call.uuid()) { record throws(ManagementError) in
                if let name { record.name = name }
                if let address { record.address = address }
                if let port { record.port = port }
                if let isEnabled { record.isEnabled = isEnabled }
            }
            return .ok()
        }
        router.rest(.delete, "/api/network/ip/interfaces/{uuid}") { call in
            let uuid = try call.uuid()
            try await controller.change(as: .user) { draft throws(ManagementError) in try draft.deleteLIF(uuid) }
            return .ok()
        }
    }

    private func port(_ call: RESTCall) throws(ManagementError) -> Int? {
        try call.int("godwit.nfs_port").map { Int(clamping: $0) }
    }

    private func json(_ lif: LIFRecord, _ snapshot: ConfigurationSnapshot) -> JSONValue {
        let node = controller.node
        let failure = controller.failure(of: lif.uuid)
        return .fields([
            "uuid": .text(lif.uuid), "name": .string(lif.name),
            "svm": .reference(snapshot.svm(lif.svm)?.name, lif.svm), "scope": .string("svm"),
            "ip": .fields([
                "address": .string(lif.address), "netmask": .string("8"), "family": .string("ipv4"),
            ]),
            "enabled": .bool(lif.isEnabled), "state": .string(controller.isUp(lif) ? "up" : "down"),
            "services": .array([.string("data_nfs")]),
            "location": .fields([
                "home_node": .reference(node.name, node.uuid), "node": .reference(node.name, node.uuid),
                "is_home": .bool(true),
            ]),
            "godwit": .fields([
                "nfs_port": .count(lif.port), "failure": failure.map { .string($0.description) },
            ]),
            "_links": .selfLink("/api/network/ip/interfaces/\(lif.uuid)"),
        ])
    }
}
