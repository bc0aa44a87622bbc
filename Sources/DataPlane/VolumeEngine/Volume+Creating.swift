import Identity

/// What a new object starts as.
private struct NewObject {
    var type: FileType
    var mode: UInt16
    var deviceMajor: UInt32 = 0
    var deviceMinor: UInt32 = 0
    var createVerifier: UInt64 = 0
    var target: [UInt8]?
}

extension Volume {
    /// CREATE: a regular file (RFC 1813, section 3.3.8).
    package func create(
        _ name: UnsafeRawBufferPointer,
        in directory: FileReference,
        mode: CreateMode,
        as credentials: Credentials,
        _ execution: Execution,
        answer: CreateAnswer = { _, _, _ in }
    ) throws(FileError) -> CreateResult {
        var object = NewObject(type: .regular, mode: 0)
        var changes = AttributeChanges()
        switch mode {
        case .unchecked(let wanted), .guarded(let wanted): changes = wanted
        case .exclusive(let verifier): object.createVerifier = verifier
        }
        object.mode = changes.mode ?? 0
        do throws(FileError) {
            return try make(name, directory, object, changes, credentials, execution, answer)
        } catch {
            guard error == .exists else { throw error }
            return try existing(name, directory, mode, credentials, execution, answer)
        }
    }

    /// What CREATE answers for a name that exists.
    private func existing(
        _ name: UnsafeRawBufferPointer,
        _ directory: FileReference,
        _ mode: CreateMode,
        _ credentials: Credentials,
        _ execution: Execution,
        _ answer: CreateAnswer
    ) throws(FileError) -> CreateResult {
        if case .guarded = mode { throw .exists }
        let found = try lookup(name, in: directory, as: credentials, execution)
        guard found.object.type == .regular else { throw .exists }
        let consistency = WeakCacheConsistency(before: Self.before(found.directory), after: found.directory)
        switch mode {
        case .guarded: throw .exists
        case .exclusive(let verifier):
            let made = try transact(execution) { (core) throws(CoreFailure) in
                try core.resolve(found.object.reference).content!.createVerifier
            }
            guard made == verifier, verifier != 0 else { throw .exists }
            // The first CREATE may still be on its way to the disk: the answer waits for everything up to now.
            answer(found.object, consistency, .withoutEffect)
            return CreateResult(object: found.object, directory: consistency, ticket: orderedTicket)
        case .unchecked(let changes):
            guard let size = changes.sizeBytes else {
                answer(found.object, consistency, .withoutEffect)
                return CreateResult(object: found.object, directory: consistency, ticket: orderedTicket)
            }
            let (cut, ticket) = try setAttributes(
                AttributeChanges(sizeBytes: size),
                of: found.object.reference,
                guardChangeTime: nil,
                as: credentials,
                execution,
                answer: { cut, keeper in answer(cut.after, consistency, keeper) }
            )
            return CreateResult(object: cut.after, directory: consistency, ticket: ticket)
        }
    }

    static func before(_ attributes: FileAttributes) -> PreOperationAttributes {
        PreOperationAttributes(
            sizeBytes: attributes.sizeBytes,
            modifyTime: attributes.modifyTime,
            changeTime: attributes.changeTime
        )
    }

    /// MKDIR: a directory.
    package func makeDirectory(
        _ name: UnsafeRawBufferPointer,
        in directory: FileReference,
        attributes: AttributeChanges,
        as credentials: Credentials,
        _ execution: Execution,
        answer: CreateAnswer = { _, _, _ in }
    ) throws(FileError) -> CreateResult {
        let object = NewObject(type: .directory, mode: attributes.mode ?? 0o755)
        return try make(name, directory, object, attributes, credentials, execution, answer)
    }

    /// SYMLINK: a symbolic link.
    package func makeSymbolicLink(
        _ name: UnsafeRawBufferPointer,
        in directory: FileReference,
        target: [UInt8],
        attributes: AttributeChanges,
        as credentials: Credentials,
        _ execution: Execution,
        answer: CreateAnswer = { _, _, _ in }
    ) throws(FileError) -> CreateResult {
        guard target.count <= VolumeLimits.linkTargetBytesMax else { throw .nameTooLong }
        guard !target.isEmpty, !target.contains(0) else { throw .invalid }
        let object = NewObject(type: .symbolicLink, mode: attributes.mode ?? 0o777, target: target)
        return try make(name, directory, object, attributes, credentials, execution, answer)
    }

    /// MKNOD: a device, socket or named pipe.
    package func makeSpecialFile(
        _ name: UnsafeRawBufferPointer,
        in directory: FileReference,
        _ kind: SpecialFile,
        attributes: AttributeChanges,
        as credentials: Credentials,
        _ execution: Execution,
        answer: CreateAnswer = { _, _, _ in }
    ) throws(FileError) -> CreateResult {
        var object = NewObject(type: .socket, mode: attributes.mode ?? 0)
        switch kind {
        case .blockDevice(let major, let minor):
            (object.type, object.deviceMajor, object.deviceMinor) = (.blockDevice, major, minor)
        case .characterDevice(let major, let minor):
            (object.type, object.deviceMajor, object.deviceMinor) = (.characterDevice, major, minor)
        case .socket: object.type = .socket
        case .namedPipe: object.type = .namedPipe
        }
        if credentials.user != 0 && (object.type == .blockDevice || object.type == .characterDevice) { throw .notOwner }
        return try make(name, directory, object, attributes, credentials, execution, answer)
    }

    private func make(
        _ name: UnsafeRawBufferPointer,
        _ directory: FileReference,
        _ object: NewObject,
        _ changes: AttributeChanges,
        _ credentials: Credentials,
        _ execution: Execution,
        _ answer: CreateAnswer
    ) throws(FileError) -> CreateResult {
        try checkWritable(directory)
        try Self.checkNewName(name)
        if let size = changes.sizeBytes, size > VolumeLimits.fileSizeBytesMax { throw .fileTooBig }
        let now = now
        return try transact(execution) { (core) throws(CoreFailure) in
            let parent = try core.resolveDirectory(directory)
            try Permissions.check(Permissions.execute, on: parent.content!, by: credentials)
            let place = try core.place(name, in: parent)
            guard !place.isFound, !(Self.isSnapshotName(name) && directory.inode == .root) else { throw .file(.exists) }
            try Permissions.check(Permissions.write, on: parent.content!, by: credentials)
            if object.type == .directory, parent.content!.linkCount >= UInt32.max - 1 { throw .file(.tooManyLinks) }
            try core.checkRoom(forBlocks: 0, inodes: 1)
            try self.checkAggregateRoom(VolumeProperties.inodeBytes)

            let before = parent.before
            let record = core.newInode(object, in: parent, changes, credentials, now)
            core.touch(parent)
            core.add(name, at: place, to: parent, object: record)
            core.stamp(parent, now, record.content!.change)
            if object.type == .directory { parent.content!.linkCount += 1 }
            let result = CreateResult(
                object: record.attributes,
                directory: WeakCacheConsistency(before: before, after: parent.attributes),
                ticket: CommitTicket(rawValue: core.pending.number)
            )
            answer(result.object, result.directory, ReplyKeeper(core))
            return result
        }
    }

    /// Refuses what the aggregate, or the file system under it, has no room for.
    func checkAggregateRoom(_ bytes: UInt64) throws(CoreFailure) {
        guard context.availableBytes >= bytes else {
            context.options.onEvent(.spaceExhausted(volume: msid))
            throw .file(.noSpace)
        }
    }
}

extension VolumeCore {
    fileprivate func newInode(
        _ object: NewObject,
        in parent: Record<InodeContent>,
        _ changes: AttributeChanges,
        _ credentials: Credentials,
        _ now: Timestamp
    ) -> Record<InodeContent> {
        let number = properties.nextInode
        properties.nextInode += 1
        properties.usedInodes += 1
        let change = nextChange()
        var content = InodeContent(
            type: object.type,
            mode: object.mode & 0o7777,
            linkCount: object.type == .directory ? 2 : 1,
            owner: credentials.user,
            group: credentials.group,
            generation: UInt32(truncatingIfNeeded: change | 1),
            change: change,
            time: now
        )
        // A set-group-id directory hands its group down (and to directories the bit).
        if parent.content!.mode & 0o2000 != 0 {
            content.group = parent.content!.group
            if object.type == .directory { content.mode |= 0o2000 }
        }
        if credentials.user == 0 {
            if let owner = changes.owner { content.owner = owner }
            if let group = changes.group { content.group = group }
        } else if let group = changes.group, credentials.isMember(of: group) {
            content.group = group
        }
        if case .clientTime(let time) = changes.accessTime { content.accessTime = time }
        if case .clientTime(let time) = changes.modifyTime { content.modifyTime = time }
        if object.type == .regular { content.sizeBytes = changes.sizeBytes ?? 0 }
        content.deviceMajor = object.deviceMajor
        content.deviceMinor = object.deviceMinor
        content.createVerifier = object.createVerifier
        if object.type == .directory { content.parent = parent.key.first }
        if let target = object.target {
            content.sizeBytes = UInt64(target.count)
            let link = Record<LinkContent>(
                key: RecordKey(.link, number),
                epoch: .active,
                hasOlderVersion: false,
                isStored: false,
                content: nil
            )
            links.insert(link)
            touch(link)
            link.content = LinkContent(target: target)
        }
        let record = Record<InodeContent>(
            key: RecordKey(.inode, number),
            epoch: .active,
            hasOlderVersion: false,
            isStored: false,
            content: nil
        )
        inodes.insert(record)
        touch(record)
        record.content = content
        return record
    }
}
