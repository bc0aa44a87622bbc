import ClusterConfiguration
import ConfigurationReplication
import GroupControl
package import Identity
package import MigrateOperation
import Performance
import ReplicatedDatabase
import StorageControl

// What is made on the destination before anything is transferred, and what is recorded when it serves.
extension DestinationGroup {
    /// Finds what speaks against receiving the SVM, on any node, and places its volumes and interfaces.
    package func precheck(
        _ svm: SVMDescription,
        _ options: MigrationOptions
    ) async throws -> (findings: [PrecheckFinding], svm: SVMDescription, decisions: [PlacementDecision]) {
        let snapshot = try await group.controller.store.snapshot()
        var svm = svm
        var findings = DestinationPrecheck.collisions(of: svm, with: snapshot)
        let loopback = svm.configuration.interfaces.filter { $0.place == nil }
        let surveys = try await surveys(svm.uuid, svm.volumes.map(\.msid), loopback)
        let present = Set(surveys.flatMap(\.survey.present))
        for volume in svm.volumes where present.contains(volume.msid) {
            findings.append(
                PrecheckFinding(
                    code: MigrateCode.volumeCollision,
                    "this cluster has a volume with the identity of '\(volume.name)' (MSID \(volume.msid))",
                    remedy: "delete what an earlier operation left behind"
                )
            )
        }
        let candidates = await candidates(surveys, snapshot, options)
        let placed = VolumePlacement.place(svm.volumes, on: candidates, tier: options.tier)
        findings += placed.findings
        svm.volumes = placed.volumes
        let space = DestinationPrecheck.ipSpace(of: svm, options, snapshot)
        svm.destinationIPSpace = space.ipSpace
        // Where there is no IP space, there is no port in it.
        if let finding = space.finding { return (findings + [finding], svm, placed.decisions) }
        let interfaces = try await placeInterfaces(of: svm, options)
        svm.interfaces = interfaces.interfaces
        findings += interfaces.findings
        for interface in svm.interfaces {
            guard let node = interface.destination?.node,
                let obstacle = surveys.first(where: { $0.node.uuid == node })?.survey.obstacles[interface.name]
            else { continue }
            let name = snapshot.node(node)?.name ?? ""
            findings.append(
                PrecheckFinding(
                    code: MigrateCode.interfaceAddress,
                    "interface '\(interface.name)' cannot use \(interface.address):\(interface.port) on node '\(name)': \(obstacle)",
                    remedy: "free the address and port, or give this node an address in the same subnet"
                )
            )
        }
        return (findings, svm, placed.decisions + interfaces.decisions)
    }

    /// Places volumes on the aggregates that may be used, of all nodes that are up.
    func place(
        _ volumes: [VolumeDescription],
        _ options: MigrationOptions
    ) async throws -> (findings: [PrecheckFinding], volumes: [VolumeDescription]) {
        let snapshot = try await group.controller.store.snapshot()
        let surveys = try await surveys(ObjectUUID(high: 0, low: 0), [], [])
        let candidates = await candidates(surveys, snapshot, options)
        let placed = VolumePlacement.place(volumes, on: candidates, tier: options.tier)
        return (placed.findings, placed.volumes)
    }

    /// What the nodes that are up could take. One that does not answer takes nothing.
    func surveys(
        _ svm: ObjectUUID,
        _ volumes: [VolumeMSID],
        _ interfaces: [LIFRecord]
    ) async throws -> [(node: NodeRecord, survey: NodeSurvey)] {
        let up = try await group.controller.namesOfNodesUp()
        let nodes = try await group.controller.store.snapshot().nodes.filter { up.contains($0.name) }
        let step = GroupStep.survey(interfaces: interfaces)
        var surveys: [(node: NodeRecord, survey: NodeSurvey)] = []
        for node in nodes {
            do {
                let reply = try await group.ask(Group.Part(node: node.uuid, volumes: volumes, step: step), of: svm)
                guard case .survey(let survey) = reply.answer else { throw Group.strangeAnswer(step) }
                surveys.append((node, survey))
            } catch let error as MigrateError where error.kind == .nodeAway {
                continue
            }
        }
        return surveys
    }

    /// All aggregates of the cluster; those that cannot be used, with the reason.
    private func candidates(
        _ surveys: [(node: NodeRecord, survey: NodeSurvey)],
        _ snapshot: ConfigurationSnapshot,
        _ options: MigrationOptions
    ) async -> [AggregateCandidate] {
        // Without it all are judged by their space alone: what is known of load is no reason to fail.
        let performance = try? await group.controller.clusterPerformance()
        let rooms = surveys.flatMap(\.survey.rooms)
        return snapshot.aggregates.map { record in
            let room = rooms.first { $0.aggregate == record.uuid }
            let node = snapshot.node(record.node)?.name ?? record.node.description
            let isListed = options.aggregates.isEmpty || options.aggregates.contains(record.uuid)
            let absence = room == nil ? "node '\(node)' does not have it open, or does not answer" : nil
            return AggregateCandidate(
                aggregate: record.uuid,
                name: record.name,
                availableBytes: room?.availableBytes ?? 0,
                tier: record.tier,
                headroom: performance?.headroom(of: record.uuid, on: record.node) ?? .unknown(.tooFewSamples),
                refusal: isListed ? absence : "it is not among the aggregates that may be used"
            )
        }
    }

    /// The nodes that hold placed volumes; the own one when there are none.
    static func nodes(
        of volumes: [VolumeDescription],
        _ snapshot: ConfigurationSnapshot,
        own: ObjectUUID
    ) -> [ObjectUUID] {
        let nodes = Set(volumes.compactMap { $0.destinationAggregate.flatMap { snapshot.aggregate($0)?.node } })
        return nodes.isEmpty ? [own] : nodes.sorted()
    }

    /// Deletes replicas.
    package func removeVolumes(
        _ volumes: [VolumeDescription],
        of svm: SVMDescription,
        for operation: ObjectUUID
    ) async throws {
        if volumes.isEmpty { return }
        let nodes = try await group.members(of: svm.uuid).holdings.map(\.node)
        try await group.controller.change(as: .operation(operation)) { draft throws(ManagementError) in
            guard draft.snapshot.svm(svm.uuid)?.configurationLock == operation else { return }
            for volume in volumes where draft.snapshot.volume(volume.uuid) != nil {
                try draft.deleteVolume(volume.uuid)
            }
        }
        try await reconcile(nodes, volumes.map(\.uuid), svm)
    }

    /// Lets nodes make the configuration so, and fails when one of some objects could not be made so.
    func reconcile(_ nodes: [ObjectUUID], _ objects: [ObjectUUID], _ svm: SVMDescription) async throws {
        let parts = nodes.map { Group.Part(node: $0, step: .reconcile(objects: objects)) }
        try await group.ask(parts, of: svm.uuid)
    }

    /// Deletes what was made for the operation.
    package func deleteSVM(_ svm: SVMDescription, for operation: ObjectUUID) async throws {
        try await forgetPosition(of: svm.uuid, for: operation)
        guard let record = try await group.controller.store.snapshot().svm(svm.uuid),
            record.configurationLock == operation
        else { return }
        try await stopMirrors(svm.volumes.map(\.msid), of: svm)
        try await group.deleteSVM(svm.uuid, for: operation)
    }

    /// Records the SVM as running, then gives its faces back to the nodes' configuration.
    package func recordServing(_ svm: SVMDescription, for operation: ObjectUUID) async throws {
        try await group.controller.change(as: .operation(operation)) { draft throws(ManagementError) in
            for volume in draft.snapshot.volumes(of: svm.uuid) where volume.isReplica {
                var record = volume
                record.isReplica = false
                try draft.putVolume(record)
            }
            guard var record = draft.snapshot.svm(svm.uuid) else { throw .notFound("SVM", svm.name) }
            record.state = .running
            record.migrateRole = .none
            record.configurationLock = nil
            guard record != draft.snapshot.svm(svm.uuid) else { return }
            try draft.putSVM(record)
            // From here on the configuration is this cluster's own.
            draft.also(.delete(key: ConfigurationPosition.key(of: svm.uuid)))
        }
        try await group.askAll(.release, of: svm.uuid)
    }
}
