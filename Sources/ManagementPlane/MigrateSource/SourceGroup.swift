import ClusterConfiguration
import ConfigurationReplication
import Environment
package import GroupControl
package import Identity
package import MigrateOperation
package import Replication
import ReplicatedDatabase
import StorageControl

/// The source side of a migrate over all nodes of its cluster: the master. What concerns the configuration it does itself;
/// what concerns volumes, gates and addresses it lets the nodes do that have them, all at once.
package struct SourceGroup: SourceStorage {
    private var group: Group
    private let executor: GroupExecutor

    /// Makes it over the nodes of a cluster; `executor` is that of this node.
    package init(_ group: Group, _ executor: GroupExecutor) {
        self.group = group
        self.executor = executor
    }

    /// The same for the owner of an operation.
    package func acting(as authority: GroupAuthority) -> any SourceStorage {
        var other = self
        other.group.authority = authority
        return other
    }

    /// Lets this node refuse what is older than a record.
    package func note(_ record: SourceRecord) { executor.note(record) }

    /// Answers a call through the owner of its operation.
    package func pass(_ call: SourceCall, of svm: ObjectUUID, to node: ObjectUUID) async throws -> SourceReply {
        let step = GroupStep.answer(call)
        let reply = try await group.ask(Group.Part(node: node, step: step), of: svm)
        guard case .source(let answer) = reply.answer else { throw Group.strangeAnswer(step) }
        return SourceReply(answer, attachment: reply.attachment)
    }

    // MARK: - Description

    /// Describes the SVM of a name and what speaks against moving it.
    package func describe(svmName: String) async throws -> (description: SVMDescription, findings: [PrecheckFinding])? {
        let snapshot = try await group.controller.store.snapshot()
        guard let svm = snapshot.svm(named: svmName), svm.state != .deleting, let cluster = snapshot.cluster else {
            return nil
        }
        var findings: [PrecheckFinding] = []
        let (uses, holders, connectionCount) = try await uses(of: svm.uuid, snapshot)
        var volumes: [VolumeDescription] = []
        let records = snapshot.volumes(of: svm.uuid).filter { $0.state != .deleting }
        for record in records {
            findings += Self.findings(of: record)
            guard let use = uses[record.msid] else { continue }
            if let finding = use.finding {
                findings.append(finding)
                continue
            }
            let node = snapshot.node(holding: record) ?? group.controller.node
            volumes.append(
                VolumeDescription(
                    uuid: record.uuid,
                    name: record.name,
                    msid: record.msid,
                    sizeBytes: record.sizeBytes,
                    isSpaceGuaranteed: record.guarantee == .volume,
                    usedBytes: use.usedBytes,
                    busiestOperationsPerSecond: use.busiestOperationsPerSecond,
                    source: VolumeSource(
                        nodeName: node.name,
                        endpoint: PeerEndpoint(address: node.replication.address, port: node.replication.port),
                        secret: node.replicationSecret
                    )
                )
            )
        }
        if svm.state != .running { findings.append(Self.notRunning(svm)) }
        let interfaces = snapshot.lifs(of: svm.uuid)
        let description = SVMDescription(
            uuid: svm.uuid,
            name: svm.name,
            clusterName: cluster.name,
            clusterUUID: cluster.uuid,
            protocolVersion: migrateProtocolVersion,
            services: snapshot.nodes.map(\.management),
            volumes: volumes,
            interfaces: interfaces.map {
                InterfaceDescription(name: $0.name, address: $0.address, port: $0.port, holder: holders[$0.name])
            },
            configuration: SVMConfiguration(
                svm: svm,
                exportPolicies: snapshot.exportPolicies(of: svm.uuid),
                volumes: records,
                interfaces: interfaces
            ),
            features: try await features(of: svm.uuid),
            connectionCount: connectionCount,
            ipSpaceName: svm.ipSpace.flatMap { snapshot.ipSpace($0)?.name }
        )
        return (description, findings)
    }

    /// What the SVM uses, by name: the kinds of its configuration objects, and snapshots, which come with every move.
    private func features(of svm: ObjectUUID) async throws -> [String] {
        let found = try await group.controller.store.database.range(prefix: ConfigurationKeys.svm(svm))
        let objects = ConfigurationFeed.baseline(of: svm, found.records, revision: found.revision).updates
        return try Set(objects.map { try $0.feature() } + ["snapshot"]).sorted()
    }

    /// What the nodes say of the volumes and of the addresses on their hosts, and how many clients all of them have.
    private func uses(
        of svm: ObjectUUID,
        _ snapshot: ConfigurationSnapshot
    ) async throws -> (uses: [VolumeMSID: VolumeUse], holders: [String: InterfaceHolder], connectionCount: UInt64) {
        let members = GroupMembers(of: svm, in: snapshot, own: group.controller.node.uuid)
        let parts = members.nodes.map {
            Group.Part(node: $0, volumes: members.volumes(on: $0), step: .describe)
        }
        var uses: [VolumeMSID: VolumeUse] = [:]
        var holders: [String: InterfaceHolder] = [:]
        var connectionCount: UInt64 = 0
        for reply in try await group.ask(parts, of: svm) {
            guard case .described(let found, let count, let told) = reply.answer else {
                throw Group.strangeAnswer(.describe)
            }
            holders.merge(told ?? [:]) { first, _ in first }
            for use in found { uses[use.msid] = use }
            connectionCount += count
        }
        return (uses, holders, connectionCount)
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

    private static func notRunning(_ svm: SVMRecord) -> PrecheckFinding {
        PrecheckFinding(
            code: MigrateCode.svmNotRunning,
            "SVM '\(svm.name)' is \(svm.state.rawValue) on the source",
            remedy: "start it, or move it when it runs"
        )
    }

    /// Whether this node has a part of the SVM.
    package func isConcerned(by svm: ObjectUUID) async throws -> Bool {
        let own = group.controller.node.uuid
        return GroupMembers(of: svm, in: try await group.controller.store.snapshot(), own: own).nodes.contains(own)
    }

    /// The name of an SVM.
    package func name(of svm: ObjectUUID) async throws -> String? {
        try await group.controller.store.snapshot().svm(svm)?.name
    }

    // MARK: - Configuration

    /// Marks the SVM as the source of an operation, or as one that takes part in none.
    package func setOperation(_ operation: ObjectUUID?, of svm: ObjectUUID) async throws {
        if operation == nil { try await group.askHolders(.deleteStreamSnapshots, of: svm) }
        try await edit(svm) { $0.migrateRole = operation == nil ? .none : .source }
    }

    /// Locks the configuration; a locked SVM's faces are the operation's, so that nothing else opens a gate of it.
    package func lockConfiguration(of svm: ObjectUUID, for operation: ObjectUUID) async throws {
        try await edit(svm) { $0.configurationLock = operation }
        // From here on the configuration of the SVM stands still, and what was read last is good for the window.
        await group.controller.reconcile()
        try await group.askAll(.prepare, of: svm)
    }

    /// Unlocks the configuration.
    package func unlockConfiguration(of svm: ObjectUUID, from operation: ObjectUUID) async throws {
        guard let record = try await group.controller.store.snapshot().svm(svm) else { return }
        guard record.configurationLock == nil || record.configurationLock == operation else { return }
        try await edit(svm) { if $0.configurationLock == operation { $0.configurationLock = nil } }
        // What was changed in the record while the face was the operation's takes effect now.
        try await group.askAll(.release, of: svm)
    }

    /// Records the SVM as stopped and locked.
    package func stop(_ svm: ObjectUUID, for operation: ObjectUUID) async throws {
        try await edit(svm) {
            $0.state = .stopped
            $0.configurationLock = operation
        }
        try await endMirrors(of: svm)
        try await group.askAll(.release, of: svm)
    }

    /// Deletes the SVM.
    package func deleteSVM(_ svm: ObjectUUID) async throws {
        guard let record = try await group.controller.store.snapshot().svm(svm) else { return }
        try await group.deleteSVM(svm, for: record.configurationLock ?? svm)
    }

    // MARK: - Volumes

    /// Ends the outgoing mirrors.
    package func endMirrors(of svm: ObjectUUID) async throws { try await group.askHolders(.endMirrors, of: svm) }

    /// Deletes the snapshots of an operation.
    package func deleteSnapshots(namePrefix: String, of svm: ObjectUUID) async throws {
        try await group.askHolders(.deleteSnapshotsNamed(prefix: namePrefix, except: nil), of: svm)
    }

    /// Takes a snapshot of every volume.
    package func takeSnapshot(_ snapshot: OperationSnapshot, of svm: ObjectUUID) async throws {
        try await group.askHolders(.takeSnapshot(snapshot), of: svm)
    }

    /// Deletes snapshots of every volume.
    package func deleteSnapshots(_ snapshots: [ObjectUUID], of svm: ObjectUUID) async throws {
        if !snapshots.isEmpty { try await group.askHolders(.deleteSnapshots(snapshots), of: svm) }
    }

    /// The states of the outgoing mirrors.
    package func mirrorStates(of svm: ObjectUUID) async throws -> [VolumeMSID: MirrorState] {
        let holdings = try await group.members(of: svm).holdings
        let parts = holdings.map { Group.Part(node: $0.node, volumes: $0.volumes, step: .mirrorStates) }
        var found: [VolumeMSID: MirrorState] = [:]
        for (holding, reply) in zip(holdings, try await group.ask(parts, of: svm)) {
            guard case .mirrorStates(let states) = reply.answer, states.count == holding.volumes.count else {
                throw Group.strangeAnswer(.mirrorStates)
            }
            for (volume, state) in zip(holding.volumes, states) { found[volume] = state }
        }
        return found
    }

    /// The hash of a snapshot.
    package func contentHash(of volume: VolumeMSID, in svm: ObjectUUID, snapshot: ObjectUUID) async throws -> String {
        try await group.contentHash(of: volume, in: svm, snapshot: snapshot)
    }

    // MARK: - Gate

    /// Holds the gates and drains what is executed. A node need not wait for the gates of the others: what they still send
    /// it is held there.
    package func holdGate(of svm: ObjectUUID, attempt: UInt64, drainMilliseconds: UInt64) async throws -> Bool {
        let step = GroupStep.holdAndDrain(attempt: attempt, withinMilliseconds: drainMilliseconds)
        return try await group.askAll(step, of: svm).allSatisfy { reply in
            guard case .drained(let isDrained) = reply.answer else { throw Group.strangeAnswer(step) }
            return isDrained
        }
    }

    /// Seals the service on all nodes at once. Each answer has come to the node that has the client before, which is why
    /// this is a call of its own.
    package func seal(
        _ svm: ObjectUUID,
        _ snapshot: OperationSnapshot,
        attempt: UInt64,
        since marks: [ProtocolStateMark],
        withinMilliseconds limit: UInt64
    ) async throws -> SealedService? {
        let step = GroupStep.seal(snapshot, attempt: attempt, since: marks, withinMilliseconds: limit)
        let members = try await group.members(of: svm)
        let parts = members.nodes.map { Group.Part(node: $0, volumes: members.volumes(on: $0), step: step) }
        let replies = try await group.ask(parts, of: svm)
        var sealed = SealedService(protocolState: [], lastAnswers: [], mirrorStates: [:])
        for (part, reply) in zip(parts, replies) {
            guard case .sealed(let found) = reply.answer else { throw Group.strangeAnswer(step) }
            guard let found else { return nil }
            guard found.mirrorStates.count == part.volumes.count else { throw Group.strangeAnswer(step) }
            sealed.lastAnswers += found.lastAnswers
            for (volume, state) in zip(part.volumes, found.mirrorStates) { sealed.mirrorStates[volume] = state }
        }
        sealed.protocolState = ProtocolStateParts.joined(replies.map(\.attachment))
        return sealed
    }

    /// The protocol states of all nodes.
    package func exportProtocolState(
        of svm: ObjectUUID,
        since marks: [ProtocolStateMark]
    ) async throws -> (state: [UInt8], marks: [ProtocolStateMark]) {
        let step = GroupStep.exportState(since: marks)
        let replies = try await group.askAll(step, of: svm)
        let reached = try replies.map { reply in
            guard case .exported(let mark) = reply.answer else { throw Group.strangeAnswer(step) }
            return mark
        }
        return (ProtocolStateParts.joined(replies.map(\.attachment)), reached)
    }

    /// Opens the gates again.
    package func reopenGate(of svm: ObjectUUID, attempt: UInt64) async throws {
        try await group.askAll(.reopen(attempt: attempt), of: svm)
    }

    /// Takes the addresses of the hosts away from them, on the nodes that have any. A node that does not answer is not waited
    /// for: past the point of no return the destination must serve, and `stop` is repeated until that node has done it.
    package func surrenderInterfaces(of svm: ObjectUUID) async throws {
        let snapshot = try await group.configuration(of: svm)
        let own = group.controller.node.uuid
        let nodes = snapshot.lifs(of: svm).filter { $0.place != nil }.map { snapshot.node(serving: $0)?.uuid ?? own }
        let parts = Set(nodes).sorted().map { Group.Part(node: $0, step: .surrenderInterfaces) }
        do {
            try await group.ask(parts, of: svm)
        } catch let error as MigrateError where error.kind == .nodeAway {
            group.controller.events.record(
                name: "lif.leftover",
                severity: "error",
                "addresses of SVM \(svm) may stay on a node that does not answer: \(error)"
            )
        }
    }

    /// Closes listeners and connections.
    package func releaseInterfaces(of svm: ObjectUUID) async throws {
        try await group.askAll(.releaseInterfaces, of: svm)
    }

    /// Changes the SVM's record on the runtime's own behalf; absent is no error.
    private func edit(_ svm: ObjectUUID, _ body: (inout SVMRecord) -> Void) async throws {
        _ = try await group.controller.store.change(as: .system) { draft throws(ManagementError) in
            guard var record = draft.snapshot.svm(svm) else { return }
            let before = record
            body(&record)
            if record != before { try draft.putSVM(record) }
        }
    }
}
