import Bytes
import Identity

/// What a record describes; the numbers are on disk and on the wire and never change their meaning.
package enum RecordKind: UInt8, Sendable, CaseIterable {
    /// Attributes of an inode: first = inode.
    case inode = 0x20
    /// One name: first = directory, second = cookie (hash of the name, ties in the low bits).
    case entry = 0x21
    /// Target of a symbolic link: first = inode.
    case link = 0x22
    /// Block map of 256 KiB of a file: first = inode, second = chunk number.
    case chunk = 0x23
    /// An inode without names whose chunks are still to be given back: first = inode.
    case orphan = 0x24
}

/// The identity of a record within its volume, without the epoch of a version.
package struct RecordKey: Hashable, Sendable, Comparable {
    /// What the record describes.
    package var kind: RecordKind
    /// The inode or directory.
    package var first: UInt64
    /// The chunk number or cookie; 0 where there is none.
    package var second: UInt64

    /// Makes a key.
    package init(_ kind: RecordKind, _ first: UInt64, _ second: UInt64 = 0) {
        self.kind = kind
        self.first = first
        self.second = second
    }

    /// Two words instead of three: every request looks records up. Kinds and inode numbers stay apart, since numbers are
    /// counted up and never reach the highest byte.
    package func hash(into hasher: inout Hasher) {
        hasher.combine(first ^ UInt64(kind.rawValue) << 56)
        hasher.combine(second)
    }

    /// Orders keys as the database does.
    package static func < (left: RecordKey, right: RecordKey) -> Bool {
        (left.kind.rawValue, left.first, left.second) < (right.kind.rawValue, right.first, right.second)
    }
}

/// Keys of the metadata database of an aggregate. All integers big-endian, so that byte order is key order.
///
///     version    msid 8 | kind 1 | first 8 | second 8 | ~epoch 4     newest version first
///     changed    msid 8 | 0xF0   | epoch 4 | kind 1 | first 8 | second 8
///     snapshot   msid 8 | 0x10   | epoch 4
///     segment    msid 8 | 0x11   | segment 4
///     deferred   msid 8 | 0x12   | sequence 8
///     freed      msid 8 | 0x13   | segment 4 | block 4
///     removal    msid 8 | 0x14   | epoch 4          a snapshot that is being deleted
///     checkpoint msid 8 | 0x15
///     reply      msid 8 | 0x16   | slot 4
///     volume     0 x 8  | 0x01   | msid 8
///     deletion   0 x 8  | 0x02   | msid 8           a volume that is being deleted
///     commit     0 x 8  | 0x03                      number of the last commit of the aggregate
enum DatabaseKey {
    /// Versions of one record share this many bytes: the length of the bloom-filtered prefix.
    static let recordPrefixLength = 25
    static let versionLength = 29
    static let changedLength = 30
    static let changedKind: UInt8 = 0xF0
    static let snapshotKind: UInt8 = 0x10
    static let segmentKind: UInt8 = 0x11
    static let deferredKind: UInt8 = 0x12
    static let freedKind: UInt8 = 0x13
    static let removalKind: UInt8 = 0x14
    static let checkpointKind: UInt8 = 0x15
    /// Answers of calls that must not be executed twice (`ReplyRing`).
    static let replyKind: UInt8 = 0x16
    static let replyLength = 13
    static let volumeKind: UInt8 = 0x01
    static let deletionKind: UInt8 = 0x02
    /// Number of the last commit of the aggregate.
    static let lastCommit = prefix(VolumeMSID(rawValue: 0), 0x03)

    static func version(_ volume: VolumeMSID, _ key: RecordKey, _ epoch: Epoch) -> [UInt8] {
        var writer = ByteWriter(capacity: versionLength)
        appendVersion(volume, key, epoch, to: &writer)
        return writer.bytes
    }

    static func appendVersion(_ volume: VolumeMSID, _ key: RecordKey, _ epoch: Epoch, to writer: inout ByteWriter) {
        writer.appendBigEndian(volume.rawValue)
        writer.append(key.kind.rawValue)
        writer.appendBigEndian(key.first)
        writer.appendBigEndian(key.second)
        writer.appendBigEndian(~epoch.rawValue)
    }

    static func changed(_ volume: VolumeMSID, _ epoch: Epoch, _ key: RecordKey?) -> [UInt8] {
        var writer = ByteWriter(capacity: changedLength)
        appendChanged(volume, epoch, key, to: &writer)
        return writer.bytes
    }

    static func appendChanged(_ volume: VolumeMSID, _ epoch: Epoch, _ key: RecordKey?, to writer: inout ByteWriter) {
        writer.appendBigEndian(volume.rawValue)
        writer.append(changedKind)
        writer.appendBigEndian(epoch.rawValue)
        if let key {
            writer.append(key.kind.rawValue)
            writer.appendBigEndian(key.first)
            writer.appendBigEndian(key.second)
        }
    }

    /// Any of the small keys: the volume, a kind, and what tells records of that kind apart.
    static func local<Part: FixedWidthInteger>(_ volume: VolumeMSID, _ kind: UInt8, _ part: Part) -> [UInt8] {
        var writer = ByteWriter(capacity: 17)
        writer.appendBigEndian(volume.rawValue)
        writer.append(kind)
        writer.appendBigEndian(part)
        return writer.bytes
    }

    static func appendReply(_ volume: VolumeMSID, _ slot: UInt32, to writer: inout ByteWriter) {
        writer.appendBigEndian(volume.rawValue)
        writer.append(replyKind)
        writer.appendBigEndian(slot)
    }

    /// The first bytes of all keys of a kind.
    static func prefix(_ volume: VolumeMSID, _ kind: UInt8) -> [UInt8] {
        var writer = ByteWriter(capacity: 9)
        writer.appendBigEndian(volume.rawValue)
        writer.append(kind)
        return writer.bytes
    }

    static func deletion(_ msid: VolumeMSID) -> [UInt8] {
        local(VolumeMSID(rawValue: 0), deletionKind, msid.rawValue)
    }

    static func volume(_ msid: VolumeMSID) -> [UInt8] { local(VolumeMSID(rawValue: 0), volumeKind, msid.rawValue) }

    /// Reads a version key back.
    static func parseVersion(_ bytes: UnsafeRawBufferPointer) -> (key: RecordKey, epoch: Epoch)? {
        guard bytes.count == versionLength, let kind = RecordKind(rawValue: bytes[8]) else { return nil }
        let key = RecordKey(kind, bigEndian(bytes, 9), bigEndian(bytes, 17))
        let inverted = UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 25, as: UInt32.self))
        return (key, Epoch(rawValue: ~inverted))
    }

    /// Reads a key of the `changed` index back.
    static func parseChanged(_ bytes: UnsafeRawBufferPointer) -> (epoch: Epoch, key: RecordKey)? {
        guard bytes.count == changedLength, bytes[8] == changedKind, let kind = RecordKind(rawValue: bytes[13]) else {
            return nil
        }
        let epoch = UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 9, as: UInt32.self))
        return (Epoch(rawValue: epoch), RecordKey(kind, bigEndian(bytes, 14), bigEndian(bytes, 22)))
    }

    static func bigEndian(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> UInt64 {
        UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }

    static func hasPrefix(_ bytes: UnsafeRawBufferPointer, _ prefix: [UInt8]) -> Bool {
        bytes.count >= prefix.count && bytes.prefix(prefix.count).elementsEqual(prefix)
    }
}
