package import Bytes
package import Identity

/// Where a transfer stands: the last record that was sent or applied.
package struct TransferPosition: Equatable, Sendable {
    /// The epoch of the change; `Epoch.active` in a baseline.
    package var epoch: Epoch
    /// The record.
    package var key: RecordKey

    /// Appends the position: epoch 4 | kind 1 | first 8 | second 8.
    package func encode(into writer: inout ByteWriter) {
        writer.append(epoch.rawValue)
        writer.append(key.kind.rawValue)
        writer.append(key.first)
        writer.append(key.second)
    }

    /// Reads a position back.
    package init(decoding reader: inout ByteReader) throws(ByteFormatError) {
        epoch = Epoch(rawValue: try reader.read())
        let rawKind = try reader.read(UInt8.self)
        guard let kind = RecordKind(rawValue: rawKind) else { throw ByteFormatError("\(rawKind) is no record kind") }
        key = RecordKey(kind, try reader.read(), try reader.read())
    }

    init(epoch: Epoch, key: RecordKey) {
        self.epoch = epoch
        self.key = key
    }
}

/// Reads what a replica lacks: every key visible at a snapshot (baseline), or the keys that changed since the snapshot
/// before it with the blocks that differ (incremental). The cost follows the changes, not the number of files.
package final class TransferReader {
    private let volume: Volume
    private let base: Snapshot?
    private let target: Snapshot
    private var position: TransferPosition?
    private var isFinished = false
    /// Blocks that were sent.
    package private(set) var blocksSent: UInt64 = 0

    /// Reads from `base` (nil = baseline), which is the snapshot just before `target`, from after `resume`. Both are held
    /// while the reader lives: they cannot be deleted.
    package init(volume: Volume, base: Snapshot?, target: Snapshot, resume: TransferPosition?) {
        self.volume = volume
        self.base = base
        self.target = target
        position = resume
        volume.hold(snapshots)
    }

    deinit { volume.release(snapshots) }

    private var snapshots: [ObjectUUID] { [base, target].compactMap { $0?.uuid } }

    /// Appends records of about `bytes` bytes; returns the position after them, or nil when the transfer is complete
    /// (the last records are then the snapshot itself and the volume's counters).
    package func next(into writer: inout ByteWriter, bytes: Int) throws(StorageError) -> TransferPosition? {
        precondition(!isFinished)
        let limit = writer.bytes.count + bytes
        let isEnd = try base == nil ? readBaseline(&writer, limit) : readChanges(&writer, limit)
        guard isEnd else { return position }
        isFinished = true
        let (properties, reader) = (volume.locked { volume.core.properties }, volume.appendBlocks)
        var counters = properties
        counters.epoch = target.epoch.next
        try ReplicaRecordCoding.encode(
            ReplicaRecord(snapshot: target, usedInodes: properties.usedInodes),
            into: &writer,
            readBlocks: reader
        )
        try ReplicaRecordCoding.encode(ReplicaRecord(properties: counters), into: &writer, readBlocks: reader)
        return nil
    }

    private func readBaseline(_ writer: inout ByteWriter, _ limit: Int) throws(StorageError) -> Bool {
        let start = position.map { RecordKey($0.key.kind, $0.key.first, $0.key.second) } ?? RecordKey(.inode, 0)
        let resumed = position?.key
        var isEnd = true
        var output = ByteWriter(capacity: 0)
        swap(&output, &writer)
        defer { swap(&output, &writer) }
        try volume.reader.walk(at: target.epoch, from: start, through: .orphan) {
            (key, epoch, value) throws(StorageError) in
            if key == resumed { return true }
            guard output.bytes.count < limit else {
                isEnd = false
                return false
            }
            try encode(key, epoch, value, .max, &output)
            position = TransferPosition(epoch: .active, key: key)
            return true
        }
        return isEnd
    }

    private func readChanges(_ writer: inout ByteWriter, _ limit: Int) throws(StorageError) -> Bool {
        let base = base!
        var isEnd = true
        var output = ByteWriter(capacity: 0)
        swap(&output, &writer)
        defer { swap(&output, &writer) }
        let resume = position.map { ($0.epoch, $0.key) }
        try volume.reader.walkChanges(after: base.epoch, through: target.epoch, resume: resume) {
            (epoch, key) throws(StorageError) in
            guard output.bytes.count < limit else {
                isEnd = false
                return false
            }
            var value: [UInt8]?
            var needsDisk = false
            try volume.reader.version(key, atOrBelow: epoch, cachedOnly: false, needsDisk: &needsDisk) {
                (found, bytes, _) throws(ByteFormatError) in if found == epoch { value = [UInt8](bytes) }
            }
            // A version that has gone meanwhile was created and deleted between the snapshots.
            if let value { try encodeChange(key, epoch, value, base, &output) }
            position = TransferPosition(epoch: epoch, key: key)
            return true
        }
        return isEnd
    }

    private func encodeChange(
        _ key: RecordKey,
        _ epoch: Epoch,
        _ value: [UInt8],
        _ base: Snapshot,
        _ writer: inout ByteWriter
    ) throws(StorageError) {
        if value.isEmpty {
            let tombstone = ReplicaRecord(key: key, epoch: epoch, body: .tombstone)
            return try ReplicaRecordCoding.encode(tombstone, into: &writer, readBlocks: volume.appendBlocks)
        }
        let old = key.kind == .chunk ? try volume.reader.content(key, ChunkContent.self, at: base.epoch) : nil
        let outcome = value.withUnsafeBytes { bytes in
            Result { () throws(StorageError) in try encode(key, epoch, bytes, nil, &writer, since: old) }
        }
        try outcome.get()
    }

    private func encode(
        _ key: RecordKey,
        _ epoch: Epoch,
        _ value: UnsafeRawBufferPointer,
        _ mask: UInt64?,
        _ writer: inout ByteWriter,
        since old: ChunkContent? = nil
    ) throws(StorageError) {
        guard key.kind == .chunk else { return ReplicaRecordCoding.encodeValue(key, epoch, value, into: &writer) }
        let content: ChunkContent
        do { content = try ChunkContent.decode(value) } catch { throw volume.reader.damaged(key, "\(error)") }
        let changed = mask ?? content.blocksThatDiffer(from: old)
        blocksSent += UInt64((changed & content.present).nonzeroBitCount)
        try ReplicaRecordCoding.encodeChunk(
            key,
            epoch,
            content,
            changed: changed,
            into: &writer,
            readBlocks: volume.appendBlocks
        )
    }
}

extension ChunkContent {
    /// Blocks that lie elsewhere than in an older version: exactly those whose content was written since.
    fileprivate func blocksThatDiffer(from old: ChunkContent?) -> UInt64 {
        guard let old else { return .max }
        var mask: UInt64 = 0
        for index in 0..<64 where locations[index] != old.locations[index] { mask |= 1 << UInt64(index) }
        return mask
    }
}
