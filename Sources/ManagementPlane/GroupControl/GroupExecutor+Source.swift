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
            _ = try await forEach(volumes(of: call)) {
                try $0.createSnapshot(name: snapshot.name, uuid: snapshot.uuid)
            }
        case .mirrorStates:
            // A volume that has gone to another node has no mirror here.
            let listener = controller.replicationListener
            return GroupReply(.mirrorStates(call.volumes.map { listener?.mirrorState(of: $0) ?? .idle }))
        case .drain(let limit):
            return GroupReply(
                .drained(await controller.service(of: call.svm)?.executed(withinMilliseconds: limit) ?? true)
            )
        case .flush(let limit):
            guard let service = controller.service(of: call.svm) else { return GroupReply(.drained(true)) }
            let isAnswered = await service.answered(withinMilliseconds: limit)
            if isAnswered { await service.freeze(service.boundEndpoints) }
            return GroupReply(.drained(isAnswered))
        case .lastAnswers:
            let ages = try service(of: call.svm).answerAges.map {
                ClientAnswerAge(client: $0.client, microseconds: $0.lastMicroseconds)
            }
            return GroupReply(.answers(ages))
        case .exportState(let marks):
            let (state, mark) = try service(of: call.svm).exportProtocolState(since: marks)
            return GroupReply(.exported(mark), attachment: state)
        case .surrenderInterfaces: try await controller.surrenderInterfaces(of: call.svm)
        case .releaseInterfaces: await controller.unbindInterfaces(of: call.svm)
        default: throw Self.unnamed
        }
        return GroupReply()
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
