import ClusterConfiguration
package import Hummingbird
import Identity
package import StorageControl
import VolumeEngine
import JSON

/// `/api/svm/svms` and `/api/storage/aggregates`.
package struct SVMRoutes: RouteGroup {
    private let controller: StorageController
    private let others: OtherNodes
    private static let keys = ["name", "uuid"]

    /// Routes over a controller; aggregates of other nodes are asked of those.
    package init(controller: StorageController, others: OtherNodes) {
        self.controller = controller
        self.others = others
    }

    /// Adds the routes.
    package func register(on router: Router<BasicRequestContext>) {
        registerReading(on: router)
        router.rest(.post, "/api/svm/svms") { call in
            try call.requireFields(among: ["name", "comment", "ipspace.name", "ipspace.uuid"])
            let name = try call.required(try call.string("name"), "name")
            let record = try await controller.createSVM(
                named: name,
                comment: try call.string("comment") ?? "",
                ipSpace: try call.ipSpace(in: try await controller.store.snapshot())?.reference
            )
            let snapshot = try await controller.store.snapshot()
            return try .created(call, at: "/api/svm/svms/\(record.uuid)", json(record, snapshot))
        }
        router.rest(.patch, "/api/svm/svms/{uuid}") { call in
            try call.requireFields(among: ["name", "comment", "state", "ipspace.name", "ipspace.uuid"])
            let ipSpace = try call.ipSpace(in: try await controller.store.snapshot())
            let name = try call.string("name")
            let comment = try call.string("comment")
            let state = try Self.state(call)
            try await controller.modifySVM(try call.uuid()) { record throws(ManagementError) in
                if let name { record.name = name }
                if let comment { record.comment = comment }
                if let state { record.state = state }
                if let ipSpace { record.ipSpace = ipSpace.reference }
            }
            return .ok()
        }
        router.rest(.delete, "/api/svm/svms/{uuid}") { call in
            try await controller.deleteSVM(try call.uuid())
            return .ok()
        }
    }

    private func registerReading(on router: Router<BasicRequestContext>) {
        router.rest(.get, "/api/svm/svms") { call in
            let snapshot = try await controller.store.snapshot()
            return try RESTCollection.answer(call, snapshot.svms.map { json($0, snapshot) }, keys: Self.keys)
        }
        router.rest(.get, "/api/svm/svms/{uuid}") { call in
            let snapshot = try await controller.store.snapshot()
            let uuid = try call.uuid()
            guard let svm = snapshot.svm(uuid) else { throw ManagementError.notFound("SVM", uuid.description) }
            return RESTCollection.answer(call, record: json(svm, snapshot), keys: Self.keys)
        }
        router.rest(.get, "/api/storage/aggregates") { call in
            let snapshot = try await controller.store.snapshot()
            let elsewhere = await others.records("/api/storage/aggregates", for: call, controller, snapshot.nodes)
            return try RESTCollection.answer(
                call,
                snapshot.aggregates.map { record in
                    elsewhere.record(record.uuid, of: snapshot.node(record.node)) ?? json(record, snapshot)
                },
                keys: Self.keys
            )
        }
        router.rest(.get, "/api/storage/aggregates/{uuid}") { call in
            let snapshot = try await controller.store.snapshot()
            let uuid = try call.uuid()
            guard let aggregate = snapshot.aggregate(uuid) else {
                throw ManagementError.notFound("aggregate", uuid.description)
            }
            return RESTCollection.answer(call, record: json(aggregate, snapshot), keys: Self.keys)
        }
    }

    private static func state(_ call: RESTCall) throws(ManagementError) -> SVMState? {
        switch try call.string("state") {
        case nil: return nil
        case "running": return .running
        case "stopped": return .stopped
        case let other?:
            throw ManagementError(
                .invalid,
                "262197",
                "'\(other)' is not a state that can be asked for",
                remedy: "give running or stopped",
                target: "state"
            )
        }
    }

    private func json(_ svm: SVMRecord, _ snapshot: ConfigurationSnapshot) -> JSONValue {
        let subtype: String =
            switch svm.migrateRole {
            case .none: "default"
            case .source: "sync_source"
            case .destination: "sync_destination"
            }
        let ipSpace = snapshot.ipSpace(svm.ipSpace)
        let interfaces = snapshot.lifs(of: svm.uuid).map { lif in
            JSONValue.fields([
                "name": .string(lif.name), "uuid": .text(lif.uuid),
                "ip": .fields(["address": .string(lif.address), "netmask": .string("8")]),
                "services": .array([.string("data_nfs")]),
            ])
        }
        return .fields([
            "uuid": .text(svm.uuid), "name": .string(svm.name), "state": .string(svm.state.rawValue),
            "subtype": .string(subtype), "comment": .string(svm.comment),
            "ipspace": .reference(ipSpace?.name, ipSpace?.uuid),
            "ip_interfaces": .array(interfaces),
            "nfs": .fields(["allowed": .bool(true), "enabled": .bool(true)]),
            "configuration_lock": svm.configurationLock.map { .fields(["operation": .text($0)]) },
            "_links": .selfLink("/api/svm/svms/\(svm.uuid)"),
        ])
    }

    private func json(_ record: AggregateRecord, _ snapshot: ConfigurationSnapshot) -> JSONValue {
        let space = controller.aggregate(record.uuid)?.space()
        let capacity = space?.capacityBytes ?? record.capacityBytes
        let node = snapshot.node(record.node)
        let percent = space.map { capacity == 0 ? 0 : $0.usedBytes * 100 / capacity }
        return .fields([
            "uuid": .text(record.uuid), "name": .string(record.name),
            "state": .string(space == nil ? "offline" : "online"),
            "node": .reference(node?.name, record.node),
            "home_node": .reference(snapshot.node(record.home)?.name, record.home),
            "space": .fields([
                "block_storage": .fields([
                    "size": .count(capacity), "available": space.map { .count($0.availableBytes) },
                    "used": space.map { .count($0.usedBytes) }, "used_percent": percent.map { .count($0) },
                ])
            ]),
            "volume-count": .count(snapshot.volumes.filter { $0.aggregate == record.uuid }.count),
            "godwit": .fields([
                "directory": .string(record.directory), "tier": record.tier.map { .string($0.rawValue) },
                "ownership_epoch": .count(record.ownershipEpoch ?? 0),
                "failure": controller.failure(of: record.uuid).map { .string($0.description) },
            ]),
            "_links": .selfLink("/api/storage/aggregates/\(record.uuid)"),
        ])
    }
}
