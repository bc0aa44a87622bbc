import ClusterConfiguration
package import Environment
package import Identity
package import MigrateOperation
import Replication
package import StorageControl
import Synchronization
import VolumeEngine

/// What a node does of group control: everything that concerns the volumes, the gate and the addresses that an SVM has on
/// this node. It decides nothing; the masters do.
package final class GroupExecutor: GroupNode {
    /// Answers calls of other clusters as the owner of their operations.
    package typealias OwnerAnswer = @Sendable (SourceCall) async throws -> SourceReply

    let controller: StorageController
    let waiting: Waiting
    let mirrors: MirrorTable
    private let fence = Mutex(GroupFence())
    private let owner = Mutex<OwnerAnswer?>(nil)
    /// The interfaces on this node of SVMs that are about to be served.
    let prepared = Mutex<[ObjectUUID: [LIFRecord]]>([:])
    let addressObstacle: @Sendable (_ address: String, _ port: Int) -> String?

    /// Makes it over the runtime of a node; `addressObstacle` says why an address cannot be listened on, nil when it can.
    package init(
        _ controller: StorageController,
        waiting: Waiting,
        addressObstacle: @escaping @Sendable (_ address: String, _ port: Int) -> String? = AddressProbe.obstacle
    ) {
        self.controller = controller
        self.waiting = waiting
        self.addressObstacle = addressObstacle
        mirrors = MirrorTable(controller, waiting)
    }

    /// Sets who answers calls of other clusters.
    package func answer(by answer: @escaping OwnerAnswer) { owner.withLock { $0 = answer } }

    /// Refuses from now on what is older than a record.
    package func note(_ record: SourceRecord) { fence.withLock { $0.note(record) } }

    /// Ends transfers and streams of volumes that leave this node.
    package func stopMirrors(_ volumes: [VolumeMSID]) async {
        // A mirror that does not end in time fails with its volume.
        for volume in volumes { try? await mirrors.stop(volume) }
    }

    /// What the mirror of a volume is doing; idle when it is not here.
    package func mirrorStatus(of volume: VolumeMSID) -> VolumeMirrorStatus { mirrors.status(of: volume) }

    /// Does what a master asks for.
    /// - Throws: `MigrateError`; what trying again cannot mend comes as `.refused`.
    package func send(_ call: GroupCall) async throws -> GroupReply {
        guard call.version == GroupCall.versionSpoken else {
            throw MigrateError(
                .wrongVersion,
                code: MigrateCode.wrongVersion,
                "the caller speaks version \(call.version) of group control, this node \(GroupCall.versionSpoken)",
                remedy: "run the same version of the software on all nodes"
            )
        }
        try admit(call)
        do {
            return try await execute(call)
        } catch let error as StorageError {
            throw MigrateError(storage: error)
        } catch let error as ManagementError {
            throw MigrateError(.failed, code: error.code, error.message, remedy: error.remedy)
        } catch let error as MigrateError {
            throw error
        } catch let error as CancellationError {
            throw error
        } catch {
            throw MigrateError(.failed, "\(error)", remedy: "mend the cause; the operation tries again by itself")
        }
    }

    /// Refuses a master that was superseded; to be asked again after a wait.
    func admit(_ call: GroupCall) throws {
        if let authority = call.authority { try fence.withLock { try $0.admit(authority) } }
    }

    private func execute(_ call: GroupCall) async throws -> GroupReply {
        switch call.step {
        case .release:
            prepared.withLock { $0[call.svm] = nil }
            controller.releaseService(of: call.svm)
            await controller.reconcile()
        case .reconcile(let objects):
            await controller.reconcile()
            for object in objects { if let failure = controller.failure(of: object) { throw failure } }
        case .deleteSnapshotsNamed(let prefix, let except):
            try await deleteSnapshots(of: call.volumes) { $0.name.hasPrefix(prefix) && $0.uuid != except }
        case .deleteSnapshots(let snapshots): try await deleteSnapshots(snapshots, of: call)
        case .contentHash(let snapshot):
            let volume = try oneVolume(call)
            let hash = try await controller.pool.run { try volume.contentHash(of: snapshot) }
            return GroupReply(.contentHash(contentHashText(hash)))
        case .reopen, .open: try moveGate(call)
        case .answer(let source):
            guard let owner = owner.withLock({ $0 }) else { throw Self.starting }
            let reply = try await owner(source)
            return GroupReply(.source(reply.answer), attachment: reply.attachment)
        case .createSnapshots(let name): return GroupReply(.snapshots(try await createSnapshots(named: name, call)))
        case .describe, .prepare, .endMirrors, .deleteStreamSnapshots, .takeSnapshot, .mirrorStates, .holdAndDrain,
            .seal, .exportState, .surrenderInterfaces, .releaseInterfaces:
            return try await executeForSource(call)
        case .survey, .probePorts, .transfer, .startSynchronous, .mirrorStatuses, .stopMirrors, .promote,
            .setReplica, .prepareToServe, .discardPrepared, .importState, .bind, .firstAnswers:
            return try await executeForDestination(call)
        }
        return GroupReply()
    }

    /// Moves the gate in one stroke with the question whether the master still may.
    func moveGate(_ call: GroupCall) throws {
        guard let authority = call.authority else { throw Self.unnamed }
        switch call.step {
        case .holdAndDrain(let attempt, _):
            let service = try service(of: call.svm)
            // A face that is not the operation's may be opened by others.
            guard controller.isOperated(call.svm) else { throw Self.notPrepared(call.svm) }
            try fence.withLock { fence in
                try fence.admitHold(authority, attempt: attempt)
                service.hold()
            }
        case .reopen(let attempt):
            // An SVM without a face has no gate to reopen.
            let service = controller.service(of: call.svm)
            try fence.withLock { fence in
                try fence.admitReopening(authority, attempt: attempt)
                service?.reopen()
            }
        default:
            let service = try service(of: call.svm)
            try fence.withLock { fence in
                try fence.admit(authority)
                service.reopen()
            }
        }
    }

    /// Freezes the connections of a held gate. A reopening that comes meanwhile finds nothing to thaw yet, so that its work is
    /// done again here.
    func freeze(_ service: any ClientService, _ call: GroupCall, attempt: UInt64) async throws {
        guard let authority = call.authority else { throw Self.unnamed }
        try fence.withLock { try $0.admitSeal(authority, attempt: attempt) }
        await service.freeze(service.boundEndpoints)
        try fence.withLock { fence in
            if fence.isReopened(authority, attempt: attempt) { service.reopen() }
            try fence.admitSeal(authority, attempt: attempt)
        }
    }

    // MARK: - Parts

    func service(of svm: ObjectUUID) throws -> any ClientService {
        guard let service = controller.service(of: svm) else { throw Self.notPrepared(svm) }
        return service
    }

    /// The volumes of a call. One that is not here has gone to another node, or its aggregate is not open yet.
    func volumes(of call: GroupCall) throws -> [Volume] { try call.volumes.map(volume) }

    func oneVolume(_ call: GroupCall) throws -> Volume {
        guard call.volumes.count == 1 else { throw Self.unnamed }
        return try volume(call.volumes[0])
    }

    func volume(_ msid: VolumeMSID) throws -> Volume {
        guard let volume = controller.volume(msid: msid) else {
            // One that is known is on its way: its former owner may hang for as long as it likes, and holds the lock so long.
            let isKnown = controller.reconciledConfiguration.volumes.contains { $0.msid == msid }
            throw MigrateError(
                isKnown ? .nodeAway : .failed,
                "volume \(msid) is not open on node '\(controller.node.name)'",
                remedy: "look at the aggregates and events of the node; the step is tried again"
            )
        }
        return volume
    }

    /// Runs a blocking deed for every volume at once.
    func forEach<Value: Sendable>(
        _ volumes: [Volume],
        _ body: @escaping @Sendable (Volume) throws -> Value
    ) async throws -> [Value] {
        try await withThrowingTaskGroup(of: (Int, Value).self) { group in
            for (index, volume) in volumes.enumerated() {
                group.addTask { (index, try await self.controller.pool.run { try body(volume) }) }
            }
            var values: [(Int, Value)] = []
            for try await value in group { values.append(value) }
            return values.sorted { $0.0 < $1.0 }.map(\.1)
        }
    }

    /// One volume after the other: it is work in the background.
    private func deleteSnapshots(
        of volumes: [VolumeMSID],
        where isMeant: @escaping @Sendable (Snapshot) -> Bool
    ) async throws {
        for msid in volumes {
            let volume = try volume(msid)
            try await controller.pool.run {
                for snapshot in volume.snapshots() where isMeant(snapshot) {
                    try volume.deleteSnapshotAfterTransfer(snapshot.uuid)
                }
            }
        }
    }

    private func deleteSnapshots(_ snapshots: [ObjectUUID], of call: GroupCall) async throws {
        let isDestination = call.authority?.side == .destination
        for volume in try volumes(of: call) {
            try await controller.pool.run {
                for snapshot in snapshots { try volume.deleteSnapshotAfterTransfer(snapshot) }
                // A volume that serves has no stream to come that would begin with one of these.
                if isDestination && !volume.isReplica { try volume.deleteStreamSnapshots() }
            }
        }
    }

    private func createSnapshots(named name: String, _ call: GroupCall) async throws -> [TakenSnapshot] {
        do {
            return try await controller.createSnapshots(ofSVM: call.svm, named: name, volumes: Set(call.volumes)).map {
                TakenSnapshot(
                    msid: $0.0.msid,
                    uuid: $0.1.uuid,
                    timeNanoseconds: $0.1.createTime.seconds * 1_000_000_000 + Int64($0.1.createTime.nanoseconds)
                )
            }
        } catch let error as ManagementError where error.kind != .failed && error.kind != .unavailable {
            throw MigrateError(
                error.kind == .invalid ? .invalid : .refused,
                code: error.code,
                error.message,
                remedy: error.remedy
            )
        }
    }

    // MARK: - Refusals

    static func notPrepared(_ svm: ObjectUUID) -> MigrateError {
        MigrateError(
            .failed,
            "SVM \(svm) is not prepared on a node that has a part of it",
            remedy: "start the SVM; the step is tried again"
        )
    }

    static let unnamed = MigrateError(
        .refused,
        "a call of group control does not say what it is about",
        remedy: "report this as a defect"
    )

    private static let starting = MigrateError(
        .nodeAway,
        "the node that owns the operation is starting",
        remedy: "nothing: it is asked again"
    )
}

extension MigrateError {
    /// What a failure of the storage means for an operation: trying again does not make room, and does not mend damage.
    init(storage error: StorageError) {
        switch error.code {
        case .noSpace, .damaged, .wrongOwner:
            self.init(.refused, code: MigrateCode.storageRefused, error.message, remedy: error.remedy)
        case .baselineLost:
            self.init(
                .baselineLost,
                code: MigrateCode.baselineLost,
                error.message,
                remedy: "resume the operation: the volume gets a new baseline"
            )
        case .notFound, .exists, .conflict, .inputOutput:
            self.init(.failed, error.message, remedy: error.remedy)
        }
    }
}
