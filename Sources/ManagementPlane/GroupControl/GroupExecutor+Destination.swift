import Bytes
import ClusterConfiguration
import Environment
import HostNetwork
import Identity
import MigrateOperation
import Replication
import StorageControl
import Synchronization
import VolumeEngine

// What a node of the destination does.
extension GroupExecutor {
    /// How often it is looked whether a snapshot has come.
    private static let snapshotPollNanoseconds: UInt64 = 500_000

    func executeForDestination(_ call: GroupCall) async throws -> GroupReply {
        switch call.step {
        case .survey(let interfaces): return GroupReply(.survey(try await survey(interfaces, call)))
        case .probePorts(let addresses, let limit):
            return GroupReply(.ports(try await probePorts(addresses, withinMilliseconds: limit)))
        case .transfer(let flow, let snapshot, let throttle, let wait):
            let (status, isDone) = try await mirrors.transfer(
                flow,
                into: volume(flow.msid),
                upTo: snapshot,
                throttleBytesPerSecond: throttle,
                waitMilliseconds: wait
            )
            return GroupReply(.transfer(status, isDone: isDone))
        case .startSynchronous(let flows):
            for flow in flows { try await mirrors.startSynchronous(flow, into: volume(flow.msid)) }
        case .mirrorStatuses: return GroupReply(.mirrorStatuses(call.volumes.map { mirrors.status(of: $0) }))
        case .stopMirrors: for volume in call.volumes { try await mirrors.stop(volume) }
        case .promote(let snapshot, let limit):
            let missing = try await wait(for: snapshot, limit, call)
            // A successor may have made replicas of the volumes again meanwhile.
            try admit(call)
            if missing.isEmpty {
                try importState(call)
                try await setReplica(false, call)
            }
            return GroupReply(.missing(missing))
        case .setReplica(let isReplica): try await setReplica(isReplica, call)
        case .prepareToServe:
            try await controller.prepareService(of: call.svm).hold()
            try await controller.configureService(of: call.svm)
            try await prepareInterfaces(of: call.svm)
        case .discardPrepared:
            prepared.withLock { $0[call.svm] = nil }
            await controller.unbindInterfaces(of: call.svm)
            controller.releaseService(of: call.svm)
            // The record says stopped, so that this closes the face.
            await controller.reconcile()
        case .importState: try importState(call)
        case .bind(let endpoints):
            let service = try service(of: call.svm)
            for lif in try await interfaces(of: call.svm) where endpoints.contains(lif.endpoint) {
                try await controller.bringUp(lif, on: service, isTakenOver: true)
            }
        case .firstAnswers:
            let ages = try service(of: call.svm).answerAges.map {
                ClientAnswerAge(client: $0.client, microseconds: $0.firstMicroseconds)
            }
            return GroupReply(.answers(ages))
        default: throw Self.unnamed
        }
        return GroupReply()
    }

    private func setReplica(_ isReplica: Bool, _ call: GroupCall) async throws {
        _ = try await forEach(volumes(of: call)) { try $0.setReplica(isReplica) }
    }

    /// Does for the SVM's addresses on this node what can be done before they come.
    private func prepareInterfaces(of svm: ObjectUUID) async throws {
        let snapshot = try await controller.store.snapshot()
        let own = snapshot.lifs(of: svm).filter { snapshot.node(serving: $0)?.uuid == controller.node.uuid }
        prepared.withLock { $0[svm] = own }
        for lif in own where lif.isEnabled { try await controller.prepare(lif, on: service(of: svm)) }
    }

    /// The SVM's interfaces on this node; in the window without asking the database.
    private func interfaces(of svm: ObjectUUID) async throws -> [LIFRecord] {
        if let known = prepared.withLock({ $0[svm] }) { return known }
        return try await controller.store.snapshot().lifs(of: svm)
    }

    private func survey(_ interfaces: [LIFRecord], _ call: GroupCall) async throws -> NodeSurvey {
        var rooms: [NodeSurvey.Room] = []
        for record in try await controller.store.snapshot().aggregates {
            guard let aggregate = controller.aggregate(record.uuid) else { continue }
            let available = try await controller.pool.run { aggregate.space().availableBytes }
            rooms.append(NodeSurvey.Room(aggregate: record.uuid, availableBytes: available))
        }
        var obstacles: [String: String] = [:]
        for interface in interfaces {
            obstacles[interface.name] =
                interface.place == nil
                ? addressObstacle(interface.address, interface.port)
                : "the node that asks is of an older version of the software than node '\(controller.node.name)'"
        }
        return NodeSurvey(
            rooms: rooms,
            obstacles: obstacles,
            present: call.volumes.filter { controller.volume(msid: $0) != nil }
        )
    }

    /// The ports of this node's host, and who answers on those that are in use for some addresses. All ports at once.
    private func probePorts(_ addresses: [String], withinMilliseconds limit: UInt64) async throws -> [ProbedPort] {
        let ports = try await controller.ownPorts()
        let asked = Set(addresses.compactMap { HostAddress($0) })
        guard !asked.isEmpty, let host = controller.hostAddresses else { return ports.map { ProbedPort($0) } }
        return await withTaskGroup(of: ProbedPort.self) { group in
            for port in ports {
                group.addTask {
                    if port.obstacle != nil { return ProbedPort(port) }
                    do throws(ManagementError) {
                        let found = try await host.holders(
                            of: asked,
                            on: port.name,
                            withinMilliseconds: Int(clamping: limit)
                        )
                        let answers = found.map { ($0.key.description, $0.value.map(\.description).sorted()) }
                        return ProbedPort(port, answers: Dictionary(uniqueKeysWithValues: answers))
                    } catch {
                        return ProbedPort(port, failure: error.message)
                    }
                }
            }
            var probed: [ProbedPort] = []
            for await port in group { probed.append(port) }
            return probed.sorted { $0.port.name < $1.port.name }
        }
    }

    private func importState(_ call: GroupCall) throws {
        let service = try service(of: call.svm)
        do {
            for part in try ProtocolStateParts.parts(of: call.attachment) { try service.importProtocolState(part) }
        } catch let error as ByteFormatError {
            throw MigrateError(
                .failed,
                "the protocol state of the SVM cannot be taken over: \(error)",
                remedy: "let the operation return to its transfer phase and try the cutover again"
            )
        }
    }

    /// Waits until all volumes have a snapshot, or the time is over.
    private func wait(for snapshot: ObjectUUID, _ limit: UInt64, _ call: GroupCall) async throws -> [VolumeMSID] {
        let deadline = controller.environment.monotonicNanoseconds() + limit * 1_000_000
        var missing = call.volumes
        while true {
            missing = try missing.filter { msid in
                try !volume(msid).snapshots().contains { $0.uuid == snapshot }
            }
            if missing.isEmpty || controller.environment.monotonicNanoseconds() >= deadline { return missing }
            try await waiting.nanoseconds(Self.snapshotPollNanoseconds)
        }
    }
}
