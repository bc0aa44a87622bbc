import ClusterConfiguration
import HostNetwork
package import Identity
package import MigrateOperation
import PeerTransport
package import Replication
package import StorageControl
import Synchronization
import VolumeEngine

/// The destination side of a migrate over the runtime of this node.
package final class ControllerDestinationStorage: DestinationStorage {
    private let controller: StorageController
    private let replicators = Mutex<[VolumeMSID: VolumeReplicator]>([:])
    /// The LIFs of prepared SVMs with the ports that they have here.
    private let prepared = Mutex<[ObjectUUID: [LIFRecord]]>([:])

    private let addressObstacle: @Sendable (_ address: String, _ port: Int) -> String?

    /// Makes it over a runtime; `addressObstacle` says why an address cannot be listened on, nil when it can.
    package init(
        _ controller: StorageController,
        addressObstacle: @escaping @Sendable (_ address: String, _ port: Int) -> String? = AddressProbe.obstacle
    ) {
        self.controller = controller
        self.addressObstacle = addressObstacle
    }

    /// Whether the aggregates of the SVM's volumes are open here.
    package func isHere(_ svm: SVMDescription) async throws -> Bool {
        svm.volumes.compactMap(\.destinationAggregate).allSatisfy { controller.aggregate($0) != nil }
    }

    // MARK: - Setup

    /// Finds what speaks against receiving the SVM, and places its volumes.
    package func precheck(
        _ svm: SVMDescription,
        _ options: MigrationOptions
    ) async throws -> (findings: [PrecheckFinding], volumes: [VolumeDescription]) {
        let snapshot = try await controller.store.snapshot()
        var findings = DestinationPrecheck.collisions(of: svm, with: snapshot)
        for volume in svm.volumes where controller.volume(msid: volume.msid) != nil {
            findings.append(
                PrecheckFinding(
                    code: MigrateCode.volumeCollision,
                    "this cluster has a volume with the identity of '\(volume.name)' (MSID \(volume.msid))",
                    remedy: "delete what an earlier operation left behind"
                )
            )
        }
        findings += try await place(svm.configuration.interfaces).findings
        for interface in svm.interfaces where IPv4Address(interface.address)?.isLoopback == true {
            guard let obstacle = addressObstacle(interface.address, interface.port) else {
                continue
            }
            findings.append(
                PrecheckFinding(
                    code: MigrateCode.interfaceAddress,
                    "interface '\(interface.name)' cannot use \(interface.address):\(interface.port) here: \(obstacle)",
                    remedy: "free the address and port"
                )
            )
        }
        let placed = try await place(svm.volumes, options)
        return (findings + placed.findings, placed.volumes)
    }

    /// Places volumes on the aggregates that may be used.
    package func place(
        _ volumes: [VolumeDescription],
        _ options: MigrationOptions
    ) async throws -> (findings: [PrecheckFinding], volumes: [VolumeDescription]) {
        let snapshot = try await controller.store.snapshot()
        var candidates: [PlacementCandidate] = []
        for record in snapshot.aggregates {
            guard options.aggregates.isEmpty || options.aggregates.contains(record.uuid) else { continue }
            guard let aggregate = controller.aggregate(record.uuid) else { continue }
            let available = try await controller.pool.run { aggregate.space().availableBytes }
            candidates.append(
                PlacementCandidate(aggregate: record.uuid, name: record.name, availableBytes: available)
            )
        }
        return DestinationPrecheck.place(volumes, on: candidates)
    }

    /// Gives each LIF a port of this node.
    private func place(
        _ interfaces: [LIFRecord]
    ) async throws -> (findings: [PrecheckFinding], interfaces: [LIFRecord]) {
        guard interfaces.contains(where: { $0.place != nil }) else { return ([], interfaces) }
        do {
            let host = try controller.requireHostAddresses()
            return InterfacePlacement.place(
                interfaces,
                on: try await host.links(),
                with: try await host.addresses().filter { host.places[$0.address] == nil }
            )
        } catch {
            let finding = PrecheckFinding(code: MigrateCode.interfacePort, error.message, remedy: error.remedy)
            return ([finding], interfaces)
        }
    }

    /// Deletes replicas.
    package func removeVolumes(
        _ volumes: [VolumeDescription],
        of svm: SVMDescription,
        for operation: ObjectUUID
    ) async throws {
        try await controller.change(as: .operation(operation)) { draft throws(ManagementError) in
            guard draft.snapshot.svm(svm.uuid)?.configurationLock == operation else { return }
            for volume in volumes where draft.snapshot.volume(volume.uuid) != nil {
                try draft.deleteVolume(volume.uuid)
            }
        }
        for volume in volumes { if let failure = controller.failure(of: volume.uuid) { throw failure } }
    }

    /// Deletes what the source does not have any more.
    package func removeAbsent(_ svm: SVMDescription, for operation: ObjectUUID) async throws {
        let wanted = svm.configuration
        try await controller.change(as: .operation(operation)) { draft throws(ManagementError) in
            guard draft.snapshot.svm(svm.uuid)?.configurationLock == operation else { return }
            for lif in draft.snapshot.lifs(of: svm.uuid)
            where !wanted.interfaces.contains(where: { $0.uuid == lif.uuid }) { try draft.deleteLIF(lif.uuid) }
            for volume in draft.snapshot.volumes(of: svm.uuid)
            where !wanted.volumes.contains(where: { $0.uuid == volume.uuid }) { try draft.deleteVolume(volume.uuid) }
            for policy in draft.snapshot.exportPolicies(of: svm.uuid)
            where !wanted.exportPolicies.contains(where: { $0.identifier == policy.identifier }) {
                try draft.deleteExportPolicy(policy.identifier)
            }
        }
    }

    /// Makes the SVM and its export policies.
    package func createSVM(_ svm: SVMDescription, for operation: ObjectUUID) async throws {
        try await create(svm, for: operation, volumes: [], interfaces: [])
    }

    /// Makes the volumes as replicas.
    package func createVolumes(_ svm: SVMDescription, for operation: ObjectUUID) async throws {
        var records: [VolumeRecord] = []
        for volume in svm.volumes {
            guard var record = svm.configuration.volumes.first(where: { $0.uuid == volume.uuid }),
                let aggregate = volume.destinationAggregate
            else {
                throw MigrateError(
                    .refused,
                    "volume '\(volume.name)' has no place",
                    remedy: "start the operation again"
                )
            }
            record.aggregate = aggregate
            record.isReplica = true
            records.append(record)
        }
        try await create(svm, for: operation, volumes: records, interfaces: [])
    }

    /// Makes the interfaces; the SVM is stopped, so nothing is bound.
    package func createInterfaces(_ svm: SVMDescription, for operation: ObjectUUID) async throws {
        let node = controller.node.uuid
        let placed = try await place(svm.configuration.interfaces)
        if let finding = placed.findings.first {
            throw MigrateError(.refused, code: finding.code, finding.message, remedy: finding.remedy)
        }
        let interfaces = placed.interfaces.map { interface in
            var interface = interface
            interface.homeNode = node
            interface.currentNode = node
            // Its moves between nodes were those of the other cluster.
            interface.formerNode = nil
            interface.moveCount = nil
            return interface
        }
        try await create(svm, for: operation, volumes: [], interfaces: interfaces)
    }

    private func create(
        _ svm: SVMDescription,
        for operation: ObjectUUID,
        volumes: [VolumeRecord],
        interfaces: [LIFRecord]
    ) async throws {
        var record = svm.configuration.svm
        record.state = .stopped
        record.migrateRole = .destination
        record.configurationLock = operation
        try await controller.createSVM(
            record,
            exportPolicies: svm.configuration.exportPolicies,
            volumes: volumes,
            lifs: interfaces,
            for: operation
        )
    }

    /// Deletes what was made for the operation.
    package func deleteSVM(_ svm: SVMDescription, for operation: ObjectUUID) async throws {
        guard let record = try await controller.store.snapshot().svm(svm.uuid),
            record.configurationLock == operation
        else { return }
        for volume in svm.volumes { try await stopMirror(volume.msid) }
        try await controller.deleteSVM(svm.uuid, for: operation)
    }

    // MARK: - Transfer

    /// Transfers up to a snapshot.
    package func transfer(
        _ volume: VolumeMSID,
        of svm: SVMDescription,
        upTo snapshot: ObjectUUID,
        throttleBytesPerSecond: UInt64
    ) async throws -> TransferStatistics {
        let replicator = try replicator(of: volume, svm)
        return try await blocking {
            try replicator.transfer(upTo: snapshot, throttleBytesPerSecond: throttleBytesPerSecond)
        }
    }

    /// Begins the synchronous stream.
    package func startSynchronous(_ volume: VolumeMSID, of svm: SVMDescription) async throws {
        let replicator = try replicator(of: volume, svm)
        try await blocking { try replicator.startSynchronous() }
    }

    /// What the mirror is doing.
    package func mirrorStatus(of volume: VolumeMSID) -> VolumeMirrorStatus {
        guard let replicator = replicators.withLock({ $0[volume] }) else {
            return VolumeMirrorStatus(state: .idle, transfer: TransferStatistics(), failure: nil)
        }
        let (state, current, failure) = replicator.status
        return VolumeMirrorStatus(state: state, transfer: current, failure: failure)
    }

    /// Ends the mirrors and deletes what need not be retained.
    package func deleteMirrors(
        of svm: SVMDescription,
        namePrefix: String,
        retaining: SnapshotRetention,
        final: ObjectUUID?
    ) async throws {
        for volume in svm.volumes { try await stopMirror(volume.msid) }
        if retaining == .all { return }
        let retained = retaining == .onlyFinal ? final : nil
        for volume in svm.volumes {
            let volume = try self.volume(volume.msid)
            try await blocking {
                for snapshot in volume.snapshots()
                where snapshot.name.hasPrefix(namePrefix) && snapshot.uuid != retained {
                    try volume.deleteSnapshotAfterTransfer(snapshot.uuid)
                }
            }
        }
    }

    /// Ends transfer and stream.
    package func stopMirror(_ volume: VolumeMSID) async throws {
        guard let replicator = replicators.withLock({ $0.removeValue(forKey: volume) }) else { return }
        try await controller.pool.run { replicator.stop() }
    }

    /// Ends transfers and streams of volumes that leave this node.
    package func stopMirrors(_ volumes: [VolumeMSID]) async {
        // A mirror that does not end in time fails with its volume.
        for volume in volumes { try? await stopMirror(volume) }
    }

    private func replicator(of msid: VolumeMSID, _ svm: SVMDescription) throws -> VolumeReplicator {
        let volume = try volume(msid)
        let endpoint = PeerEndpoint(address: svm.replicationAddress, port: svm.replicationPort)
        return replicators.withLock { replicators in
            if let replicator = replicators[msid] { return replicator }
            let replicator = VolumeReplicator(
                volume: volume,
                source: endpoint,
                secret: [UInt8](svm.replicationSecret.utf8),
                environment: controller.environment,
                transport: controller.transport
            )
            replicators[msid] = replicator
            return replicator
        }
    }

    // MARK: - Cutover

    /// Whether a snapshot is there.
    package func hasSnapshot(_ snapshot: ObjectUUID, _ volume: VolumeMSID) async throws -> Bool {
        let volume = try self.volume(volume)
        return try await blocking { volume.snapshots().contains { $0.uuid == snapshot } }
    }

    /// Makes a volume read-write or a replica again; the record follows with `recordServing`.
    package func setReplica(_ isReplica: Bool, _ volume: VolumeMSID) async throws {
        let volume = try self.volume(volume)
        try await blocking { try volume.setReplica(isReplica) }
    }

    /// Deletes snapshots.
    package func deleteSnapshots(_ snapshots: [ObjectUUID], of svm: SVMDescription) async throws {
        for volume in svm.volumes {
            let volume = try self.volume(volume.msid)
            try await blocking {
                for snapshot in snapshots { try volume.deleteSnapshotAfterTransfer(snapshot) }
                // A volume that serves has no stream to come that would begin with one of these.
                if !volume.isReplica { try volume.deleteStreamSnapshots() }
            }
        }
    }

    /// Builds the face of the SVM with its gate held.
    package func prepareToServe(_ svm: SVMDescription) async throws {
        let service = try await controller.prepareService(of: svm.uuid)
        service.hold()
        try configure(service, svm)
        let lifs = try await controller.store.snapshot().lifs(of: svm.uuid)
        prepared.withLock { $0[svm.uuid] = lifs }
        for lif in lifs where lif.isEnabled { try await controller.prepare(lif, on: service) }
    }

    /// Drops the face of the SVM.
    package func discardPrepared(_ svm: SVMDescription) async throws {
        prepared.withLock { $0[svm.uuid] = nil }
        await controller.unbindInterfaces(of: svm.uuid)
        controller.releaseService(of: svm.uuid)
        // The record says stopped, so that this closes the face.
        await controller.reconcile()
    }

    /// Takes the protocol state over.
    package func importProtocolState(_ state: [UInt8], of svm: SVMDescription) async throws {
        try service(of: svm).importProtocolState(state)
    }

    /// Binds the enabled interfaces.
    package func bindInterfaces(of svm: SVMDescription) async throws {
        let service = try service(of: svm)
        try configure(service, svm)
        for lif in try await interfaces(of: svm) where lif.isEnabled {
            try await controller.bringUp(lif, on: service, isTakenOver: true)
        }
    }

    /// The LIFs with the ports that they have here.
    private func interfaces(of svm: SVMDescription) async throws -> [LIFRecord] {
        let known = prepared.withLock { $0[svm.uuid] }
        let placed = if let known { known } else { try await controller.store.snapshot().lifs(of: svm.uuid) }
        return svm.configuration.interfaces.map { interface in placed.first { $0.uuid == interface.uuid } ?? interface }
    }

    /// Opens the gate.
    package func openGate(of svm: SVMDescription) async throws { try service(of: svm).reopen() }

    /// When the clients were answered first.
    package func firstAnswers(of svm: SVMDescription) async throws -> [ClientAnswerAge] {
        try service(of: svm).answerAges.map { ClientAnswerAge(client: $0.client, microseconds: $0.firstMicroseconds) }
    }

    /// Records the SVM as running.
    package func recordServing(_ svm: SVMDescription, for operation: ObjectUUID) async throws {
        try await controller.change(as: .operation(operation)) { draft throws(ManagementError) in
            for volume in draft.snapshot.volumes(of: svm.uuid) where volume.isReplica {
                var record = volume
                record.isReplica = false
                try draft.putVolume(record)
            }
            guard var record = draft.snapshot.svm(svm.uuid) else { throw .notFound("SVM", svm.name) }
            record.state = .running
            record.migrateRole = .none
            record.configurationLock = nil
            if record != draft.snapshot.svm(svm.uuid) { try draft.putSVM(record) }
        }
        prepared.withLock { $0[svm.uuid] = nil }
        controller.releaseService(of: svm.uuid)
        await controller.reconcile()
    }

    /// The hash of a snapshot.
    package func contentHash(of volume: VolumeMSID, snapshot: ObjectUUID) async throws -> String {
        let volume = try self.volume(volume)
        return contentHashText(try await blocking { try volume.contentHash(of: snapshot) })
    }

    /// Configures the face as it will be once the SVM is recorded as serving: running, its volumes read-write.
    private func configure(_ service: any ClientService, _ svm: SVMDescription) throws {
        var record = svm.configuration.svm
        record.state = .running
        var volumes: [(record: VolumeRecord, volume: Volume)] = []
        for volume in svm.configuration.volumes where volume.state == .online {
            volumes.append((volume, try self.volume(volume.msid)))
        }
        service.configure(
            ServiceConfiguration(svm: record, exportPolicies: svm.configuration.exportPolicies, volumes: volumes)
        )
    }

    private func service(of svm: SVMDescription) throws -> any ClientService {
        guard let service = controller.service(of: svm.uuid) else {
            throw MigrateError(.failed, "SVM '\(svm.name)' is not prepared", remedy: "the step is tried again")
        }
        return service
    }

    private func volume(_ msid: VolumeMSID) throws -> Volume {
        guard let volume = controller.volume(msid: msid) else {
            throw MigrateError(
                .failed,
                "there is no volume \(msid) on this cluster",
                remedy: "look at the aggregates and events of the node"
            )
        }
        return volume
    }

    /// Runs a blocking call; what trying again cannot mend comes as `.refused`.
    private func blocking<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        do {
            return try await controller.pool.run(body)
        } catch let error as StorageError {
            switch error.code {
            case .noSpace, .damaged, .wrongOwner:
                throw MigrateError(
                    .refused,
                    code: MigrateCode.storageRefused,
                    error.message,
                    remedy: error.remedy
                )
            case .baselineLost:
                throw MigrateError(
                    .baselineLost,
                    code: MigrateCode.baselineLost,
                    error.message,
                    remedy: "resume the operation: the volume gets a new baseline"
                )
            case .notFound, .exists, .conflict, .inputOutput:
                throw MigrateError(.failed, error.message, remedy: error.remedy)
            }
        }
    }
}
