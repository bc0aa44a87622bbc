import Bytes
import Identity
import RocksStore
import SegmentStore

/// Why a transaction did not happen.
enum CoreFailure: Error {
    /// The caller's fault or the volume's state.
    case file(FileError)
    /// A record must be brought into memory first; then the transaction is tried again.
    case missing(RecordKey)
}

/// The deterministic heart of a volume: records in memory, the pending commit, and the rules of versions and ownership.
///
/// Synchronous and without I/O. Every property is touched under the volume's lock only.
final class VolumeCore {
    let msid: VolumeMSID
    /// What is persisted of the volume itself.
    var properties: VolumeProperties
    /// Oldest first.
    var snapshots: [Snapshot]
    var inodes = RecordCache<InodeContent>(generationMax: 200_000)
    var entries = RecordCache<EntryContent>(generationMax: 200_000)
    var links = RecordCache<LinkContent>(generationMax: 20_000)
    var chunks = RecordCache<ChunkContent>(generationMax: 60_000)
    var orphans = RecordCache<OrphanContent>(generationMax: 20_000)
    /// What the next commit will make durable.
    var pending: PendingCommit
    /// Names that are not durable yet, by directory and cookie: a directory reading lays them over the database.
    var unsettledEntries: [UInt64: [UInt64: Record<EntryContent>]] = [:]
    /// Directories that were read whole lately.
    var directoryIndexes = DirectoryIndexes()
    /// Records written by commits that are under way.
    var committing: [AnyRecord] = []
    /// Living blocks of each segment.
    var liveBlocks: [UInt32: Int]
    /// Grows whenever records leave memory: a record that was read before must not be inserted after.
    var evictions: UInt64 = 0
    /// Grows with every write of data.
    var writeCount: UInt64 = 0
    /// Whether every operation is refused at the moment, because the volume is being restored.
    var isBusy = false
    /// Snapshots that transfers read at the moment, and how many do. In memory only: no transfer outlives the process.
    var heldSnapshots: [ObjectUUID: Int] = [:]
    /// The snapshot that is being deleted at the moment.
    var removal: SnapshotRemoval?
    /// Epochs of the snapshots whose deletion has begun: this one, and those that a crash or an error interrupted.
    var begunRemovals: [Epoch] = []
    /// The number of the next slot of answers that are kept (`ReplyRing`).
    var nextReply: UInt64 = 1
    /// Inodes that have become orphans since the reclaimer last looked.
    var newOrphans: [UInt64] = []

    init(
        msid: VolumeMSID,
        properties: VolumeProperties,
        snapshots: [Snapshot],
        liveBlocks: [UInt32: Int],
        firstCommit: UInt64
    ) {
        self.msid = msid
        self.properties = properties
        self.snapshots = snapshots
        self.liveBlocks = liveBlocks
        pending = PendingCommit(number: firstCommit)
    }

    /// The newest epoch that a snapshot holds.
    var newestSnapshotEpoch: Epoch { snapshots.last?.epoch ?? .active }

    /// The snapshots that are whole.
    var visibleSnapshots: [Snapshot] {
        begunRemovals.isEmpty ? snapshots : snapshots.filter { !begunRemovals.contains($0.epoch) }
    }

    /// Whether a snapshot sees a version of `epoch` that a version of `successor` hides from the active file system.
    func isRetained(_ epoch: Epoch, before successor: Epoch) -> Bool {
        snapshots.contains { epoch <= $0.epoch && $0.epoch < successor }
    }

    // MARK: Records in memory

    func inode(_ number: UInt64) throws(CoreFailure) -> Record<InodeContent> {
        let key = RecordKey(.inode, number)
        guard let record = inodes.find(key) else { throw .missing(key) }
        return record
    }

    func entry(_ directory: UInt64, _ cookie: UInt64) throws(CoreFailure) -> Record<EntryContent> {
        let key = RecordKey(.entry, directory, cookie)
        guard let record = entries.find(key) else { throw .missing(key) }
        return record
    }

    func link(_ number: UInt64) throws(CoreFailure) -> Record<LinkContent> {
        let key = RecordKey(.link, number)
        guard let record = links.find(key) else { throw .missing(key) }
        return record
    }

    /// The block map of a chunk; a chunk beyond the end of the file is known not to exist.
    func chunk(_ number: UInt64, _ index: UInt64, fileSizeBytes: UInt64) throws(CoreFailure) -> Record<ChunkContent> {
        let key = RecordKey(.chunk, number, index)
        if let record = chunks.find(key) { return record }
        guard index * UInt64(VolumeLimits.chunkSizeBytes) >= fileSizeBytes else { throw .missing(key) }
        let record = Record<ChunkContent>(
            key: key,
            epoch: .active,
            hasOlderVersion: false,
            isStored: false,
            content: nil
        )
        // Beyond the end nothing is stored in the active file system, but a snapshot may still see a longer file.
        if !snapshots.isEmpty { throw .missing(key) }
        chunks.insert(record)
        return record
    }

    /// Takes in what was read from the database, unless memory knows better.
    func insert(_ loaded: LoadedRecord, readAfter evictionCount: UInt64) {
        guard evictions == evictionCount else { return }
        switch loaded {
        case .inode(let record): if inodes.find(record.key) == nil { inodes.insert(record) }
        case .entry(let record): if entries.find(record.key) == nil { entries.insert(record) }
        case .link(let record): if links.find(record.key) == nil { links.insert(record) }
        case .chunk(let record): if chunks.find(record.key) == nil { chunks.insert(record) }
        case .orphan(let record): if orphans.find(record.key) == nil { orphans.insert(record) }
        }
    }

    /// Drops records that were not asked for lately, when there are too many.
    func evict() {
        guard inodes.isFull || entries.isFull || chunks.isFull || links.isFull || orphans.isFull else { return }
        evictions += 1
        let pinned = committing + pending.dirty
        func kept<Content: RecordContent>(_ kind: RecordKind, _ type: Content.Type) -> [Record<Content>] {
            pinned.filter { $0.key.kind == kind }.map { unsafeDowncast($0, to: Record<Content>.self) }
        }
        inodes.rotate(keeping: kept(.inode, InodeContent.self))
        entries.rotate(keeping: kept(.entry, EntryContent.self))
        links.rotate(keeping: kept(.link, LinkContent.self))
        chunks.rotate(keeping: kept(.chunk, ChunkContent.self))
        orphans.rotate(keeping: kept(.orphan, OrphanContent.self))
    }

    /// Forgets every record; only when nothing is pending.
    func forgetRecords() {
        precondition(pending.dirty.isEmpty && committing.isEmpty, "records that are not durable would be lost")
        evictions += 1
        inodes.removeAll()
        entries.removeAll()
        links.removeAll()
        chunks.removeAll()
        orphans.removeAll()
        unsettledEntries = [:]
        directoryIndexes = DirectoryIndexes()
    }

    // MARK: Changing records

    /// The number of this change; becomes the change attribute of what it touches.
    func nextChange() -> UInt64 {
        properties.changeCount += 1
        return properties.changeCount
    }

    /// Makes a record part of the pending commit, as a version of the current epoch. Call before changing its content.
    func touch(_ record: AnyRecord) {
        if record.epoch != properties.epoch { beginVersion(record) }
        record.commit = pending.number
        if !record.isDirty {
            record.isDirty = true
            pending.dirty.append(record)
        }
        if record.key.kind == .entry {
            directoryIndexes.forget(record.key.first)
            unsettledEntries[record.key.first, default: [:]][record.key.second] =
                unsafeDowncast(record, to: Record<EntryContent>.self)
        }
    }

    private func beginVersion(_ record: AnyRecord) {
        let old = record.epoch
        if old != .active {
            if isRetained(old, before: properties.epoch) {
                if record.isDirty { freeze(record) }
                record.hasOlderVersion = true
                if removal?.isLast(toKeep: old) == true { removal!.replaced.append((old, record.key)) }
                if record.key.kind == .chunk {
                    // The older version keeps what it brought; this one only borrows.
                    unsafeDowncast(record, to: Record<ChunkContent>.self).content?.owned = 0
                }
            } else if record.isStored {
                pending.operations.delete(DatabaseKey.version(msid, record.key, old))
                pending.operations.delete(DatabaseKey.changed(msid, old, record.key))
            }
        }
        record.epoch = properties.epoch
        record.isStored = false
    }

    /// Writes the version that a snapshot is about to hold, before the record goes on in a new epoch.
    private func freeze(_ record: AnyRecord) {
        var value = ByteWriter(capacity: 128)
        record.encodeValue(into: &value)
        if record.isAbsent && !record.hasOlderVersion { return }
        pending.operations.put(DatabaseKey.version(msid, record.key, record.epoch), value.bytes)
        if !record.isStored { pending.operations.put(DatabaseKey.changed(msid, record.epoch, record.key), []) }
        if pending.isMirrored { pending.mirrored.append(ReplicaRecord(of: record)) }
        if record.key.kind == .chunk { unsafeDowncast(record, to: Record<ChunkContent>.self).pendingBlocks = 0 }
    }

    // MARK: Blocks

    /// Puts one block into a chunk that was touched, and gives back the one that it replaces if nobody else sees it.
    func install(_ location: BlockLocation, checksum: UInt32, at index: Int, of chunk: Record<ChunkContent>) {
        var replaced = ReplacedBlocks()
        replace(at: index, of: chunk, with: location, checksum, &replaced)
        if !location.isHole { adopt(BlockExtent(start: location, count: 1)) }
        replaced.finish(self)
    }

    /// Puts one block into a chunk's map and notes the one that it replaces; counting the new one is the caller's.
    func replace(
        at index: Int,
        of chunk: Record<ChunkContent>,
        with location: BlockLocation,
        _ checksum: UInt32,
        _ replaced: inout ReplacedBlocks
    ) {
        if chunk.content == nil { chunk.content = ChunkContent() }
        let bit: UInt64 = 1 << UInt64(index)
        let old = chunk.content!.locations[index]
        if old != 0 && chunk.content!.owned & bit != 0 { replaced.add(BlockLocation(rawValue: old), self) }
        chunk.content!.locations[index] = location.rawValue
        chunk.content!.checksums[index] = location.isHole ? 0 : checksum
        if location.isHole { chunk.content!.owned &= ~bit } else { chunk.content!.owned |= bit }
        chunk.pendingBlocks |= bit
    }

    /// Counts new blocks as living.
    func adopt(_ extent: BlockExtent) {
        liveBlocks[extent.start.segment, default: 0] += extent.count
        pending.touchedSegments.insert(extent.start.segment)
        properties.usedBlocks += UInt64(extent.count)
    }

    /// Gives every block that a chunk owns back.
    func releaseOwned(_ content: ChunkContent) {
        for run in content.runs(within: content.owned) { release(run.extent) }
    }

    /// Gives blocks back that no version refers to any more; their space returns when the pending commit is durable.
    func release(_ extent: BlockExtent) {
        pending.freed.append(extent)
        liveBlocks[extent.start.segment, default: 0] -= extent.count
        precondition(
            liveBlocks[extent.start.segment]! >= 0,
            "segment \(extent.start.segment) has fewer blocks than none"
        )
        pending.touchedSegments.insert(extent.start.segment)
        properties.usedBlocks -= UInt64(extent.count)
    }

    // MARK: Space

    /// Bytes in use, snapshots and metadata included.
    var usedBytes: UInt64 {
        properties.usedBlocks * UInt64(VolumeLimits.blockSizeBytes) + properties.usedInodes
            * VolumeProperties.inodeBytes
    }

    /// Refuses what would make the volume larger than its size.
    func checkRoom(forBlocks blocks: UInt64, inodes: UInt64 = 0) throws(CoreFailure) {
        let wanted = blocks * UInt64(VolumeLimits.blockSizeBytes) + inodes * VolumeProperties.inodeBytes
        guard usedBytes + wanted <= properties.sizeBytes else { throw .file(.noSpace) }
    }
}

/// Blocks that are being replaced, joined to extents as they come: one key and one hole for each extent.
struct ReplacedBlocks {
    private var extent: BlockExtent?

    /// Adds a block; what does not continue the extent is given back.
    mutating func add(_ location: BlockLocation, _ core: VolumeCore) {
        if let present = extent, present.start.advanced(by: present.count) == location,
            present.start.segment == location.segment
        {
            extent!.count += 1
        } else {
            finish(core)
            extent = BlockExtent(start: location, count: 1)
        }
    }

    /// Gives the last extent back.
    mutating func finish(_ core: VolumeCore) {
        if let extent { core.release(extent) }
        extent = nil
    }
}

/// A record read from the database.
enum LoadedRecord {
    case inode(Record<InodeContent>)
    case entry(Record<EntryContent>)
    case link(Record<LinkContent>)
    case chunk(Record<ChunkContent>)
    case orphan(Record<OrphanContent>)
}

/// What is persisted of a volume itself, in the same batch as every commit.
struct VolumeProperties: RecordContent, Equatable {
    static let formatVersion: UInt8 = 1
    /// What an inode is charged for beside its data.
    static let inodeBytes: UInt64 = 512

    var epoch = Epoch.first
    var nextInode: UInt64 = InodeNumber.root.rawValue + 1
    var changeCount: UInt64 = 0
    var usedBlocks: UInt64 = 0
    var usedInodes: UInt64 = 0
    var sizeBytes: UInt64
    var isSpaceGuaranteed: Bool
    var isReplica: Bool
    /// Changes when unstable data may have been lost, and only then.
    var writeVerifier: UInt64
    /// Seed of the hash that orders names; a property of the volume that replicas share.
    var nameSeed: UInt64
    /// Bits of the name hash that are used, fewer in tests of collisions.
    var nameHashBits: UInt8 = 58
    /// The snapshot's epoch that the volume is being restored to; `Epoch.active` when it is not.
    var restoringTo = Epoch.active
    /// Sequence number of the next deferred write.
    var nextDeferred: UInt64 = 1
    /// Whether the volume was closed in order.
    var isClean = false

    init(sizeBytes: UInt64, isSpaceGuaranteed: Bool, isReplica: Bool, writeVerifier: UInt64, nameSeed: UInt64) {
        self.sizeBytes = sizeBytes
        self.isSpaceGuaranteed = isSpaceGuaranteed
        self.isReplica = isReplica
        self.writeVerifier = writeVerifier
        self.nameSeed = nameSeed
    }

    func encode(into writer: inout ByteWriter) {
        writer.append(Self.formatVersion)
        writer.append(epoch.rawValue)
        for value in [
            nextInode, changeCount, usedBlocks, usedInodes, sizeBytes, writeVerifier, nameSeed, nextDeferred,
        ] { writer.append(value) }
        writer.append(nameHashBits)
        writer.append(restoringTo.rawValue)
        writer.append(UInt8((isSpaceGuaranteed ? 1 : 0) | (isReplica ? 2 : 0) | (isClean ? 4 : 0)))
    }

    init(decoding reader: inout ByteReader) throws(ByteFormatError) {
        let version = try reader.read(UInt8.self)
        guard version == Self.formatVersion else { throw ByteFormatError("volume format \(version) is not known") }
        epoch = Epoch(rawValue: try reader.read())
        nextInode = try reader.read()
        changeCount = try reader.read()
        usedBlocks = try reader.read()
        usedInodes = try reader.read()
        sizeBytes = try reader.read()
        writeVerifier = try reader.read()
        nameSeed = try reader.read()
        nextDeferred = try reader.read()
        nameHashBits = try reader.read()
        restoringTo = Epoch(rawValue: try reader.read())
        let flags = try reader.read(UInt8.self)
        isSpaceGuaranteed = flags & 1 != 0
        isReplica = flags & 2 != 0
        isClean = flags & 4 != 0
    }

    /// The cookie of a name when nothing else has its hash: the hash above the 4 low bits, which break ties.
    ///
    /// Cookies 0 to 15 are reserved (0 the start, 1 `.`, 2 `..`).
    func cookie(of name: UnsafeRawBufferPointer) -> UInt64 {
        let hash = Checksum.xxh3(name, seed: nameSeed) & (1 << UInt64(nameHashBits) - 1)
        return (hash + 1) << 4
    }

    /// Names that may share one hash.
    static let tiesMax: UInt64 = 16
}

/// A small write that travels in the log and is made durable in its segment later.
struct DeferredWrite {
    var sequence: UInt64
    var start: BlockLocation
    var bytes: [UInt8]
}

/// Everything that the next commit makes durable at once.
struct PendingCommit {
    /// Its number; tickets name it.
    let number: UInt64
    /// Records to be written as they are when the commit begins.
    var dirty: [AnyRecord] = []
    /// Further keys to write (value) or delete (nil), before the records.
    var operations = PackedOperations()
    /// Blocks that nothing refers to once the commit is durable.
    var freed: [BlockExtent] = []
    var touchedSegments: Set<UInt32> = []
    /// Answers of calls that this commit has the effects of.
    var replies = PendingReplies()
    /// Small stable writes.
    var deferred: [DeferredWrite] = []
    /// Segments that hold data which is not in `deferred`.
    var bulkSegments: Set<UInt32> = []
    var bulkBytes = 0
    /// Whether the volume's own record changed.
    var hasProperties = false
    /// Whether every record must also go to the mirror.
    var isMirrored = false
    /// Versions that the mirror must see before the dirty records.
    var mirrored: [ReplicaRecord] = []
    /// Snapshots that were taken since the last commit, for the mirror.
    var snapshots: [ReplicaRecord] = []

    init(number: UInt64) { self.number = number }

    var isEmpty: Bool {
        dirty.isEmpty && operations.isEmpty && freed.isEmpty && !hasProperties && mirrored.isEmpty && replies.isEmpty
    }
}
