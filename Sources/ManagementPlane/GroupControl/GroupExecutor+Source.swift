import ClusterConfiguration
import HostNetwork
import Identity
import MigrateOperation
import Replication
import StorageControl
import VolumeEngine

// What a node of the source does.
extension GroupExecutor {
    func executeForSource(_ call: GroupCall) async throws -> GroupReply {
        switch call.step {
        case .describe: return try await describe(call)
        case .prepare: try await controller.prepareService(of: call.svm)
        case .endMirrors:
            let (listener, volumes) = (controller.replicationListener, call.volumes)
            for volume in volumes { listener?.disconnect(volume) }
        case .deleteStreamSnapshots: _ = try await forEach(volumes(of: call)) { try $0.deleteStreamSnapshots() }
        case .takeSnapshot(let snapshot):
            try await take(snapshot, call)
        case .mirrorStates: return GroupReply(.mirrorStates(mirrorStates(call.volumes)))
        case .holdAndDrain(_, let limit):
            try moveGate(call)
            return GroupReply(.drained(try await service(of: call.svm).executed(withinMilliseconds: limit)))
        case .seal(let snapshot, let attempt, let marks, let limit):
            return try await seal(snapshot, attempt, since: marks, limit, call)
        case .exportState(let marks):
            let (state, mark) = try service(of: call.svm).exportProtocolState(since: marks)
            return GroupReply(.exported(mark), attachment: state)
        case .surrenderInterfaces: try await controller.surrenderInterfaces(of: call.svm)
        case .releaseInterfaces: await controller.unbindInterfaces(of: call.svm)
        default: throw Self.unnamed
        }
        return GroupReply()
    }

    private func take(_ snapshot: OperationSnapshot, _ call: GroupCall) async throws {
        _ = try await forEach(volumes(of: call)) { try $0.createSnapshot(name: snapshot.name, uuid: snapshot.uuid) }
    }

    /// A volume that has gone to another node has no mirror here.
    private func mirrorStates(_ volumes: [VolumeMSID]) -> [MirrorState] {
        let listener = controller.replicationListener
        return volumes.map { listener?.mirrorState(of: $0) ?? .idle }
    }

    /// The snapshot needs nothing but that no node executes any more, so that it is taken beside the rest. The protocol state
    /// has the connections as they are when they are frozen.
    private func seal(
        _ snapshot: OperationSnapshot,
        _ attempt: UInt64,
        since marks: [ProtocolStateMark],
        _ limit: UInt64,
        _ call: GroupCall
    ) async throws -> GroupReply {
        let service = try service(of: call.svm)
        async let taken: Void = take(snapshot, call)
        let isAnswered = await service.answered(withinMilliseconds: limit)
        if isAnswered { try await freeze(service, call, attempt: attempt) }
        let (state, _) = service.exportProtocolState(since: marks)
        let ages = service.answerAges.map { ClientAnswerAge(client: $0.client, microseconds: $0.lastMicroseconds) }
        try await taken
        guard isAnswered else { return GroupReply(.sealed(nil)) }
        let part = SealedPart(lastAnswers: ages, mirrorStates: mirrorStates(call.volumes))
        return GroupReply(.sealed(part), attachment: state)
    }

    private func describe(_ call: GroupCall) async throws -> GroupReply {
        let records = try await controller.store.snapshot().volumes(of: call.svm)
        var uses: [VolumeUse] = []
        for msid in call.volumes {
            guard let record = records.first(where: { $0.msid == msid }) else { continue }
            do {
                let volume = try controller.openVolume(record)
                let used = try await controller.pool.run { volume.space().usedBytes }
                uses.append(
                    VolumeUse(
                        msid: msid,
                        usedBytes: used,
                        busiestOperationsPerSecond: controller.busiestOperationsPerSecond(of: record.uuid)
                    )
                )
            } catch let error as ManagementError {
                let finding = PrecheckFinding(code: MigrateCode.startFailed, error.message, remedy: error.remedy)
                uses.append(VolumeUse(msid: msid, usedBytes: 0, finding: finding))
            }
        }
        let connections = controller.service(of: call.svm)?.connectionCount ?? 0
        let answer = GroupAnswer.described(
            uses,
            connectionCount: UInt64(connections),
            holders: await holders(ofInterfacesOf: call.svm)
        )
        return GroupReply(answer)
    }

    /// Who holds the SVM's addresses on the host of this node, by interface; nil when the kernel does not say. A hint only: a
    /// destination that has none believes whoever answers.
    private func holders(ofInterfacesOf svm: ObjectUUID) async -> [String: InterfaceHolder]? {
        guard let host = controller.hostAddresses, let snapshot = try? await controller.store.snapshot(),
            let links = try? await host.links()
        else { return nil }
        var holders: [String: InterfaceHolder] = [:]
        for lif in snapshot.lifs(of: svm) where snapshot.node(serving: lif)?.uuid == controller.node.uuid {
            guard let place = lif.place else { continue }
            let (own, others) = (links.filter { $0.name == place.link }, links.filter { $0.name != place.link })
            holders[lif.name] = InterfaceHolder(
                hardwareAddresses: controller.isUp(lif)
                    ? (own + others).compactMap(\.hardwareAddress?.description) : [],
                vlan: own.first.map { $0.vlan ?? 0 }
            )
        }
        return holders
    }
}
