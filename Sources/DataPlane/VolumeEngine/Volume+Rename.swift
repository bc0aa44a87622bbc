import Identity

extension Volume {
    /// RENAME: moves a name within the volume; an existing target goes, if it may.
    package func rename(
        _ name: UnsafeRawBufferPointer,
        from directory: FileReference,
        to newName: UnsafeRawBufferPointer,
        in newDirectory: FileReference,
        as credentials: Credentials,
        _ execution: Execution,
        answer: RenameAnswer = { _, _, _ in }
    ) throws(FileError) -> (from: WeakCacheConsistency, to: WeakCacheConsistency, ticket: CommitTicket) {
        try checkWritable(directory, newDirectory)
        for name in [name, newName] {
            try Self.checkName(name)
            if name.elementsEqual([46]) || name.elementsEqual([46, 46]) { throw .invalid }
        }
        if Self.isSnapshotName(newName) && newDirectory.inode == .root { throw .exists }
        let now = now
        return try transact(execution) { (core) throws(CoreFailure) in
            let rename = try Renaming(core, name, directory, newName, newDirectory, credentials)
            let outcome = rename.perform(core, newName, now)
            // Two names of one file stay as they are, and do so again.
            answer(outcome.from, outcome.to, outcome.ticket == .durable ? .withoutEffect : ReplyKeeper(core))
            return outcome
        }
    }
}

/// A rename whose records are all in memory and whose rules have been checked.
private struct Renaming {
    let from: Record<InodeContent>
    let to: Record<InodeContent>
    let source: EntryPlace
    let target: EntryPlace
    let object: Record<InodeContent>
    /// What has the new name until now.
    let replaced: Record<InodeContent>?
    let replacedChunks: [Record<ChunkContent>]?

    init(
        _ core: VolumeCore,
        _ name: UnsafeRawBufferPointer,
        _ directory: FileReference,
        _ newName: UnsafeRawBufferPointer,
        _ newDirectory: FileReference,
        _ credentials: Credentials
    ) throws(CoreFailure) {
        from = try core.resolveDirectory(directory)
        to = try core.resolveDirectory(newDirectory)
        for parent in [from, to] {
            try Permissions.check(Permissions.write | Permissions.execute, on: parent.content!, by: credentials)
        }
        source = try core.place(name, in: from)
        guard source.isFound else { throw .file(.noEntry) }
        object = try core.inode(source.record.content!.inode)
        guard let moved = object.content else { throw .file(.inputOutput) }
        try Permissions.checkSticky(directory: from.content!, object: moved, by: credentials)
        target = try core.place(newName, in: to)
        if moved.type == .directory && from !== to {
            try Self.checkNoLoop(core, moving: object.key.first, into: to)
            // The directory's own `..` changes, which needs the right to write it.
            try Permissions.check(Permissions.write, on: moved, by: credentials)
        }
        guard target.isFound else {
            replaced = nil
            replacedChunks = []
            return
        }
        let victim = try core.inode(target.record.content!.inode)
        guard let old = victim.content else { throw .file(.inputOutput) }
        replaced = victim
        if victim === object {
            replacedChunks = []
            return
        }
        try Permissions.checkSticky(directory: to.content!, object: old, by: credentials)
        if old.type == .directory {
            guard moved.type == .directory else { throw .file(.isDirectory) }
            guard old.entryCount == 0 else { throw .file(.notEmpty) }
        } else if moved.type == .directory {
            throw .file(.notDirectory)
        }
        replacedChunks = try core.prepareDrop(victim)
    }

    /// A directory must not move below itself.
    private static func checkNoLoop(
        _ core: VolumeCore,
        moving moved: UInt64,
        into directory: Record<InodeContent>
    ) throws(CoreFailure) {
        var number = directory.key.first
        while number != InodeNumber.root.rawValue {
            guard number != moved else { throw .file(.invalid) }
            guard let ancestor = try core.inode(number).content else { throw .file(.stale) }
            number = ancestor.parent
        }
        guard moved != InodeNumber.root.rawValue else { throw .file(.invalid) }
    }

    func perform(
        _ core: VolumeCore,
        _ newName: UnsafeRawBufferPointer,
        _ now: Timestamp
    ) -> (from: WeakCacheConsistency, to: WeakCacheConsistency, ticket: CommitTicket) {
        let beforeFrom = from.before
        let beforeTo = to.before
        if replaced === object {
            // Two names of one file: nothing happens (RFC 1813, section 3.3.14).
            return (
                WeakCacheConsistency(before: beforeFrom, after: from.attributes),
                WeakCacheConsistency(before: beforeTo, after: to.attributes), .durable
            )
        }
        let change = core.nextChange()
        core.touch(from)
        core.touch(to)
        core.touch(object)
        if let replaced { removeTarget(replaced, core, now, change) }
        core.removeEntry(source, from: from)
        core.add(newName, at: target, to: to, object: object)
        if object.content!.type == .directory && from !== to {
            from.content!.linkCount -= 1
            to.content!.linkCount += 1
            object.content!.parent = to.key.first
        }
        object.content!.changeTime = now
        object.content!.change = change
        core.stamp(from, now, change)
        core.stamp(to, now, change)
        return (
            WeakCacheConsistency(before: beforeFrom, after: from.attributes),
            WeakCacheConsistency(before: beforeTo, after: to.attributes),
            CommitTicket(rawValue: core.pending.number)
        )
    }

    private func removeTarget(_ replaced: Record<InodeContent>, _ core: VolumeCore, _ now: Timestamp, _ change: UInt64)
    {
        core.removeEntry(target, from: to)
        if replaced.content!.type == .directory {
            core.touch(replaced)
            replaced.content!.linkCount = 1
            to.content!.linkCount -= 1
        }
        core.dropLink(replaced, smallChunks: replacedChunks, now, change)
        core.dropTarget(of: replaced)
    }
}
