import Identity
import VolumeEngine

/// What a source has to send, decided from what both sides hold. A value without I/O.
struct ReplicationPlan: Equatable {
    /// What lies between two neighbouring snapshots.
    struct Interval: Equatable {
        var base: Snapshot?
        var target: Snapshot
        /// Where it goes on; nil is its beginning.
        var resume: TransferPosition?
    }

    /// Intervals in order; each begins where the one before ends.
    var intervals: [Interval]
    /// The snapshot that the replica must be brought to first.
    var base: Snapshot?
    /// Whether the first interval goes on.
    var isResumed: Bool

    /// Decides. `snapshots` are the source's, oldest first, `target` is one of them.
    init(request: ReplicationRequest, snapshots: [Snapshot], target: Snapshot) throws(StorageError) {
        let common = snapshots.last { request.snapshots.contains($0.uuid) }
        let wanted = snapshots.filter { $0.epoch <= target.epoch }
        if case .inInterval(let baseUUID, let targetUUID, let position) = request.token, baseUUID == common?.uuid,
            let interrupted = wanted.first(where: { $0.uuid == targetUUID }),
            interrupted.epoch > common?.epoch ?? .active, baseUUID != nil || request.snapshots.isEmpty
        {
            intervals = [Interval(base: common, target: interrupted, resume: position)]
            intervals += Self.chain(from: interrupted, through: wanted)
            base = nil
            isResumed = true
            return
        }
        guard common != nil || request.isEmpty else { throw Self.nothingInCommon(request) }
        intervals = Self.chain(from: common, through: wanted)
        base = common
        isResumed = false
    }

    /// The plan for a source that has no snapshot yet: the replica must be empty.
    init(baselineOf request: ReplicationRequest) throws(StorageError) {
        guard request.isEmpty else { throw Self.nothingInCommon(request) }
        intervals = []
        base = nil
        isResumed = false
    }

    private static func nothingInCommon(_ request: ReplicationRequest) -> StorageError {
        StorageError(
            .baselineLost,
            "the replica of volume \(request.msid) holds data and has no snapshot in common with its source",
            remedy: "delete the destination volume, create it again empty and start a new baseline"
        )
    }

    private static func chain(from base: Snapshot?, through wanted: [Snapshot]) -> [Interval] {
        var previous = base
        var intervals: [Interval] = []
        for next in wanted where next.epoch > base?.epoch ?? .active {
            intervals.append(Interval(base: previous, target: next, resume: nil))
            previous = next
        }
        return intervals
    }
}
