import ClusterConfiguration
package import GroupControl
package import Hummingbird
import Identity
import MigrateOperation
package import StorageControl
import VolumeEngine
import JSON

extension StorageController {
    /// The snapshot of a volume that a uuid or a name names.
    func snapshot(of record: VolumeRecord, uuid: String?, name: String?) async throws -> Snapshot {
        let all = try await snapshots(of: record)
        let found = all.first { snapshot in
            uuid.map { snapshot.uuid == ObjectUUID($0) } ?? (snapshot.name == name)
        }
        guard let found else {
            throw ManagementError.notFound("snapshot", uuid ?? name ?? "", target: "snapshot")
        }
        return found
    }
}

/// `/api/storage/volumes/{uuid}/snapshots`, and Godwit's own snapshots of all volumes of an SVM.
package struct SnapshotRoutes: RouteGroup {
    private let controller: StorageController
    private let group: SnapshotGroup
    private static let keys = ["name", "uuid"]

    /// Routes over a controller, and the nodes of its cluster.
    package init(controller: StorageController, group: SnapshotGroup) {
        self.controller = controller
        self.group = group
    }

    /// Adds the routes.
    package func register(on router: Router<BasicRequestContext>) {
        let collection = "/api/storage/volumes/{uuid}/snapshots"
        router.rest(.get, collection) { call in
            let configuration = try await controller.store.snapshot()
            let volume = try controller.volumeHere(call, configuration)
            let records = try await controller.snapshots(of: volume).map { json($0, volume, configuration) }
            return try RESTCollection.answer(call, records, keys: Self.keys)
        }
        router.rest(.get, collection + "/{snapshot}") { call in
            let configuration = try await controller.store.snapshot()
            let volume = try controller.volumeHere(call, configuration)
            let snapshot = try await controller.snapshot(
                of: volume,
                uuid: try call.uuid("snapshot").description,
                name: nil
            )
            return RESTCollection.answer(call, record: json(snapshot, volume, configuration), keys: Self.keys)
        }
        router.rest(.post, collection) { call in
            try call.requireFields(among: ["name"])
            let configuration = try await controller.store.snapshot()
            let volume = try controller.volumeHere(call, configuration)
            let name = try call.required(try call.string("name"), "name")
            let snapshot = try await controller.createSnapshot(of: volume, named: name)
            return try .created(
                call,
                at: "/api/storage/volumes/\(volume.uuid)/snapshots/\(snapshot.uuid)",
                json(snapshot, volume, configuration)
            )
        }
        router.rest(.delete, collection + "/{snapshot}") { call in
            let volume = try controller.volumeHere(call, try await controller.store.snapshot())
            let snapshot = try await controller.snapshot(
                of: volume,
                uuid: try call.uuid("snapshot").description,
                name: nil
            )
            try await controller.deleteSnapshot(snapshot.uuid, of: volume)
            return .ok()
        }
        router.rest(.post, "/api/private/godwit/svms/{uuid}/snapshots") { call in
            try call.requireFields(among: ["name"])
            let configuration = try await controller.store.snapshot()
            let uuid = try call.uuid()
            guard configuration.svm(uuid) != nil else { throw ManagementError.notFound("SVM", uuid.description) }
            let name = try call.required(try call.string("name"), "name")
            let taken = try await snapshotOfAll(uuid, name)
            let records = configuration.volumes(of: uuid).compactMap { volume in
                taken.first { $0.msid == volume.msid }.map { json($0, name, volume, configuration) }
            }
            return RESTAnswer(
                .created,
                .fields(["records": .array(records), "num_records": .count(records.count)])
            )
        }
    }

    /// Takes a snapshot of every volume, on whichever nodes they are.
    private func snapshotOfAll(_ svm: ObjectUUID, _ name: String) async throws -> [TakenSnapshot] {
        do {
            return try await group.create(ofSVM: svm, named: name)
        } catch let error as MigrateError {
            throw ManagementError(migrate: error)
        }
    }

    private func json(
        _ taken: TakenSnapshot,
        _ name: String,
        _ volume: VolumeRecord,
        _ configuration: ConfigurationSnapshot
    ) -> JSONValue {
        .fields([
            "uuid": .text(taken.uuid), "name": .string(name), "state": .string("valid"),
            "create_time": .time(nanoseconds: taken.timeNanoseconds), "owners": .array([]),
            "volume": .reference(volume.name, volume.uuid),
            "svm": .reference(configuration.svm(volume.svm)?.name, volume.svm),
            "_links": .selfLink("/api/storage/volumes/\(volume.uuid)/snapshots/\(taken.uuid)"),
        ])
    }

    private func json(
        _ snapshot: Snapshot,
        _ volume: VolumeRecord,
        _ configuration: ConfigurationSnapshot
    ) -> JSONValue {
        let time = snapshot.createTime
        let isHeld = controller.isHeld(snapshot.uuid, of: volume)
        return .fields([
            "uuid": .text(snapshot.uuid), "name": .string(snapshot.name), "state": .string("valid"),
            "create_time": .time(nanoseconds: time.seconds * 1_000_000_000 + Int64(time.nanoseconds)),
            "owners": .array(isHeld ? [.string("transfer")] : []),
            "volume": .reference(volume.name, volume.uuid),
            "svm": .reference(configuration.svm(volume.svm)?.name, volume.svm),
            "_links": .selfLink("/api/storage/volumes/\(volume.uuid)/snapshots/\(snapshot.uuid)"),
        ])
    }
}
