import Synchronization
import Bytes
import Identity
import SegmentStore

extension Volume {
    /// SETATTR with a size: cuts a file, or extends it with a hole.
    func setSize(
        _ changes: AttributeChanges,
        of reference: FileReference,
        guardChangeTime: Timestamp?,
        as credentials: Credentials,
        _ execution: Execution,
        _ answer: ChangeAnswer
    ) throws(FileError) -> (WeakCacheConsistency, CommitTicket) {
        let size = changes.sizeBytes!
        guard size <= VolumeLimits.fileSizeBytesMax else { throw .fileTooBig }
        var tail: (block: UInt64, extent: BlockExtent, checksum: UInt32, old: BlockLocation)?
        while true {
            let plan = try planCut(changes, reference, guardChangeTime, credentials, execution)
            if plan.isLarge {
                // Many chunks go: first those at the far end, in steps of their own, then the rest with the new size.
                guard execution == .blocking else { throw .wouldBlock }
                try cutLarge(reference, to: size)
                continue
            }
            if let old = plan.tailBlock { tail = try rewriteTail(old.location, old.checksum, size, execution) }
            let outcome: (WeakCacheConsistency, CommitTicket)?
            do throws(FileError) {
                outcome = try performCut(changes, reference, guardChangeTime, credentials, tail, execution, answer)
            } catch {
                if let tail { giveUp(tail.extent) }
                throw error
            }
            if let outcome { return outcome }
            if let tail { giveUp(tail.extent) }
            tail = nil
        }
    }

    private func giveUp(_ extent: BlockExtent) {
        segments.settle(extent)
        reclaimQueue.withLock { $0.append([extent]) }
    }

    /// What a cut needs to know before it changes anything.
    private struct CutPlan: Sendable {
        var isLarge: Bool
        /// The block that keeps some of its bytes.
        var tailBlock: (location: BlockLocation, checksum: UInt32)?
    }

    /// Chunks that are cut within one transaction.
    private static let chunksPerCutMax: UInt64 = 1024

    private func planCut(
        _ changes: AttributeChanges,
        _ reference: FileReference,
        _ guardChangeTime: Timestamp?,
        _ credentials: Credentials,
        _ execution: Execution
    ) throws(FileError) -> CutPlan {
        let size = changes.sizeBytes!
        return try transact(execution) { (core) throws(CoreFailure) in
            let record = try core.resolve(reference)
            let inode = record.content!
            try Self.checkRegular(inode)
            try Self.checkGuard(guardChangeTime, record)
            try Self.checkChanges(changes, of: inode, by: credentials)
            guard size < inode.sizeBytes else { return CutPlan(isLarge: false) }
            let chunks = Self.chunkRange(size, inode.sizeBytes)
            if UInt64(chunks.count) > Self.chunksPerCutMax { return CutPlan(isLarge: true) }
            for index in chunks { _ = try core.chunk(reference.inode.rawValue, index, fileSizeBytes: inode.sizeBytes) }
            var plan = CutPlan(isLarge: false)
            if let tail = Self.tail(core, reference, size) { plan.tailBlock = (tail.location, tail.checksum) }
            return plan
        }
    }

    /// The chunks that hold bytes from `size` up to `end`.
    private static func chunkRange(_ size: UInt64, _ end: UInt64) -> Range<UInt64> {
        let chunkSize = UInt64(VolumeLimits.chunkSizeBytes)
        return size / chunkSize..<(end + chunkSize - 1) / chunkSize
    }

    /// The block in which the file will end, if bytes of it go.
    private static func tail(
        _ core: VolumeCore,
        _ reference: FileReference,
        _ size: UInt64
    ) -> (location: BlockLocation, checksum: UInt32)? {
        let blockSize = UInt64(VolumeLimits.blockSizeBytes)
        guard size % blockSize != 0 else { return nil }
        let block = size / blockSize
        let key = RecordKey(.chunk, reference.inode.rawValue, block / UInt64(VolumeLimits.chunkBlocks))
        guard let content = core.chunks.find(key)?.content else { return nil }
        let index = Int(block % UInt64(VolumeLimits.chunkBlocks))
        return content.location(index).isHole ? nil : (content.location(index), content.checksums[index])
    }

    /// Writes the block in which the file will end anew, with zeros after the end: they must not come back when the file
    /// grows again.
    private func rewriteTail(
        _ location: BlockLocation,
        _ checksum: UInt32,
        _ size: UInt64,
        _ execution: Execution
    ) throws(FileError) -> (block: UInt64, extent: BlockExtent, checksum: UInt32, old: BlockLocation) {
        let blockSize = VolumeLimits.blockSizeBytes
        let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: blockSize, alignment: 16)
        defer { scratch.deallocate() }
        do {
            guard try segments.read(into: scratch, from: location, cachedOnly: execution == .cachedOnly) else {
                throw FileError.wouldBlock
            }
            guard Checksum.block(UnsafeRawBufferPointer(scratch)) == checksum else { throw FileError.inputOutput }
            let kept = Int(size % UInt64(blockSize))
            UnsafeMutableRawBufferPointer(rebasing: scratch[kept...]).initializeMemory(as: UInt8.self, repeating: 0)
            let extent = try segments.allocate(1)[0]
            try segments.write(UnsafeRawBufferPointer(scratch), to: extent.start)
            let block = size / UInt64(blockSize)
            return (block, extent, Checksum.block(UnsafeRawBufferPointer(scratch)), location)
        } catch let error as FileError {
            throw error
        } catch {
            throw .inputOutput
        }
    }

    /// Sets the size and gives the blocks behind it back; nil when the tail block has changed since it was rewritten.
    private func performCut(
        _ changes: AttributeChanges,
        _ reference: FileReference,
        _ guardChangeTime: Timestamp?,
        _ credentials: Credentials,
        _ tail: (block: UInt64, extent: BlockExtent, checksum: UInt32, old: BlockLocation)?,
        _ execution: Execution,
        _ answer: ChangeAnswer
    ) throws(FileError) -> (WeakCacheConsistency, CommitTicket)? {
        let size = changes.sizeBytes!
        let now = now
        return try transact(execution) { (core) throws(CoreFailure) in
            let record = try core.resolve(reference)
            try Self.checkGuard(guardChangeTime, record)
            try Self.checkChanges(changes, of: record.content!, by: credentials)
            let before = record.before
            let oldSize = record.content!.sizeBytes
            if size < oldSize {
                let range = Self.chunkRange(size, oldSize)
                if UInt64(range.count) > Self.chunksPerCutMax { return nil }
                var chunks: [Record<ChunkContent>] = []
                for index in range {
                    chunks.append(try core.chunk(reference.inode.rawValue, index, fileSizeBytes: oldSize))
                }
                guard Self.tail(core, reference, size)?.location == tail?.old else { return nil }
                core.touch(record)
                record.content!.usedBlocks -= UInt64(core.cut(chunks, to: size))
                if let tail {
                    core.install(
                        tail.extent.start,
                        checksum: tail.checksum,
                        at: Int(tail.block % UInt64(VolumeLimits.chunkBlocks)),
                        of: chunks[0]
                    )
                    core.noteData([tail.extent], deferred: [], byteCount: VolumeLimits.blockSizeBytes)
                    self.segments.settle(tail.extent)
                }
            } else if tail != nil {
                return nil
            }
            core.touch(record)
            var effective = changes
            // A size that changes sets the modification time, unless the caller sets it himself.
            if effective.modifyTime == .unchanged { effective.modifyTime = .serverTime }
            Self.apply(effective, to: &record.content!, by: credentials, now: now)
            if credentials.user != 0 && changes.mode == nil { record.content!.mode &= ~0o6000 }
            record.content!.sizeBytes = size
            record.content!.change = core.nextChange()
            let consistency = WeakCacheConsistency(before: before, after: record.attributes)
            answer(consistency, ReplyKeeper(core))
            return (consistency, CommitTicket(rawValue: core.pending.number))
        }
    }

    /// Gives whole chunks far behind the new end back, in transactions of their own, until a cut of one step remains.
    private func cutLarge(_ reference: FileReference, to size: UInt64) throws(FileError) {
        let number = reference.inode.rawValue
        let chunkSize = UInt64(VolumeLimits.chunkSizeBytes)
        let keep = (size + chunkSize - 1) / chunkSize
        flush()
        let writes = locked { core.writeCount }
        let stored = try storedChunks(of: number, from: keep)
        var start = 0
        while start < stored.count {
            let part = stored[start..<min(start + 256, stored.count)]
            try dropChunks(number, Array(part), mustExist: reference)
            start += part.count
        }
        // Every chunk behind the new end is gone, so that the file may end there; if nobody has written since.
        _ = try transact(.blocking) { (core) throws(CoreFailure) in
            let record = try core.resolve(reference)
            guard core.writeCount == writes, record.content!.sizeBytes > keep * chunkSize else { return }
            core.touch(record)
            record.content!.sizeBytes = keep * chunkSize
            record.content!.change = core.nextChange()
        }
        flush()
    }

    /// The chunks of an inode that are stored, from `first`, as of the last commit.
    func storedChunks(of inode: UInt64, from first: UInt64) throws(FileError) -> [UInt64] {
        var found: [UInt64] = []
        do throws(StorageError) {
            try reader.walk(at: Epoch(rawValue: .max), from: RecordKey(.chunk, inode, first), through: .chunk) {
                key,
                _,
                _ in
                guard key.first == inode else { return false }
                found.append(key.second)
                return true
            }
        } catch {
            report(error)
            throw .inputOutput
        }
        return found
    }

    /// Gives chunks back in one transaction.
    func dropChunks(_ inode: UInt64, _ indexes: [UInt64], mustExist reference: FileReference?) throws(FileError) {
        try transact(.blocking) { (core) throws(CoreFailure) in
            var chunks: [Record<ChunkContent>] = []
            for index in indexes { chunks.append(try core.chunk(inode, index, fileSizeBytes: .max)) }
            let owner = try reference.map { (reference) throws(CoreFailure) in try core.resolve(reference) }
            for chunk in chunks where chunk.content != nil {
                core.touch(chunk)
                if let owner {
                    core.touch(owner)
                    owner.content!.usedBlocks -= UInt64(chunk.content!.present.nonzeroBitCount)
                }
                core.releaseOwned(chunk.content!)
                chunk.content = nil
            }
        }
    }
}

extension VolumeCore {
    /// Takes the blocks behind `size` out of chunks; returns how many there were.
    fileprivate func cut(_ chunks: [Record<ChunkContent>], to size: UInt64) -> Int {
        let blockSize = UInt64(VolumeLimits.blockSizeBytes)
        let perChunk = UInt64(VolumeLimits.chunkBlocks)
        let firstGone = (size + blockSize - 1) / blockSize
        var count = 0
        for chunk in chunks where chunk.content != nil {
            let start = chunk.key.second * perChunk
            if start >= firstGone {
                count += chunk.content!.present.nonzeroBitCount
                touch(chunk)
                releaseOwned(chunk.content!)
                chunk.content = nil
                continue
            }
            touch(chunk)
            var replaced = ReplacedBlocks()
            for index in Int(firstGone - start)..<64 where !chunk.content!.location(index).isHole {
                count += 1
                replace(at: index, of: chunk, with: .hole, 0, &replaced)
            }
            replaced.finish(self)
        }
        return count
    }
}
