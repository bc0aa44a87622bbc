import FileIO
import Bytes
import Environment
package import Identity
import RocksStore

extension Volume {
    /// The snapshots, oldest first, without those whose deletion has begun: parts of them may be gone.
    package func snapshots() -> [Snapshot] { locked { core.visibleSnapshots } }

    /// Takes a snapshot, durably: ends the epoch, whatever the volume holds. The same uuid again is no error.
    package func createSnapshot(name: String, uuid: ObjectUUID) throws(StorageError) -> Snapshot {
        try createSnapshot(name: name, uuid: uuid, alongside: {})
    }

    /// The same, with `alongside` run under the lock in the same step.
    func createSnapshot(
        name: String,
        uuid: ObjectUUID,
        alongside: @escaping () -> Void
    ) throws(StorageError) -> Snapshot {
        try managed { () throws(StorageError) -> Snapshot in
            // One whose deletion failed half-way is no answer to who wants a whole snapshot, and two must never share a
            // uuid, by which snapshots are deleted: it goes first.
            if let begun = locked({ core.snapshots.first { $0.uuid == uuid && core.begunRemovals.contains($0.epoch) } })
            {
                try removeSnapshot(begun)
            }
            let time = now
            let outcome = locked { () -> Result<Snapshot, StorageError> in
                if let existing = core.snapshots.first(where: { $0.uuid == uuid }) {
                    alongside()
                    return .success(existing)
                }
                return Result { () throws(StorageError) in
                    let snapshot = try core.endEpoch(name: name, uuid: uuid, time: time)
                    alongside()
                    return snapshot
                }
            }
            let snapshot = try outcome.get()
            flush()
            return snapshot
        }
    }

    /// Deletes a snapshot and gives back what only it could see; absent is no error.
    /// - Throws: `.conflict` when a transfer reads it.
    package func deleteSnapshot(_ uuid: ObjectUUID) throws(StorageError) {
        try managed { () throws(StorageError) in
            // One whose deletion failed half-way is deleted for good here.
            guard let snapshot = locked({ core.snapshots.first { $0.uuid == uuid } }) else { return }
            try requireNotHeld(snapshot)
            try removeSnapshot(snapshot)
        }
    }

    /// The same for an operation: a transfer that is just ending is waited for.
    /// - Throws: `.conflict` when a transfer still reads it after ten seconds.
    package func deleteSnapshotAfterTransfer(_ uuid: ObjectUUID) throws(StorageError) {
        var waits = 0
        while isHeld(uuid) && waits < 1_000 {
            SystemThread.pause(milliseconds: 10)
            waits += 1
        }
        try deleteSnapshot(uuid)
    }

    /// Whether a transfer reads a snapshot at the moment.
    package func isHeld(_ uuid: ObjectUUID) -> Bool { locked { core.heldSnapshots[uuid] != nil } }

    /// Keeps snapshots from being deleted until `release`. What was deleted before is not brought back: a transfer looks
    /// at its end whether its snapshots are there.
    func hold(_ snapshots: [ObjectUUID]) {
        locked { for uuid in snapshots { core.heldSnapshots[uuid, default: 0] += 1 } }
    }

    /// Ends a `hold`.
    func release(_ snapshots: [ObjectUUID]) {
        locked {
            for uuid in snapshots {
                let left = core.heldSnapshots[uuid]! - 1
                core.heldSnapshots[uuid] = left == 0 ? nil : left
            }
        }
    }

    private func requireNotHeld(_ snapshot: Snapshot) throws(StorageError) {
        guard isHeld(snapshot.uuid) else { return }
        throw StorageError(
            .conflict,
            "snapshot '\(snapshot.name)' of volume \(msid) is being read by a transfer",
            remedy: "wait until the transfer has ended, or pause the operation that it belongs to"
        )
    }

    /// Restores the active file system to a snapshot. Newer snapshots are deleted; clients are told to try later meanwhile.
    package func restore(to uuid: ObjectUUID) throws(StorageError) {
        try managed { () throws(StorageError) in
            guard let snapshot = snapshots().first(where: { $0.uuid == uuid }) else {
                throw StorageError(
                    .notFound,
                    "the volume has no snapshot \(uuid)",
                    remedy: "list the volume's snapshots"
                )
            }
            for newer in snapshots() where newer.epoch > snapshot.epoch { try requireNotHeld(newer) }
            try revert(to: snapshot)
        }
    }

    /// Brings the volume back to `snapshot`; goes on where a crash interrupted it.
    func revert(to snapshot: Snapshot) throws(StorageError) {
        locked { core.isBusy = true }
        defer { locked { core.isBusy = false } }
        locked {
            core.properties.restoringTo = snapshot.epoch
            core.pending.hasProperties = true
        }
        flush()
        for newer in locked({ core.snapshots }).filter({ $0.epoch > snapshot.epoch }).reversed() {
            try removeSnapshot(newer)
        }
        try dropVersions(after: snapshot.epoch)
        locked {
            core.forgetRecords()
            core.properties.restoringTo = .active
            core.properties.epoch = core.properties.epoch.next
            core.pending.hasProperties = true
        }
        try recountInodes()
        flush()
    }

    private func recountInodes() throws(StorageError) {
        var count: UInt64 = 0
        try reader.walk(at: Epoch(rawValue: .max), from: RecordKey(.inode, 0), through: .inode) { _, _, _ in
            count += 1
            return true
        }
        locked { core.properties.usedInodes = count }
    }

    /// Deletes every version above `epoch`, in steps, with the blocks that it owns.
    private func dropVersions(after epoch: Epoch) throws(StorageError) {
        while true {
            var changes: [(Epoch, RecordKey)] = []
            try reader.walkChanges(after: epoch, through: Epoch(rawValue: .max), resume: nil) { changed, key in
                changes.append((changed, key))
                return changes.count < 1024
            }
            if changes.isEmpty { return }
            for (changed, key) in changes {
                var owned: ChunkContent?
                if key.kind == .chunk { owned = try version(of: key, exactly: changed) }
                locked {
                    if let owned { core.releaseOwned(owned) }
                    core.pending.operations.delete(DatabaseKey.version(msid, key, changed))
                    core.pending.operations.delete(DatabaseKey.changed(msid, changed, key))
                }
            }
            flush()
        }
    }

    private func version(of key: RecordKey, exactly epoch: Epoch) throws(StorageError) -> ChunkContent? {
        var content: ChunkContent?
        var needsDisk = false
        try reader.version(key, atOrBelow: epoch, cachedOnly: false, needsDisk: &needsDisk) {
            (found, value, _) throws(ByteFormatError) in
            if found == epoch && !value.isEmpty { content = try ChunkContent.decode(value) }
        }
        return content
    }

    // MARK: Deleting

    /// Frees what only the snapshot could see, then forgets the snapshot.
    ///
    /// What only it sees has a version in the snapshot's epochs and a newer one in those that follow: the shorter of the
    /// two is walked, so that a deletion takes as long as what changed before the snapshot or after it, not as there are
    /// files.
    ///
    /// Clients go on meanwhile. Until the end the snapshot keeps the versions that they replace, as every snapshot does;
    /// those of them that the walk has passed already are looked at again, and the snapshot is forgotten in the one moment
    /// in which none is left. It is on record that the snapshot goes, so that after a crash the next start ends this: a
    /// version that is gone already is passed over the next time.
    func removeSnapshot(_ snapshot: Snapshot) throws(StorageError) {
        let removal = locked { core.beginRemoval(of: snapshot) }
        defer { locked { core.removal = nil } }
        flush()
        if try hasFewerChangesAfter(removal) { try dropBefore(removal) } else { try dropWithin(removal) }
        while true {
            // What was dropped before must be gone from the database before the same version is looked at again.
            flush()
            let replaced = locked { core.endRemoval(of: snapshot) }
            if replaced.isEmpty { break }
            for (epoch, key) in replaced { try dropIfUnseen(key, at: epoch, removal) }
        }
        flush()
    }

    /// Whether less changed from the snapshot to the next one than in its own epochs. Looks no further than the shorter
    /// of the two goes.
    private func hasFewerChangesAfter(_ removal: SnapshotRemoval) throws(StorageError) -> Bool {
        var (before, after) = (ChangeCursor(within: removal), ChangeCursor(after: removal))
        while true {
            let counts = (before: try before.next(reader).count, after: try after.next(reader).count)
            if min(counts.before, counts.after) < ChangeCursor.entriesMax { return counts.after < counts.before }
        }
    }

    /// Looks at every version of the snapshot's own epochs.
    private func dropWithin(_ removal: SnapshotRemoval) throws(StorageError) {
        var cursor = ChangeCursor(within: removal)
        while true {
            let changes = try cursor.next(reader)
            if changes.isEmpty { return }
            for (epoch, key) in changes { try dropIfUnseen(key, at: epoch, removal) }
            commitSoon()
        }
    }

    /// Looks at the versions of the snapshot's epochs that those of the next ones may hide.
    private func dropBefore(_ removal: SnapshotRemoval) throws(StorageError) {
        var cursor = ChangeCursor(after: removal)
        while true {
            let changes = try cursor.next(reader)
            if changes.isEmpty { return }
            var seen: Set<RecordKey> = []
            for (_, key) in changes where key.first < removal.firstNewInode && seen.insert(key).inserted {
                // The oldest first: it hands its blocks to the next one.
                for version in try versions(of: key).reversed() where removal.isOwn(version.epoch) {
                    try dropIfUnseen(key, at: version.epoch, removal)
                }
            }
            // A record may come again with a later epoch, and what was dropped must then be gone.
            flush()
        }
    }

    /// Ends the deletions that a crash interrupted.
    func resumeRemovals() throws(StorageError) {
        for epoch in locked({ core.begunRemovals }) {
            guard let snapshot = locked({ core.snapshots.first { $0.epoch == epoch } }) else { continue }
            try managed { () throws(StorageError) in try removeSnapshot(snapshot) }
        }
    }

    /// Frees one version that the snapshot sees, unless the next snapshot or the active file system sees it too.
    private func dropIfUnseen(_ key: RecordKey, at epoch: Epoch, _ removal: SnapshotRemoval) throws(StorageError) {
        var isDecided = false
        var mustSettle = false
        while !isDecided {
            // The active version may be in memory and newer than the database: it is brought into memory to be sure. A
            // replica has nothing in memory: what is applied to it goes to the database.
            if removal.isActiveNext { try keepInMemory(key) }
            let versions = try versions(of: key)
            let outcome = locked { () -> Result<Void, StorageError> in
                Result { () throws(StorageError) in
                    let active = removal.isActiveNext ? core.activeVersion(of: key) : nil
                    // It was dropped from memory again, and may have changed: look once more.
                    if removal.isActiveNext && active == nil { return }
                    isDecided = true
                    mustSettle = try drop(key, at: epoch, removal, active, versions)
                }
            }
            try outcome.get()
        }
        // The version after this one will be looked at, too, and is read from the database.
        if mustSettle { flush() }
    }

    /// Drops the version of `epoch` if something hides it. Under the lock.
    /// - Returns: Whether another version that only this snapshot could see is left.
    private func drop(
        _ key: RecordKey,
        at epoch: Epoch,
        _ removal: SnapshotRemoval,
        _ active: AnyRecord?,
        _ versions: [StoredVersion]
    ) throws(StorageError) -> Bool {
        guard let own = versions.first(where: { $0.epoch == epoch }) else { return false }
        // Two versions between two snapshots should not be. Should they, the older one is seen by nobody at all.
        let hiding = versions.last { $0.epoch > epoch && $0.epoch <= removal.epoch }?.epoch
        // A version that is in memory and has never been committed is newer than all in the database.
        let successorEpoch =
            hiding
            ?? active.flatMap { $0.epoch > removal.epoch ? $0.epoch : nil }
            ?? versions.last { $0.epoch > removal.epoch && $0.epoch <= removal.next }?.epoch
        guard let successorEpoch else { return false }
        core.pending.operations.delete(DatabaseKey.version(msid, key, epoch))
        core.pending.operations.delete(DatabaseKey.changed(msid, epoch, key))
        if key.kind == .chunk, !own.value.isEmpty {
            try passOwnership(key, from: own.value, to: successorEpoch, hiding == nil ? active : nil, versions)
        }
        // A version that hides this one within the snapshot is looked at next, and its tombstones with it.
        if hiding != nil { return true }
        if !versions.contains(where: { $0.epoch < epoch }) { dropTombstone(key, successorEpoch, active, versions) }
        return false
    }

    /// Blocks that the successor still uses become its own; the others are given back. Under the lock.
    private func passOwnership(
        _ key: RecordKey,
        from value: [UInt8],
        to successorEpoch: Epoch,
        _ active: AnyRecord?,
        _ versions: [StoredVersion]
    ) throws(StorageError) {
        var own = try decodeChunk(key, value)
        if let active, active.epoch == successorEpoch {
            let record = unsafeDowncast(active, to: Record<ChunkContent>.self)
            if var content = record.content {
                content.takeOwnership(from: &own)
                core.touch(record)
                record.content = content
            }
        } else if let successor = versions.first(where: { $0.epoch == successorEpoch }), !successor.value.isEmpty {
            var content = try decodeChunk(key, successor.value)
            content.takeOwnership(from: &own)
            var writer = ByteWriter(capacity: 512)
            content.encode(into: &writer)
            core.pending.operations.put(DatabaseKey.version(msid, key, successorEpoch), writer.bytes)
            // The active file system may still show the same version: memory must say the same as the database.
            if let cached = core.chunks.find(key), cached.epoch == successorEpoch { cached.content = content }
        }
        core.releaseOwned(own)
    }

    /// A tombstone that hides nothing any more goes as well. Under the lock.
    private func dropTombstone(_ key: RecordKey, _ epoch: Epoch, _ active: AnyRecord?, _ versions: [StoredVersion]) {
        if let active, active.epoch == epoch {
            active.hasOlderVersion = false
            if active.isAbsent { core.touch(active) }
        } else if let tombstone = versions.first(where: { $0.epoch == epoch }), tombstone.value.isEmpty {
            core.pending.operations.delete(DatabaseKey.version(msid, key, epoch))
            core.pending.operations.delete(DatabaseKey.changed(msid, epoch, key))
            if let cached = core.activeVersion(of: key), cached.epoch == epoch {
                cached.hasOlderVersion = false
                cached.isStored = false
            }
        }
    }

    private func decodeChunk(_ key: RecordKey, _ value: [UInt8]) throws(StorageError) -> ChunkContent {
        let outcome = value.withUnsafeBytes { bytes in
            Result { () throws(ByteFormatError) in try ChunkContent.decode(bytes) }
        }
        do { return try outcome.get() } catch { throw reader.damaged(key, "\(error)") }
    }

    struct StoredVersion: Sendable {
        var epoch: Epoch
        var value: [UInt8]
    }

    /// Every stored version of a record, newest first.
    private func versions(of key: RecordKey) throws(StorageError) -> [StoredVersion] {
        let iterator = context.database.iterator(.prefix)
        iterator.seek(DatabaseKey.version(msid, key, Epoch(rawValue: .max)))
        var found: [StoredVersion] = []
        while iterator.isValid, let version = DatabaseKey.parseVersion(iterator.key), version.key == key {
            found.append(StoredVersion(epoch: version.epoch, value: [UInt8](iterator.value)))
            iterator.next()
        }
        _ = try reader.check(iterator, false)
        return found
    }

    private func keepInMemory(_ key: RecordKey) throws(StorageError) {
        let evictions = locked { core.evictions }
        guard locked({ core.activeVersion(of: key) == nil }) else { return }
        guard let loaded = try reader.load(key, cachedOnly: false) else { return }
        nonisolated(unsafe) let record = loaded
        locked { core.insert(record, readAfter: evictions) }
    }
}

extension ChunkContent {
    /// Becomes the owner of each block that both refer to and the other owned.
    mutating func takeOwnership(from other: inout ChunkContent) {
        for index in 0..<64 where other.owned >> UInt64(index) & 1 == 1 && locations[index] == other.locations[index] {
            owned |= 1 << UInt64(index)
            other.owned &= ~(1 << UInt64(index))
        }
    }
}

extension VolumeCore {
    /// The record of a key, if it is in memory.
    func activeVersion(of key: RecordKey) -> AnyRecord? {
        switch key.kind {
        case .inode: inodes.find(key)
        case .entry: entries.find(key)
        case .link: links.find(key)
        case .chunk: chunks.find(key)
        case .orphan: orphans.find(key)
        }
    }

    /// Puts on record that a snapshot goes.
    fileprivate func beginRemoval(of snapshot: Snapshot) -> SnapshotRemoval {
        let index = snapshots.firstIndex { $0.uuid == snapshot.uuid }!
        let isNewest = index + 1 == snapshots.count
        let isActiveNext = isNewest && !properties.isReplica
        let removal = SnapshotRemoval(
            epoch: snapshot.epoch,
            previous: index > 0 ? snapshots[index - 1].epoch : .active,
            next: isNewest ? Epoch(rawValue: .max) : snapshots[index + 1].epoch,
            isActiveNext: isActiveNext,
            firstNewInode: isActiveNext ? properties.nextInode : .max
        )
        self.removal = removal
        if !begunRemovals.contains(snapshot.epoch) { begunRemovals.append(snapshot.epoch) }
        pending.operations.put(DatabaseKey.local(msid, DatabaseKey.removalKind, snapshot.epoch.rawValue), [])
        return removal
    }

    /// Forgets the snapshot that is being removed, if nothing was replaced since this was last asked.
    /// - Returns: The versions that were, to be looked at again.
    fileprivate func endRemoval(of snapshot: Snapshot) -> [(Epoch, RecordKey)] {
        if let replaced = removal?.replaced, !replaced.isEmpty {
            removal!.replaced = []
            return replaced
        }
        snapshots.removeAll { $0.uuid == snapshot.uuid }
        begunRemovals.removeAll { $0 == snapshot.epoch }
        removal = nil
        for kind in [DatabaseKey.snapshotKind, DatabaseKey.removalKind] {
            pending.operations.delete(DatabaseKey.local(msid, kind, snapshot.epoch.rawValue))
        }
        return []
    }

    /// Ends the epoch with a snapshot.
    func endEpoch(name: String, uuid: ObjectUUID, time: Timestamp) throws(StorageError) -> Snapshot {
        guard !snapshots.contains(where: { $0.name == name }) else {
            throw StorageError(
                .exists,
                "the volume has a snapshot '\(name)' already",
                remedy: "choose another name or delete that snapshot"
            )
        }
        guard snapshots.count < VolumeLimits.snapshotsMax else {
            throw StorageError(
                .conflict,
                "the volume has \(snapshots.count) snapshots, the most that a volume can have",
                remedy: "delete snapshots that are no longer needed"
            )
        }
        guard !name.isEmpty, name.utf8.count <= 255, !name.contains("/"), name != ".", name != ".." else {
            throw StorageError(
                .conflict,
                "'\(name)' cannot be the name of a snapshot",
                remedy: "use 1 to 255 bytes without '/'"
            )
        }
        let snapshot = Snapshot(uuid: uuid, name: name, epoch: properties.epoch, createTime: time)
        append(snapshot)
        properties.epoch = properties.epoch.next
        return snapshot
    }

    /// Adds a snapshot's record to the pending commit.
    private func append(_ snapshot: Snapshot) {
        // What is dirty belongs to the epoch that ends: its versions are frozen when they are next touched, and written
        // with this commit otherwise.
        snapshots.append(snapshot)
        pending.operations.put(
            DatabaseKey.local(msid, DatabaseKey.snapshotKind, snapshot.epoch.rawValue),
            snapshot.encoded
        )
        if pending.isMirrored {
            pending.snapshots.append(ReplicaRecord(snapshot: snapshot, usedInodes: properties.usedInodes))
        }
        pending.hasProperties = true
    }
}

/// A snapshot on its way out.
struct SnapshotRemoval {
    let epoch: Epoch
    /// Epoch of the snapshot before it; `Epoch.active` when it is the oldest.
    let previous: Epoch
    /// Epoch of the snapshot after it; the greatest number when it is the newest.
    let next: Epoch
    /// Whether what follows it is the active file system that clients change.
    let isActiveNext: Bool
    /// Inodes from here on were made after the removal began: the snapshot has nothing of them, and a walk that looked at
    /// them might never catch up with a client that makes files.
    let firstNewInode: UInt64
    /// Versions that were replaced meanwhile and that nothing but this snapshot keeps.
    var replaced: [(Epoch, RecordKey)] = []

    /// Whether nothing but this snapshot keeps a version that the active file system lets go.
    func isLast(toKeep version: Epoch) -> Bool { isActiveNext && isOwn(version) }

    /// Whether a version was made in the epochs of this snapshot.
    func isOwn(_ version: Epoch) -> Bool { previous < version && version <= epoch }
}

/// Goes through a part of the index of changes, some entries at a time.
private struct ChangeCursor {
    static let entriesMax = 512

    private let after: Epoch
    private let through: Epoch
    private var resume: (Epoch, RecordKey)?

    /// Through the snapshot's own epochs.
    init(within removal: SnapshotRemoval) { (after, through) = (removal.previous, removal.epoch) }

    /// Through the epochs that follow, up to the next snapshot.
    init(after removal: SnapshotRemoval) { (after, through) = (removal.epoch, removal.next) }

    /// The next entries; none at the end.
    mutating func next(_ reader: VolumeReader) throws(StorageError) -> [(Epoch, RecordKey)] {
        var changes: [(Epoch, RecordKey)] = []
        try reader.walkChanges(after: after, through: through, resume: resume) { epoch, key in
            changes.append((epoch, key))
            return changes.count < Self.entriesMax
        }
        if let last = changes.last { resume = last }
        return changes
    }
}

extension Snapshot {
    /// The value of the snapshot's record.
    var encoded: [UInt8] {
        var writer = ByteWriter(capacity: 64)
        writer.append(uuid.high)
        writer.append(uuid.low)
        writer.append(createTime.seconds)
        writer.append(createTime.nanoseconds)
        writer.append(counted: Array(name.utf8))
        return writer.bytes
    }

    init(epoch: Epoch, decoding bytes: UnsafeRawBufferPointer) throws(ByteFormatError) {
        var reader = ByteReader(bytes)
        self.epoch = epoch
        uuid = ObjectUUID(high: try reader.read(), low: try reader.read())
        createTime = Timestamp(seconds: try reader.read(), nanoseconds: try reader.read())
        name = String(decoding: try reader.readCounted(limit: 255), as: UTF8.self)
    }
}
