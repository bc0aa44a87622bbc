import ClusterConfiguration
import Environment
package import Hummingbird
import Identity
package import StorageControl
import VolumeEngine
import JSON

/// `/api/storage/volumes`.
package struct VolumeRoutes: RouteGroup {
    private let controller: StorageController
    private let others: OtherNodes
    private static let path = "/api/storage/volumes"
    private static let keys = ["name", "uuid", "svm.name", "svm.uuid"]
    private static let changeableFields = [
        "name", "size", "state", "comment", "guarantee.type", "nas.path", "nas.export_policy.name",
        "snapshot_policy.name",
    ]

    /// Routes over a controller; volumes of other nodes are asked of those.
    package init(controller: StorageController, others: OtherNodes) {
        self.controller = controller
        self.others = others
    }

    /// Adds the routes.
    package func register(on router: Router<BasicRequestContext>) {
        router.rest(.get, "/api/storage/volumes") { call in
            let snapshot = try await controller.store.snapshot()
            let elsewhere = await others.records(Self.path, for: call, controller, snapshot.nodes)
            let records = snapshot.volumes.map { record in
                elsewhere.record(record.uuid, of: snapshot.node(holding: record)) ?? json(record, snapshot)
            }
            return try RESTCollection.answer(call, records, keys: Self.keys)
        }
        router.rest(.get, "/api/storage/volumes/{uuid}") { call in
            let snapshot = try await controller.store.snapshot()
            return RESTCollection.answer(
                call,
                record: json(try controller.volumeHere(call, snapshot), snapshot),
                keys: Self.keys
            )
        }
        router.rest(.post, "/api/storage/volumes") { call in
            let record = try await newRecord(call)
            try await controller.createVolume(record)
            let snapshot = try await controller.store.snapshot()
            return try .created(call, at: "/api/storage/volumes/\(record.uuid)", json(record, snapshot))
        }
        router.rest(.patch, "/api/storage/volumes/{uuid}") { call in try await modify(call) }
        router.rest(.delete, "/api/storage/volumes/{uuid}") { call in
            let record = try controller.volumeHere(call, try await controller.store.snapshot())
            try await controller.deleteVolume(record.uuid)
            return .ok()
        }
    }

    private func newRecord(_ call: RESTCall) async throws -> VolumeRecord {
        try call.requireFields(
            among: Self.changeableFields + ["svm.name", "svm.uuid", "aggregates.name", "aggregates.uuid"]
        )
        let snapshot = try await controller.store.snapshot()
        let environment = controller.environment
        let aggregate = try call.aggregate(in: snapshot)
        try controller.requireHere(snapshot.node(aggregate.node))
        var record = VolumeRecord(
            uuid: .random(environment),
            name: try call.required(try call.string("name"), "name"),
            msid: .random(environment),
            svm: try call.svm(in: snapshot).uuid,
            aggregate: aggregate.uuid,
            sizeBytes: try call.required(try call.bytes("size"), "size"),
            createTimeNanoseconds: environment.wallClockNanoseconds()
        )
        try Self.changes(call)(&record)
        return record
    }

    private func modify(_ call: RESTCall) async throws -> RESTAnswer {
        let found = try controller.volumeHere(call, try await controller.store.snapshot())
        // Restoring is a PATCH of its own: `restore_to.snapshot.{name,uuid}` in the query or in the body.
        let inQuery = (call.query("restore_to.snapshot.uuid"), call.query("restore_to.snapshot.name"))
        let uuid = try inQuery.0 ?? call.string("restore_to.snapshot.uuid")
        let name = try inQuery.1 ?? call.string("restore_to.snapshot.name")
        if uuid != nil || name != nil {
            try call.requireFields(among: ["restore_to.snapshot.uuid", "restore_to.snapshot.name"])
            let snapshot = try await controller.snapshot(of: found, uuid: uuid, name: name)
            try await controller.restore(found, to: snapshot.uuid)
            return .ok()
        }
        try call.requireFields(among: Self.changeableFields)
        try await controller.modifyVolume(found.uuid, try Self.changes(call))
        return .ok()
    }

    /// The changes that the body of a POST or PATCH asks for.
    private static func changes(
        _ call: RESTCall
    ) throws(ManagementError) -> (inout VolumeRecord) throws(ManagementError) -> Void {
        let name = try call.string("name")
        let size = try call.bytes("size")
        let comment = try call.string("comment")
        let path = try call.string("nas.path")
        let policy = try call.string("nas.export_policy.name")
        let snapshotPolicy = try call.string("snapshot_policy.name")
        let guarantee = try choice(call, "guarantee.type", SpaceGuarantee.init(rawValue:), "none or volume")
        let state = try choice(
            call,
            "state",
            { $0 == "deleting" ? nil : VolumeState(rawValue: $0) },
            "online or offline"
        )
        return { record in
            if let name { record.name = name }
            if let size { record.sizeBytes = size }
            if let comment { record.comment = comment }
            // An empty path takes the volume out of the namespace.
            if let path { record.junctionPath = path.isEmpty ? nil : path }
            if let policy { record.exportPolicy = policy }
            if let snapshotPolicy { record.snapshotPolicy = snapshotPolicy }
            if let guarantee { record.guarantee = guarantee }
            if let state { record.state = state }
        }
    }

    private static func choice<Value>(
        _ call: RESTCall,
        _ path: String,
        _ value: (String) -> Value?,
        _ choices: String
    ) throws(ManagementError) -> Value? {
        guard let text = try call.string(path) else { return nil }
        guard let value = value(text) else {
            throw ManagementError(
                .invalid,
                "262197",
                "'\(text)' is not a value for '\(path)'",
                remedy: "give \(choices)",
                target: path
            )
        }
        return value
    }

    private func json(_ record: VolumeRecord, _ snapshot: ConfigurationSnapshot) -> JSONValue {
        let volume = try? controller.openVolume(record)
        let space = volume?.space()
        let aggregate = snapshot.aggregate(record.aggregate)
        let policy = snapshot.exportPolicies(of: record.svm).first { $0.name == record.exportPolicy }
        let failure = controller.failure(of: record.uuid)
        return .fields([
            "uuid": .text(record.uuid), "name": .string(record.name),
            "svm": .reference(snapshot.svm(record.svm)?.name, record.svm),
            "aggregates": .array([.reference(aggregate?.name, record.aggregate)]),
            "godwit": .fields(["node": .reference(snapshot.node(holding: record)?.name, aggregate?.node)]),
            "size": .count(record.sizeBytes),
            // Of a node that does not answer nothing is known.
            "state": .string(
                volume != nil ? record.state.rawValue : controller.isHere(record, snapshot) ? "error" : "unknown"
            ),
            "style": .string("flexvol"), "type": .string(record.isReplica ? "dp" : "rw"),
            "msid": .count(record.msid.rawValue), "create_time": .time(nanoseconds: record.createTimeNanoseconds),
            "comment": .string(record.comment),
            "nas": .fields([
                "path": record.junctionPath.map { .string($0) }, "security_style": .string("unix"),
                "export_policy": .fields([
                    "name": .string(record.exportPolicy), "id": policy.map { .count($0.identifier) },
                ]),
            ]),
            "space": .fields([
                "size": .count(space?.sizeBytes ?? record.sizeBytes), "used": space.map { .count($0.usedBytes) },
                "available": space.map { .count($0.availableBytes) },
            ]),
            "files": .fields([
                "used": space.map { .count($0.usedInodes) }, "maximum": space.map { .count($0.inodesMax) },
            ]),
            "guarantee": .fields(["type": .string(record.guarantee.rawValue)]),
            "snapshot_policy": .fields(["name": .string(record.snapshotPolicy)]),
            "snapshot_count": volume.map { .count($0.snapshots().count) },
            "error_state": failure.map { .fields(["message": .string($0.message), "remedy": .string($0.remedy)]) },
            "_links": .selfLink("/api/storage/volumes/\(record.uuid)"),
        ])
    }
}

extension StorageController {
    /// The volume that the path of a request names.
    ///
    /// - Throws: `ElsewhereError` when another node holds it.
    func volumeHere(_ call: RESTCall, _ snapshot: ConfigurationSnapshot) throws -> VolumeRecord {
        let uuid = try call.uuid()
        guard let record = snapshot.volume(uuid) else { throw ManagementError.notFound("volume", uuid.description) }
        try requireHere(record, snapshot)
        return record
    }
}
