import ClusterConfiguration
package import GroupControl
package import Identity
package import MigrateOperation
package import Replication
import StorageControl
import Synchronization

/// The destination side of a migrate over all nodes of its cluster: the master. What concerns the configuration it does
/// itself; what concerns volumes, gates and addresses it lets the nodes do that have them, all at once.
package struct DestinationGroup: DestinationStorage {
    /// What was heard last of mirrors on other nodes.
    final class Heard: Sendable {
        let statuses = Mutex<[VolumeMSID: VolumeMirrorStatus]>([:])
    }

    /// How long a node may leave a transfer's master without word of it.
    private static let transferWaitMilliseconds: UInt64 = 500

    var group: Group
    private let executor: GroupExecutor
    private let heard = Heard()

    /// Makes it over the nodes of a cluster; `executor` is that of this node.
    package init(_ group: Group, _ executor: GroupExecutor) {
        self.group = group
        self.executor = executor
    }

    /// The same for the orchestrator of an operation.
    package func acting(as authority: GroupAuthority) -> any DestinationStorage {
        var other = self
        other.group.authority = authority
        return other
    }

    /// Whether what this node owns of the SVM's volumes is open.
    package func isReady(for svm: SVMDescription) async throws -> Bool {
        let snapshot = try await group.controller.store.snapshot()
        return svm.volumes.compactMap(\.destinationAggregate).allSatisfy { aggregate in
            snapshot.aggregate(aggregate)?.node != group.controller.node.uuid
                || group.controller.aggregate(aggregate) != nil
        }
    }

    // MARK: - Transfer

    /// Transfers up to a snapshot: the node that holds the volume does it, and tells now and then how far it is.
    package func transfer(
        _ volume: VolumeDescription,
        of svm: SVMDescription,
        upTo snapshot: ObjectUUID,
        throttleBytesPerSecond: UInt64
    ) async throws -> TransferStatistics {
        let step = GroupStep.transfer(
            VolumeFlow(msid: volume.msid, source: volume.source),
            upTo: snapshot,
            throttleBytesPerSecond: throttleBytesPerSecond,
            waitMilliseconds: Self.transferWaitMilliseconds
        )
        while true {
            let node = try await holder(of: volume.msid, svm)
            let reply = try await group.ask(Group.Part(node: node, volumes: [volume.msid], step: step), of: svm.uuid)
            guard case .transfer(let status, let isDone) = reply.answer else { throw Group.strangeAnswer(step) }
            heard.statuses.withLock { $0[volume.msid] = status }
            if isDone { return status.transfer }
            try Task.checkCancellation()
        }
    }

    private func holder(of volume: VolumeMSID, _ svm: SVMDescription) async throws -> ObjectUUID {
        guard let node = try await group.members(of: svm.uuid).node(holding: volume) else {
            throw MigrateError(
                .failed,
                "there is no volume \(volume) on this cluster",
                remedy: "look at the aggregates and events of its nodes"
            )
        }
        return node
    }

    /// Begins the synchronous streams.
    package func startSynchronous(_ svm: SVMDescription) async throws {
        let parts = try await placed(svm).map { holding in
            let flows = svm.volumes.filter { holding.volumes.contains($0.msid) }.map {
                VolumeFlow(msid: $0.msid, source: $0.source)
            }
            return Group.Part(node: holding.node, volumes: holding.volumes, step: .startSynchronous(flows))
        }
        try await group.ask(parts, of: svm.uuid)
    }

    /// What the mirror of a volume was doing.
    package func mirrorStatus(of volume: VolumeMSID) -> VolumeMirrorStatus {
        let own = executor.mirrorStatus(of: volume)
        if own != .idle { return own }
        return heard.statuses.withLock { $0[volume] } ?? own
    }

    /// What the mirrors are doing.
    package func mirrorStatuses(of svm: SVMDescription) async throws -> [VolumeMSID: VolumeMirrorStatus] {
        let holdings = try await placed(svm)
        let parts = holdings.map { Group.Part(node: $0.node, volumes: $0.volumes, step: .mirrorStatuses) }
        var found: [VolumeMSID: VolumeMirrorStatus] = [:]
        for (holding, reply) in zip(holdings, try await group.ask(parts, of: svm.uuid)) {
            guard case .mirrorStatuses(let statuses) = reply.answer, statuses.count == holding.volumes.count else {
                throw Group.strangeAnswer(.mirrorStatuses)
            }
            for (volume, status) in zip(holding.volumes, statuses) { found[volume] = status }
        }
        heard.statuses.withLock { $0.merge(found) { _, new in new } }
        return found
    }

    /// The name of the node that holds a volume.
    package func nodeName(holding volume: VolumeMSID) -> String {
        let snapshot = group.controller.reconciledConfiguration
        let record = snapshot.volumes.first { $0.msid == volume }
        return record.flatMap { snapshot.node(holding: $0) }?.name ?? ""
    }

    /// Ends the mirrors and deletes what need not be retained.
    package func deleteMirrors(
        of svm: SVMDescription,
        namePrefix: String,
        retaining: SnapshotRetention,
        final: ObjectUUID?
    ) async throws {
        try await stopMirrors(svm.volumes.map(\.msid), of: svm)
        if retaining == .all { return }
        let except = retaining == .onlyFinal ? final : nil
        try await askHolders(.deleteSnapshotsNamed(prefix: namePrefix, except: except), svm)
    }

    /// Ends transfers and streams. A volume that is on no node has none.
    package func stopMirrors(_ volumes: [VolumeMSID], of svm: SVMDescription) async throws {
        let holdings = try await group.members(of: svm.uuid).holdings
        let parts = holdings.compactMap { holding -> Group.Part? in
            let own = holding.volumes.filter(volumes.contains)
            return own.isEmpty ? nil : Group.Part(node: holding.node, volumes: own, step: .stopMirrors)
        }
        try await group.ask(parts, of: svm.uuid)
        heard.statuses.withLock { statuses in for volume in volumes { statuses[volume] = nil } }
    }

    // MARK: - Cutover

    /// Waits for a snapshot, takes the protocol states over and makes the volumes read-write: one call for each node.
    package func promote(
        at snapshot: ObjectUUID,
        _ protocolState: [UInt8],
        of svm: SVMDescription,
        withinMilliseconds limit: UInt64
    ) async throws -> [VolumeMSID] {
        let step = GroupStep.promote(snapshot, withinMilliseconds: limit)
        _ = try await placed(svm)
        return try await group.askAll(step, of: svm.uuid, attachment: protocolState).flatMap { reply in
            guard case .missing(let volumes) = reply.answer else { throw Group.strangeAnswer(step) }
            return volumes
        }
    }

    /// Makes the volumes read-write or replicas again; the records follow with `recordServing`.
    package func setReplica(_ isReplica: Bool, of svm: SVMDescription) async throws {
        try await askHolders(.setReplica(isReplica), svm)
    }

    /// Deletes snapshots.
    package func deleteSnapshots(_ snapshots: [ObjectUUID], of svm: SVMDescription) async throws {
        try await askHolders(.deleteSnapshots(snapshots), svm)
    }

    /// Builds the faces of the SVM with their gates held.
    package func prepareToServe(_ svm: SVMDescription) async throws {
        _ = try await placed(svm)
        try await group.askAll(.prepareToServe, of: svm.uuid)
    }

    /// Drops the faces of the SVM.
    package func discardPrepared(_ svm: SVMDescription) async throws {
        try await group.askAll(.discardPrepared, of: svm.uuid)
    }

    /// Takes the protocol states over.
    package func importProtocolState(_ state: [UInt8], of svm: SVMDescription) async throws {
        try await group.askAll(.importState, of: svm.uuid, attachment: state)
    }

    /// Binds the enabled interfaces, each on its node.
    package func bindInterfaces(of svm: SVMDescription) async throws {
        let parts = try await group.members(of: svm.uuid).interfaces.map {
            Group.Part(node: $0.node, step: .bind($0.endpoints))
        }
        try await group.ask(parts, of: svm.uuid)
    }

    /// Opens the gates.
    package func openGate(of svm: SVMDescription) async throws { try await group.askAll(.open, of: svm.uuid) }

    /// When the clients were answered first.
    package func firstAnswers(of svm: SVMDescription) async throws -> [ClientAnswerAge] {
        try await group.askAll(.firstAnswers, of: svm.uuid).flatMap { reply in
            guard case .answers(let ages) = reply.answer else { throw Group.strangeAnswer(.firstAnswers) }
            return ages
        }
    }

    /// The hash of a snapshot.
    package func contentHash(
        of volume: VolumeMSID,
        in svm: SVMDescription,
        snapshot: ObjectUUID
    ) async throws -> String {
        try await group.contentHash(of: volume, in: svm.uuid, snapshot: snapshot)
    }

    /// The nodes that hold the volumes of the SVM.
    /// - Throws: when one of them is on no node.
    private func placed(_ svm: SVMDescription) async throws -> [GroupMembers.Holding] {
        let members = try await group.members(of: svm.uuid)
        if let missing = svm.volumes.first(where: { members.node(holding: $0.msid) == nil }) {
            throw MigrateError(
                .failed,
                "volume '\(missing.name)' is on no node of this cluster",
                remedy: "look at the volumes and events of the cluster; the step is tried again"
            )
        }
        return members.holdings
    }

    @discardableResult
    private func askHolders(_ step: GroupStep, _ svm: SVMDescription) async throws -> [GroupReply] {
        let parts = try await placed(svm).map { Group.Part(node: $0.node, volumes: $0.volumes, step: step) }
        return try await group.ask(parts, of: svm.uuid)
    }
}
