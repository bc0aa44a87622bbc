import Bytes
import Identity
import SegmentStore

/// Where the blocks of a range of a file lie.
private struct ReadPlan: Sendable {
    var attributes: FileAttributes
    var count: Int
    var isEnd: Bool
    var firstBlock: UInt64
    /// One location and checksum for each block of the range. The allocation is per read of data, beside a system call.
    var blocks: [(location: BlockLocation, checksum: UInt32)] = []
}

extension Volume {
    /// READ: fills `buffer` from `offset`; fewer bytes only at the end of the file.
    package func read(
        _ reference: FileReference,
        offset: UInt64,
        into buffer: UnsafeMutableRawBufferPointer,
        as credentials: Credentials,
        _ execution: Execution
    ) throws(FileError) -> ReadResult {
        var attempts = 0
        while true {
            let plan = try plan(reference, offset, buffer.count, credentials, execution)
            let target = UnsafeMutableRawBufferPointer(rebasing: buffer[0..<plan.count])
            guard let damaged = try fill(target, offset, plan, execution) else {
                return ReadResult(count: plan.count, isEnd: plan.isEnd, attributes: plan.attributes)
            }
            // The block may have been overwritten, and its old place given back, between the plan and the read: look again.
            attempts += 1
            let again = try self.plan(reference, offset, buffer.count, credentials, execution)
            let isSame = again.blocks.count > damaged && again.blocks[damaged].location == plan.blocks[damaged].location
            if isSame || attempts > 100 {
                context.options.onEvent(
                    .checksumMismatch(
                        volume: msid,
                        inode: reference.inode,
                        offsetBytes: (plan.firstBlock + UInt64(damaged)) * UInt64(VolumeLimits.blockSizeBytes),
                        segment: plan.blocks[damaged].location.segment
                    )
                )
                throw .inputOutput
            }
        }
    }

    private func plan(
        _ reference: FileReference,
        _ offset: UInt64,
        _ count: Int,
        _ credentials: Credentials,
        _ execution: Execution
    ) throws(FileError) -> ReadPlan {
        if reference == .snapshotDirectory { throw .isDirectory }
        guard reference.epoch == .active else {
            let view = try snapshotView(reference.epoch, execution)
            let inode = try view.inode(reference)
            return try makePlan(reference, inode, offset, count, credentials) { (index) throws(FileError) in
                try view.chunk(reference.inode.rawValue, index)
            }
        }
        return try transact(execution) { (core) throws(CoreFailure) in
            let inode = try core.resolve(reference).content!
            return try self.makePlan(reference, inode, offset, count, credentials) { (index) throws(CoreFailure) in
                try core.chunk(reference.inode.rawValue, index, fileSizeBytes: inode.sizeBytes).content
            }
        }
    }

    private func makePlan<Failure: Error>(
        _ reference: FileReference,
        _ inode: InodeContent,
        _ offset: UInt64,
        _ wanted: Int,
        _ credentials: Credentials,
        chunk: (UInt64) throws(Failure) -> ChunkContent?
    ) throws(Failure) -> ReadPlan where Failure: FileFailure {
        switch inode.type {
        case .regular: break
        case .directory: throw Failure(.isDirectory)
        default: throw Failure(.invalid)
        }
        do throws(CoreFailure) {
            try Permissions.checkData(Permissions.read, on: inode, by: credentials)
        } catch { throw Failure(.accessDenied) }
        let count = offset >= inode.sizeBytes ? 0 : Int(min(UInt64(wanted), inode.sizeBytes - offset))
        let blockSize = UInt64(VolumeLimits.blockSizeBytes)
        var plan = ReadPlan(
            attributes: inode.attributes(inode: reference.inode.rawValue, epoch: reference.epoch),
            count: count,
            isEnd: offset + UInt64(count) >= inode.sizeBytes,
            firstBlock: offset / blockSize
        )
        guard count > 0 else { return plan }
        let last = (offset + UInt64(count) - 1) / blockSize
        plan.blocks.reserveCapacity(Int(last - plan.firstBlock) + 1)
        var block = plan.firstBlock
        while block <= last {
            let index = block / UInt64(VolumeLimits.chunkBlocks)
            let end = min(last, (index + 1) * UInt64(VolumeLimits.chunkBlocks) - 1)
            if let content = try chunk(index) {
                for each in block...end {
                    let position = Int(each % UInt64(VolumeLimits.chunkBlocks))
                    plan.blocks.append((content.location(position), content.checksums[position]))
                }
            } else {
                for _ in block...end { plan.blocks.append((.hole, 0)) }
            }
            block = end + 1
        }
        return plan
    }

    /// Reads and verifies; returns the index of the first block whose checksum is wrong.
    private func fill(
        _ target: UnsafeMutableRawBufferPointer,
        _ offset: UInt64,
        _ plan: ReadPlan,
        _ execution: Execution
    ) throws(FileError) -> Int? {
        let blockSize = VolumeLimits.blockSizeBytes
        var position = 0
        var index = 0
        while position < target.count {
            let within = Int((offset + UInt64(position)) % UInt64(blockSize))
            let run = runLength(plan.blocks, from: index)
            let whole = min(run, (target.count - position) / blockSize)
            if plan.blocks[index].location.isHole {
                let bytes = min(run * blockSize - within, target.count - position)
                UnsafeMutableRawBufferPointer(rebasing: target[position..<position + bytes])
                    .initializeMemory(as: UInt8.self, repeating: 0)
                position += bytes
                index += run
            } else if within == 0 && whole > 0 {
                let part = UnsafeMutableRawBufferPointer(rebasing: target[position..<position + whole * blockSize])
                if let bad = try readVerified(part, plan.blocks[index..<index + whole], execution) {
                    return index + bad
                }
                position += part.count
                index += whole
            } else {
                // The first or last block of the range, of which only a part is wanted.
                let bytes = min(blockSize - within, target.count - position)
                let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: blockSize, alignment: 16)
                defer { scratch.deallocate() }
                if try readVerified(scratch, plan.blocks[index...index], execution) != nil { return index }
                UnsafeMutableRawBufferPointer(rebasing: target[position..<position + bytes])
                    .copyMemory(from: UnsafeRawBufferPointer(rebasing: scratch[within..<within + bytes]))
                position += bytes
                index += 1
            }
        }
        return nil
    }

    /// Blocks from `start` that are holes, or that lie one after another.
    private func runLength(_ blocks: [(location: BlockLocation, checksum: UInt32)], from start: Int) -> Int {
        let first = blocks[start].location
        var length = 1
        while start + length < blocks.count {
            let next = blocks[start + length].location
            if first.isHole ? !next.isHole : next != first.advanced(by: length) { break }
            length += 1
        }
        return length
    }

    private func readVerified(
        _ part: UnsafeMutableRawBufferPointer,
        _ blocks: ArraySlice<(location: BlockLocation, checksum: UInt32)>,
        _ execution: Execution
    ) throws(FileError) -> Int? {
        do {
            guard try segments.read(into: part, from: blocks.first!.location, cachedOnly: execution == .cachedOnly)
            else {
                throw FileError.wouldBlock
            }
        } catch let error as FileError {
            throw error
        } catch {
            // The segment may have been given back meanwhile: let the caller look again.
            return 0
        }
        return withUnsafeTemporaryAllocation(of: UInt32.self, capacity: blocks.count) { checksums in
            Checksum.blocks(UnsafeRawBufferPointer(part), blockSize: VolumeLimits.blockSizeBytes, into: checksums)
            var index = 0
            for block in blocks {
                if checksums[index] != block.checksum { return index }
                index += 1
            }
            return nil
        }
    }
}

/// An error that can say a `FileError`.
protocol FileFailure: Error {
    init(_ reason: FileError)
}

extension CoreFailure: FileFailure {
    init(_ reason: FileError) { self = .file(reason) }
}

extension FileError: FileFailure {
    init(_ reason: FileError) { self = reason }
}
