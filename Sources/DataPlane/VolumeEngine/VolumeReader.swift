import Bytes
import Environment
import Identity
import RocksStore
import SegmentStore

/// Reads versions of records from the metadata database: the only place that knows how they are found.
struct VolumeReader {
    let database: RocksDatabase
    let msid: VolumeMSID

    /// The newest version at or below `epoch`; nil bytes for a tombstone. nil when there is none.
    ///
    /// - Returns: nil also when `cachedOnly` and the disk is needed, with `needsDisk` set.
    func version(
        _ key: RecordKey,
        atOrBelow epoch: Epoch,
        cachedOnly: Bool,
        needsDisk: inout Bool,
        _ body: (_ epoch: Epoch, _ value: UnsafeRawBufferPointer, _ hasOlder: Bool) throws(ByteFormatError) -> Void
    ) throws(StorageError) {
        let iterator = database.iterator(cachedOnly ? .prefixInMemory : .prefix)
        iterator.seek(DatabaseKey.version(msid, key, epoch))
        guard try check(iterator, cachedOnly) else {
            needsDisk = true
            return
        }
        guard iterator.isValid, let found = DatabaseKey.parseVersion(iterator.key), found.key == key else { return }
        let value = [UInt8](iterator.value)
        iterator.next()
        guard try check(iterator, cachedOnly) else {
            needsDisk = true
            return
        }
        let hasOlder = iterator.isValid && DatabaseKey.parseVersion(iterator.key)?.key == key
        let outcome = value.withUnsafeBytes { bytes in
            Result { () throws(ByteFormatError) in try body(found.epoch, bytes, hasOlder) }
        }
        do { try outcome.get() } catch { throw damaged(key, "\(error)") }
    }

    /// Reads a record of the active file system; nil when the disk is needed and may not be touched.
    func load(_ key: RecordKey, cachedOnly: Bool) throws(StorageError) -> LoadedRecord? {
        switch key.kind {
        case .inode: return try load(key, InodeContent.self, cachedOnly).map { .inode($0) }
        case .entry: return try load(key, EntryContent.self, cachedOnly).map { .entry($0) }
        case .link: return try load(key, LinkContent.self, cachedOnly).map { .link($0) }
        case .chunk: return try load(key, ChunkContent.self, cachedOnly).map { .chunk($0) }
        case .orphan: return try load(key, OrphanContent.self, cachedOnly).map { .orphan($0) }
        }
    }

    private func load<Content: RecordContent>(
        _ key: RecordKey,
        _ type: Content.Type,
        _ cachedOnly: Bool
    ) throws(StorageError) -> Record<Content>? {
        let record = Record<Content>(key: key, epoch: .active, hasOlderVersion: false, isStored: false, content: nil)
        var needsDisk = false
        try version(key, atOrBelow: Epoch(rawValue: .max), cachedOnly: cachedOnly, needsDisk: &needsDisk) {
            (epoch, value, hasOlder) throws(ByteFormatError) in
            record.epoch = epoch
            record.hasOlderVersion = hasOlder
            record.isStored = true
            record.content = value.isEmpty ? nil : try Content.decode(value)
        }
        return needsDisk ? nil : record
    }

    /// The content of a record as a snapshot sees it.
    func content<Content: RecordContent>(
        _ key: RecordKey,
        _ type: Content.Type,
        at epoch: Epoch
    ) throws(StorageError) -> Content? {
        var content: Content?
        var needsDisk = false
        try version(key, atOrBelow: epoch, cachedOnly: false, needsDisk: &needsDisk) {
            (_, value, _) throws(ByteFormatError) in
            content = value.isEmpty ? nil : try Content.decode(value)
        }
        return content
    }

    func check(_ iterator: borrowing RocksIterator, _ cachedOnly: Bool) throws(StorageError) -> Bool {
        do { return try iterator.check(cachedOnly: cachedOnly) } catch { throw .metadata(error) }
    }

    func damaged(_ key: RecordKey, _ what: String) -> StorageError {
        StorageError(
            .damaged,
            "the record \(key.kind) \(key.first)/\(key.second) of volume \(msid) is damaged: \(what)",
            remedy: "restore the volume from a replica or a snapshot"
        )
    }

    /// Shows each record's version that `epoch` sees, in key order, from the first key that is not below `start`, without
    /// tombstones. `body` returns false to stop.
    func walk(
        at epoch: Epoch,
        from start: RecordKey,
        through kind: RecordKind,
        _ body: (RecordKey, Epoch, UnsafeRawBufferPointer) throws(StorageError) -> Bool
    ) throws(StorageError) {
        let iterator = database.iterator(.ordered)
        iterator.seek(DatabaseKey.version(msid, start, Epoch(rawValue: .max)))
        var seen: RecordKey?
        while try isOnVolume(iterator) {
            guard let found = DatabaseKey.parseVersion(iterator.key), found.key.kind.rawValue <= kind.rawValue else {
                break
            }
            if found.key != seen && found.epoch <= epoch {
                seen = found.key
                if !iterator.value.isEmpty {
                    guard try body(found.key, found.epoch, iterator.value) else { return }
                }
            }
            iterator.next()
        }
    }

    /// Shows each key that changed in `epochs`, in the order of epoch and key, from after `resume`.
    func walkChanges(
        after first: Epoch,
        through last: Epoch,
        resume: (Epoch, RecordKey)?,
        _ body: (Epoch, RecordKey) throws(StorageError) -> Bool
    ) throws(StorageError) {
        let iterator = database.iterator(.ordered)
        if let resume {
            iterator.seek(DatabaseKey.changed(msid, resume.0, resume.1) + [0])
        } else {
            iterator.seek(DatabaseKey.changed(msid, first.next, nil))
        }
        while try isOnVolume(iterator) {
            guard let change = DatabaseKey.parseChanged(iterator.key), change.epoch <= last else { break }
            guard try body(change.epoch, change.key) else { return }
            iterator.next()
        }
    }

    private func isOnVolume(_ iterator: borrowing RocksIterator) throws(StorageError) -> Bool {
        _ = try check(iterator, false)
        return iterator.isValid && iterator.key.count > 8 && DatabaseKey.bigEndian(iterator.key, 0) == msid.rawValue
    }
}

extension StorageError {
    /// The metadata database failed.
    static func metadata(_ error: RocksError) -> StorageError {
        StorageError(
            .damaged,
            "the metadata database failed: \(error)",
            remedy: "look at the disk; restore the aggregate from a replica if it is damaged"
        )
    }
}
