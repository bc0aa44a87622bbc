import ClusterConfiguration
package import Identity
package import MigrateOperation
package import Replication
package import StorageControl
import VolumeEngine

/// The source side of a migrate over the runtime of this node.
package struct ControllerSourceStorage: SourceStorage {
    private let controller: StorageController

    /// Makes it over a runtime.
    package init(_ controller: StorageController) { self.controller = controller }

    /// Describes the SVM of a name and what speaks against moving it.
    package func describe(svmName: String) async throws -> (description: SVMDescription, findings: [PrecheckFinding])? {
        let snapshot = try await controller.store.snapshot()
        guard let svm = snapshot.svm(named: svmName), svm.state != .deleting, let cluster = snapshot.cluster else {
            return nil
        }
        var findings: [PrecheckFinding] = controller.obstaclesToMoving(svm, snapshot).map {
            PrecheckFinding(code: MigrateCode.notInThisVersion, $0.message, remedy: $0.remedy)
        }
        var volumes: [VolumeDescription] = []
        let records = snapshot.volumes(of: svm.uuid).filter { $0.state != .deleting }
        for record in records where controller.isHere(record, snapshot) {
            findings += Self.findings(of: record)
            do {
                let volume = try controller.openVolume(record)
                let used = try await controller.pool.run { volume.space().usedBytes }
                volumes.append(
                    VolumeDescription(
                        uuid: record.uuid,
                        name: record.name,
                        msid: record.msid,
                        sizeBytes: record.sizeBytes,
                        isSpaceGuaranteed: record.guarantee == .volume,
                        usedBytes: used
                    )
                )
            } catch let error as ManagementError {
                findings.append(
                    PrecheckFinding(code: MigrateCode.startFailed, error.message, remedy: error.remedy)
                )
            }
        }
        if svm.state != .running {
            findings.append(
                PrecheckFinding(
                    code: MigrateCode.svmNotRunning,
                    "SVM '\(svm.name)' is \(svm.state.rawValue) on the source",
                    remedy: "start it, or move it when it runs"
                )
            )
        }
        let interfaces = snapshot.lifs(of: svm.uuid)
        let description = SVMDescription(
            uuid: svm.uuid,
            name: svm.name,
            clusterName: cluster.name,
            clusterUUID: cluster.uuid,
            protocolVersion: migrateProtocolVersion,
            replicationAddress: controller.node.replication.address,
            replicationPort: controller.node.replication.port,
            replicationSecret: controller.node.replicationSecret,
            volumes: volumes,
            interfaces: interfaces.map { InterfaceDescription(name: $0.name, address: $0.address, port: $0.port) },
            configuration: SVMConfiguration(
                svm: svm,
                exportPolicies: snapshot.exportPolicies(of: svm.uuid),
                volumes: records,
                interfaces: interfaces
            ),
            features: SVMDescription.knownFeatures.sorted(),
            connectionCount: UInt64(controller.service(of: svm.uuid)?.connectionCount ?? 0)
        )
        return (description, findings)
    }

    private static func findings(of record: VolumeRecord) -> [PrecheckFinding] {
        guard record.isReplica else { return [] }
        return [
            PrecheckFinding(
                code: MigrateCode.notInThisVersion,
                "volume '\(record.name)' is itself a replica",
                remedy: "end its mirror first; moving mirror destinations is not in this version"
            )
        ]
    }

    /// Whether no other node holds volumes of the SVM.
    package func isHere(_ svm: ObjectUUID) async throws -> Bool { try await controller.isHere(svm) }

    /// The name of an SVM.
    package func name(of svm: ObjectUUID) async throws -> String? {
        try await controller.store.snapshot().svm(svm)?.name
    }

    /// Marks the SVM as the source of an operation, or as one that takes part in none.
    package func setOperation(_ operation: ObjectUUID?, of svm: ObjectUUID) async throws {
        if operation == nil {
            for (_, volume) in try await controller.volumes(of: svm) {
                try await controller.pool.run { try volume.deleteStreamSnapshots() }
            }
        }
        try await edit(svm) { $0.migrateRole = operation == nil ? .none : .source }
    }

    /// Locks the configuration; a locked SVM's face is the operation's, so that nothing else opens its gate.
    package func lockConfiguration(of svm: ObjectUUID, for operation: ObjectUUID) async throws {
        try await edit(svm) { $0.configurationLock = operation }
        try await controller.prepareService(of: svm)
    }

    /// Unlocks the configuration.
    package func unlockConfiguration(of svm: ObjectUUID, from operation: ObjectUUID) async throws {
        guard let record = try await controller.store.snapshot().svm(svm) else { return }
        guard record.configurationLock == nil || record.configurationLock == operation else { return }
        try await edit(svm) { if $0.configurationLock == operation { $0.configurationLock = nil } }
        controller.releaseService(of: svm)
        // What was changed in the record while the face was the operation's takes effect now.
        await controller.reconcile()
    }

    /// Ends the outgoing mirrors.
    package func endMirrors(of svm: ObjectUUID) async throws {
        for volume in try await controller.store.snapshot().volumes(of: svm) {
            controller.replicationListener?.disconnect(volume.msid)
        }
    }

    /// Deletes the snapshots of an operation.
    package func deleteSnapshots(namePrefix: String, of svm: ObjectUUID) async throws {
        guard try await controller.store.snapshot().svm(svm) != nil else { return }
        for (_, volume) in try await controller.volumes(of: svm) {
            try await controller.pool.run {
                for snapshot in volume.snapshots() where snapshot.name.hasPrefix(namePrefix) {
                    try volume.deleteSnapshotAfterTransfer(snapshot.uuid)
                }
            }
        }
    }

    /// Takes a snapshot of every volume.
    package func takeSnapshot(_ snapshot: OperationSnapshot, of svm: ObjectUUID) async throws {
        try await controller.takeSnapshot(snapshot.uuid, named: snapshot.name, ofAll: svm)
    }

    /// Deletes snapshots of every volume.
    package func deleteSnapshots(_ snapshots: [ObjectUUID], of svm: ObjectUUID) async throws {
        for snapshot in snapshots { try await controller.deleteSnapshot(snapshot, ofAll: svm) }
    }

    /// The states of the outgoing mirrors.
    package func mirrorStates(of svm: ObjectUUID) async throws -> [VolumeMSID: MirrorState] {
        var states: [VolumeMSID: MirrorState] = [:]
        for (record, _) in try await controller.volumes(of: svm) {
            states[record.msid] = controller.replicationListener?.mirrorState(of: record.msid) ?? .idle
        }
        return states
    }

    /// Holds the gate.
    package func holdGate(of svm: ObjectUUID) async throws { try service(of: svm).hold() }

    /// Drains the gate.
    package func drainGate(of svm: ObjectUUID, withinMilliseconds: UInt64) async throws -> Bool {
        let service = try service(of: svm)
        guard await service.drained(withinMilliseconds: withinMilliseconds) else { return false }
        await service.freeze(service.boundEndpoints)
        return true
    }

    /// When the clients were answered last.
    package func lastAnswers(of svm: ObjectUUID) async throws -> [ClientAnswerAge] {
        try service(of: svm).answerAges.map { ClientAnswerAge(client: $0.client, microseconds: $0.lastMicroseconds) }
    }

    /// The protocol state.
    package func exportProtocolState(
        of svm: ObjectUUID,
        since mark: ProtocolStateMark?
    ) async throws -> (state: [UInt8], mark: ProtocolStateMark) {
        try service(of: svm).exportProtocolState(since: mark)
    }

    /// Reopens the gate; an SVM without a face has no gate to reopen.
    package func reopenGate(of svm: ObjectUUID) async throws {
        controller.service(of: svm)?.reopen()
    }

    /// Takes the addresses of the host away from it.
    package func surrenderInterfaces(of svm: ObjectUUID) async throws {
        try await controller.surrenderInterfaces(of: svm)
    }

    /// Closes listeners and connections.
    package func releaseInterfaces(of svm: ObjectUUID) async throws {
        await controller.unbindInterfaces(of: svm)
    }

    /// Records the SVM as stopped and locked.
    package func stop(_ svm: ObjectUUID, for operation: ObjectUUID) async throws {
        try await edit(svm) {
            $0.state = .stopped
            $0.configurationLock = operation
        }
        try await endMirrors(of: svm)
        controller.releaseService(of: svm)
        await controller.reconcile()
    }

    /// The hash of a snapshot.
    package func contentHash(of volume: VolumeMSID, snapshot: ObjectUUID) async throws -> String {
        guard let volume = controller.volume(msid: volume) else {
            throw MigrateError(
                .refused,
                code: MigrateCode.integrity,
                "the source has no volume \(volume)",
                remedy: "look at the aggregates of the source cluster"
            )
        }
        return contentHashText(try await controller.pool.run { try volume.contentHash(of: snapshot) })
    }

    /// Deletes the SVM.
    package func deleteSVM(_ svm: ObjectUUID) async throws {
        guard let record = try await controller.store.snapshot().svm(svm) else { return }
        try await controller.deleteSVM(svm, for: record.configurationLock ?? svm)
    }

    private func service(of svm: ObjectUUID) throws -> any ClientService {
        guard let service = controller.service(of: svm) else {
            throw MigrateError(
                .failed,
                "SVM \(svm) is not being served",
                remedy: "start the SVM; the cutover is tried again"
            )
        }
        return service
    }

    /// Changes the SVM's record on the runtime's own behalf; absent is no error.
    private func edit(_ svm: ObjectUUID, _ body: (inout SVMRecord) -> Void) async throws {
        _ = try await controller.store.change(as: .system) { draft throws(ManagementError) in
            guard var record = draft.snapshot.svm(svm) else { return }
            let before = record
            body(&record)
            if record != before { try draft.putSVM(record) }
        }
    }
}
