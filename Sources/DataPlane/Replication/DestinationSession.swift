import Bytes
import Identity
import VolumeEngine

/// One stream into a replica, on the thread of its caller.
final class DestinationSession {
    /// What the session tells its owner.
    struct Reports {
        /// Records and bytes that have been applied.
        var applied: (_ records: Int, _ bytes: Int) -> Void
        /// The size of the transfer.
        var expected: (_ bytes: UInt64) -> Void
        /// Both sides are in sync.
        var inSync: () -> Void
    }

    private let volume: Volume
    private let channel: any FrameChannel
    private let reports: Reports
    private var writer: ReplicaWriter?
    /// What the next checkpoint says.
    private var token = ReplicaToken.unknown
    /// Whether something was applied after the last checkpoint.
    private var isUnsaved = false
    private var recordsSinceCheckpoint: UInt64 = 0
    private var interval: (base: ObjectUUID?, target: ObjectUUID)?
    private var isResumed = false
    /// Whether the replica held nothing when the session began.
    private var wasEmpty = false
    private var commit: [UInt8] = []
    /// The last commit that was applied and not confirmed.
    private var unconfirmed: UInt64?

    init(volume: Volume, channel: any FrameChannel, reports: Reports) {
        self.volume = volume
        self.channel = channel
        self.reports = reports
    }

    /// Runs until the transfer is complete; a synchronous stream only ends by throwing. What was applied is durable when
    /// it returns or throws.
    func run(
        _ mode: ReplicationRequest.Mode,
        target: ObjectUUID,
        throttleBytesPerSecond: UInt64
    ) throws(StorageError) {
        do throws(StorageError) {
            try prepare(mode, target, throttleBytesPerSecond)
            while try step() {}
        } catch {
            // A replica must never be left with records whose data is still on its way to a segment.
            if isUnsaved { saveOrDiscard() }
            try? channel.send(ReplicationMessage.refused(error))
            throw error
        }
    }

    // MARK: Beginning

    private func prepare(
        _ mode: ReplicationRequest.Mode,
        _ target: ObjectUUID,
        _ throttleBytesPerSecond: UInt64
    ) throws(StorageError) {
        guard volume.isReplica else {
            throw StorageError(
                .conflict,
                "volume \(volume.msid) is not a replica",
                remedy: "replicate only into a destination volume"
            )
        }
        token = try ReplicaToken.of(volume)
        let snapshots = volume.snapshots().map(\.uuid)
        wasEmpty = snapshots.isEmpty && volume.space().usedBytes == 0 && token.isBeforeAnyRecord
        try channel.send(
            .request(
                ReplicationRequest(
                    msid: volume.msid,
                    mode: mode,
                    target: target,
                    throttleBytesPerSecond: throttleBytesPerSecond,
                    isEmpty: wasEmpty,
                    snapshots: snapshots,
                    token: token
                )
            )
        )
        switch try channel.receiveMessage() {
        case .answer(let answer): try bring(to: answer)
        case .refused(let error): throw error
        default: throw Self.unexpected("an answer")
        }
        try channel.send(ReplicationMessage.ready)
    }

    /// Brings the replica to where the source begins, and drops snapshots that the source no longer has.
    private func bring(to answer: ReplicationAnswer) throws(StorageError) {
        isResumed = answer.isResumed
        reports.expected(answer.bytesExpected)
        if let base = answer.base, token != .atSnapshot(base) {
            try volume.restore(to: base)
            token = .atSnapshot(base)
            try checkpoint()
        }
        for snapshot in volume.snapshots() where !answer.snapshots.contains(snapshot.uuid) {
            try volume.deleteSnapshotAfterTransfer(snapshot.uuid)
        }
    }

    private static func unexpected(_ wanted: String) -> StorageError {
        StorageError(
            .damaged,
            "the source was to send \(wanted) and sent something else",
            remedy: "run the same version on both clusters"
        )
    }

    // MARK: Frames

    /// Takes one frame; returns false at the end of a transfer.
    private func step() throws(StorageError) -> Bool {
        guard let frame = try channel.receive(isWaiting: unconfirmed == nil) else {
            try confirm()
            return true
        }
        switch frame.first.flatMap(ReplicationMessage.Kind.init(rawValue:)) {
        case .records: try applyRecords(frame)
        case .intervalEnd: try endInterval(frame)
        case .commitPart:
            guard commit.count + frame.count <= 2 * FrameLimits.commitBacklogBytesMax else {
                throw Self.unexpected("the end of a commit")
            }
            commit.append(contentsOf: frame.dropFirst())
        default: return try handle(ReplicationMessage.decode(frame))
        }
        return true
    }

    private func handle(_ message: ReplicationMessage) throws(StorageError) -> Bool {
        switch message {
        case .interval(let base, let target): try beginInterval(base, target)
        case .commitEnd(let number): try endCommit(number)
        case .inSync: reports.inSync()
        case .refused(let error): throw error
        case .transferEnd: return false
        default: throw Self.unexpected("records")
        }
        return true
    }

    private func beginInterval(_ base: ObjectUUID?, _ target: ObjectUUID) throws(StorageError) {
        interval = (base, target)
        writer = try ReplicaWriter(volume: volume, isBaseline: base == nil && wasEmpty && !isResumed)
        if isResumed {
            isResumed = false
            return
        }
        // From here on the replica is no longer exactly a snapshot, whatever happens before the next checkpoint.
        token = .inInterval(base: base, target: target, position: nil)
        try checkpoint()
    }

    private func applyRecords(_ frame: [UInt8]) throws(StorageError) {
        guard let interval, frame.count > ReplicationMessage.positionBytes else { throw Self.unexpected("an interval") }
        try apply(frame, 1..<frame.count - ReplicationMessage.positionBytes)
        let position = frame.withUnsafeBytes { memory in
            var reader = ByteReader(UnsafeRawBufferPointer(rebasing: memory.suffix(ReplicationMessage.positionBytes)))
            return try? TransferPosition(decoding: &reader)
        }
        guard let position else { throw Self.unexpected("a position") }
        token = .inInterval(base: interval.base, target: interval.target, position: position)
        let isDue =
            writer?.bytesSinceCheckpoint ?? 0 >= FrameLimits.checkpointBytes
            || recordsSinceCheckpoint >= FrameLimits.checkpointRecords
        guard isDue else { return }
        try currentWriter().beginCheckpoint(token.encoded)
        noteSaved()
    }

    private func endInterval(_ frame: [UInt8]) throws(StorageError) {
        guard let interval else { throw Self.unexpected("an interval") }
        try apply(frame, 1..<frame.count)
        token = .atSnapshot(interval.target)
        self.interval = nil
        try checkpoint()
        // What follows may repeat records of the interval: the writer of a baseline would not look for them.
        writer = nil
    }

    private func endCommit(_ number: UInt64) throws(StorageError) {
        if token != .inStream {
            token = .inStream
            try checkpoint()
        }
        let records = commit
        commit = []
        try apply(records, 0..<records.count)
        unconfirmed = number
        if writer?.bytesSinceCheckpoint ?? 0 >= FrameLimits.checkpointBytes / 4 { try confirm() }
    }

    private func confirm() throws(StorageError) {
        guard let number = unconfirmed else { return }
        try checkpoint()
        unconfirmed = nil
        try channel.send(.confirmed(number))
    }

    // MARK: Applying

    private func apply(_ frame: [UInt8], _ range: Range<Int>) throws(StorageError) {
        let writer = try currentWriter()
        isUnsaved = true
        let outcome = frame.withUnsafeBytes { memory in
            Result { () throws(StorageError) in try writer.apply(UnsafeRawBufferPointer(rebasing: memory[range])) }
        }
        let records = try outcome.get()
        recordsSinceCheckpoint += UInt64(records)
        reports.applied(records, range.count)
    }

    private func currentWriter() throws(StorageError) -> ReplicaWriter {
        if let writer { return writer }
        let made = try ReplicaWriter(volume: volume, isBaseline: false)
        writer = made
        return made
    }

    /// Makes what was applied durable; when its data cannot be written, on a full disk, nothing of it may stay.
    private func saveOrDiscard() {
        do throws(StorageError) { try checkpoint() } catch {
            // What a writer has not made durable goes with it.
            writer = nil
            isUnsaved = false
        }
    }

    private func checkpoint() throws(StorageError) {
        try currentWriter().checkpoint(token.encoded)
        noteSaved()
    }

    private func noteSaved() {
        isUnsaved = false
        recordsSinceCheckpoint = 0
    }
}

extension ReplicaToken {
    /// Whether a replica without snapshots and with this token can hold no record.
    fileprivate var isBeforeAnyRecord: Bool {
        switch self {
        case .unknown: true
        case .inInterval(_, _, let position): position == nil
        case .atSnapshot, .inStream: false
        }
    }
}
