package import ClusterConfiguration
package import Identity
package import MigrateOperation
package import Replication

/// The side of an operation that a call is made for: a cluster may be the source of one and the destination of another.
package enum GroupSide: String, Codable, Sendable {
    /// The SVM leaves this cluster.
    case source
    /// The SVM comes to this cluster.
    case destination
}

/// On whose behalf a node is asked to do something: nodes refuse a master that another one has superseded.
package struct GroupAuthority: Codable, Hashable, Sendable {
    /// The operation.
    package var operation: ObjectUUID
    /// Its side on this cluster.
    package var side: GroupSide
    /// The master's epoch: that of the orchestrator, or of the owner of the source's record.
    package var epoch: UInt64

    /// Makes an authority.
    package init(operation: ObjectUUID, side: GroupSide, epoch: UInt64) {
        self.operation = operation
        self.side = side
        self.epoch = epoch
    }
}

/// A volume and where it is fetched from.
package struct VolumeFlow: Codable, Equatable, Sendable {
    /// The volume, the same on both sides.
    package var msid: VolumeMSID
    /// The node that holds it on the source.
    package var source: VolumeSource

    /// Makes a flow.
    package init(msid: VolumeMSID, source: VolumeSource) {
        self.msid = msid
        self.source = source
    }
}

/// What a node is asked to do with its part of an SVM: one call per node and step, whatever the number of volumes. Each
/// may be repeated.
package enum GroupStep: Codable, Equatable, Sendable {
    // Both sides.
    /// Lets the configuration decide again about the face of the SVM.
    case release
    /// Makes the configuration so, and tells what of these objects failed.
    case reconcile(objects: [ObjectUUID])
    /// Deletes the snapshots whose names begin with a prefix, save one.
    case deleteSnapshotsNamed(prefix: String, except: ObjectUUID?)
    /// Deletes snapshots; absent ones are no error.
    case deleteSnapshots([ObjectUUID])
    /// The hash over a full walk of a snapshot of the one volume.
    case contentHash(snapshot: ObjectUUID)

    // The source.
    /// What the volumes use, and how many clients are connected.
    case describe
    /// Takes the face of the SVM over for an operation, as it is.
    case prepare
    /// Ends outgoing mirrors.
    case endMirrors
    /// Deletes what synchronous streams have left.
    case deleteStreamSnapshots
    /// Takes a snapshot of each volume.
    case takeSnapshot(OperationSnapshot)
    /// The states of the outgoing mirrors.
    case mirrorStates
    /// Holds the gate for a cutover, and waits until nothing is executed here and the answers have left to the nodes that
    /// wait for them.
    case holdAndDrain(attempt: UInt64, withinMilliseconds: UInt64)
    /// Waits until the clients have acknowledged all that was answered, here or by other nodes, and freezes their connections.
    /// Meanwhile takes the final snapshot of each volume. The protocol state since marks is the reply's attachment.
    case seal(OperationSnapshot, attempt: UInt64, since: [ProtocolStateMark], withinMilliseconds: UInt64)
    /// The protocol state since marks; it is the reply's attachment.
    case exportState(since: [ProtocolStateMark])
    /// Opens the gate after a cutover was given up.
    case reopen(attempt: UInt64)
    /// Takes the addresses of the host away from it without a packet; those of the loopback stay.
    case surrenderInterfaces
    /// Closes listeners and connections.
    case releaseInterfaces
    /// Answers a call of the other cluster, as the owner of its operation.
    case answer(SourceCall)

    // The destination.
    /// What the node could take, and whether it could listen at interfaces in 127.0.0.0/8.
    case survey(interfaces: [LIFRecord])
    /// The ports of the node's host, and who answers there for addresses. Nodes of older versions refuse it as unreadable.
    case probePorts(addresses: [String], withinMilliseconds: UInt64)
    /// Transfers the one volume up to a snapshot, or goes on with it, and tells how far it is after a while at the latest.
    case transfer(VolumeFlow, upTo: ObjectUUID, throttleBytesPerSecond: UInt64, waitMilliseconds: UInt64)
    /// Begins synchronous streams.
    case startSynchronous([VolumeFlow])
    /// What the mirrors are doing.
    case mirrorStatuses
    /// Ends transfers and streams.
    case stopMirrors
    /// Waits until the volumes have a snapshot, and tells which have not. When all have it, takes over the protocol state,
    /// which is the call's attachment, and makes the volumes read-write.
    case promote(ObjectUUID, withinMilliseconds: UInt64)
    /// Makes the volumes replicas, or read-write.
    case setReplica(Bool)
    /// Builds the face of the SVM with its gate held.
    case prepareToServe
    /// Drops that face.
    case discardPrepared
    /// Takes over the protocol state, which is the call's attachment.
    case importState
    /// Binds addresses.
    case bind([NetworkEndpoint])
    /// Opens the gate.
    case open
    /// How long ago the clients were answered first.
    case firstAnswers

    // Users.
    /// Takes a snapshot of that name of each volume, none when one of them cannot be taken.
    case createSnapshots(named: String)

    /// How long the master waits for an answer.
    package var patienceMilliseconds: UInt64 {
        switch self {
        case .holdAndDrain(_, let limit), .promote(_, let limit): limit + 5_000
        // As long as other snapshots may take.
        case .seal(_, _, _, let limit): limit + 60_000
        case .transfer(_, _, _, let wait): wait + 5_000
        case .probePorts(_, let limit): limit + 5_000
        // The destination waits for the answer to the point of no return for 3 s.
        case .surrenderInterfaces: 1_500
        case .takeSnapshot, .createSnapshots, .reconcile, .release: 60_000
        case .deleteSnapshots, .deleteSnapshotsNamed, .deleteStreamSnapshots: 600_000
        case .contentHash: 3_600_000
        case .answer(let call): call.request.patienceMilliseconds
        default: 5_000
        }
    }
}

/// What a node is asked.
package struct GroupCall: Codable, Equatable, Sendable {
    /// The version of these calls that the caller speaks; nodes of one cluster may be of two versions for a while.
    package var version = Self.versionSpoken
    /// On whose behalf; nil for what changes nothing of an operation.
    package var authority: GroupAuthority?
    /// The SVM.
    package var svm: ObjectUUID
    /// The volumes that the caller knows the node to hold, and that it is about.
    package var volumes: [VolumeMSID]
    /// What to do.
    package var step: GroupStep
    /// Bytes that go beside it without being encoded.
    package var attachment: [UInt8] = []

    /// The version of this software.
    package static let versionSpoken = 1

    private enum CodingKeys: String, CodingKey { case version, authority, svm, volumes, step }

    /// Makes a call.
    package init(
        authority: GroupAuthority?,
        svm: ObjectUUID,
        volumes: [VolumeMSID] = [],
        step: GroupStep,
        attachment: [UInt8] = []
    ) {
        self.authority = authority
        self.svm = svm
        self.volumes = volumes
        self.step = step
        self.attachment = attachment
    }
}

/// What a node says of a volume that is to be described.
package struct VolumeUse: Codable, Equatable, Sendable {
    /// The volume.
    package var msid: VolumeMSID
    /// Bytes in use.
    package var usedBytes: UInt64
    /// Requests per second of its busiest interval lately; nil when the node has not measured it.
    package var busiestOperationsPerSecond: Double?
    /// Why it cannot be moved; nil when nothing is in the way.
    package var finding: PrecheckFinding?

    /// Makes a use.
    package init(
        msid: VolumeMSID,
        usedBytes: UInt64,
        busiestOperationsPerSecond: Double? = nil,
        finding: PrecheckFinding? = nil
    ) {
        self.msid = msid
        self.usedBytes = usedBytes
        self.busiestOperationsPerSecond = busiestOperationsPerSecond
        self.finding = finding
    }
}

/// What a node could take of an SVM that comes.
package struct NodeSurvey: Codable, Equatable, Sendable {
    /// An aggregate that is open there.
    package struct Room: Codable, Equatable, Sendable {
        /// Its identity.
        package var aggregate: ObjectUUID
        /// Bytes that are free.
        package var availableBytes: UInt64
    }

    /// Its aggregates.
    package var rooms: [Room]
    /// Interfaces whose addresses it cannot use, with the reason.
    package var obstacles: [String: String]
    /// Always empty: masters of older versions cannot read a survey without it.
    package var ports: [String: String] = [:]
    /// Volumes of those identities that it has already.
    package var present: [VolumeMSID]

    /// Makes a survey.
    package init(rooms: [Room], obstacles: [String: String], present: [VolumeMSID]) {
        self.rooms = rooms
        self.obstacles = obstacles
        self.present = present
    }
}

/// A port of a node's host and what was heard there.
package struct ProbedPort: Codable, Equatable, Sendable {
    /// The port.
    package var port: NodePort
    /// The Ethernet addresses that answered, in order, by the address that was asked for.
    package var answers: [String: [String]]
    /// Why nothing could be asked there; nil when it could.
    package var failure: String?

    /// Makes one.
    package init(_ port: NodePort, answers: [String: [String]] = [:], failure: String? = nil) {
        self.port = port
        self.answers = answers
        self.failure = failure
    }
}

/// What a node says of its part of a service that is sealed.
package struct SealedPart: Codable, Equatable, Sendable {
    /// How long ago the clients were answered last.
    package var lastAnswers: [ClientAnswerAge]
    /// The states of the outgoing mirrors after the snapshot, in the order of the call's volumes.
    package var mirrorStates: [MirrorState]

    /// Makes one.
    package init(lastAnswers: [ClientAnswerAge], mirrorStates: [MirrorState]) {
        self.lastAnswers = lastAnswers
        self.mirrorStates = mirrorStates
    }
}

/// A snapshot that was taken for a user.
package struct TakenSnapshot: Codable, Equatable, Sendable {
    /// Of which volume.
    package var msid: VolumeMSID
    /// Its identity.
    package var uuid: ObjectUUID
    /// When, in nanoseconds since 1970.
    package var timeNanoseconds: Int64

    /// Makes one.
    package init(msid: VolumeMSID, uuid: ObjectUUID, timeNanoseconds: Int64) {
        self.msid = msid
        self.uuid = uuid
        self.timeNanoseconds = timeNanoseconds
    }
}

/// What a node answers.
package enum GroupAnswer: Codable, Equatable, Sendable {
    /// Done; nothing more to say.
    case done
    /// To `describe`. Nodes of older versions tell no holders of addresses.
    case described([VolumeUse], connectionCount: UInt64, holders: [String: InterfaceHolder]? = nil)
    /// To `mirrorStates`, in the order of the call's volumes.
    case mirrorStates([MirrorState])
    /// To `holdAndDrain`: whether it was done in time.
    case drained(Bool)
    /// To `seal`; nil when the clients have not acknowledged their answers in time.
    case sealed(SealedPart?)
    /// To `exportState`: how far; the state is the attachment.
    case exported(ProtocolStateMark)
    /// To `firstAnswers`.
    case answers([ClientAnswerAge])
    /// To `contentHash`: sixteen hexadecimal digits.
    case contentHash(String)
    /// To `answer`; its attachment is the reply's.
    case source(SourceAnswer)
    /// To `survey`.
    case survey(NodeSurvey)
    /// To `probePorts`, by name.
    case ports([ProbedPort])
    /// To `transfer`: how far it is, and whether it is done.
    case transfer(VolumeMirrorStatus, isDone: Bool)
    /// To `mirrorStatuses`, in the order of the call's volumes.
    case mirrorStatuses([VolumeMirrorStatus])
    /// To `promote`: the volumes without the snapshot.
    case missing([VolumeMSID])
    /// To `createSnapshots`.
    case snapshots([TakenSnapshot])
}

/// An answer and the bytes that go beside it without being encoded.
package struct GroupReply: Equatable, Sendable {
    /// The answer.
    package var answer: GroupAnswer
    /// Opaque bytes; empty for most answers.
    package var attachment: [UInt8]

    /// Makes a reply.
    package init(_ answer: GroupAnswer = .done, attachment: [UInt8] = []) {
        self.answer = answer
        self.attachment = attachment
    }
}

/// What the mirror of one volume is doing.
package struct VolumeMirrorStatus: Codable, Sendable, Equatable {
    /// The state.
    package var state: MirrorState
    /// What the running or last transfer has done.
    package var transfer: TransferStatistics
    /// Why the synchronous stream or the last transfer broke; nil when nothing did.
    package var failure: String?

    /// Makes a status.
    package init(state: MirrorState, transfer: TransferStatistics, failure: String?) {
        self.state = state
        self.transfer = transfer
        self.failure = failure
    }

    /// Nothing was done and nothing runs.
    package static let idle = VolumeMirrorStatus(state: .idle, transfer: TransferStatistics(), failure: nil)
}
