import Bytes
import FileIO
import Identity
import RocksStore
import SegmentStore

/// Applies replica records to a replica volume: the one `apply` of all three engines.
///
/// Used by one thread at a time. Nothing is durable before `checkpoint`, which makes data, records and the position of
/// the transfer durable at once: until then the volume's pending commit holds nothing of it, so that whoever else commits
/// in between (a deletion of a snapshot, the end of the aggregate) cannot make a record durable before its data, or apart
/// from the position that says so. What never reaches a checkpoint is given back when the writer goes.
package final class ReplicaWriter {
    private let volume: Volume
    /// Whether nothing of what comes can be in the database already.
    private let isBaseline: Bool
    /// What the open batch has written: newer than the database. Empty in a baseline.
    private var written: [RecordKey: Prior] = [:]
    /// The last record of a baseline.
    private var lastOfBaseline: RecordKey?
    /// Room for one value.
    private var encoding = ByteWriter(capacity: 512)
    /// What the next checkpoint hands over to the volume.
    private var stage = ReplicaStage()
    /// The checkpoint that is becoming durable.
    private var begun: CommitTicket?
    /// Data on its way to a segment. The kernel copies whole pages from memory that lies as they do much faster than from
    /// where a frame happens to hold them; and this much stays in the processor's cache.
    private let buffer: UnsafeMutableRawBufferPointer
    private var bufferStart = BlockLocation.hole
    private var bufferCount = 0
    private static let bufferBytes = 256 << 10
    /// What was written and is not yet on its way to the disk.
    private var dirty = BlockExtent(start: .hole, count: 0)
    /// Blocks that are sent to the disk at a time.
    private static let writebackBlocks = 256
    /// Bytes of data since the last checkpoint.
    package private(set) var bytesSinceCheckpoint = 0

    /// The newest version of a record before the one that comes.
    private struct Prior {
        var epoch: Epoch
        var isTombstone: Bool
        var hasOlder: Bool
        var chunk: ChunkContent?
    }

    /// Begins to apply to `volume`, which must be a replica.
    package init(volume: Volume, isBaseline: Bool) throws(StorageError) {
        guard volume.isReplica else {
            throw StorageError(
                .conflict,
                "volume \(volume.msid) is not a replica",
                remedy: "replicate only into a destination volume"
            )
        }
        self.volume = volume
        self.isBaseline = isBaseline
        buffer = .allocate(byteCount: Self.bufferBytes, alignment: 4096)
    }

    deinit {
        // Whoever comes next looks in the database where to go on.
        waitForBegun()
        let stage = stage
        volume.locked { volume.core.giveBack(stage.allocated) }
        for extent in stage.allocated { volume.segments.settle(extent) }
        volume.commitSoon()
        buffer.deallocate()
    }

    /// Applies the records of a frame, in order; returns how many there were.
    package func apply(_ frame: UnsafeRawBufferPointer) throws(StorageError) -> Int {
        var reader = ByteReader(frame)
        var count = 0
        while reader.remaining > 0 {
            let record: ReplicaRecordCoding.Incoming
            do { record = try ReplicaRecordCoding.decode(&reader) } catch { throw Self.malformed("\(error)") }
            try apply(record)
            count += 1
        }
        bytesSinceCheckpoint += frame.count
        return count
    }

    /// Makes everything that was applied durable, together with the position `token`.
    package func checkpoint(_ token: [UInt8]) throws(StorageError) {
        try handOver(token)
        volume.flush()
        begun = nil
    }

    /// The same, but a baseline goes on while its checkpoint becomes durable: its records need nothing of the database.
    /// The checkpoint before is waited for, so that two stages at most are in memory.
    package func beginCheckpoint(_ token: [UInt8]) throws(StorageError) {
        guard isBaseline else { return try checkpoint(token) }
        waitForBegun()
        try handOver(token)
        begun = volume.orderedTicket
        volume.commitSoon()
    }

    private func waitForBegun() {
        if let begun { volume.waitUntilDurable(begun) }
        begun = nil
    }

    private func handOver(_ token: [UInt8]) throws(StorageError) {
        try flushBuffer()
        stage.token = token
        let stage = stage
        volume.locked { volume.core.adopt(stage) }
        for extent in stage.allocated { volume.segments.settle(extent) }
        self.stage = ReplicaStage()
        written.removeAll(keepingCapacity: true)
        bytesSinceCheckpoint = 0
    }

    private static func malformed(_ what: String) -> StorageError {
        StorageError(.damaged, "a replication record is malformed: \(what)", remedy: "start the transfer again")
    }

    private func apply(_ record: ReplicaRecordCoding.Incoming) throws(StorageError) {
        switch record.body {
        case .snapshot(let snapshot, _): stage.snapshots.append(snapshot)
        case .properties(let properties): stage.properties = properties
        case .value(let bytes):
            let prior = try prior(record.key)
            let hasOlder = supersede(record, prior)
            put(record.key, record.epoch, bytes)
            note(record, isTombstone: false, hasOlder: hasOlder)
        case .chunk(let chunk): try applyChunk(record, chunk)
        case .tombstone, .removed: try applyDeletion(record)
        case .reply(let value): try applyReply(value)
        case .replies(let next):
            (stage.areRepliesVoid, stage.nextReply) = (true, next)
            for key in try volume.storedReplyKeys() { stage.versions.delete(key) }
        }
    }

    private func applyReply(_ value: UnsafeRawBufferPointer) throws(StorageError) {
        let sequence: UInt64
        do { sequence = try ReplyRing.sequence(value) } catch { throw Self.malformed("\(error)") }
        stage.versions.putReplies(volume.msid, slot: ReplyRing.slot(sequence), value)
        stage.nextReply = max(stage.nextReply, sequence + 1)
    }

    private func applyDeletion(_ record: ReplicaRecordCoding.Incoming) throws(StorageError) {
        guard let prior = try prior(record.key), prior.epoch <= record.epoch else { return }
        let isReplaced = prior.epoch == record.epoch || !isRetained(prior.epoch, before: record.epoch)
        let hasOlder = supersede(record, prior)
        if isReplaced, let chunk = prior.chunk { stage.freed += chunk.runs(within: chunk.owned).map(\.extent) }
        if hasOlder {
            put(record.key, record.epoch, UnsafeRawBufferPointer(start: nil, count: 0))
        } else {
            delete(record.key, record.epoch)
        }
        note(record, isTombstone: true, hasOlder: hasOlder)
    }

    private func applyChunk(
        _ record: ReplicaRecordCoding.Incoming,
        _ chunk: ReplicaRecordCoding.IncomingChunk
    ) throws(StorageError) {
        let (present, changed, checksums) = (chunk.present, chunk.changed, chunk.checksums())
        let prior = try prior(record.key)
        let isReplaced = prior.map { $0.epoch == record.epoch || !isRetained($0.epoch, before: record.epoch) } ?? true
        var content = prior?.chunk ?? ChunkContent()
        if !isReplaced { content.owned = 0 }
        let start = try store(changed, checksums, chunk.data)
        var next = 0
        for index in 0..<64 {
            let bit: UInt64 = 1 << UInt64(index)
            if present & bit != 0 && changed & bit == 0 {
                guard !content.location(index).isHole, content.checksums[index] == checksums[index] else {
                    throw StorageError(
                        .damaged,
                        "the replica of volume \(volume.msid) is out of step at chunk \(record.key.second) of "
                            + "inode \(record.key.first)",
                        remedy: "abort, and start again with a new baseline"
                    )
                }
                continue
            }
            if content.owned & bit != 0 {
                stage.freed.append(BlockExtent(start: content.location(index), count: 1))
            }
            content.owned &= ~bit
            content.locations[index] = 0
            content.checksums[index] = 0
            if changed & bit != 0 {
                content.locations[index] = start[next].rawValue
                content.checksums[index] = checksums[index]
                content.owned |= bit
                next += 1
            }
        }
        let hasOlder = supersede(record, prior)
        encoding.removeAll()
        content.encode(into: &encoding)
        encoding.bytes.withUnsafeBytes { put(record.key, record.epoch, $0) }
        note(record, isTombstone: false, hasOlder: hasOlder, chunk: content)
    }

    // MARK: Versions

    /// Remembers what was written, for whoever comes to the same record again: in a baseline nobody does.
    private func note(
        _ record: ReplicaRecordCoding.Incoming,
        isTombstone: Bool,
        hasOlder: Bool,
        chunk: ChunkContent? = nil
    ) {
        if isBaseline { return }
        written[record.key] = Prior(epoch: record.epoch, isTombstone: isTombstone, hasOlder: hasOlder, chunk: chunk)
    }

    /// Each record comes once in a baseline, in the order of the keys: were it otherwise, nothing here would notice that
    /// it has written a record before.
    private func checkOrder(_ key: RecordKey) throws(StorageError) {
        guard isBaseline else { return }
        if let last = lastOfBaseline, last >= key {
            throw Self.malformed("a baseline brings \(key) after \(last)")
        }
        lastOfBaseline = key
    }

    private func isRetained(_ epoch: Epoch, before successor: Epoch) -> Bool {
        stage.snapshots.contains { epoch <= $0.epoch && $0.epoch < successor }
            || volume.locked { volume.core.isRetained(epoch, before: successor) }
    }

    /// Takes a prior version away that no snapshot sees; returns whether older versions remain.
    private func supersede(_ record: ReplicaRecordCoding.Incoming, _ prior: Prior?) -> Bool {
        guard let prior, prior.epoch != record.epoch else { return prior?.hasOlder ?? false }
        if isRetained(prior.epoch, before: record.epoch) { return true }
        delete(record.key, prior.epoch)
        return prior.hasOlder
    }

    /// What is there of a record; asked once for each that comes.
    private func prior(_ key: RecordKey) throws(StorageError) -> Prior? {
        try checkOrder(key)
        if isBaseline { return nil }
        if let prior = written[key] { return prior }
        var prior: Prior?
        var needsDisk = false
        try volume.reader.version(key, atOrBelow: Epoch(rawValue: .max), cachedOnly: false, needsDisk: &needsDisk) {
            (epoch, value, hasOlder) throws(ByteFormatError) in
            prior = Prior(
                epoch: epoch,
                isTombstone: value.isEmpty,
                hasOlder: hasOlder,
                chunk: key.kind == .chunk && !value.isEmpty ? try ChunkContent.decode(value) : nil
            )
        }
        return prior
    }

    private func put(_ key: RecordKey, _ epoch: Epoch, _ value: UnsafeRawBufferPointer) {
        stage.versions.putVersion(volume.msid, key, epoch, value)
        stage.changes.putChanged(volume.msid, epoch, key)
    }

    private func delete(_ key: RecordKey, _ epoch: Epoch) {
        stage.versions.delete(DatabaseKey.version(volume.msid, key, epoch))
        stage.changes.delete(DatabaseKey.changed(volume.msid, epoch, key))
    }

    // MARK: Data

    /// Checks the data of changed blocks and puts it into segments; returns their places in order.
    private func store(
        _ changed: UInt64,
        _ checksums: InlineArray<64, UInt32>,
        _ data: UnsafeRawBufferPointer
    ) throws(StorageError) -> [BlockLocation] {
        let blockSize = VolumeLimits.blockSizeBytes
        let count = changed.nonzeroBitCount
        guard count > 0 else { return [] }
        var position = 0
        for index in 0..<64 where changed >> UInt64(index) & 1 == 1 {
            let block = UnsafeRawBufferPointer(rebasing: data[position..<position + blockSize])
            guard Checksum.block(block) == checksums[index] else {
                throw Self.malformed("a block has another checksum")
            }
            position += blockSize
        }
        do throws(FileIOError) {
            var places: [BlockLocation] = []
            var offset = 0
            let extents = try volume.segments.allocate(count)
            stage.allocated += extents
            for extent in extents {
                let part = UnsafeRawBufferPointer(rebasing: data[offset..<offset + extent.count * blockSize])
                try append(part, at: extent.start)
                for step in 0..<extent.count { places.append(extent.start.advanced(by: step)) }
                offset += part.count
            }
            return places
        } catch { throw .io(error) }
    }

    private func append(_ part: UnsafeRawBufferPointer, at start: BlockLocation) throws(FileIOError) {
        let blockSize = VolumeLimits.blockSizeBytes
        let isContinued = bufferCount > 0 && bufferStart.advanced(by: bufferCount / blockSize) == start
        if !isContinued || bufferCount + part.count > Self.bufferBytes {
            try writeBuffer()
            bufferStart = start
        }
        UnsafeMutableRawBufferPointer(rebasing: buffer[bufferCount..<bufferCount + part.count]).copyMemory(from: part)
        bufferCount += part.count
    }

    private func writeBuffer() throws(FileIOError) {
        guard bufferCount > 0 else { return }
        try volume.segments.write(UnsafeRawBufferPointer(rebasing: buffer[0..<bufferCount]), to: bufferStart)
        if dirty.start.advanced(by: dirty.count) != bufferStart {
            startWriteback()
            dirty.start = bufferStart
        }
        dirty.count += bufferCount / VolumeLimits.blockSizeBytes
        bufferCount = 0
        if dirty.count >= Self.writebackBlocks { startWriteback() }
    }

    private func startWriteback() {
        if dirty.count > 0 { volume.segments.startWriteback(dirty.start, count: dirty.count) }
        dirty = BlockExtent(start: dirty.start.advanced(by: dirty.count), count: 0)
    }

    private func flushBuffer() throws(StorageError) {
        do { try writeBuffer() } catch { throw .io(error) }
        startWriteback()
    }
}

/// What a replica's writer has applied since its last checkpoint.
private struct ReplicaStage {
    /// Records to write or to delete.
    var versions = PackedOperations()
    /// Their entries in the index of changes. Apart, because a transfer brings both in the order of their keys, and the
    /// database's memory takes ordered keys several times faster than two orders in turn.
    var changes = PackedOperations()
    /// Where the transfer goes on after a restart.
    var token: [UInt8]?
    /// Snapshots of the source.
    var snapshots: [Snapshot] = []
    /// The counters of the source, the newest ones.
    var properties: VolumeProperties?
    /// Blocks that were written, all of them until the stage is handed over or given up.
    var allocated: [BlockExtent] = []
    /// Blocks that no record refers to any more.
    var freed: [BlockExtent] = []
    /// Whether a stream has begun its answers: only those that came since are kept.
    var areRepliesVoid = false
    /// The number of the next slot of answers.
    var nextReply: UInt64 = 1
}

extension VolumeCore {
    /// Makes what a writer has staged part of the pending commit.
    fileprivate func adopt(_ stage: ReplicaStage) {
        for extent in stage.allocated {
            adopt(extent)
            pending.bulkSegments.insert(extent.start.segment)
        }
        for extent in stage.freed { release(extent) }
        pending.operations.append(stage.versions)
        pending.operations.append(stage.changes)
        if let token = stage.token {
            pending.operations.put(DatabaseKey.prefix(msid, DatabaseKey.checkpointKind), token)
        }
        for snapshot in stage.snapshots { adopt(snapshot) }
        if let properties = stage.properties { adopt(properties) }
        nextReply = stage.areRepliesVoid ? stage.nextReply : max(nextReply, stage.nextReply)
    }

    /// Gives blocks back that were written and that no record ever referred to.
    fileprivate func giveBack(_ extents: [BlockExtent]) {
        for extent in extents {
            adopt(extent)
            release(extent)
        }
    }

    /// Takes a snapshot of the source over; the same one again is no error.
    func adopt(_ snapshot: Snapshot) {
        if snapshots.contains(where: { $0.uuid == snapshot.uuid }) { return }
        snapshots.append(snapshot)
        snapshots.sort { $0.epoch < $1.epoch }
        pending.operations.put(
            DatabaseKey.local(msid, DatabaseKey.snapshotKind, snapshot.epoch.rawValue),
            snapshot.encoded
        )
        properties.epoch = max(properties.epoch, snapshot.epoch.next)
    }

    /// Takes the counters of the source over.
    func adopt(_ source: VolumeProperties) {
        properties.epoch = max(properties.epoch, source.epoch)
        properties.nextInode = source.nextInode
        properties.changeCount = source.changeCount
        properties.usedInodes = source.usedInodes
        properties.writeVerifier = source.writeVerifier
        properties.nameSeed = source.nameSeed
        properties.nameHashBits = source.nameHashBits
        pending.hasProperties = true
    }
}

extension Volume {
    /// The position that the last `ReplicaWriter.checkpoint` left.
    package func replicaCheckpoint() throws(StorageError) -> [UInt8]? {
        var token: [UInt8]?
        let key = DatabaseKey.prefix(msid, DatabaseKey.checkpointKind)
        do {
            _ = try key.withUnsafeBytes { bytes in
                try context.database.get(bytes, cachedOnly: false) { token = [UInt8]($0) }
            }
        } catch { throw .metadata(error as? RocksError ?? RocksError(description: "\(error)")) }
        return token
    }

    /// Whether the volume is a replica that only replication writes.
    package var isReplica: Bool { locked { core.properties.isReplica } }

    /// Makes a replica read-write or a volume a replica, durably; idempotent.
    ///
    /// A volume that is already what is asked for only becomes durably so: it may be serving clients, whose changes are
    /// in memory and on their way to the disk.
    package func setReplica(_ isReplica: Bool) throws(StorageError) {
        try managed { () throws(StorageError) in
            if locked({ core.properties.isReplica == isReplica }) { return flush() }
            // First what can fail, while nothing is changed: a second try does all of it again.
            flush()
            let orphans = isReplica ? [] : try storedOrphans()
            locked {
                core.properties.isReplica = isReplica
                core.pending.hasProperties = true
                // The position of a transfer says nothing any more once the volume has been written by others.
                core.pending.operations.delete(DatabaseKey.prefix(msid, DatabaseKey.checkpointKind))
            }
            flush()
            locked {
                core.forgetRecords()
                core.newOrphans += orphans
            }
        }
    }

    /// Brings a replica back to its newest snapshot: what an interrupted transfer or stream left behind goes.
    package func revertToNewestSnapshot() throws(StorageError) {
        try managed { () throws(StorageError) in
            if let newest = snapshots().last { try revert(to: newest) }
        }
    }
}
