import Bytes
import Identity

/// A look-up's result: the entry, or the free place for one.
struct EntryPlace {
    /// The record of the name, or of the place where it would go.
    var record: Record<EntryContent>
    /// Whether the name exists.
    var isFound: Bool
    /// Whether the place is not the first for its hash.
    var isCollision: Bool
}

extension VolumeCore {
    /// Finds a name in a directory, or the place for it.
    func place(_ name: UnsafeRawBufferPointer, in directory: Record<InodeContent>) throws(CoreFailure) -> EntryPlace {
        let base = properties.cookie(of: name)
        let first = try entry(directory.key.first, base)
        if matches(first, name) { return EntryPlace(record: first, isFound: true, isCollision: false) }
        if first.content == nil && directory.content!.collisionCount == 0 {
            return EntryPlace(record: first, isFound: false, isCollision: false)
        }
        var free = first.content == nil ? first : nil
        for tie in 1..<VolumeProperties.tiesMax {
            // Without collisions in the directory the further places are free, and only the first of them is wanted.
            if directory.content!.collisionCount == 0 && free != nil { break }
            let record = try entry(directory.key.first, base + tie)
            if matches(record, name) { return EntryPlace(record: record, isFound: true, isCollision: true) }
            if record.content == nil && free == nil { free = record }
        }
        // Sixteen names of one 58-bit hash do not happen by chance, and the seed is not known to clients.
        guard let free else { throw .file(.noSpace) }
        return EntryPlace(record: free, isFound: false, isCollision: free.key.second != base)
    }

    private func matches(_ record: Record<EntryContent>, _ name: UnsafeRawBufferPointer) -> Bool {
        guard let content = record.content, content.name.count == name.count else { return false }
        return content.name.withUnsafeBytes { $0.elementsEqual(name) }
    }

    /// Puts a name into its place.
    func add(
        _ name: UnsafeRawBufferPointer,
        at place: EntryPlace,
        to directory: Record<InodeContent>,
        object: Record<InodeContent>
    ) {
        touch(place.record)
        place.record.content = EntryContent(
            inode: object.key.first,
            generation: object.content!.generation,
            type: object.content!.type,
            name: [UInt8](name)
        )
        directory.content!.entryCount += 1
        if place.isCollision { directory.content!.collisionCount += 1 }
    }

    /// Takes a name away.
    func removeEntry(_ place: EntryPlace, from directory: Record<InodeContent>) {
        touch(place.record)
        place.record.content = nil
        directory.content!.entryCount -= 1
        if place.isCollision { directory.content!.collisionCount -= 1 }
    }

    /// Notes that a directory's entries changed.
    func stamp(_ directory: Record<InodeContent>, _ now: Timestamp, _ change: UInt64) {
        directory.content!.modifyTime = now
        directory.content!.changeTime = now
        directory.content!.change = change
    }

    /// Takes one name off an inode; without names it goes, with its blocks.
    ///
    /// The chunks of a small file are in `smallChunks`; a large one becomes an orphan for the reclaimer.
    func dropLink(
        _ object: Record<InodeContent>,
        smallChunks: [Record<ChunkContent>]?,
        _ now: Timestamp,
        _ change: UInt64
    ) {
        touch(object)
        object.content!.linkCount -= 1
        object.content!.changeTime = now
        object.content!.change = change
        guard object.content!.linkCount == 0 else { return }
        let number = object.key.first
        if let smallChunks {
            for chunk in smallChunks where chunk.content != nil {
                touch(chunk)
                releaseOwned(chunk.content!)
                chunk.content = nil
            }
        } else {
            let orphan = Record<OrphanContent>(
                key: RecordKey(.orphan, number),
                epoch: .active,
                hasOlderVersion: false,
                isStored: false,
                content: nil
            )
            orphans.insert(orphan)
            touch(orphan)
            orphan.content = OrphanContent(sizeBytes: object.content!.sizeBytes)
            newOrphans.append(number)
        }
        object.content = nil
        properties.usedInodes -= 1
    }

    /// What `dropLink` will need, brought into memory before anything changes.
    func prepareDrop(_ object: Record<InodeContent>) throws(CoreFailure) -> [Record<ChunkContent>]? {
        let inode = object.content!
        if inode.type == .symbolicLink && inode.linkCount == 1 { _ = try link(object.key.first) }
        guard inode.type == .regular, inode.linkCount == 1 else { return [] }
        let count = (inode.sizeBytes + UInt64(VolumeLimits.chunkSizeBytes) - 1) / UInt64(VolumeLimits.chunkSizeBytes)
        guard count <= Self.inlineChunksMax else { return nil }
        var found: [Record<ChunkContent>] = []
        for index in 0..<count {
            found.append(try chunk(object.key.first, index, fileSizeBytes: inode.sizeBytes))
        }
        return found
    }

    /// Chunks that are given back within the transaction that removes a file; a larger file is left to the reclaimer.
    static let inlineChunksMax: UInt64 = 16

    /// Takes the symbolic link's target away with its inode.
    func dropTarget(of object: Record<InodeContent>) {
        guard object.content == nil, let link = links.find(RecordKey(.link, object.key.first)), link.content != nil
        else {
            return
        }
        touch(link)
        link.content = nil
    }
}

extension Volume {
    /// A name that may be looked up or made: 1 to 255 bytes, without `/` and NUL.
    static func checkName(_ name: UnsafeRawBufferPointer) throws(FileError) {
        guard !name.isEmpty else { throw .invalid }
        guard name.count <= VolumeLimits.nameBytesMax else { throw .nameTooLong }
        guard !name.contains(0), !name.contains(UInt8(ascii: "/")) else { throw .invalid }
    }

    /// A name that may be made or removed: also neither `.` nor `..`.
    static func checkNewName(_ name: UnsafeRawBufferPointer) throws(FileError) {
        try checkName(name)
        if name.elementsEqual([46]) || name.elementsEqual([46, 46]) { throw .exists }
    }

    static func isSnapshotName(_ name: UnsafeRawBufferPointer) -> Bool { name.elementsEqual(".snapshot".utf8) }

    /// LOOKUP: a name in a directory. `..` of the root is the root; joining volumes is the caller's.
    package func lookup(
        _ name: UnsafeRawBufferPointer,
        in directory: FileReference,
        as credentials: Credentials,
        _ execution: Execution
    ) throws(FileError) -> (object: FileAttributes, directory: FileAttributes) {
        try Self.checkName(name)
        if directory == .snapshotDirectory { return try lookupSnapshot(name, execution) }
        if directory.epoch != .active { return try lookupInSnapshot(name, directory, credentials, execution) }
        if Self.isSnapshotName(name) && directory.inode == .root {
            let attributes = try attributes(of: directory, execution)
            return (try snapshotDirectoryAttributes(execution), attributes)
        }
        return try transact(execution) { (core) throws(CoreFailure) in
            let record = try core.resolveDirectory(directory)
            try Permissions.check(Permissions.execute, on: record.content!, by: credentials)
            if name.elementsEqual([46]) { return (record.attributes, record.attributes) }
            if name.elementsEqual([46, 46]) {
                return (try core.parent(of: record).attributes, record.attributes)
            }
            let place = try core.place(name, in: record)
            guard place.isFound else { throw .file(.noEntry) }
            let object = try core.inode(place.record.content!.inode)
            guard object.content != nil else { throw .file(.inputOutput) }
            return (object.attributes, record.attributes)
        }
    }

    /// REMOVE: takes a name off a file.
    package func remove(
        _ name: UnsafeRawBufferPointer,
        from directory: FileReference,
        as credentials: Credentials,
        _ execution: Execution,
        answer: ChangeAnswer = { _, _ in }
    ) throws(FileError) -> (WeakCacheConsistency, CommitTicket) {
        try removeEntry(name, directory, credentials, execution, isDirectory: false, answer)
    }

    /// RMDIR: removes an empty directory.
    package func removeDirectory(
        _ name: UnsafeRawBufferPointer,
        from directory: FileReference,
        as credentials: Credentials,
        _ execution: Execution,
        answer: ChangeAnswer = { _, _ in }
    ) throws(FileError) -> (WeakCacheConsistency, CommitTicket) {
        if name.elementsEqual([46]) { throw .invalid }
        if name.elementsEqual([46, 46]) { throw .notEmpty }
        return try removeEntry(name, directory, credentials, execution, isDirectory: true, answer)
    }

    private func removeEntry(
        _ name: UnsafeRawBufferPointer,
        _ directory: FileReference,
        _ credentials: Credentials,
        _ execution: Execution,
        isDirectory: Bool,
        _ answer: ChangeAnswer
    ) throws(FileError) -> (WeakCacheConsistency, CommitTicket) {
        try checkWritable(directory)
        try Self.checkNewName(name)
        let now = now
        return try transact(execution) { (core) throws(CoreFailure) in
            let parent = try core.resolveDirectory(directory)
            try Permissions.check(Permissions.write | Permissions.execute, on: parent.content!, by: credentials)
            let place = try core.place(name, in: parent)
            guard place.isFound else { throw .file(.noEntry) }
            let object = try core.inode(place.record.content!.inode)
            guard let inode = object.content else { throw .file(.inputOutput) }
            try Permissions.checkSticky(directory: parent.content!, object: inode, by: credentials)
            if isDirectory {
                guard inode.type == .directory else { throw .file(.notDirectory) }
                guard inode.entryCount == 0 else { throw .file(.notEmpty) }
            } else if inode.type == .directory {
                throw .file(.isDirectory)
            }
            let chunks = try core.prepareDrop(object)

            let before = parent.before
            let change = core.nextChange()
            core.touch(parent)
            core.removeEntry(place, from: parent)
            core.stamp(parent, now, change)
            if isDirectory {
                core.touch(object)
                object.content!.linkCount = 1
                parent.content!.linkCount -= 1
            }
            core.dropLink(object, smallChunks: chunks, now, change)
            core.dropTarget(of: object)
            let consistency = WeakCacheConsistency(before: before, after: parent.attributes)
            answer(consistency, ReplyKeeper(core))
            return (consistency, CommitTicket(rawValue: core.pending.number))
        }
    }

    /// LINK: a further name for a file.
    package func link(
        _ reference: FileReference,
        to name: UnsafeRawBufferPointer,
        in directory: FileReference,
        as credentials: Credentials,
        _ execution: Execution,
        answer: LinkAnswer = { _, _, _ in }
    ) throws(FileError) -> (object: FileAttributes, directory: WeakCacheConsistency, ticket: CommitTicket) {
        try checkWritable(reference, directory)
        try Self.checkNewName(name)
        let now = now
        return try transact(execution) { (core) throws(CoreFailure) in
            let object = try core.resolve(reference)
            let parent = try core.resolveDirectory(directory)
            guard object.content!.type != .directory else { throw .file(.isDirectory) }
            guard object.content!.linkCount < VolumeLimits.linkCountMax else { throw .file(.tooManyLinks) }
            try Permissions.check(Permissions.write | Permissions.execute, on: parent.content!, by: credentials)
            let place = try core.place(name, in: parent)
            guard !place.isFound, !(Self.isSnapshotName(name) && directory.inode == .root) else { throw .file(.exists) }

            let before = parent.before
            let change = core.nextChange()
            core.touch(parent)
            core.touch(object)
            core.add(name, at: place, to: parent, object: object)
            core.stamp(parent, now, change)
            object.content!.linkCount += 1
            object.content!.changeTime = now
            object.content!.change = change
            let consistency = WeakCacheConsistency(before: before, after: parent.attributes)
            let attributes = object.attributes
            answer(attributes, consistency, ReplyKeeper(core))
            return (attributes, consistency, CommitTicket(rawValue: core.pending.number))
        }
    }
}
