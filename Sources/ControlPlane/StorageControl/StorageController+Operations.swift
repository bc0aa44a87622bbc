package import ClusterConfiguration
package import Identity
import Synchronization
package import VolumeEngine

// What a migrate needs of the runtime of its own cluster. Every deed may be repeated.

extension StorageController {
    /// Deletes an SVM with all that belongs to it; absent is no error.
    package func deleteSVM(_ svm: ObjectUUID, for operation: ObjectUUID) async throws {
        try await change(as: .operation(operation)) { draft throws(ManagementError) in
            guard draft.snapshot.svm(svm) != nil else { return }
            try draft.deleteSVM(svm, withContents: true)
        }
        releaseService(of: svm)
        await reconcile()
        if let failure = failure(of: svm) { throw failure }
    }

    /// The volumes of an SVM with their records, by name.
    package func volumes(of svm: ObjectUUID) async throws -> [(record: VolumeRecord, volume: Volume)] {
        var volumes: [(record: VolumeRecord, volume: Volume)] = []
        for record in try await store.snapshot().volumes(of: svm) where record.state != .deleting {
            volumes.append((record, try openVolume(record)))
        }
        return volumes
    }

    /// The face of an SVM to its clients: gate, protocol state, addresses. Nil when it has none now.
    package func service(of svm: ObjectUUID) -> (any ClientService)? { state.withLock { $0.services[svm]?.service } }

    /// Makes the face of an SVM with its gate held and no address bound, whatever the record says, and keeps
    /// `reconcile` from opening or ending it until `releaseService`. One that runs is taken over as it is.
    @discardableResult
    package func prepareService(of svm: ObjectUUID) async throws -> any ClientService {
        let snapshot = try await store.snapshot()
        guard let record = snapshot.svm(svm) else { throw ManagementError.notFound("SVM", svm.description) }
        await reconcileLock.acquire()
        let (service, isNew) = state.withLock { state in
            if let current = state.services[svm] {
                state.services[svm]?.isOperated = true
                return (current.service, false)
            }
            let service = makeService(record)
            service.hold()
            state.services[svm] = ServiceState(service: service, isOperated: true)
            return (service, true)
        }
        if isNew {
            let volumes = snapshot.volumes(of: svm).filter { $0.state == .online }.compactMap { record in
                aggregate(record.aggregate)?.volume(record.msid).map { (record: record, volume: $0) }
            }
            service.configure(configuration(of: record, volumes, snapshot))
        }
        await reconcileLock.release()
        return service
    }

    /// Binds the LIFs of a prepared SVM, enabled or not; requests wait at the gate.
    package func bindInterfaces(of svm: ObjectUUID) async throws {
        guard let service = service(of: svm) else {
            throw ManagementError.notFound("service of the SVM", svm.description)
        }
        for lif in try await store.snapshot().lifs(of: svm) { try await bringUp(lif, on: service, isTakenOver: true) }
    }

    /// Closes the listeners and connections of an SVM; requests held at its gate are dropped.
    package func unbindInterfaces(of svm: ObjectUUID) async {
        guard let service = service(of: svm) else { return }
        let endpoints = service.boundEndpoints
        for endpoint in endpoints { await service.unbind(endpoint) }
        await takeDown(endpoints)
    }

    /// Gives a prepared SVM back to `reconcile`, which from then on makes it what its record says.
    package func releaseService(of svm: ObjectUUID) {
        state.withLock { $0.services[svm]?.isOperated = false }
    }

    /// Makes all volumes of an SVM replicas or read-write, in the data plane first, then in their records.
    package func setReplica(_ isReplica: Bool, of svm: ObjectUUID, for operation: ObjectUUID) async throws {
        let volumes = try await volumes(of: svm)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (_, volume) in volumes {
                group.addTask { try await self.pool.run { try volume.setReplica(isReplica) } }
            }
            try await group.waitForAll()
        }
        _ = try await store.change(as: .operation(operation)) { draft throws(ManagementError) in
            for (record, _) in volumes where record.isReplica != isReplica {
                var changed = record
                changed.isReplica = isReplica
                try draft.putVolume(changed)
            }
        }
    }

    /// Takes a snapshot of every volume of an SVM for an operation, with one UUID and all at once; one that is there
    /// already is no error. User locks do not count.
    package func takeSnapshot(_ uuid: ObjectUUID, named name: String, ofAll svm: ObjectUUID) async throws {
        let volumes = try await volumes(of: svm)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (_, volume) in volumes {
                group.addTask { try await self.pool.run { _ = try volume.createSnapshot(name: name, uuid: uuid) } }
            }
            try await group.waitForAll()
        }
    }

    /// Deletes a snapshot from every volume of an SVM; absent is no error.
    package func deleteSnapshot(_ uuid: ObjectUUID, ofAll svm: ObjectUUID) async throws {
        for (_, volume) in try await volumes(of: svm) {
            try await pool.run { try volume.deleteSnapshotAfterTransfer(uuid) }
        }
    }
}
