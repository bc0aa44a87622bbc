package import Bytes
import Identity
import SegmentStore

/// The content of a record: how it is written into the metadata database.
package protocol RecordContent: Sendable {
    /// Appends the value.
    func encode(into writer: inout ByteWriter)
    /// Reads the value back.
    init(decoding reader: inout ByteReader) throws(ByteFormatError)
}

/// The attributes of an inode as they are kept.
package struct InodeContent: RecordContent, Equatable {
    var type: FileType
    var mode: UInt16
    var linkCount: UInt32
    var owner: UInt32
    var group: UInt32
    var sizeBytes: UInt64 = 0
    var usedBlocks: UInt64 = 0
    var deviceMajor: UInt32 = 0
    var deviceMinor: UInt32 = 0
    var generation: UInt32
    var change: UInt64
    var accessTime: Timestamp
    var modifyTime: Timestamp
    var changeTime: Timestamp
    /// The directory that holds this directory.
    var parent: UInt64 = 0
    /// The verifier of the exclusive CREATE that made the file; 0 = none.
    var createVerifier: UInt64 = 0
    /// Names in a directory.
    var entryCount: UInt64 = 0
    /// Names in a directory that share their hash with another one: while 0, a look-up needs one probe.
    var collisionCount: UInt32 = 0

    init(
        type: FileType,
        mode: UInt16,
        linkCount: UInt32,
        owner: UInt32,
        group: UInt32,
        generation: UInt32,
        change: UInt64,
        time: Timestamp
    ) {
        self.type = type
        self.mode = mode
        self.linkCount = linkCount
        self.owner = owner
        self.group = group
        self.generation = generation
        self.change = change
        accessTime = time
        modifyTime = time
        changeTime = time
    }

    /// Appends the value.
    package func encode(into writer: inout ByteWriter) {
        writer.append(type.rawValue)
        writer.append(mode)
        writer.append(linkCount)
        writer.append(owner)
        writer.append(group)
        writer.append(sizeBytes)
        writer.append(usedBlocks)
        writer.append(deviceMajor)
        writer.append(deviceMinor)
        writer.append(generation)
        writer.append(change)
        for time in [accessTime, modifyTime, changeTime] {
            writer.append(time.seconds)
            writer.append(time.nanoseconds)
        }
        writer.append(parent)
        writer.append(createVerifier)
        writer.append(entryCount)
        writer.append(collisionCount)
    }

    /// Reads the value back.
    package init(decoding reader: inout ByteReader) throws(ByteFormatError) {
        let rawType = try reader.read(UInt8.self)
        guard let type = FileType(rawValue: rawType) else { throw ByteFormatError("\(rawType) is no file type") }
        self.type = type
        mode = try reader.read()
        linkCount = try reader.read()
        owner = try reader.read()
        group = try reader.read()
        sizeBytes = try reader.read()
        usedBlocks = try reader.read()
        deviceMajor = try reader.read()
        deviceMinor = try reader.read()
        generation = try reader.read()
        change = try reader.read()
        accessTime = Timestamp(seconds: try reader.read(), nanoseconds: try reader.read())
        modifyTime = Timestamp(seconds: try reader.read(), nanoseconds: try reader.read())
        changeTime = Timestamp(seconds: try reader.read(), nanoseconds: try reader.read())
        parent = try reader.read()
        createVerifier = try reader.read()
        entryCount = try reader.read()
        collisionCount = try reader.read()
    }

    /// The attributes as callers see them.
    func attributes(inode: UInt64, epoch: Epoch) -> FileAttributes {
        FileAttributes(
            type: type,
            mode: mode,
            linkCount: linkCount,
            owner: owner,
            group: group,
            sizeBytes: type == .directory ? 4096 : sizeBytes,
            usedBytes: type == .directory ? 4096 : usedBlocks * UInt64(VolumeLimits.blockSizeBytes),
            deviceMajor: deviceMajor,
            deviceMinor: deviceMinor,
            reference: FileReference(inode: InodeNumber(rawValue: inode), generation: generation, epoch: epoch),
            change: change,
            accessTime: accessTime,
            modifyTime: modifyTime,
            changeTime: changeTime,
            parent: InodeNumber(rawValue: parent)
        )
    }
}

/// One name of a directory.
package struct EntryContent: RecordContent, Equatable {
    var inode: UInt64
    var generation: UInt32
    var type: FileType
    var name: [UInt8]

    init(inode: UInt64, generation: UInt32, type: FileType, name: [UInt8]) {
        self.inode = inode
        self.generation = generation
        self.type = type
        self.name = name
    }

    /// Appends the value.
    package func encode(into writer: inout ByteWriter) {
        writer.append(inode)
        writer.append(generation)
        writer.append(type.rawValue)
        writer.append(UInt8(name.count))
        writer.append(raw: name)
    }

    /// Reads the value back.
    package init(decoding reader: inout ByteReader) throws(ByteFormatError) {
        inode = try reader.read()
        generation = try reader.read()
        let rawType = try reader.read(UInt8.self)
        guard let type = FileType(rawValue: rawType) else { throw ByteFormatError("\(rawType) is no file type") }
        self.type = type
        name = try reader.readBytes(Int(try reader.read(UInt8.self)))
    }
}

/// The target of a symbolic link.
package struct LinkContent: RecordContent, Equatable {
    var target: [UInt8]

    init(target: [UInt8]) { self.target = target }

    /// Appends the value.
    package func encode(into writer: inout ByteWriter) { writer.append(counted: target) }

    /// Reads the value back.
    package init(decoding reader: inout ByteReader) throws(ByteFormatError) {
        target = try reader.readCounted(limit: VolumeLimits.linkTargetBytesMax)
    }
}

/// An inode whose last name is gone and whose chunks are still to be given back.
package struct OrphanContent: RecordContent, Equatable {
    /// Bytes of the file when it lost its last name.
    var sizeBytes: UInt64

    init(sizeBytes: UInt64) { self.sizeBytes = sizeBytes }

    /// Appends the value.
    package func encode(into writer: inout ByteWriter) { writer.append(sizeBytes) }

    /// Reads the value back.
    package init(decoding reader: inout ByteReader) throws(ByteFormatError) { sizeBytes = try reader.read() }
}

/// The block map of 256 KiB of a file: 64 locations with a checksum each.
///
/// `owned` has a bit for each block that this version brought; the others were inherited from an older version that
/// a snapshot still sees, and belong to it. Only an owner gives a block back.
package struct ChunkContent: RecordContent {
    var owned: UInt64 = 0
    var locations = InlineArray<64, UInt64>(repeating: 0)
    var checksums = InlineArray<64, UInt32>(repeating: 0)

    init() {}

    func location(_ index: Int) -> BlockLocation { BlockLocation(rawValue: locations[index]) }

    /// Blocks that are not holes.
    var present: UInt64 {
        var mask: UInt64 = 0
        for index in 0..<64 where locations[index] != 0 { mask |= 1 << UInt64(index) }
        return mask
    }

    /// Runs of blocks that lie one after another in one segment, within `mask`.
    func runs(within mask: UInt64 = .max) -> [(first: Int, extent: BlockExtent)] {
        var runs: [(first: Int, extent: BlockExtent)] = []
        for index in 0..<64 where locations[index] != 0 && mask >> UInt64(index) & 1 == 1 {
            let location = location(index)
            if let last = runs.last, last.first + last.extent.count == index,
                last.extent.start.advanced(by: last.extent.count) == location,
                last.extent.start.segment == location.segment
            {
                runs[runs.count - 1].extent.count += 1
            } else {
                runs.append((index, BlockExtent(start: location, count: 1)))
            }
        }
        return runs
    }

    /// Bytes of the longest value: 64 runs of one block each.
    private static let encodedBytesMax = 9 + 64 * 14

    /// Appends the value: owned 8 | run count 1 | runs (first 1, count 1, segment 4, block 4, checksums 4 each).
    package func encode(into writer: inout ByteWriter) {
        // Encoded in place and appended once: a file that is written at random has up to 64 runs in each of its chunks,
        // and every commit encodes every chunk that it touched, under the volume's lock.
        withUnsafeTemporaryAllocation(byteCount: Self.encodedBytesMax, alignment: 8) { memory in
            memory.storeBytes(of: owned.littleEndian, as: UInt64.self)
            var runCount: UInt8 = 0
            var end = 9
            var index = 0
            while index < 64 {
                let start = locations[index]
                guard start != 0 else {
                    index += 1
                    continue
                }
                let head = end
                let first = index
                end += 10
                repeat {
                    memory.storeBytes(of: checksums[index].littleEndian, toByteOffset: end, as: UInt32.self)
                    end += 4
                    index += 1
                } while index < 64 && locations[index] == start + UInt64(index - first)
                memory[head] = UInt8(first)
                memory[head + 1] = UInt8(index - first)
                let location = BlockLocation(rawValue: start)
                memory.storeBytes(of: location.segment.littleEndian, toByteOffset: head + 2, as: UInt32.self)
                memory.storeBytes(of: location.block.littleEndian, toByteOffset: head + 6, as: UInt32.self)
                runCount += 1
            }
            memory[8] = runCount
            writer.append(raw: UnsafeRawBufferPointer(rebasing: memory[..<end]))
        }
    }

    /// Reads the value back.
    package init(decoding reader: inout ByteReader) throws(ByteFormatError) {
        owned = try reader.read()
        let runCount = try reader.read(UInt8.self)
        for _ in 0..<runCount {
            let first = Int(try reader.read(UInt8.self))
            let count = Int(try reader.read(UInt8.self))
            guard first + count <= 64 else { throw ByteFormatError("a run of \(count) blocks at \(first) of 64") }
            let start = BlockLocation(segment: try reader.read(), block: try reader.read())
            for index in first..<first + count {
                locations[index] = start.advanced(by: index - first).rawValue
                checksums[index] = try reader.read()
            }
        }
    }
}

extension RecordContent {
    /// Reads a value back from memory; a value that is not whole is damage.
    static func decode(_ bytes: UnsafeRawBufferPointer) throws(ByteFormatError) -> Self {
        var reader = ByteReader(bytes)
        let content = try Self(decoding: &reader)
        guard reader.remaining == 0 else { throw ByteFormatError("\(reader.remaining) bytes too many") }
        return content
    }
}
