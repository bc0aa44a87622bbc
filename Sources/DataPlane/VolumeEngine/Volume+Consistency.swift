import Bytes
import Identity
import RocksStore
import SegmentStore

/// The fsck-style walk over the metadata of a volume: everything that is not as it should be, in words.
///
/// Sees one state of the database through one iterator, so that it may run beside clients.
private struct ConsistencyWalk {
    private(set) var findings: [String] = []
    private var inodes: [UInt64: InodeContent] = [:]
    private var names: [UInt64: UInt32] = [:]
    private var subdirectories: [UInt64: UInt32] = [:]
    private var entryCounts: [UInt64: UInt64] = [:]
    private var collisionCounts: [UInt64: UInt32] = [:]
    private var directoryOf: [UInt64: UInt64] = [:]
    private var usedBlocks: [UInt64: UInt64] = [:]
    private var links: Set<UInt64> = []
    private var orphans: Set<UInt64> = []
    private var chunkOwners: Set<UInt64> = []
    /// Owner of each living block.
    private var owners: [BlockLocation: RecordKey] = [:]
    private var borrowed: [(BlockLocation, RecordKey)] = []
    private var liveBlocks: [UInt32: Int] = [:]
    private var recordedLive: [UInt32: Int] = [:]
    private var current: RecordKey?
    private var newerEpoch = Epoch.active
    private var snapshots: [Epoch] = []
    private let properties: VolumeProperties

    init(properties: VolumeProperties) { self.properties = properties }

    mutating func segment(_ number: UInt32, live: Int) { recordedLive[number] = live }

    mutating func snapshot(_ epoch: Epoch) { snapshots.append(epoch) }

    mutating func reply(_ slot: UInt32, _ value: UnsafeRawBufferPointer, next: UInt64) {
        do throws(ByteFormatError) {
            let sequence = try ReplyRing.sequence(value)
            if ReplyRing.slot(sequence) != slot {
                findings.append("the answers \(sequence) that are kept are in slot \(slot), which is not their own")
            }
            if sequence >= next { findings.append("the answers \(sequence) that are kept are yet to be given") }
        } catch { findings.append("the answers that are kept in slot \(slot) cannot be read: \(error)") }
    }

    mutating func version(_ key: RecordKey, _ epoch: Epoch, _ value: UnsafeRawBufferPointer) {
        let isActive = key != current
        if !isActive && !snapshots.contains(where: { epoch <= $0 && $0 < newerEpoch }) {
            findings.append(
                "\(key): the version of epoch \(epoch.rawValue) is seen by nobody since that of \(newerEpoch.rawValue)"
            )
        }
        current = key
        newerEpoch = epoch
        if epoch > properties.epoch {
            findings.append("\(key) has a version of epoch \(epoch.rawValue), which is to come")
        }
        guard !value.isEmpty else { return }
        do throws(ByteFormatError) {
            switch key.kind {
            case .inode: if isActive { inodes[key.first] = try InodeContent.decode(value) }
            case .entry: if isActive { try entry(key, EntryContent.decode(value)) }
            case .link: if isActive { links.insert(key.first) }
            case .orphan: if isActive { orphans.insert(key.first) }
            case .chunk: try chunk(key, ChunkContent.decode(value), isActive)
            }
        } catch { findings.append("\(key) cannot be read: \(error)") }
    }

    private mutating func entry(_ key: RecordKey, _ content: EntryContent) throws(ByteFormatError) {
        names[content.inode, default: 0] += 1
        entryCounts[key.first, default: 0] += 1
        let cookie = content.name.withUnsafeBytes { properties.cookie(of: $0) }
        if cookie & ~15 != key.second & ~15 { findings.append("\(key): the name does not belong to its cookie") }
        if cookie != key.second { collisionCounts[key.first, default: 0] += 1 }
        if content.type == .directory {
            subdirectories[key.first, default: 0] += 1
            if directoryOf.updateValue(key.first, forKey: content.inode) != nil {
                findings.append("directory \(content.inode) has two names")
            }
        }
        guard let inode = inodes[content.inode] else {
            return findings.append("\(key): the name leads to inode \(content.inode), which does not exist")
        }
        if inode.generation != content.generation || inode.type != content.type {
            findings.append("\(key): the name leads to another inode \(content.inode) than it was made for")
        }
    }

    private mutating func chunk(_ key: RecordKey, _ content: ChunkContent, _ isActive: Bool) {
        if isActive {
            chunkOwners.insert(key.first)
            usedBlocks[key.first, default: 0] += UInt64(content.present.nonzeroBitCount)
        }
        for index in 0..<64 {
            let location = content.location(index)
            let isOwned = content.owned >> UInt64(index) & 1 == 1
            if location.isHole {
                if isOwned { findings.append("\(key): a hole is owned") }
            } else if isOwned {
                if let other = owners.updateValue(key, forKey: location) {
                    findings.append("block \(location.segment)/\(location.block) has two owners, \(other) and \(key)")
                }
                liveBlocks[location.segment, default: 0] += 1
            } else {
                borrowed.append((location, key))
            }
        }
    }

    mutating func finish() -> [String] {
        for (number, inode) in inodes.sorted(by: { $0.key < $1.key }) { check(number, inode) }
        for (location, key) in borrowed where owners[location] != key {
            findings.append("\(key) refers to block \(location.segment)/\(location.block), which nobody keeps for it")
        }
        for number in chunkOwners.sorted() where inodes[number] == nil && !orphans.contains(number) {
            findings.append("inode \(number) does not exist and has data")
        }
        for number in Set(liveBlocks.keys).union(recordedLive.keys).sorted()
        where liveBlocks[number, default: 0] != recordedLive[number, default: 0] {
            findings.append(
                "segment \(number) has \(liveBlocks[number, default: 0]) living blocks, "
                    + "its record says \(recordedLive[number, default: 0])"
            )
        }
        let used = UInt64(owners.count)
        if used != properties.usedBlocks {
            findings.append("\(used) blocks are in use, the volume's record says \(properties.usedBlocks)")
        }
        if UInt64(inodes.count) != properties.usedInodes {
            findings.append("\(inodes.count) inodes exist, the volume's record says \(properties.usedInodes)")
        }
        return findings
    }

    private mutating func check(_ number: UInt64, _ inode: InodeContent) {
        let isRoot = number == InodeNumber.root.rawValue
        if number >= properties.nextInode { findings.append("inode \(number) is beyond the next one") }
        if inode.type == .directory {
            let expected = 2 + subdirectories[number, default: 0]
            if inode.linkCount != expected {
                findings.append("directory \(number) has \(inode.linkCount) links, not \(expected)")
            }
            if inode.entryCount != entryCounts[number, default: 0] {
                findings.append(
                    "directory \(number) has \(entryCounts[number, default: 0]) names, it says \(inode.entryCount)"
                )
            }
            if inode.collisionCount != collisionCounts[number, default: 0] {
                findings.append("directory \(number) counts its collisions wrongly")
            }
            let parent = isRoot ? number : directoryOf[number]
            if parent != inode.parent { findings.append("directory \(number) is not where its parent says") }
        } else {
            if inode.linkCount != names[number, default: 0] {
                findings.append("inode \(number) has \(names[number, default: 0]) names, it says \(inode.linkCount)")
            }
            if inode.usedBlocks != usedBlocks[number, default: 0] {
                findings.append(
                    "inode \(number) has \(usedBlocks[number, default: 0]) blocks, it says \(inode.usedBlocks)"
                )
            }
            if inode.type == .symbolicLink && !links.contains(number) {
                findings.append("link \(number) has no target")
            }
        }
    }
}

extension Volume {
    /// Walks all metadata and says what is not as it should be; empty when all is well.
    package func checkConsistency() throws(StorageError) -> [String] {
        let (iterator, properties, nextReply) = openIteratorBox()
        var walk = ConsistencyWalk(properties: properties)
        try iterator.use { (iterator) throws(StorageError) in
            var prefix = ByteWriter(capacity: 8)
            prefix.appendBigEndian(msid.rawValue)
            iterator.seek(prefix.bytes)
            while iterator.isValid, DatabaseKey.bigEndian(iterator.key, 0) == msid.rawValue {
                if iterator.key.count == 13, iterator.key[8] == DatabaseKey.segmentKind {
                    let number = UInt32(bigEndian: iterator.key.loadUnaligned(fromByteOffset: 9, as: UInt32.self))
                    let live = UInt32(littleEndian: iterator.value.loadUnaligned(as: UInt32.self))
                    walk.segment(number, live: Int(live))
                } else if iterator.key.count == 13, iterator.key[8] == DatabaseKey.snapshotKind {
                    let epoch = UInt32(bigEndian: iterator.key.loadUnaligned(fromByteOffset: 9, as: UInt32.self))
                    walk.snapshot(Epoch(rawValue: epoch))
                } else if iterator.key.count == DatabaseKey.replyLength, iterator.key[8] == DatabaseKey.replyKind {
                    let slot = UInt32(bigEndian: iterator.key.loadUnaligned(fromByteOffset: 9, as: UInt32.self))
                    walk.reply(slot, iterator.value, next: nextReply)
                } else if let found = DatabaseKey.parseVersion(iterator.key) {
                    walk.version(found.key, found.epoch, iterator.value)
                }
                iterator.next()
            }
            _ = try reader.check(iterator, false)
        }
        return walk.finish()
    }

    /// An iterator over a state in which everything that was ordered is in the database.
    private func openIteratorBox() -> (IteratorBox, VolumeProperties, nextReply: UInt64) {
        let box = IteratorBox()
        while true {
            flush()
            let found = locked { () -> (VolumeProperties, UInt64)? in
                guard core.pending.isEmpty, core.committing.isEmpty else { return nil }
                box.iterator = context.database.iterator(.ordered)
                return (core.properties, core.nextReply)
            }
            if let found { return (box, found.0, found.1) }
        }
    }
}
