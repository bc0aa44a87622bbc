import Synchronization
import Bytes
import FileIO
import Identity
import RocksStore
import SegmentStore

/// Gives space back and keeps logs short, in the background: one thread for each aggregate.
extension Volume {
    /// Deferred writes that start a synchronisation of their segments.
    private static let deferredOutstandingMax = 8192
    /// Extents that are given back in one go.
    private static let punchesPerStep = 4096
    /// Dead bytes that are given back although clients keep the disk busy. Holes cost the file system's journal, so that
    /// fewer are left for a quiet moment, in which many of them have become whole segments.
    private static let deadBytesMax = 1 << 30

    /// One round of the reclaimer. `isIdle` says that a second has gone by: old unstable data becomes durable, and if
    /// clients were quiet meanwhile, leftovers are taken care of.
    func reclaim(isIdle: Bool) throws(StorageError) {
        let isQuiet = isIdle && hasBeenQuiet()
        if isReplica { return try giveSpaceBack(isQuiet: isQuiet) }
        if isIdle { commitSoon() }
        try settleDeferred(isQuiet: isQuiet)
        try giveSpaceBack(isQuiet: isQuiet)
        try dropOrphans()
    }

    /// Takes everything that is durable in the segments out of the metadata's logs and files. Small stable writes leave
    /// copies there that go with later compactions; when the disk is full, nothing writes any more and none would come.
    func releaseLogs() throws(StorageError) {
        try settleDeferred(isQuiet: true)
        context.database.compact(
            from: DatabaseKey.prefix(msid, DatabaseKey.deferredKind),
            to: DatabaseKey.prefix(msid, DatabaseKey.deferredKind + 1)
        )
    }

    /// Makes deferred writes durable in their segments and takes them out of the log.
    private func settleDeferred(isQuiet: Bool) throws(StorageError) {
        let outstanding = locked { () -> [(sequence: UInt64, segment: UInt32)] in
            guard deferredOutstanding.count >= (isQuiet ? 1 : Self.deferredOutstandingMax) else { return [] }
            defer { deferredOutstanding = [] }
            return deferredOutstanding
        }
        guard !outstanding.isEmpty else { return }
        for segment in Set(outstanding.map(\.segment)).sorted() {
            do throws(FileIOError) { try segments.synchronize(segment) } catch {
                // A segment that died meanwhile is gone with its blocks.
                guard error.isNotFound else { throw .io(error) }
            }
        }
        let batch = RocksBatch()
        for write in outstanding { batch.delete(DatabaseKey.local(msid, DatabaseKey.deferredKind, write.sequence)) }
        try write(batch)
    }

    /// Punches holes where blocks have died, and deletes segments without living blocks.
    private func giveSpaceBack(isQuiet: Bool) throws(StorageError) {
        let isUrgent =
            context.isHostFull.load(ordering: .relaxed)
            || context.availableBytes < context.options.capacityBytes / 20
        while true {
            let extents = reclaimQueue.withLock { queue -> [BlockExtent] in
                let isLarge = queue.blocks * VolumeLimits.blockSizeBytes >= Self.deadBytesMax
                guard isQuiet || isUrgent || isLarge else { return [] }
                return queue.take(Self.punchesPerStep)
            }
            guard !extents.isEmpty else { break }
            let batch = RocksBatch()
            do throws(FileIOError) {
                for extent in Self.joined(extents) { try segments.punch(extent) }
            } catch { throw .io(error) }
            for extent in extents {
                batch.delete(DatabaseKey.local(msid, DatabaseKey.freedKind, extent.start.rawValue))
            }
            try write(batch)
        }
        try removeDeadSegments(isUrgent: isUrgent, isQuiet: isQuiet)
    }

    /// Extents that touch one another become one, so that a hole costs one system call.
    private static func joined(_ extents: [BlockExtent]) -> [BlockExtent] {
        var joined: [BlockExtent] = []
        for extent in extents.sorted(by: { $0.start.rawValue < $1.start.rawValue }) {
            if let last = joined.last, last.start.advanced(by: last.count) == extent.start,
                last.start.segment == extent.start.segment
            {
                joined[joined.count - 1].count += extent.count
            } else {
                joined.append(extent)
            }
        }
        return joined
    }

    private func removeDeadSegments(isUrgent: Bool, isQuiet: Bool) throws(StorageError) {
        let dead = locked { () -> [UInt32] in
            var dead = Set(deadSegments)
            deadSegments = []
            // What died before it was full, and what recovery found, is looked for when nothing is on its way to the disk.
            if core.pending.isEmpty && core.committing.isEmpty {
                dead.formUnion(core.liveBlocks.keys.filter { core.liveBlocks[$0] == 0 && segments.isSealed($0) })
            }
            for segment in dead { core.liveBlocks[segment] = nil }
            return dead.sorted()
        }
        if isUrgent || isQuiet {
            do throws(FileIOError) {
                try segments.dropSpares(keeping: isUrgent ? 0 : SegmentStore.quietSparesMax)
            } catch { throw .io(error) }
        }
        guard !dead.isEmpty else { return }
        let batch = RocksBatch()
        do throws(FileIOError) {
            for segment in dead {
                batch.delete(DatabaseKey.local(msid, DatabaseKey.segmentKind, segment))
                if !isUrgent, try segments.retire(segment) { continue }
                try segments.remove(segment)
            }
        } catch { throw .io(error) }
        try write(batch)
    }

    // The deletions need no synchronisation: what a crash brings back is done again.
    private func write(_ batch: borrowing RocksBatch) throws(StorageError) {
        do { try context.database.write(batch, isSynced: false) } catch { throw .metadata(error) }
    }

    /// Gives the chunks of removed large files back.
    private func dropOrphans() throws(StorageError) {
        let found = locked { () -> [UInt64] in
            defer { core.newOrphans = [] }
            return core.newOrphans
        }
        guard !found.isEmpty else { return }
        for inode in found {
            flush()
            do throws(FileError) {
                let chunks = try storedChunks(of: inode, from: 0)
                var start = 0
                while start < chunks.count {
                    let part = Array(chunks[start..<min(start + 256, chunks.count)])
                    try dropChunks(inode, part, mustExist: nil)
                    start += part.count
                    commitSoon()
                }
                try transact(.blocking) { (core) throws(CoreFailure) in
                    let key = RecordKey(.orphan, inode)
                    guard let record = core.orphans.find(key) else { throw .missing(key) }
                    guard record.content != nil else { return }
                    core.touch(record)
                    record.content = nil
                }
            } catch {
                // Restored or made a replica meanwhile: the orphans are looked for again when that is over.
                return
            }
        }
        commitSoon()
    }

    /// Looks for orphans that a crash or a move left behind.
    func findOrphans() throws(StorageError) {
        let found = try storedOrphans()
        locked { core.newOrphans += found }
    }

    /// The numbers of all orphans in the database.
    func storedOrphans() throws(StorageError) -> [UInt64] {
        var found: [UInt64] = []
        try reader.walk(at: Epoch(rawValue: .max), from: RecordKey(.orphan, 0), through: .orphan) { key, _, _ in
            found.append(key.first)
            return true
        }
        return found
    }
}

/// Extents whose space is still to be given back.
struct ReclaimQueue {
    private var extents: [BlockExtent] = []
    /// Blocks of all extents.
    private(set) var blocks = 0

    /// Adds extents.
    mutating func append(_ more: [BlockExtent]) {
        extents += more
        for extent in more { blocks += extent.count }
    }

    /// Takes the newest `count` extents.
    mutating func take(_ count: Int) -> [BlockExtent] {
        let part = Array(extents.suffix(count))
        extents.removeLast(part.count)
        for extent in part { blocks -= extent.count }
        return part
    }
}

/// The thread of one aggregate that reclaims.
final class Reclaimer: @unchecked Sendable {
    // Proof of Sendable: `isStopped` and `isRunning` are touched under `monitor` only.
    private let monitor = Monitor()
    private var isStopped = false
    private var isRunning = false
    static let roundMilliseconds = 100
    static let roundsPerIdle = 10
    /// Rounds between two attempts to free the metadata's logs while the disk is full.
    static let roundsPerRelease = 20

    /// Starts; `volumes` says which there are.
    func start(_ context: AggregateContext, volumes: @escaping @Sendable () -> [Volume]) {
        monitor.locked { isRunning = true }
        SystemThread.start(name: "godwit-reclaim") { [self] in
            var round = 0
            while pause() {
                round += 1
                let isIdle = round % Self.roundsPerIdle == 0
                let isHostFull = context.isHostFull.load(ordering: .relaxed)
                if isIdle || isHostFull { checkHost(context) }
                if isHostFull && round % Self.roundsPerRelease == 0 {
                    for volume in volumes() {
                        do throws(StorageError) { try volume.releaseLogs() } catch { volume.report(error) }
                    }
                }
                for volume in volumes() {
                    do throws(StorageError) { try volume.reclaim(isIdle: isIdle) } catch { volume.report(error) }
                }
            }
            monitor.locked {
                isRunning = false
                monitor.broadcast()
            }
        }
    }

    private func checkHost(_ context: AggregateContext) {
        guard let available = try? FileSystem.availableBytes(context.directory) else { return }
        context.isHostFull.store(available < AggregateContext.hostReserveBytes, ordering: .relaxed)
    }

    private func pause() -> Bool {
        monitor.locked {
            if !isStopped { monitor.wait(milliseconds: Self.roundMilliseconds) }
            return !isStopped
        }
    }

    /// Stops and waits for the round that is under way.
    func stop() {
        monitor.locked {
            isStopped = true
            monitor.broadcast()
            while isRunning { monitor.wait() }
        }
    }
}
