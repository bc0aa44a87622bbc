package import ClusterConfiguration
package import Identity
package import Saga

/// What the user chose at the start.
package struct MigrationOptions: Codable, Equatable, Sendable {
    /// Whether the cutover begins by itself when the operation is ready for it.
    package var isAutoCutover = true
    /// Whether the source is deleted by itself after the integrity check.
    package var isAutoSourceCleanup = true
    /// Limit of all transfers of the operation together; 0 is unlimited.
    package var throttleBytesPerSecond: UInt64 = 0
    /// Aggregates of the destination that may be used; empty is all.
    package var aggregates: [ObjectUUID] = []
    /// The tier that aggregates must have; nil for any.
    package var tier: AggregateTier?
    /// How long the source may be held before it gives the commit up.
    package var holdBudgetMilliseconds: UInt64 = 5_000
    /// How many transfers in a row must have been short before the operation is ready for cutover [132].
    package var readyTransferCount = 3
    /// What a short transfer is.
    package var readyTransferMilliseconds: UInt64 = 300_000
    /// How long all volumes together may take to become INSYNC in pre-commit.
    package var synchronizeMilliseconds: UInt64 = 120_000
    /// How long the source keeps its configuration locked in pre-commit before it unlocks itself [140].
    package var preCommitBudgetMilliseconds: UInt64 = 7_200_000
    /// How long to wait after the first cutover that was undone; it doubles up to the longest wait.
    package var cutoverRetryMilliseconds: UInt64 = 500
    /// The longest wait after a cutover that was undone.
    package var cutoverRetryMillisecondsMax: UInt64 = 30_000
    /// How many cutovers in a row may be undone before the operation gives up.
    package var cutoverAttemptsMax: UInt64 = 10
    /// How often a deed that fails intermittently is tried before the operation gives up [173-174].
    package var retriesMax: UInt64 = 10
    /// The IP space of the destination; nil is the one with the name of the source's.
    package var ipSpace: ObjectUUID?
    /// Where the user wants interfaces; nil for nowhere in particular.
    package var interfaces: [InterfaceChoice]?
    /// Whether ports are chosen by their names and addresses without asking the network; nil is no.
    package var skipsNetworkChecks: Bool?

    /// The defaults.
    package init() {}
}

/// A message to the user.
package struct MigrationMessage: Codable, Equatable, Sendable {
    /// A stable number for programs.
    package var code: String
    /// What happened and what to do.
    package var message: String

    /// Makes a message.
    package init(code: String, message: String) {
        self.code = code
        self.message = message
    }
}

/// When things happened, in nanoseconds of the wall clock since 1970.
package struct MigrationTimes: Codable, Equatable, Sendable {
    /// The operation was accepted.
    package var start: Int64?
    /// The cutover was asked for.
    package var cutoverTrigger: Int64?
    /// Pre-commit began.
    package var cutoverStart: Int64?
    /// The destination served.
    package var cutoverComplete: Int64?
    /// The operation ended.
    package var end: Int64?
    /// The last pause was complete.
    package var lastPause: Int64?
    /// The last resume was accepted.
    package var lastResume: Int64?

    /// Nothing happened yet.
    package init() {}
}

/// Progress of one volume that survives a restart.
package struct VolumeProgress: Codable, Equatable, Sendable {
    /// Transfers that finished.
    package var transfersCompleted: UInt64 = 0
    /// How long the last of them took.
    package var lastDurationMilliseconds: UInt64?
    /// How many of the last ones in a row were short enough to cut over.
    package var shortTransfersInARow: UInt64 = 0
    /// Bytes received by all of them.
    package var bytesTransferred: UInt64 = 0
    /// Time that all of them took.
    package var durationMilliseconds: UInt64 = 0
    /// Bytes received by the first of them, the baseline; nil until it finished.
    package var baselineBytes: UInt64?
    /// Time that the baseline took; nil until it finished.
    package var baselineMilliseconds: UInt64?

    /// No progress.
    package init() {}
}

/// Bytes that flowed from a node of the source to one of the destination.
package struct NodePairBytes: Codable, Equatable, Sendable {
    /// The node of the source.
    package var source: String
    /// The node of the destination.
    package var destination: String
    /// Bytes of all transfers between them.
    package var bytes: UInt64
}

/// A snapshot of every volume of the SVM that the operation made.
package struct OperationSnapshot: Codable, Equatable, Sendable {
    /// Its identity in every volume.
    package var uuid: ObjectUUID
    /// Its name in every volume.
    package var name: String

    /// Makes one.
    package init(uuid: ObjectUUID, name: String) {
        self.uuid = uuid
        self.name = name
    }
}

/// How the stream of the SVM's configuration is doing, for users; what is applied the position in the database says.
package struct ConfigurationStreamState: Codable, Equatable, Sendable {
    /// The last revision of the source's database that is applied.
    package var revision: Int64 = 0
    /// When it was, in nanoseconds of the wall clock since 1970.
    package var nanoseconds: Int64 = 0
    /// Baselines that were applied.
    package var baselines: UInt64 = 0
    /// Why the stream stands still; nil while it flows.
    package var lastFailure: String?

    /// Nothing is applied yet.
    package init() {}
}

extension ConfigurationStreamState? {
    /// Notes what was applied.
    package mutating func note(revision: Int64, isBaseline: Bool, nanoseconds: Int64) {
        var state = self ?? ConfigurationStreamState()
        state.lastFailure = nil
        if isBaseline { state.baselines += 1 }
        if revision != state.revision || isBaseline { state.nanoseconds = nanoseconds }
        state.revision = revision
        self = state
    }

    /// Notes why nothing is applied.
    package mutating func note(failure: String) {
        var state = self ?? ConfigurationStreamState()
        state.lastFailure = failure
        self = state
    }

    /// Notes that the source answers again.
    package mutating func noteSuccess() { self?.lastFailure = nil }
}

/// The destination's record of an operation: all that a restarted orchestrator needs to go on.
package struct DestinationRecord: VersionedRecord, Equatable {
    /// The version of this format.
    package static let currentFormatVersion = 3

    /// The version it was written with.
    package var formatVersion = Self.currentFormatVersion
    /// The operation.
    package var operation: ObjectUUID
    /// Raised at each start of an orchestrator for this operation.
    package var epoch: UInt64 = 1
    /// The node that owns the orchestrator.
    package var owningNode: ObjectUUID
    /// What the user chose.
    package var options: MigrationOptions
    /// The name of the peer that is the source.
    package var peerName: String
    /// The source SVM as it was when the operation began.
    package var svm: SVMDescription
    /// State for the user.
    package var state: MigrationState = .precheckStarted
    /// What the orchestrator is doing.
    package var phase: MigrationPhase = .setup
    /// The history of the phase's saga.
    package var log = SagaLog()
    /// The number of the cutover, growing with every try.
    package var attempt: UInt64 = 0
    /// The number of the last transfer snapshot.
    package var transferNumber: UInt64 = 0
    /// Transfer snapshots that may exist, oldest first.
    package var transferSnapshots: [OperationSnapshot] = []
    /// The final snapshot, from before it is made.
    package var finalSnapshot: OperationSnapshot?
    /// Progress by the MSID's decimal form.
    package var progress: [String: VolumeProgress] = [:]
    /// What flowed between which nodes, by their names.
    package var nodePairs: [NodePairBytes] = []
    /// What a user asked for and what has not been met yet.
    package var pending: PendingRequest?
    /// Where the halt that is under way leads.
    package var haltGoal: HaltGoal?
    /// The commit is under way: it cannot be interrupted any more, only undone or completed.
    package var isCommitting = false
    /// Cutovers in a row that were undone.
    package var cutoverFailures: UInt64 = 0
    /// Volumes, by the MSID's decimal form, whose source has lost the snapshot in common with the replica: a resume makes
    /// them anew.
    package var baselineLost: Set<String> = []
    /// The outage that was predicted before the last cutover.
    package var prediction: OutagePrediction?
    /// The outage of the last cutover as the servers saw it.
    package var outage: ObservedOutage?
    /// The user asked for the cutover.
    package var isCutoverRequested = false
    /// The user asked for the source cleanup.
    package var isSourceCleanupRequested = false
    /// The destination knows that the source's record is past the point of no return.
    package var isPastPointOfNoReturn = false
    /// What is being done and what was done before.
    package var currentAction: MigrationAction = .start
    /// What was done before.
    package var lastAction: MigrationAction = .none
    /// The state in which the operation failed last.
    package var lastFailedState: MigrationState?
    /// Messages, oldest first; at most `messageCountMax`.
    package var messages: [MigrationMessage] = []
    /// How often the operation went back or the orchestrator was started again.
    package var restartCount: UInt64 = 0
    /// When things happened.
    package var times = MigrationTimes()
    /// The stages of the last cutover's window.
    package var window: [WindowStage] = []
    /// How the stream of the configuration is doing; nil before anything of it came.
    package var configurationStream: ConfigurationStreamState?
    /// Hashes of the final snapshot by the MSID's decimal form, once both sides agree.
    package var verifiedHashes: [String: String] = [:]

    /// How many messages are kept.
    package static let messageCountMax = 100

    /// The record of a new operation.
    package init(
        operation: ObjectUUID,
        owningNode: ObjectUUID,
        options: MigrationOptions,
        peerName: String,
        svm: SVMDescription
    ) {
        self.operation = operation
        self.owningNode = owningNode
        self.options = options
        self.peerName = peerName
        self.svm = svm
    }

    /// Moves to the state that an event leads to.
    /// - Throws: `.refused` when the event may not happen in the present state.
    package mutating func apply(_ event: OperationEvent) throws(MigrateError) {
        state = try state.after(event)
    }

    /// Makes sure that nobody asked for a pause or an abort.
    /// - Throws: `.interrupted` when somebody did.
    package func requireNotInterrupted() throws(MigrateError) {
        guard let pending else { return }
        throw MigrateError(
            .interrupted,
            code: MigrateCode.wrongState,
            "a \(pending.rawValue) was asked for",
            remedy: "nothing: it is met now"
        )
    }

    /// Enters a phase with an empty saga log; entering the present phase again changes nothing.
    package mutating func enter(_ next: MigrationPhase) {
        if next == phase { return }
        phase = next
        log = SagaLog()
    }

    /// Adds a message and forgets the oldest ones above the limit; the same message twice in a row is kept once.
    package mutating func say(_ code: String, _ message: String) {
        let new = MigrationMessage(code: code, message: message)
        if messages.last == new { return }
        messages.append(new)
        if messages.count > Self.messageCountMax { messages.removeFirst(messages.count - Self.messageCountMax) }
    }

    /// Whether every volume's last transfers were short enough [132].
    package var isReadyForCutover: Bool {
        let count = UInt64(max(1, options.readyTransferCount))
        return svm.volumes.allSatisfy { (progress[$0.msid.description]?.shortTransfersInARow ?? 0) >= count }
    }

    /// Notes a finished transfer of one volume to a node of the destination.
    package mutating func noteTransfer(
        of msid: VolumeMSID,
        to destination: String,
        bytes: UInt64,
        milliseconds: UInt64
    ) {
        let source = svm.volumes.first { $0.msid == msid }?.source.nodeName ?? ""
        if let index = nodePairs.firstIndex(where: { $0.source == source && $0.destination == destination }) {
            nodePairs[index].bytes += bytes
        } else {
            nodePairs.append(NodePairBytes(source: source, destination: destination, bytes: bytes))
            nodePairs.sort { ($0.source, $0.destination) < ($1.source, $1.destination) }
        }
        var volume = progress[msid.description] ?? VolumeProgress()
        if volume.transfersCompleted == 0 {
            volume.baselineBytes = bytes
            volume.baselineMilliseconds = milliseconds
        }
        volume.transfersCompleted += 1
        volume.bytesTransferred += bytes
        volume.durationMilliseconds += milliseconds
        volume.lastDurationMilliseconds = milliseconds
        volume.shortTransfersInARow =
            milliseconds < options.readyTransferMilliseconds ? volume.shortTransfersInARow + 1 : 0
        progress[msid.description] = volume
    }

    /// The snapshot name prefix of this operation.
    package var snapshotNamePrefix: String { MigrateOperation.snapshotNamePrefix(of: operation) }
}
