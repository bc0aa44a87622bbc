import Bytes
import Environment
import FileIO
import Identity
import VolumeEngine

/// One stream of a volume to one destination, on a thread of its own.
final class SourceSession {
    private let volume: Volume
    private let channel: any FrameChannel
    private let environment: Environment
    private let report: @Sendable (MirrorState) -> Void
    private var throttle: Throttle
    /// What a synchronous stream has queued meanwhile; checked between frames.
    private var queue: CommitQueue?

    /// `report` is told the mirror's state whenever it changes.
    init(
        volume: Volume,
        channel: any FrameChannel,
        environment: Environment,
        report: @escaping @Sendable (MirrorState) -> Void
    ) {
        self.volume = volume
        self.channel = channel
        self.environment = environment
        self.report = report
        throttle = Throttle(bytesPerSecond: 0, environment: environment)
    }

    /// Serves the request; throws why the stream ended, if not as it should.
    func run(_ request: ReplicationRequest) throws(StorageError) {
        throttle = Throttle(bytesPerSecond: request.throttleBytesPerSecond, environment: environment)
        switch request.mode {
        case .transfer: try transfer(request)
        case .synchronous: try synchronize(request)
        }
    }

    // MARK: Transfer

    private func transfer(_ request: ReplicationRequest) throws(StorageError) {
        let snapshots = volume.snapshots()
        guard let target = snapshots.first(where: { $0.uuid == request.target }) else {
            throw StorageError(
                .notFound,
                "volume \(volume.msid) has no snapshot \(request.target)",
                remedy: "create the snapshot on the source, then transfer it"
            )
        }
        // A transfer beside a synchronous stream must not hide that stream's state.
        let plan = try ReplicationPlan(request: request, snapshots: snapshots, target: target)
        try agree(plan, snapshots)
        for interval in plan.intervals { try send(interval) }
        try channel.send(ReplicationMessage.transferEnd)
        // The destination closes when it has everything; until then the frames are still on their way.
        _ = try? channel.receive(isWaiting: true)
    }

    private func agree(_ plan: ReplicationPlan, _ snapshots: [Snapshot]) throws(StorageError) {
        let isBaseline = plan.intervals.first.map { $0.base == nil } ?? false
        let answer = ReplicationAnswer(
            base: plan.base?.uuid,
            isResumed: plan.isResumed,
            bytesExpected: isBaseline ? volume.space().usedBytes : 0,
            snapshots: snapshots.map(\.uuid)
        )
        try channel.send(.answer(answer))
        guard case .ready = try channel.receiveMessage() else {
            throw StorageError(
                .damaged,
                "the destination was to say that it is ready and said something else",
                remedy: "run the same version on both clusters"
            )
        }
    }

    private func send(_ interval: ReplicationPlan.Interval) throws(StorageError) {
        try channel.send(.interval(base: interval.base?.uuid, target: interval.target.uuid))
        let reader = TransferReader(
            volume: volume,
            base: interval.base,
            target: interval.target,
            resume: interval.resume
        )
        while true {
            try queue?.check()
            var writer = ByteWriter(capacity: FrameLimits.recordsBytes + (300 << 10))
            // The type is only known afterwards, and lies at the front: both types are of equal length.
            writer.append(ReplicationMessage.Kind.records.rawValue)
            let position = try reader.next(into: &writer, bytes: FrameLimits.recordsBytes)
            position?.encode(into: &writer)
            var frame = writer.bytes
            if position == nil {
                frame[0] = ReplicationMessage.Kind.intervalEnd.rawValue
                try checkHeld(interval)
            }
            throttle.wait(for: frame.count) { [queue] in queue?.isEnded ?? false }
            try channel.send(frame)
            if position == nil { return }
        }
    }

    /// What was read is whole only if both snapshots were there all the time.
    private func checkHeld(_ interval: ReplicationPlan.Interval) throws(StorageError) {
        let present = volume.snapshots().map(\.uuid)
        for snapshot in [interval.base, interval.target] {
            guard let snapshot, !present.contains(snapshot.uuid) else { continue }
            throw StorageError(
                .conflict,
                "snapshot '\(snapshot.name)' of volume \(volume.msid) was deleted while it was being transferred",
                remedy: "start the transfer again, and keep the snapshots until it has ended"
            )
        }
    }

    // MARK: Synchronous

    private func synchronize(_ request: ReplicationRequest) throws(StorageError) {
        report(.transitioning)
        defer { report(.outOfSync) }
        var kept = request.snapshots
        if case .inInterval(_, let target, _) = request.token { kept.append(target) }
        for old in volume.snapshots() where old.name.hasPrefix(Volume.streamSnapshotPrefix) && !kept.contains(old.uuid)
        {
            try volume.deleteSnapshotAfterTransfer(old.uuid)
        }
        try dropOlderStreamSnapshots(request)
        let snapshots = volume.snapshots()
        let agreed =
            if let newest = snapshots.last {
                try ReplicationPlan(request: request, snapshots: snapshots, target: newest)
            } else {
                try ReplicationPlan(baselineOf: request)
            }
        try agree(agreed, snapshots)
        try follow(request, agreed)
    }

    /// Of the snapshots that earlier streams began with, only the newest common one is still of use.
    private func dropOlderStreamSnapshots(_ request: ReplicationRequest) throws(StorageError) {
        let snapshots = volume.snapshots()
        guard let common = snapshots.last(where: { request.snapshots.contains($0.uuid) }) else { return }
        for old in snapshots where old.name.hasPrefix(Volume.streamSnapshotPrefix) && old.epoch < common.epoch {
            try volume.deleteSnapshotAfterTransfer(old.uuid)
        }
    }

    /// Attaches, sends what lies before the attachment, then every commit.
    private func follow(_ request: ReplicationRequest, _ agreed: ReplicationPlan) throws(StorageError) {
        let queue = CommitQueue(environment: environment)
        self.queue = queue
        let uuid = ObjectUUID.random(environment)
        let name = Volume.streamSnapshotPrefix + uuid.description.prefix(8)
        defer {
            // The state goes first: a client that is answered from here on is answered by this side alone.
            report(.outOfSync)
            queue.fail(Self.ended)
            volume.detachMirror()
        }
        let start = try volume.attach(queue, snapshot: uuid, name: name)
        let plan = try ReplicationPlan(request: request, snapshots: volume.snapshots(), target: start)
        guard plan.base == agreed.base, plan.isResumed == agreed.isResumed else {
            throw StorageError(
                .conflict,
                "the snapshots of volume \(volume.msid) changed while the stream began",
                remedy: "start the synchronous stream again"
            )
        }
        let receiver = receiveConfirmations(queue)
        defer {
            channel.close()
            receiver.stay()
        }
        do throws(StorageError) {
            for interval in plan.intervals { try send(interval) }
            try stream(queue)
        } catch {
            // The reason must reach the destination before the channel closes.
            try? channel.send(ReplicationMessage.refused(error))
            throw error
        }
    }

    private static let ended = StorageError(
        .conflict,
        "the synchronous stream has ended",
        remedy: "start the synchronous stream again"
    )

    private func receiveConfirmations(_ queue: CommitQueue) -> Parking {
        let end = Parking()
        SystemThread.start(name: "mirror-confirm") { [channel, volume] in
            defer { end.leave() }
            do throws(StorageError) {
                while true {
                    switch try channel.receiveMessage() {
                    case .confirmed(let number):
                        volume.mirrorConfirmed(number)
                        queue.confirm(number)
                    case .refused(let error): throw error
                    default:
                        throw StorageError(
                            .damaged,
                            "the destination sent what is no confirmation",
                            remedy: "run the same version on both clusters"
                        )
                    }
                }
            } catch { queue.fail(error) }
        }
        return end
    }

    /// Sends commits as they come; in sync as soon as those that had gathered are confirmed.
    private func stream(_ queue: CommitQueue) throws(StorageError) {
        // Clients wait for the mirror from when the backlog of the transfer has been sent, so that it cannot grow again;
        // in sync are both sides when all that was answered before that is confirmed.
        let backlogEnd = queue.delivered
        var sent: UInt64 = 0
        var answeredAlone: UInt64?
        var isInSync = false
        while true {
            if let commit = try queue.take(milliseconds: 100) {
                try send(commit)
                sent = commit.number
            }
            if answeredAlone == nil && sent >= backlogEnd {
                volume.mirrorCaughtUp()
                answeredAlone = queue.delivered
                queue.restartPatience()
            }
            if !isInSync, let answeredAlone, queue.confirmed >= answeredAlone {
                isInSync = true
                report(.inSync)
                try channel.send(ReplicationMessage.inSync)
            }
            if answeredAlone != nil, queue.stalledNanoseconds > FrameLimits.confirmationNanosecondsMax {
                throw StorageError(
                    .conflict,
                    "the destination has confirmed nothing for "
                        + "\(FrameLimits.confirmationNanosecondsMax / 1_000_000_000) seconds",
                    remedy: "look at the destination's disks, then start the synchronous stream again"
                )
            }
        }
    }

    private func send(_ commit: (number: UInt64, records: [UInt8])) throws(StorageError) {
        var offset = 0
        while offset < commit.records.count {
            let end = min(offset + FrameLimits.recordsBytes, commit.records.count)
            var frame = [ReplicationMessage.Kind.commitPart.rawValue]
            frame.reserveCapacity(end - offset + 1)
            frame.append(contentsOf: commit.records[offset..<end])
            try channel.send(frame)
            offset = end
        }
        try channel.send(.commitEnd(commit.number))
    }
}
