import Bytes
import Identity
import SegmentStore

/// One change as a replica gets it: a version of a record, logical, without the places of its blocks.
///
/// The one format of the baseline, the incremental and the synchronous engine [117-118].
package struct ReplicaRecord: Sendable {
    /// What becomes of the version.
    enum Body: Sendable {
        /// The value as it is.
        case value([UInt8])
        /// A block map; `changed` says whose data goes along.
        case chunk(ChunkContent, changed: UInt64)
        /// The object is gone, an older version may be seen by a snapshot.
        case tombstone
        /// The version of exactly this epoch never was.
        case removed
        /// Ends an epoch: a snapshot that the replica must hold as well.
        case snapshot(Snapshot, usedInodes: UInt64)
        /// Counters of the volume that a replica takes over.
        case properties(VolumeProperties)
        /// Answers that are kept, as their slot has them in the database.
        case reply([UInt8])
        /// Begins the answers of a stream: what the replica has kept before is void. The number of the next slot.
        case replies(next: UInt64)
    }

    var key: RecordKey
    var epoch: Epoch
    var body: Body

    init(key: RecordKey, epoch: Epoch, body: Body) {
        self.key = key
        self.epoch = epoch
        self.body = body
    }

    /// The state of a record in memory, as of now.
    init(of record: AnyRecord) {
        key = record.key
        epoch = record.epoch
        if record.isAbsent {
            body = record.hasOlderVersion ? .tombstone : .removed
        } else if record.key.kind == .chunk {
            let chunk = unsafeDowncast(record, to: Record<ChunkContent>.self)
            body = .chunk(chunk.content!, changed: chunk.pendingBlocks)
        } else {
            var writer = ByteWriter(capacity: 128)
            record.encodeValue(into: &writer)
            body = .value(writer.bytes)
        }
    }

    init(snapshot: Snapshot, usedInodes: UInt64) {
        key = RecordKey(.inode, 0)
        epoch = snapshot.epoch
        body = .snapshot(snapshot, usedInodes: usedInodes)
    }

    init(reply value: [UInt8], epoch: Epoch) {
        key = RecordKey(.inode, 0)
        self.epoch = epoch
        body = .reply(value)
    }

    init(repliesUpTo next: UInt64, epoch: Epoch) {
        key = RecordKey(.inode, 0)
        self.epoch = epoch
        body = .replies(next: next)
    }

    init(properties: VolumeProperties) {
        key = RecordKey(.inode, 0)
        epoch = properties.epoch
        body = .properties(properties)
    }
}

/// The wire form of replica records, little-endian:
///
///     body 1 | kind 1 | first 8 | second 8 | epoch 4 | then by body:
///     value     count 4 | bytes
///     chunk     present 8 | changed 8 | checksum 4 for each present block | 4096 bytes for each changed present block
///     properties  count 4 | the volume's own record
///     snapshot  uuid 16 | created 8 + 4 | used inodes 8 | count 4 | name
///     reply     count 4 | the value of a slot of answers that are kept
///     replies   next 8
enum ReplicaRecordCoding {
    static let valueTag: UInt8 = 1
    static let chunkTag: UInt8 = 2
    static let tombstoneTag: UInt8 = 3
    static let removedTag: UInt8 = 4
    static let snapshotTag: UInt8 = 5
    static let propertiesTag: UInt8 = 6
    static let replyTag: UInt8 = 7
    static let repliesTag: UInt8 = 8

    /// Appends a record; `readBlocks` appends the verified bytes of an extent.
    static func encode(
        _ record: ReplicaRecord,
        into writer: inout ByteWriter,
        readBlocks: (BlockExtent, _ content: ChunkContent, _ first: Int, inout ByteWriter) throws(StorageError) -> Void
    ) throws(StorageError) {
        func header(_ tag: UInt8) { appendHeader(tag, record.key, record.epoch, to: &writer) }
        switch record.body {
        case .value(let bytes): bytes.withUnsafeBytes { encodeValue(record.key, record.epoch, $0, into: &writer) }
        case .tombstone: header(tombstoneTag)
        case .removed: header(removedTag)
        case .chunk(let content, let changed):
            try encodeChunk(record.key, record.epoch, content, changed: changed, into: &writer, readBlocks: readBlocks)
        case .snapshot(let snapshot, let usedInodes):
            header(snapshotTag)
            writer.append(snapshot.uuid.high)
            writer.append(snapshot.uuid.low)
            writer.append(snapshot.createTime.seconds)
            writer.append(snapshot.createTime.nanoseconds)
            writer.append(usedInodes)
            writer.append(counted: Array(snapshot.name.utf8))
        case .properties(let properties):
            header(propertiesTag)
            var value = ByteWriter(capacity: 128)
            properties.encode(into: &value)
            writer.append(counted: value.bytes)
        case .reply(let value):
            header(replyTag)
            writer.append(counted: value)
        case .replies(let next):
            header(repliesTag)
            writer.append(next)
        }
    }

    private static func appendHeader(_ tag: UInt8, _ key: RecordKey, _ epoch: Epoch, to writer: inout ByteWriter) {
        writer.append(tag)
        writer.append(key.kind.rawValue)
        writer.append(key.first)
        writer.append(key.second)
        writer.append(epoch.rawValue)
    }

    // A transfer reads records from the database and has no use for a `ReplicaRecord`, whose block map is copied with it.

    /// Appends a version whose value goes as it is.
    static func encodeValue(
        _ key: RecordKey,
        _ epoch: Epoch,
        _ value: UnsafeRawBufferPointer,
        into writer: inout ByteWriter
    ) {
        appendHeader(valueTag, key, epoch, to: &writer)
        writer.append(UInt32(value.count))
        writer.append(raw: value)
    }

    /// Appends a block map with the data of `changed`.
    static func encodeChunk(
        _ key: RecordKey,
        _ epoch: Epoch,
        _ content: ChunkContent,
        changed: UInt64,
        into writer: inout ByteWriter,
        readBlocks: (BlockExtent, _ content: ChunkContent, _ first: Int, inout ByteWriter) throws(StorageError) -> Void
    ) throws(StorageError) {
        appendHeader(chunkTag, key, epoch, to: &writer)
        let present = content.present
        writer.append(present)
        writer.append(changed & present)
        for index in 0..<64 where present >> UInt64(index) & 1 == 1 { writer.append(content.checksums[index]) }
        for run in content.runs(within: changed & present) { try readBlocks(run.extent, content, run.first, &writer) }
    }

    /// A record as it came over the wire; what is long stays where it is.
    struct Incoming {
        var key: RecordKey
        var epoch: Epoch
        var body: IncomingBody
    }

    /// A block map as it came over the wire.
    struct IncomingChunk {
        /// Blocks that are no holes.
        var present: UInt64
        /// Those of them whose data comes along.
        var changed: UInt64
        /// Four bytes for each present block.
        var packedChecksums: UnsafeRawBufferPointer
        /// The data of the changed blocks.
        var data: UnsafeRawBufferPointer

        /// The checksum of each present block, at its place.
        func checksums() -> InlineArray<64, UInt32> {
            var checksums = InlineArray<64, UInt32>(repeating: 0)
            var offset = 0
            for index in 0..<64 where present >> UInt64(index) & 1 == 1 {
                checksums[index] = UInt32(
                    littleEndian: packedChecksums.loadUnaligned(fromByteOffset: offset, as: UInt32.self)
                )
                offset += 4
            }
            return checksums
        }
    }

    enum IncomingBody {
        case value(UnsafeRawBufferPointer)
        case chunk(IncomingChunk)
        case tombstone
        case removed
        case snapshot(Snapshot, usedInodes: UInt64)
        case properties(VolumeProperties)
        case reply(UnsafeRawBufferPointer)
        case replies(next: UInt64)
    }

    static func decode(_ reader: inout ByteReader) throws(ByteFormatError) -> Incoming {
        let tag = try reader.read(UInt8.self)
        let rawKind = try reader.read(UInt8.self)
        guard let kind = RecordKind(rawValue: rawKind) else { throw ByteFormatError("\(rawKind) is no record kind") }
        let key = RecordKey(kind, try reader.read(), try reader.read())
        let epoch = Epoch(rawValue: try reader.read())
        return Incoming(key: key, epoch: epoch, body: try decodeBody(tag, epoch, &reader))
    }

    private static func decodeBody(
        _ tag: UInt8,
        _ epoch: Epoch,
        _ reader: inout ByteReader
    ) throws(ByteFormatError) -> IncomingBody {
        switch tag {
        case valueTag: return .value(try reader.readMemory(Int(try reader.read(UInt32.self))))
        case tombstoneTag: return .tombstone
        case removedTag: return .removed
        case chunkTag:
            let present = try reader.read(UInt64.self)
            let changed = try reader.read(UInt64.self)
            guard changed & ~present == 0 else { throw ByteFormatError("data of a hole") }
            let checksums = try reader.readMemory(present.nonzeroBitCount * 4)
            let data = try reader.readMemory(changed.nonzeroBitCount * VolumeLimits.blockSizeBytes)
            return .chunk(
                IncomingChunk(present: present, changed: changed, packedChecksums: checksums, data: data)
            )
        case snapshotTag:
            let uuid = ObjectUUID(high: try reader.read(), low: try reader.read())
            let time = Timestamp(seconds: try reader.read(), nanoseconds: try reader.read())
            let usedInodes = try reader.read(UInt64.self)
            let name = String(decoding: try reader.readCounted(limit: 255), as: UTF8.self)
            return .snapshot(Snapshot(uuid: uuid, name: name, epoch: epoch, createTime: time), usedInodes: usedInodes)
        case propertiesTag:
            return .properties(try VolumeProperties.decode(try reader.readMemory(Int(try reader.read(UInt32.self)))))
        case replyTag: return .reply(try reader.readMemory(Int(try reader.read(UInt32.self))))
        case repliesTag: return .replies(next: try reader.read())
        default: throw ByteFormatError("\(tag) is no record body")
        }
    }
}
