import Synchronization
import Bytes
import FileIO
import Identity
import SegmentStore

/// What a write knows of the blocks that it covers only in part.
private struct WritePlan: Equatable, Sendable {
    var sizeBytes: UInt64
    /// The present content of the first and the last block, where the write leaves some of it.
    var first: OldBlock?
    var last: OldBlock?
}

private struct OldBlock: Equatable, Sendable {
    var location: BlockLocation
    var checksum: UInt32
}

/// The range of blocks that a write covers.
private struct BlockRange {
    let offset: UInt64
    let count: Int
    let first: UInt64
    let last: UInt64

    init(offset: UInt64, count: Int) {
        self.offset = offset
        self.count = count
        let size = UInt64(VolumeLimits.blockSizeBytes)
        first = offset / size
        last = (offset + UInt64(count) - 1) / size
    }

    var blocks: Int { Int(last - first) + 1 }
    /// Bytes of the first block before the write, and of the last block after it.
    var head: Int { Int(offset % UInt64(VolumeLimits.blockSizeBytes)) }
    var tail: Int { blocks * VolumeLimits.blockSizeBytes - head - count }
    var isAligned: Bool { head == 0 && tail == 0 }
}

extension Volume {
    /// Stable writes up to this size travel in the log, so that one synchronisation makes data and metadata durable.
    static let deferredBytesMax = 64 << 10
    /// Unstable data that starts a commit although nobody waits.
    static let bulkBytesMax = 32 << 20

    /// WRITE: `isStable` false answers at once (the ticket is `.durable`), true when the ticket is durable.
    package func write(
        _ data: UnsafeRawBufferPointer,
        at offset: UInt64,
        to reference: FileReference,
        isStable: Bool,
        as credentials: Credentials,
        _ execution: Execution
    ) throws(FileError) -> (WeakCacheConsistency, CommitTicket) {
        try checkWritable(reference)
        guard offset <= VolumeLimits.fileSizeBytesMax, UInt64(data.count) <= VolumeLimits.fileSizeBytesMax - offset
        else {
            throw .fileTooBig
        }
        guard data.count > 0 else {
            return try setAttributesOfEmptyWrite(reference, credentials, execution)
        }
        let range = BlockRange(offset: offset, count: data.count)
        while true {
            let plan = try planWrite(reference, range, credentials, execution)
            guard let composed = try compose(data, range, plan, execution) else {
                // A partly covered block reads as damaged: it is, unless it was replaced since the plan was made.
                if try planWrite(reference, range, credentials, execution) != plan { continue }
                throw .inputOutput
            }
            defer { composed.scratch?.deallocate() }
            let stored = try store(
                composed.bytes,
                isDeferred: isStable && composed.bytes.count <= Self.deferredBytesMax
            )
            let outcome: (WeakCacheConsistency, CommitTicket)?
            do throws(FileError) {
                outcome = try install(stored, range, plan, reference, credentials, execution)
            } catch {
                abandon(stored)
                throw error
            }
            guard let outcome else {
                // Another write changed a block that this one covers in part: merge again.
                abandon(stored)
                continue
            }
            let isLarge = locked { core.pending.bulkBytes >= Self.bulkBytesMax }
            if isLarge { commitSoon() }
            return isStable ? outcome : (outcome.0, .durable)
        }
    }

    private func setAttributesOfEmptyWrite(
        _ reference: FileReference,
        _ credentials: Credentials,
        _ execution: Execution
    ) throws(FileError) -> (WeakCacheConsistency, CommitTicket) {
        try transact(execution) { (core) throws(CoreFailure) in
            let record = try core.resolve(reference)
            try Self.checkRegular(record.content!)
            try Permissions.checkData(Permissions.write, on: record.content!, by: credentials)
            return (WeakCacheConsistency(before: record.before, after: record.attributes), .durable)
        }
    }

    static func checkRegular(_ inode: InodeContent) throws(CoreFailure) {
        switch inode.type {
        case .regular: break
        case .directory: throw .file(.isDirectory)
        default: throw .file(.invalid)
        }
    }

    private func planWrite(
        _ reference: FileReference,
        _ range: BlockRange,
        _ credentials: Credentials,
        _ execution: Execution
    ) throws(FileError) -> WritePlan {
        try transact(execution) { (core) throws(CoreFailure) in
            let inode = try core.resolve(reference).content!
            try Self.checkRegular(inode)
            try Permissions.checkData(Permissions.write, on: inode, by: credentials)
            try self.checkAggregateRoom(UInt64(range.count))
            return try Self.oldBlocks(core, reference, inode, range)
        }
    }

    /// Brings every block map of the range into memory and says what the partly covered blocks hold.
    private static func oldBlocks(
        _ core: VolumeCore,
        _ reference: FileReference,
        _ inode: InodeContent,
        _ range: BlockRange
    ) throws(CoreFailure) -> WritePlan {
        let perChunk = UInt64(VolumeLimits.chunkBlocks)
        var plan = WritePlan(sizeBytes: inode.sizeBytes)
        for index in range.first / perChunk...range.last / perChunk {
            let chunk = try core.chunk(reference.inode.rawValue, index, fileSizeBytes: inode.sizeBytes).content
            if range.head > 0 && index == range.first / perChunk {
                plan.first = old(chunk, Int(range.first % perChunk))
            }
            if range.tail > 0 && index == range.last / perChunk { plan.last = old(chunk, Int(range.last % perChunk)) }
        }
        return plan
    }

    private static func old(_ chunk: ChunkContent?, _ index: Int) -> OldBlock {
        guard let chunk else { return OldBlock(location: .hole, checksum: 0) }
        return OldBlock(location: chunk.location(index), checksum: chunk.checksums[index])
    }

    /// Whole blocks out of the data and what the first and last block held; aligned data is taken as it is. nil when an
    /// old block has another checksum than its map says.
    private func compose(
        _ data: UnsafeRawBufferPointer,
        _ range: BlockRange,
        _ plan: WritePlan,
        _ execution: Execution
    ) throws(FileError) -> (bytes: UnsafeRawBufferPointer, scratch: UnsafeMutableRawBufferPointer?)? {
        if range.isAligned { return (data, nil) }
        let blockSize = VolumeLimits.blockSizeBytes
        let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: range.blocks * blockSize, alignment: 16)
        do throws(FileError) {
            let head = UnsafeMutableRawBufferPointer(rebasing: scratch[0..<blockSize])
            let tail = UnsafeMutableRawBufferPointer(
                rebasing: scratch[(range.blocks - 1) * blockSize..<range.blocks * blockSize]
            )
            var isWhole = true
            if range.tail > 0 { isWhole = try readOld(plan.last!, into: tail, execution) }
            if range.head > 0 && (range.blocks > 1 || range.tail == 0) {
                isWhole = try readOld(plan.first!, into: head, execution) && isWhole
            }
            guard isWhole else {
                scratch.deallocate()
                return nil
            }
        } catch {
            scratch.deallocate()
            throw error
        }
        UnsafeMutableRawBufferPointer(rebasing: scratch[range.head..<range.head + data.count]).copyMemory(from: data)
        return (UnsafeRawBufferPointer(scratch), scratch)
    }

    private func readOld(
        _ old: OldBlock,
        into block: UnsafeMutableRawBufferPointer,
        _ execution: Execution
    ) throws(FileError) -> Bool {
        guard !old.location.isHole else {
            block.initializeMemory(as: UInt8.self, repeating: 0)
            return true
        }
        do {
            guard try segments.read(into: block, from: old.location, cachedOnly: execution == .cachedOnly) else {
                throw FileError.wouldBlock
            }
        } catch let error as FileError {
            throw error
        } catch {
            throw .inputOutput
        }
        // A damaged block is not written over in part, since its other bytes would become valid again.
        return Checksum.block(UnsafeRawBufferPointer(block)) == old.checksum
    }

    // MARK: Storing

    /// Blocks that are in a segment and that no metadata knows yet.
    private struct StoredBlocks {
        var extents: [BlockExtent]
        var checksums: [UInt32]
        /// Copies for the log: small stable writes only, one each beside a synchronisation of the disk.
        var deferred: [DeferredWrite]
        var byteCount: Int
    }

    private func store(_ bytes: UnsafeRawBufferPointer, isDeferred: Bool) throws(FileError) -> StoredBlocks {
        let blockSize = VolumeLimits.blockSizeBytes
        let count = bytes.count / blockSize
        let checksums = [UInt32](unsafeUninitializedCapacity: count) { buffer, initialized in
            Checksum.blocks(bytes, blockSize: blockSize, into: buffer)
            initialized = count
        }
        var stored = StoredBlocks(extents: [], checksums: checksums, deferred: [], byteCount: bytes.count)
        do throws(FileIOError) {
            stored.extents = try segments.allocate(count)
            var position = 0
            for extent in stored.extents {
                let part = UnsafeRawBufferPointer(rebasing: bytes[position..<position + extent.count * blockSize])
                try segments.write(part, to: extent.start)
                if isDeferred {
                    stored.deferred.append(DeferredWrite(sequence: 0, start: extent.start, bytes: [UInt8](part)))
                }
                position += part.count
            }
        } catch {
            abandon(stored)
            report(.io(error))
            throw error.isNoSpace ? .noSpace : .inputOutput
        }
        return stored
    }

    private func abandon(_ stored: StoredBlocks) {
        for extent in stored.extents { segments.settle(extent) }
        reclaimQueue.withLock { $0.append(stored.extents) }
    }

    /// Makes stored blocks part of the file; nil when a partly covered block has changed since the plan.
    private func install(
        _ stored: StoredBlocks,
        _ range: BlockRange,
        _ plan: WritePlan,
        _ reference: FileReference,
        _ credentials: Credentials,
        _ execution: Execution
    ) throws(FileError) -> (WeakCacheConsistency, CommitTicket)? {
        let now = now
        return try transact(execution) { (core) throws(CoreFailure) in
            let record = try core.resolve(reference)
            let present = try Self.oldBlocks(core, reference, record.content!, range)
            guard present.first == plan.first, present.last == plan.last else { return nil }
            let perChunk = UInt64(VolumeLimits.chunkBlocks)
            var targets: [Record<ChunkContent>] = []
            for index in range.first / perChunk...range.last / perChunk {
                targets.append(
                    try core.chunk(reference.inode.rawValue, index, fileSizeBytes: record.content!.sizeBytes)
                )
            }
            try core.checkRoom(forBlocks: core.growth(of: targets, range.first, range.last))

            let before = record.before
            let grown = core.place(stored.extents, stored.checksums, in: targets, firstBlock: range.first)
            core.noteData(stored.extents, deferred: stored.deferred, byteCount: stored.byteCount)
            core.touch(record)
            record.content!.usedBlocks += UInt64(grown)
            record.content!.sizeBytes = max(record.content!.sizeBytes, range.offset + UInt64(range.count))
            record.content!.modifyTime = now
            record.content!.changeTime = now
            record.content!.change = core.nextChange()
            if credentials.user != 0 { record.content!.mode &= ~0o6000 }
            for extent in stored.extents { self.segments.settle(extent) }
            return (
                WeakCacheConsistency(before: before, after: record.attributes),
                CommitTicket(rawValue: core.pending.number)
            )
        }
    }

    /// COMMIT: durable when the ticket is; everything that was ordered before is included.
    package func commit(
        _ reference: FileReference,
        as credentials: Credentials,
        _ execution: Execution
    ) throws(FileError) -> (WeakCacheConsistency, CommitTicket) {
        if reference == .snapshotDirectory || reference.epoch != .active { throw .invalid }
        return try transact(execution) { (core) throws(CoreFailure) in
            let record = try core.resolve(reference)
            try Self.checkRegular(record.content!)
            let number = core.pending.isEmpty ? core.pending.number - 1 : core.pending.number
            return (
                WeakCacheConsistency(before: record.before, after: record.attributes), CommitTicket(rawValue: number)
            )
        }
    }
}

extension VolumeCore {
    /// Blocks by which the volume grows when the blocks `first` to `last` are written: those that replace a block which
    /// goes at once take no room.
    fileprivate func growth(of chunks: [Record<ChunkContent>], _ first: UInt64, _ last: UInt64) -> UInt64 {
        let perChunk = UInt64(VolumeLimits.chunkBlocks)
        var grown = last - first + 1
        for chunk in chunks {
            guard let content = chunk.content else { continue }
            let isRetained = chunk.epoch != properties.epoch && self.isRetained(chunk.epoch, before: properties.epoch)
            if isRetained { continue }
            let start = max(first, chunk.key.second * perChunk)
            let end = min(last, chunk.key.second * perChunk + perChunk - 1)
            for block in start...end where content.owned >> (block % perChunk) & 1 == 1 { grown -= 1 }
        }
        return grown
    }

    /// Puts stored blocks into the maps; returns how many holes they filled.
    fileprivate func place(
        _ extents: [BlockExtent],
        _ checksums: [UInt32],
        in chunks: [Record<ChunkContent>],
        firstBlock: UInt64
    ) -> Int {
        let perChunk = UInt64(VolumeLimits.chunkBlocks)
        for chunk in chunks { touch(chunk) }
        var filled = 0
        var position = 0
        var replaced = ReplacedBlocks()
        let firstChunk = chunks[0].key.second
        for extent in extents {
            for step in 0..<extent.count {
                let block = firstBlock + UInt64(position)
                let chunk = chunks[Int(block / perChunk - firstChunk)]
                let index = Int(block % perChunk)
                if chunk.content == nil || chunk.content!.locations[index] == 0 { filled += 1 }
                replace(
                    at: index,
                    of: chunk,
                    with: extent.start.advanced(by: step),
                    checksums[position],
                    &replaced
                )
                position += 1
            }
            adopt(extent)
        }
        replaced.finish(self)
        return filled
    }

    /// Notes data that the pending commit must make durable: from the log, or in its segment first.
    func noteData(_ extents: [BlockExtent], deferred: [DeferredWrite], byteCount: Int) {
        writeCount += 1
        if deferred.isEmpty {
            for extent in extents { pending.bulkSegments.insert(extent.start.segment) }
            pending.bulkBytes += byteCount
        } else {
            for var write in deferred {
                write.sequence = properties.nextDeferred
                properties.nextDeferred += 1
                pending.deferred.append(write)
            }
        }
    }
}
