import Bytes
import Identity
import RocksStore

/// The volume as one snapshot holds it: read from the database, which has all of it since the snapshot is durable.
struct SnapshotView {
    let reader: VolumeReader
    let epoch: Epoch
    /// Whether nothing of the snapshot is gone.
    let isWhole: () -> Bool
    let report: (StorageError) -> Void

    func inode(_ reference: FileReference) throws(FileError) -> InodeContent {
        guard let content = try content(RecordKey(.inode, reference.inode.rawValue), InodeContent.self),
            content.generation == reference.generation
        else { throw .stale }
        return content
    }

    func inode(number: UInt64) throws(FileError) -> InodeContent {
        guard let content = try content(RecordKey(.inode, number), InodeContent.self) else { throw .stale }
        return content
    }

    func chunk(_ inode: UInt64, _ index: UInt64) throws(FileError) -> ChunkContent? {
        try content(RecordKey(.chunk, inode, index), ChunkContent.self)
    }

    func link(_ inode: UInt64) throws(FileError) -> LinkContent {
        guard let content = try content(RecordKey(.link, inode), LinkContent.self) else { throw .inputOutput }
        return content
    }

    func entry(
        _ name: UnsafeRawBufferPointer,
        in directory: UInt64,
        _ inode: InodeContent,
        _ properties: VolumeProperties
    ) throws(FileError) -> EntryContent {
        let base = properties.cookie(of: name)
        let ties = inode.collisionCount == 0 ? 1 : VolumeProperties.tiesMax
        for tie in 0..<ties {
            guard let content = try content(RecordKey(.entry, directory, base + tie), EntryContent.self) else {
                continue
            }
            if content.name.withUnsafeBytes({ $0.elementsEqual(name) }) { return content }
        }
        throw .noEntry
    }

    private func content<Content: RecordContent>(_ key: RecordKey, _ type: Content.Type) throws(FileError) -> Content? {
        let content: Content?
        do { content = try reader.content(key, type, at: epoch) } catch {
            report(error)
            throw .inputOutput
        }
        // Asked after the read: where a deletion has taken a version away, an older one would be found in its place.
        guard isWhole() else { throw .stale }
        return content
    }
}

extension Volume {
    /// The volume as the snapshot of an epoch holds it.
    func view(of epoch: Epoch) -> SnapshotView {
        SnapshotView(
            reader: reader,
            epoch: epoch,
            isWhole: { [self] in locked { core.visibleSnapshots.contains { $0.epoch == epoch } } },
            report: { [self] in report($0) }
        )
    }

    func snapshotView(_ epoch: Epoch, _ execution: Execution) throws(FileError) -> SnapshotView {
        guard execution == .blocking else { throw .wouldBlock }
        let view = view(of: epoch)
        guard view.isWhole() else { throw .stale }
        return view
    }

    /// The attributes of `.snapshot`: a read-only directory that changes when a snapshot comes or goes.
    func snapshotDirectoryAttributes(_ execution: Execution) throws(FileError) -> FileAttributes {
        var root = try attributes(of: rootReference, execution)
        let (count, newest) = locked { (core.visibleSnapshots.count, core.visibleSnapshots.last) }
        let time = newest?.createTime ?? root.changeTime
        root.mode = 0o555
        root.linkCount = UInt32(2 + count)
        root.reference = .snapshotDirectory
        root.change = UInt64(newest?.epoch.rawValue ?? 0) << 16 | UInt64(count)
        (root.accessTime, root.modifyTime, root.changeTime) = (time, time, time)
        root.parent = .root
        return root
    }

    func lookupSnapshot(
        _ name: UnsafeRawBufferPointer,
        _ execution: Execution
    ) throws(FileError) -> (object: FileAttributes, directory: FileAttributes) {
        let directory = try snapshotDirectoryAttributes(execution)
        if name.elementsEqual([46]) { return (directory, directory) }
        if name.elementsEqual([46, 46]) { return (try attributes(of: rootReference, execution), directory) }
        guard let snapshot = snapshots().first(where: { $0.name.utf8.elementsEqual(name) }) else { throw .noEntry }
        let root = FileReference(inode: .root, generation: rootReference.generation, epoch: snapshot.epoch)
        return (try attributes(of: root, execution), directory)
    }

    func lookupInSnapshot(
        _ name: UnsafeRawBufferPointer,
        _ directory: FileReference,
        _ credentials: Credentials,
        _ execution: Execution
    ) throws(FileError) -> (object: FileAttributes, directory: FileAttributes) {
        let view = try snapshotView(directory.epoch, execution)
        let inode = try view.inode(directory)
        guard inode.type == .directory else { throw .notDirectory }
        guard Permissions.allow(Permissions.execute, on: inode, to: credentials) else { throw .accessDenied }
        let attributes = inode.attributes(inode: directory.inode.rawValue, epoch: directory.epoch)
        if name.elementsEqual([46]) { return (attributes, attributes) }
        if name.elementsEqual([46, 46]) {
            if directory.inode == .root { return (try snapshotDirectoryAttributes(execution), attributes) }
            let parent = try view.inode(number: inode.parent)
            return (parent.attributes(inode: inode.parent, epoch: directory.epoch), attributes)
        }
        let properties = locked { core.properties }
        let entry = try view.entry(name, in: directory.inode.rawValue, inode, properties)
        let object = try view.inode(number: entry.inode)
        return (object.attributes(inode: entry.inode, epoch: directory.epoch), attributes)
    }

    func listSnapshots(
        after cookie: UInt64,
        _ entriesMax: Int,
        _ execution: Execution
    ) throws(FileError) -> DirectoryListing {
        let directory = try snapshotDirectoryAttributes(execution)
        let root = try attributes(of: rootReference, execution)
        var listing = DirectoryListing(
            entries: Self.dots(after: cookie, directory, root),
            isEnd: true,
            directory: directory
        )
        for snapshot in snapshots() {
            // The cookie is the snapshot's epoch, above those of the dots.
            let place = UInt64(snapshot.epoch.rawValue) + 2
            guard place > cookie else { continue }
            let reference = FileReference(inode: .root, generation: rootReference.generation, epoch: snapshot.epoch)
            listing.entries.append(
                DirectoryListingEntry(
                    cookie: place,
                    name: Array(snapshot.name.utf8),
                    reference: reference,
                    attributes: try? attributes(of: reference, execution)
                )
            )
        }
        if listing.entries.count > entriesMax {
            listing.entries.removeLast(listing.entries.count - entriesMax)
            listing.isEnd = false
        }
        return listing
    }

    func listInSnapshot(
        _ reference: FileReference,
        _ cookie: UInt64,
        _ entriesMax: Int,
        _ withAttributes: Bool,
        _ credentials: Credentials,
        _ execution: Execution
    ) throws(FileError) -> DirectoryListing {
        let view = try snapshotView(reference.epoch, execution)
        let inode = try view.inode(reference)
        guard inode.type == .directory else { throw .notDirectory }
        guard Permissions.allow(Permissions.read, on: inode, to: credentials) else { throw .accessDenied }
        let directory = inode.attributes(inode: reference.inode.rawValue, epoch: reference.epoch)
        var listing = DirectoryListing(entries: [], isEnd: true, directory: directory)
        if cookie < 2 {
            let parent =
                reference.inode == .root
                ? try snapshotDirectoryAttributes(execution)
                : try view.inode(number: inode.parent).attributes(inode: inode.parent, epoch: reference.epoch)
            listing.entries = Self.dots(after: cookie, directory, parent)
        }
        do throws(StorageError) {
            let start = RecordKey(.entry, reference.inode.rawValue, max(cookie, 2) + 1)
            try reader.walk(at: reference.epoch, from: start, through: .entry) { (key, _, value) throws(StorageError) in
                guard key.first == reference.inode.rawValue else { return false }
                guard listing.entries.count < entriesMax else {
                    listing.isEnd = false
                    return false
                }
                guard let content = try? EntryContent.decode(value) else { throw reader.damaged(key, "not a name") }
                listing.entries.append(Self.entry(key.second, content, reference.epoch))
                return true
            }
        } catch {
            report(error)
            throw .inputOutput
        }
        guard view.isWhole() else { throw .stale }
        if withAttributes {
            for index in listing.entries.indices where listing.entries[index].attributes == nil {
                listing.entries[index].attributes = try attributes(of: listing.entries[index].reference, execution)
            }
        }
        return listing
    }
}
