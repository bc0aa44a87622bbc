import Environment
import Synchronization
import Bytes
import FileIO
import Identity
import RocksStore
import SegmentStore

extension Volume {
    /// Makes a volume with an empty root directory.
    static func create(
        _ msid: VolumeMSID,
        _ sizeBytes: UInt64,
        _ isSpaceGuaranteed: Bool,
        _ isReplica: Bool,
        _ context: AggregateContext
    ) throws(StorageError) -> Volume {
        let properties = VolumeProperties(
            sizeBytes: sizeBytes,
            isSpaceGuaranteed: isSpaceGuaranteed,
            isReplica: isReplica,
            writeVerifier: context.environment.randomBits(),
            nameSeed: context.environment.randomBits()
        )
        let directory = context.segmentDirectory(msid)
        let segments: SegmentStore
        do throws(FileIOError) {
            // What a creation that was interrupted, or a deletion, may have left.
            try SegmentStore.removeAll(directory: directory)
            segments = try SegmentStore(directory: directory, next: 1)
        } catch { throw .io(error) }
        let core = VolumeCore(msid: msid, properties: properties, snapshots: [], liveBlocks: [:], firstCommit: 1)
        let volume = Volume(msid: msid, context: context, segments: segments, core: core, durable: 0)
        let time = volume.now
        volume.locked {
            core.pending.hasProperties = true
            // A replica gets its root from the source, like everything else.
            if !isReplica { core.makeRoot(time) }
        }
        volume.flush()
        return volume
    }

    /// Opens a volume after a restart: small writes that only the log has go to their segments, holes that were not
    /// punched yet are queued.
    static func recover(
        _ msid: VolumeMSID,
        _ stored: VolumeProperties,
        _ context: AggregateContext
    ) throws(StorageError) -> Volume {
        let scan = try VolumeScan(msid, context)
        let existing: [UInt32]
        let segments: SegmentStore
        do throws(FileIOError) {
            let directory = context.segmentDirectory(msid)
            try FileSystem.makeDirectories(directory)
            existing = try FileSystem.list(directory).compactMap { UInt32($0, radix: 16) }
            segments = try SegmentStore(directory: directory, next: (existing.max() ?? 0) + 1)
            for write in scan.deferred where existing.contains(write.start.segment) {
                try write.bytes.withUnsafeBytes { bytes in
                    Result { () throws(FileIOError) in try segments.write(bytes, to: write.start) }
                }.get()
            }
            for segment in Set(scan.deferred.map(\.start.segment)).sorted() where existing.contains(segment) {
                try segments.synchronize(segment)
            }
        } catch { throw .io(error) }
        var properties = stored
        // Unstable data may be lost when the volume was not closed in order: clients must be able to tell.
        if !properties.isClean { properties.writeVerifier = context.environment.randomBits() }
        properties.isClean = false
        let core = VolumeCore(
            msid: msid,
            properties: properties,
            snapshots: scan.snapshots,
            liveBlocks: scan.liveBlocks,
            firstCommit: 1
        )
        core.begunRemovals = scan.removals
        core.nextReply = scan.nextReply
        let volume = Volume(msid: msid, context: context, segments: segments, core: core, durable: 0)
        volume.locked {
            core.pending.hasProperties = true
            for write in scan.deferred {
                core.pending.operations.delete(DatabaseKey.local(msid, DatabaseKey.deferredKind, write.sequence))
            }
        }
        volume.reclaimQueue.withLock { $0.append(scan.freed) }
        volume.flush()
        if !stored.isClean { try volume.sweepUnreferenced(existing, scan.liveBlocks) }
        return volume
    }

    /// Goes on with what a crash interrupted.
    func resumeInterrupted() throws(StorageError) {
        try resumeRemovals()
        let (restoring, isReplica) = locked { (core.properties.restoringTo, core.properties.isReplica) }
        if restoring != .active, let snapshot = snapshots().first(where: { $0.epoch == restoring }) {
            try managed { () throws(StorageError) in try revert(to: snapshot) }
        }
        if !isReplica { try findOrphans() }
    }

    /// Queues blocks that a crash left in segments without any map that refers to them.
    ///
    /// Walks the maps once; only segments whose file holds more than their living blocks can have such blocks.
    private func sweepUnreferenced(_ existing: [UInt32], _ liveBlocks: [UInt32: Int]) throws(StorageError) {
        var referenced: [UInt32: [Bool]] = [:]
        do throws(FileIOError) {
            for segment in existing {
                let blocks = try segments.sizeBytes(segment) / SegmentStore.blockSizeBytes
                if blocks > liveBlocks[segment, default: 0] {
                    referenced[segment] = Array(repeating: false, count: blocks)
                }
            }
        } catch { throw .io(error) }
        guard !referenced.isEmpty else { return }
        let iterator = context.database.iterator(.ordered)
        iterator.seek(DatabaseKey.version(msid, RecordKey(.chunk, 0), Epoch(rawValue: .max)))
        while iterator.isValid, let found = DatabaseKey.parseVersion(iterator.key), found.key.kind == .chunk,
            DatabaseKey.bigEndian(iterator.key, 0) == msid.rawValue
        {
            if !iterator.value.isEmpty, let content = try? ChunkContent.decode(iterator.value) {
                for run in content.runs() {
                    for step in 0..<run.extent.count {
                        let index = Int(run.extent.start.block) + step
                        if index < referenced[run.extent.start.segment]?.count ?? 0 {
                            referenced[run.extent.start.segment]![index] = true
                        }
                    }
                }
            }
            iterator.next()
        }
        _ = try reader.check(iterator, false)
        queueUnreferenced(referenced)
    }

    private func queueUnreferenced(_ referenced: [UInt32: [Bool]]) {
        var extents: [BlockExtent] = []
        for segment in referenced.keys.sorted() {
            let blocks = referenced[segment]!
            var index = 0
            while index < blocks.count {
                var end = index
                while end < blocks.count && !blocks[end] { end += 1 }
                if end > index {
                    let start = BlockLocation(segment: segment, block: UInt32(index))
                    extents.append(BlockExtent(start: start, count: end - index))
                }
                index = max(end, index + 1)
            }
            // A segment without a record would otherwise never be found dead.
            locked { core.liveBlocks[segment, default: 0] += 0 }
        }
        reclaimQueue.withLock { $0.append(extents) }
    }

    /// Sets the size; a volume may not become smaller than what it holds.
    package func resize(toBytes size: UInt64) throws(StorageError) {
        try managed { () throws(StorageError) in
            let used = locked { core.usedBytes }
            guard size >= used else {
                throw StorageError(
                    .conflict,
                    "the volume holds \(used) bytes and cannot become \(size) bytes small",
                    remedy: "delete files or snapshots first, or choose a larger size"
                )
            }
            locked {
                core.properties.sizeBytes = size
                core.pending.hasProperties = true
            }
            flush()
        }
    }
}

extension VolumeCore {
    /// The root directory of a new volume: open to everybody's reading, its parent is itself.
    fileprivate func makeRoot(_ time: Timestamp) {
        let number = InodeNumber.root.rawValue
        let record = Record<InodeContent>(
            key: RecordKey(.inode, number),
            epoch: .active,
            hasOlderVersion: false,
            isStored: false,
            content: nil
        )
        inodes.insert(record)
        touch(record)
        var content = InodeContent(
            type: .directory,
            mode: 0o755,
            linkCount: 2,
            owner: 0,
            group: 0,
            generation: 1,
            change: nextChange(),
            time: time
        )
        content.parent = number
        record.content = content
        properties.usedInodes = 1
    }
}

/// What the database knows of a volume beside its records, read once when it is opened.
private struct VolumeScan {
    var snapshots: [Snapshot] = []
    var removals: [Epoch] = []
    var liveBlocks: [UInt32: Int] = [:]
    var deferred: [DeferredWrite] = []
    var freed: [BlockExtent] = []
    var nextReply: UInt64 = 1

    init(_ msid: VolumeMSID, _ context: AggregateContext) throws(StorageError) {
        let iterator = context.database.iterator(.ordered)
        var prefix = ByteWriter(capacity: 8)
        prefix.appendBigEndian(msid.rawValue)
        iterator.seek(prefix.bytes)
        do {
            while iterator.isValid, DatabaseKey.bigEndian(iterator.key, 0) == msid.rawValue,
                iterator.key[8] < RecordKind.inode.rawValue
            {
                try take(iterator.key, iterator.value)
                iterator.next()
            }
            _ = try iterator.check(cachedOnly: false)
        } catch let error as RocksError { throw .metadata(error) } catch {
            throw StorageError(
                .damaged,
                "a record of volume \(msid) is damaged: \(error)",
                remedy: "restore the aggregate from a replica"
            )
        }
    }

    private mutating func take(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) throws(ByteFormatError) {
        var keyReader = ByteReader(UnsafeRawBufferPointer(rebasing: key[9...]))
        var reader = ByteReader(value)
        switch key[8] {
        case DatabaseKey.snapshotKind:
            snapshots.append(try Snapshot(epoch: Epoch(rawValue: try keyReader.readBigEndian()), decoding: value))
        case DatabaseKey.removalKind: removals.append(Epoch(rawValue: try keyReader.readBigEndian()))
        case DatabaseKey.segmentKind:
            liveBlocks[try keyReader.readBigEndian()] = Int(try reader.read(UInt32.self))
        case DatabaseKey.deferredKind:
            deferred.append(
                DeferredWrite(
                    sequence: try keyReader.readBigEndian(),
                    start: BlockLocation(rawValue: try reader.read()),
                    bytes: try reader.readBytes(reader.remaining)
                )
            )
        case DatabaseKey.freedKind:
            let start = BlockLocation(rawValue: try keyReader.readBigEndian())
            freed.append(BlockExtent(start: start, count: Int(try reader.read(UInt32.self))))
        case DatabaseKey.replyKind:
            // One that is damaged is told when the answers are read.
            if let sequence = try? ReplyRing.sequence(value) { nextReply = max(nextReply, sequence + 1) }
        default: break
        }
    }
}
