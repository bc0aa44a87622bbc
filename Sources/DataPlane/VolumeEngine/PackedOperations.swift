import Bytes
import Identity
import RocksStore

/// Keys of the database to write or to delete, in order.
///
/// Packed one behind the other, because a transfer stages hundreds of thousands of them, and to allocate two arrays for
/// each takes longer than all else that is done with it:
///
///     key count 4 | value count 4 (all ones: the key is to be deleted) | key | value
struct PackedOperations {
    /// A block is full from here on; a limit, so that growing never moves much.
    private static let blockBytes = 256 << 10
    private static let deletion = UInt32.max

    private var full: [[UInt8]] = []
    private var block = ByteWriter(capacity: 0)

    /// Whether there are none.
    var isEmpty: Bool { full.isEmpty && block.bytes.isEmpty }

    /// Writes a key.
    mutating func put(_ key: [UInt8], _ value: [UInt8]) {
        begin(key.count, UInt32(value.count))
        key.withUnsafeBytes { block.append(raw: $0) }
        value.withUnsafeBytes { block.append(raw: $0) }
    }

    /// Deletes a key.
    mutating func delete(_ key: [UInt8]) {
        begin(key.count, Self.deletion)
        key.withUnsafeBytes { block.append(raw: $0) }
    }

    /// Writes a version of a record.
    mutating func putVersion(_ volume: VolumeMSID, _ key: RecordKey, _ epoch: Epoch, _ value: UnsafeRawBufferPointer) {
        begin(DatabaseKey.versionLength, UInt32(value.count))
        DatabaseKey.appendVersion(volume, key, epoch, to: &block)
        block.append(raw: value)
    }

    /// Writes the entry of a version in the index of changes.
    mutating func putChanged(_ volume: VolumeMSID, _ epoch: Epoch, _ key: RecordKey) {
        begin(DatabaseKey.changedLength, 0)
        DatabaseKey.appendChanged(volume, epoch, key, to: &block)
    }

    /// Writes answers that are kept into their slot.
    mutating func putReplies(_ volume: VolumeMSID, slot: UInt32, _ value: UnsafeRawBufferPointer) {
        begin(DatabaseKey.replyLength, UInt32(value.count))
        DatabaseKey.appendReply(volume, slot, to: &block)
        block.append(raw: value)
    }

    /// Adds what is in `other` behind what is here.
    mutating func append(_ other: PackedOperations) {
        close()
        full += other.full
        block = other.block
    }

    private mutating func begin(_ keyCount: Int, _ valueCount: UInt32) {
        if block.bytes.count >= Self.blockBytes { close() }
        block.append(UInt32(keyCount))
        block.append(valueCount)
    }

    private mutating func close() {
        if !block.bytes.isEmpty { full.append(block.bytes) }
        block = ByteWriter(capacity: 0)
    }

    /// Appends all of them to a batch.
    func write(into batch: borrowing RocksBatch) {
        for bytes in full { Self.write(bytes, into: batch) }
        Self.write(block.bytes, into: batch)
    }

    private static func write(_ bytes: [UInt8], into batch: borrowing RocksBatch) {
        bytes.withUnsafeBytes { memory in
            var offset = 0
            func part(_ count: Int) -> UnsafeRawBufferPointer {
                defer { offset += count }
                return UnsafeRawBufferPointer(rebasing: memory[offset..<offset + count])
            }
            func count() -> UInt32 { UInt32(littleEndian: part(4).loadUnaligned(as: UInt32.self)) }
            while offset < memory.count {
                let (keyCount, valueCount) = (count(), count())
                let key = part(Int(keyCount))
                if valueCount == deletion { batch.delete(key) } else { batch.put(key, part(Int(valueCount))) }
            }
        }
    }
}
