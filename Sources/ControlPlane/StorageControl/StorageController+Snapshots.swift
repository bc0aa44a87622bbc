package import ClusterConfiguration
import Environment
package import Identity
package import VolumeEngine

extension StorageController {
    /// Takes a snapshot of a volume for a user.
    package func createSnapshot(of record: VolumeRecord, named name: String) async throws -> Snapshot {
        try await requireUnlocked(record)
        try Self.checkSnapshotName(name)
        let volume = try openVolume(record)
        let uuid = ObjectUUID.random(environment)
        return try await pool.run {
            if volume.snapshots().contains(where: { $0.name == name }) {
                throw ManagementError(
                    .exists,
                    "snapshot_exists",
                    "volume '\(record.name)' already has a snapshot '\(name)'",
                    remedy: "use another name, or delete that snapshot first",
                    target: "name"
                )
            }
            return try volume.createSnapshot(name: name, uuid: uuid)
        }
    }

    /// Takes a snapshot of that name of every volume of an SVM, all at the same time, for a user. When one fails, those
    /// that were taken are deleted.
    ///
    /// - Parameter volumes: the ones that are meant; nil for all.
    package func createSnapshots(
        ofSVM svm: ObjectUUID,
        named name: String,
        volumes: Set<VolumeMSID>? = nil
    ) async throws -> [(VolumeRecord, Snapshot)] {
        let records = try await store.snapshot().volumes(of: svm).filter {
            $0.state != .deleting && volumes?.contains($0.msid) ?? true
        }
        return try await withThrowingTaskGroup(of: (VolumeRecord, Result<Snapshot, any Error>).self) { group in
            for record in records {
                group.addTask {
                    do {
                        return (record, .success(try await self.createSnapshot(of: record, named: name)))
                    } catch {
                        return (record, .failure(error))
                    }
                }
            }
            var taken: [(VolumeRecord, Snapshot)] = []
            var failure: (any Error)?
            for try await (record, result) in group {
                switch result {
                case .success(let snapshot): taken.append((record, snapshot))
                case .failure(let error): failure = error
                }
            }
            if let failure {
                for (record, snapshot) in taken { try await self.deleteSnapshot(snapshot.uuid, of: record) }
                throw failure
            }
            return taken.sorted { $0.0.name < $1.0.name }
        }
    }

    /// Deletes a snapshot and gives its space back, for a user.
    package func deleteSnapshot(_ uuid: ObjectUUID, of record: VolumeRecord) async throws {
        try await requireUnlocked(record)
        let volume = try openVolume(record)
        try await pool.run { try volume.deleteSnapshot(uuid) }
    }

    /// Makes a volume what it was when the snapshot was taken; newer snapshots are deleted.
    package func restore(_ record: VolumeRecord, to uuid: ObjectUUID) async throws {
        try await requireUnlocked(record)
        let volume = try openVolume(record)
        try await pool.run { try volume.restore(to: uuid) }
        // The size comes back with the snapshot, the record decides.
        await reconcile()
    }

    /// The snapshots of a volume, oldest first.
    package func snapshots(of record: VolumeRecord) async throws -> [Snapshot] {
        let volume = try openVolume(record)
        return try await pool.run { volume.snapshots() }
    }

    /// Whether a transfer reads a snapshot at the moment, which keeps it from being deleted.
    package func isHeld(_ uuid: ObjectUUID, of record: VolumeRecord) -> Bool {
        volume(msid: record.msid)?.isHeld(uuid) ?? false
    }

    private func requireUnlocked(_ record: VolumeRecord) async throws {
        let draft = ConfigurationDraft(try await store.snapshot(), actor: .user)
        try draft.changeableSVM(record.svm)
        guard !record.isReplica else {
            throw ManagementError(
                .conflict,
                "volume_is_replica",
                "volume '\(record.name)' is a replica that only replication writes",
                remedy: "do it on the cluster that serves the volume",
                target: "volume"
            )
        }
    }

    /// A snapshot is a directory name for clients, so what a directory cannot be called it cannot be called.
    private static func checkSnapshotName(_ name: String) throws(ManagementError) {
        guard (1...255).contains(name.utf8.count), name != ".", name != "..",
            name.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x2f && $0 != 0x7f })
        else {
            throw ManagementError(
                .invalid,
                "snapshot_name_invalid",
                "'\(name)' cannot be the name of a snapshot",
                remedy: "use 1 to 255 bytes without '/', blanks and control characters",
                target: "name"
            )
        }
    }
}
