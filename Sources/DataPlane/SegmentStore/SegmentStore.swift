package import FileIO
import Synchronization

/// Where one block lies: a segment file and the block's number in it. Zero stands for a hole.
package struct BlockLocation: RawRepresentable, Hashable, Sendable {
    /// Segment in the high half, block in the low half.
    package let rawValue: UInt64

    /// Wraps the two halves.
    @inlinable
    package init(rawValue: UInt64) { self.rawValue = rawValue }

    /// Names a block; segments count from 1.
    @inlinable
    package init(segment: UInt32, block: UInt32) { rawValue = UInt64(segment) << 32 | UInt64(block) }

    /// No block: reads as zeros.
    package static let hole = BlockLocation(rawValue: 0)

    /// The segment file.
    @inlinable package var segment: UInt32 { UInt32(rawValue >> 32) }
    /// The block within it.
    @inlinable package var block: UInt32 { UInt32(truncatingIfNeeded: rawValue) }
    /// Whether there is no block.
    @inlinable package var isHole: Bool { rawValue == 0 }
    /// The block `distance` further on in the same segment.
    @inlinable package func advanced(by distance: Int) -> BlockLocation {
        BlockLocation(rawValue: rawValue + UInt64(distance))
    }
}

/// Blocks that lie one after another in one segment.
package struct BlockExtent: Hashable, Sendable {
    /// The first block.
    package var start: BlockLocation
    /// How many.
    package var count: Int

    /// Makes an extent.
    package init(start: BlockLocation, count: Int) {
        self.start = start
        self.count = count
    }
}

/// The data files of one volume.
///
///     <aggregate>/segments/<msid, hexadecimal>/
///         00000001      blocks of 4096 bytes, appended; holes where blocks have died
///         00000002
///
/// A segment belongs to one volume, so that deleting the volume is deleting its folder. Which blocks live is known to
/// the volume's metadata alone; this store only keeps the files. Allocation is a step forward of one counter.
package final class SegmentStore: Sendable {
    /// Bytes of a block.
    package static let blockSizeBytes = 4096
    /// Blocks of a segment: 64 MiB.
    package static let segmentBlocks: UInt32 = 16_384

    private struct State {
        var current: UInt32
        var nextBlock: UInt32 = 0
        var files: [UInt32: File] = [:]
        /// Files of dead segments, to be written over: their blocks and pages are there already.
        var spares: [File] = []
        /// Blocks that were allocated and that no metadata knows yet, by segment.
        var unsettled: [UInt32: Int] = [:]
    }

    private let directory: String
    private let state: Mutex<State>

    /// Opens the folder, making it when missing. Allocation begins with segment `next`, which must not exist yet.
    package init(directory: String, next: UInt32) throws(FileIOError) {
        self.directory = directory
        try FileSystem.makeDirectories(directory)
        for name in try FileSystem.list(directory) where name.hasPrefix("spare-") {
            try FileSystem.remove(directory + "/" + name)
        }
        state = Mutex(State(current: next, nextBlock: 0))
        _ = try file(next, isCreated: true)
    }

    /// The segment that allocation stands in, and the blocks of it that were given out.
    package var allocationPoint: (segment: UInt32, nextBlock: UInt32) {
        state.withLock { ($0.current, $0.nextBlock) }
    }

    /// Takes `count` blocks, in one extent where the segment has room, otherwise in two or more.
    package func allocate(_ count: Int) throws(FileIOError) -> [BlockExtent] {
        var extents: [BlockExtent] = []
        var left = count
        while left > 0 {
            let taken = state.withLock { state -> BlockExtent? in
                let room = Int(Self.segmentBlocks - state.nextBlock)
                guard room > 0 else { return nil }
                let start = BlockLocation(segment: state.current, block: state.nextBlock)
                let taken = min(room, left)
                state.nextBlock += UInt32(taken)
                state.unsettled[state.current, default: 0] += taken
                return BlockExtent(start: start, count: taken)
            }
            if let taken {
                extents.append(taken)
                left -= taken.count
            } else {
                try beginSegment()
            }
        }
        return extents
    }

    /// Says that an allocated extent is now known to the metadata, or given up.
    package func settle(_ extent: BlockExtent) {
        state.withLock { state in
            let left = state.unsettled[extent.start.segment, default: 0] - extent.count
            state.unsettled[extent.start.segment] = left == 0 ? nil : left
        }
    }

    /// Whether nothing will be added to a segment any more.
    package func isSealed(_ segment: UInt32) -> Bool {
        state.withLock { $0.current != segment && $0.unsettled[segment] == nil }
    }

    private func beginSegment() throws(FileIOError) {
        let full = state.withLock { $0.nextBlock >= Self.segmentBlocks ? $0.current : nil }
        guard let full else { return }
        try makeSegment(full + 1)
        state.withLock { state in
            // Another thread may have begun it meanwhile.
            guard state.current == full else { return }
            state.current = full + 1
            state.nextBlock = 0
        }
    }

    private func makeSegment(_ number: UInt32) throws(FileIOError) {
        let spare = state.withLock { state -> File? in
            if state.files[number] != nil { return nil }
            let spare = state.spares.popLast()
            if let spare { state.files[number] = spare }
            return spare
        }
        if let spare {
            try FileSystem.rename(sparePath(spare), to: path(number))
            try FileSystem.synchronizeDirectory(directory)
        } else {
            _ = try file(number, isCreated: true)
        }
    }

    /// Writes whole blocks to an extent (to the page cache; durable after `synchronize`).
    package func write(_ bytes: UnsafeRawBufferPointer, to start: BlockLocation) throws(FileIOError) {
        try file(start.segment).write(bytes, at: Int(start.block) * Self.blockSizeBytes)
    }

    /// Reads whole blocks; false when `cachedOnly` and they are not in the page cache.
    package func read(
        into buffer: UnsafeMutableRawBufferPointer,
        from start: BlockLocation,
        cachedOnly: Bool
    ) throws(FileIOError) -> Bool {
        let file = try file(start.segment)
        let offset = Int(start.block) * Self.blockSizeBytes
        if cachedOnly { return file.readCached(into: buffer, at: offset) }
        let count = try file.read(into: buffer, at: offset)
        // A segment that was cut short reads as zeros, which its checksums then refuse.
        if count < buffer.count {
            UnsafeMutableRawBufferPointer(rebasing: buffer[count...]).initializeMemory(as: UInt8.self, repeating: 0)
        }
        return true
    }

    /// Makes what was written to a segment durable.
    package func synchronize(_ segment: UInt32) throws(FileIOError) { try file(segment).synchronizeData() }

    /// Starts to write an extent back.
    package func startWriteback(_ start: BlockLocation, count: Int) {
        guard let file = try? file(start.segment) else { return }
        file.startWriteback(at: Int(start.block) * Self.blockSizeBytes, count: count * Self.blockSizeBytes)
    }

    /// Gives the space of an extent back.
    package func punch(_ extent: BlockExtent) throws(FileIOError) {
        guard FileSystem.exists(path(extent.start.segment)) else { return }
        try file(extent.start.segment).punchHole(
            at: Int(extent.start.block) * Self.blockSizeBytes,
            count: extent.count * Self.blockSizeBytes
        )
    }

    /// Dead segments that are kept to be written over while clients write: half a second of a fast stream dies between two
    /// rounds of the reclaimer, and a file that is deleted and made again costs more than its data.
    private static let sparesMax = 12
    /// Those that are kept when clients are quiet.
    package static let quietSparesMax = 4

    /// Puts a full segment without living blocks aside, to be written over under a new number; false when there are
    /// enough of those. A number never comes back, so that a stale location can never meet new data.
    package func retire(_ segment: UInt32) throws(FileIOError) -> Bool {
        let spare = state.withLock { state -> String? in
            guard state.spares.count < Self.sparesMax, let file = state.files.removeValue(forKey: segment) else {
                return nil
            }
            state.spares.append(file)
            return sparePath(file)
        }
        guard let spare else { return false }
        try FileSystem.rename(path(segment), to: spare)
        return true
    }

    /// The name of a spare file: made of its first number, which no other one has.
    private func sparePath(_ file: File) -> String {
        directory + "/spare-" + file.path[file.path.index(file.path.endIndex, offsetBy: -8)...]
    }

    /// Gives the space of spare segments back, but for `kept` of them.
    package func dropSpares(keeping kept: Int) throws(FileIOError) {
        let spares = state.withLock { state in
            let dropped = Array(state.spares.dropFirst(kept))
            state.spares.removeLast(dropped.count)
            return dropped
        }
        for spare in spares { try FileSystem.remove(sparePath(spare)) }
    }

    /// Deletes a segment that holds no living block.
    package func remove(_ segment: UInt32) throws(FileIOError) {
        state.withLock { $0.files[segment] = nil }
        try FileSystem.remove(path(segment))
    }

    /// The segments that exist.
    package func segments() throws(FileIOError) -> [UInt32] {
        try FileSystem.list(directory).compactMap { UInt32($0, radix: 16) }
    }

    /// Bytes of a segment file.
    package func sizeBytes(_ segment: UInt32) throws(FileIOError) -> Int { try file(segment).size() }

    /// Deletes the folder with everything in it.
    package static func removeAll(directory: String) throws(FileIOError) {
        guard FileSystem.exists(directory) else { return }
        for name in try FileSystem.list(directory) { try FileSystem.remove(directory + "/" + name) }
        try FileSystem.removeDirectory(directory)
    }

    private func path(_ segment: UInt32) -> String {
        let digits = String(segment, radix: 16)
        return directory + "/" + String(repeating: "0", count: 8 - digits.count) + digits
    }

    private func file(_ segment: UInt32, isCreated: Bool = false) throws(FileIOError) -> File {
        if let open = state.withLock({ $0.files[segment] }) { return open }
        let path = path(segment)
        guard isCreated || FileSystem.exists(path) else {
            throw FileIOError(operation: "open", path: path, number: 2)
        }
        let file = try File(path: path, .readWrite)
        if isCreated { try FileSystem.synchronizeDirectory(directory) }
        return state.withLock { state in
            if let open = state.files[segment] { return open }
            state.files[segment] = file
            return file
        }
    }
}
