import RocksStore
import Bytes
package import Identity
import SegmentStore

/// What a scrub found.
package struct ScrubReport: Equatable, Sendable {
    /// Blocks read and compared with their checksums.
    package var blocksVerified: UInt64 = 0
    /// Damaged blocks, in words.
    package var damage: [String] = []
}

extension Volume {
    /// Reads every block of every version and compares it with its checksum. `progress` gets the blocks so far.
    package func scrub(progress: (UInt64) -> Void) throws(StorageError) -> ScrubReport {
        flush()
        var report = ScrubReport()
        let iterator = context.database.iterator(.ordered)
        iterator.seek(DatabaseKey.version(msid, RecordKey(.chunk, 0), Epoch(rawValue: .max)))
        while iterator.isValid, let found = DatabaseKey.parseVersion(iterator.key), found.key.kind == .chunk,
            DatabaseKey.bigEndian(iterator.key, 0) == msid.rawValue
        {
            if !iterator.value.isEmpty {
                let content: ChunkContent
                do { content = try ChunkContent.decode(iterator.value) } catch {
                    throw reader.damaged(found.key, "\(error)")
                }
                for run in content.runs(within: content.owned) {
                    try verify(run, content, found.key, found.epoch, &report)
                }
                progress(report.blocksVerified)
            }
            iterator.next()
        }
        _ = try reader.check(iterator, false)
        return report
    }

    private func verify(
        _ run: (first: Int, extent: BlockExtent),
        _ content: ChunkContent,
        _ key: RecordKey,
        _ epoch: Epoch,
        _ report: inout ScrubReport
    ) throws(StorageError) {
        let blockSize = VolumeLimits.blockSizeBytes
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: run.extent.count * blockSize, alignment: 16)
        defer { buffer.deallocate() }
        var isReadable = true
        do { _ = try segments.read(into: buffer, from: run.extent.start, cachedOnly: false) } catch {
            isReadable = false
        }
        for index in 0..<run.extent.count {
            report.blocksVerified += 1
            let block = UnsafeRawBufferPointer(rebasing: buffer[index * blockSize..<(index + 1) * blockSize])
            if isReadable && Checksum.block(block) == content.checksums[run.first + index] { continue }
            // The block may have been overwritten and given back since its map was read.
            guard try isStillReferred(key, epoch, run.first + index, run.extent.start.advanced(by: index)) else {
                continue
            }
            let offset = (key.second * 64 + UInt64(run.first + index)) * UInt64(blockSize)
            report.damage.append(
                "inode \(key.first), offset \(offset): block \(run.extent.start.block + UInt32(index)) of segment "
                    + "\(run.extent.start.segment) has another checksum than was written"
            )
            context.options.onEvent(
                .checksumMismatch(
                    volume: msid,
                    inode: InodeNumber(rawValue: key.first),
                    offsetBytes: offset,
                    segment: run.extent.start.segment
                )
            )
        }
    }

    private func isStillReferred(
        _ key: RecordKey,
        _ epoch: Epoch,
        _ index: Int,
        _ location: BlockLocation
    ) throws(StorageError) -> Bool {
        flush()
        var isSame = false
        var needsDisk = false
        try reader.version(key, atOrBelow: epoch, cachedOnly: false, needsDisk: &needsDisk) {
            (found, value, _) throws(ByteFormatError) in
            if found == epoch && !value.isEmpty { isSame = try ChunkContent.decode(value).location(index) == location }
        }
        return isSame
    }

    // MARK: Content hash

    /// A hash over a full walk of a snapshot from its root: names, attributes, link targets and data. Equal on equal
    /// replicas. Walks directories and reads files as a client would; shares no code with the transfer engines.
    package func contentHash(of uuid: ObjectUUID) throws(StorageError) -> UInt64 {
        guard let snapshot = snapshots().first(where: { $0.uuid == uuid }) else {
            throw StorageError(.notFound, "the volume has no snapshot \(uuid)", remedy: "list the volume's snapshots")
        }
        var walk = ContentWalk(view: view(of: snapshot.epoch))
        do throws(FileError) { try hash(directory: InodeNumber.root.rawValue, snapshot.epoch, &walk) } catch {
            throw StorageError(
                .damaged,
                "the walk of snapshot '\(snapshot.name)' met an error (\(error))",
                remedy: "scrub the volume to find the damage"
            )
        }
        return walk.hash
    }

    /// The state of a walk.
    private struct ContentWalk {
        let view: SnapshotView
        var hash: UInt64 = 0
        /// Files with several names are read once.
        var seen: Set<UInt64> = []

        mutating func add(_ writer: ByteWriter) { hash = Checksum.xxh3(writer.bytes, seed: hash) }
    }

    private func hash(directory: UInt64, _ epoch: Epoch, _ walk: inout ContentWalk) throws(FileError) {
        let inode = try walk.view.inode(number: directory)
        addAttributes(directory, inode, &walk)
        let reference = FileReference(
            inode: InodeNumber(rawValue: directory),
            generation: inode.generation,
            epoch: epoch
        )
        var cookie: UInt64 = 2
        var names: [DirectoryListingEntry] = []
        while true {
            let page = try listInSnapshot(reference, cookie, 1024, false, .superuser, .blocking)
            names += page.entries
            guard !page.isEnd, let last = page.entries.last else { break }
            cookie = last.cookie
        }
        for entry in names {
            var writer = ByteWriter(capacity: 300)
            writer.append(entry.cookie)
            writer.append(counted: entry.name)
            walk.add(writer)
            let number = entry.reference.inode.rawValue
            let content = try walk.view.inode(entry.reference)
            if content.type == .directory {
                try hash(directory: number, epoch, &walk)
            } else if walk.seen.insert(number).inserted {
                addAttributes(number, content, &walk)
                if content.type == .symbolicLink {
                    var target = ByteWriter()
                    target.append(counted: try walk.view.link(number).target)
                    walk.add(target)
                }
                if content.type == .regular { try hash(file: entry.reference, content, &walk) }
            }
        }
    }

    private func addAttributes(_ number: UInt64, _ inode: InodeContent, _ walk: inout ContentWalk) {
        var writer = ByteWriter(capacity: 160)
        writer.append(number)
        inode.encode(into: &writer)
        walk.add(writer)
    }

    private func hash(file reference: FileReference, _ inode: InodeContent, _ walk: inout ContentWalk) throws(FileError)
    {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: VolumeLimits.chunkSizeBytes, alignment: 16)
        defer { buffer.deallocate() }
        // Chunks that are not stored are holes: a sparse file is walked by what it has.
        for index in try presentChunks(reference) {
            let result = try read(
                reference,
                offset: index * UInt64(VolumeLimits.chunkSizeBytes),
                into: buffer,
                as: .superuser,
                .blocking
            )
            walk.hash = Checksum.xxh3(
                UnsafeRawBufferPointer(rebasing: buffer[0..<result.count]),
                seed: walk.hash &+ index
            )
        }
    }

    private func presentChunks(_ reference: FileReference) throws(FileError) -> [UInt64] {
        var found: [UInt64] = []
        do throws(StorageError) {
            let start = RecordKey(.chunk, reference.inode.rawValue, 0)
            try reader.walk(at: reference.epoch, from: start, through: .chunk) { (key, _, value) throws(StorageError) in
                guard key.first == reference.inode.rawValue else { return false }
                let content: ChunkContent
                do { content = try ChunkContent.decode(value) } catch { throw reader.damaged(key, "\(error)") }
                // A chunk of holes alone is no different from none.
                if content.present != 0 { found.append(key.second) }
                return true
            }
        } catch {
            report(error)
            throw .inputOutput
        }
        return found
    }
}
