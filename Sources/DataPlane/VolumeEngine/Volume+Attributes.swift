import Environment
import Identity

extension VolumeCore {
    /// The inode that a reference names in the active file system.
    func resolve(_ reference: FileReference) throws(CoreFailure) -> Record<InodeContent> {
        let record = try inode(reference.inode.rawValue)
        guard let content = record.content, content.generation == reference.generation else { throw .file(.stale) }
        return record
    }

    /// The same, for a directory.
    func resolveDirectory(_ reference: FileReference) throws(CoreFailure) -> Record<InodeContent> {
        let record = try resolve(reference)
        guard record.content!.type == .directory else { throw .file(.notDirectory) }
        return record
    }

    /// The directory in which a directory has its name: metadata without it is damaged, and the caller gets an error.
    func parent(of directory: Record<InodeContent>) throws(CoreFailure) -> Record<InodeContent> {
        let parent = try inode(directory.content!.parent)
        guard parent.content != nil else { throw .file(.inputOutput) }
        return parent
    }
}

extension Record<InodeContent> {
    /// The attributes as callers see them.
    var attributes: FileAttributes { content!.attributes(inode: key.first, epoch: .active) }

    /// The part that clients want from before an operation.
    var before: PreOperationAttributes {
        PreOperationAttributes(
            sizeBytes: attributes.sizeBytes,
            modifyTime: content!.modifyTime,
            changeTime: content!.changeTime
        )
    }
}

extension Volume {
    var now: Timestamp { Timestamp(wallClockNanoseconds: context.environment.wallClockNanoseconds()) }

    /// The directory at the root of the volume.
    package var rootReference: FileReference { .volumeRoot }

    /// Changes when unstable data may have been lost, and only then (RFC 1813, section 3.3.7).
    package var writeVerifier: UInt64 { locked { core.properties.writeVerifier } }

    /// Whether the reference leads into a snapshot (or to the list of them), which nobody can change.
    func checkWritable(_ references: FileReference...) throws(FileError) {
        for reference in references where reference.epoch != .active || reference == .snapshotDirectory {
            throw .readOnly
        }
    }

    /// GETATTR: the attributes of an object.
    package func attributes(of reference: FileReference, _ execution: Execution) throws(FileError) -> FileAttributes {
        if reference == .snapshotDirectory { return try snapshotDirectoryAttributes(execution) }
        if reference.epoch != .active {
            return try snapshotView(reference.epoch, execution).inode(reference)
                .attributes(inode: reference.inode.rawValue, epoch: reference.epoch)
        }
        return try transact(execution) { (core) throws(CoreFailure) in try core.resolve(reference).attributes }
    }

    /// ACCESS: which of the rights the caller has.
    package func access(
        _ rights: AccessRights,
        to reference: FileReference,
        as credentials: Credentials,
        _ execution: Execution
    ) throws(FileError) -> (rights: AccessRights, attributes: FileAttributes) {
        if reference == .snapshotDirectory {
            return (rights.intersection([.read, .lookup]), try snapshotDirectoryAttributes(execution))
        }
        if reference.epoch != .active {
            let inode = try snapshotView(reference.epoch, execution).inode(reference)
            let granted = Permissions.rights(rights, on: inode, of: credentials).subtracting([
                .modify, .extend, .delete,
            ])
            return (granted, inode.attributes(inode: reference.inode.rawValue, epoch: reference.epoch))
        }
        return try transact(execution) { (core) throws(CoreFailure) in
            let record = try core.resolve(reference)
            return (Permissions.rights(rights, on: record.content!, of: credentials), record.attributes)
        }
    }

    /// READLINK: the target of a symbolic link.
    package func readLink(
        _ reference: FileReference,
        as credentials: Credentials,
        _ execution: Execution
    ) throws(FileError) -> (target: [UInt8], attributes: FileAttributes) {
        if reference == .snapshotDirectory { throw .invalid }
        if reference.epoch != .active {
            let view = try snapshotView(reference.epoch, execution)
            let inode = try view.inode(reference)
            guard inode.type == .symbolicLink else { throw .invalid }
            let attributes = inode.attributes(inode: reference.inode.rawValue, epoch: reference.epoch)
            return (try view.link(reference.inode.rawValue).target, attributes)
        }
        return try transact(execution) { (core) throws(CoreFailure) in
            let record = try core.resolve(reference)
            guard record.content!.type == .symbolicLink else { throw .file(.invalid) }
            guard let link = try core.link(reference.inode.rawValue).content else { throw .file(.inputOutput) }
            return (link.target, record.attributes)
        }
    }

    /// SETATTR: changes attributes; `guardChangeTime` must equal the present change time, if given.
    package func setAttributes(
        _ changes: AttributeChanges,
        of reference: FileReference,
        guardChangeTime: Timestamp?,
        as credentials: Credentials,
        _ execution: Execution,
        answer: ChangeAnswer = { _, _ in }
    ) throws(FileError) -> (WeakCacheConsistency, CommitTicket) {
        try checkWritable(reference)
        if changes.sizeBytes != nil {
            return try setSize(
                changes,
                of: reference,
                guardChangeTime: guardChangeTime,
                as: credentials,
                execution,
                answer
            )
        }
        let now = now
        return try transact(execution) { (core) throws(CoreFailure) in
            let record = try core.resolve(reference)
            try Self.checkGuard(guardChangeTime, record)
            try Self.checkChanges(changes, of: record.content!, by: credentials)
            let before = record.before
            core.touch(record)
            Self.apply(changes, to: &record.content!, by: credentials, now: now)
            record.content!.change = core.nextChange()
            let consistency = WeakCacheConsistency(before: before, after: record.attributes)
            answer(consistency, ReplyKeeper(core))
            return (consistency, CommitTicket(rawValue: core.pending.number))
        }
    }

    static func checkGuard(_ time: Timestamp?, _ record: Record<InodeContent>) throws(CoreFailure) {
        if let time, time != record.content!.changeTime { throw .file(.notSynchronized) }
    }

    /// Who may change what: the owner the mode, times and (to a group of his own) the group; only the superuser the owner.
    static func checkChanges(
        _ changes: AttributeChanges,
        of inode: InodeContent,
        by credentials: Credentials
    ) throws(CoreFailure) {
        guard credentials.user != 0 else { return }
        let isOwner = credentials.user == inode.owner
        if changes.mode != nil && !isOwner { throw .file(.notOwner) }
        if let owner = changes.owner, owner != inode.owner || !isOwner { throw .file(.notOwner) }
        if let group = changes.group {
            guard isOwner, group == inode.group || credentials.isMember(of: group) else { throw .file(.notOwner) }
        }
        if changes.sizeBytes != nil { try Permissions.checkData(Permissions.write, on: inode, by: credentials) }
        for time in [changes.accessTime, changes.modifyTime] {
            switch time {
            case .unchanged: break
            case .serverTime where isOwner: break
            case .serverTime: try Permissions.check(Permissions.write, on: inode, by: credentials)
            case .clientTime: if !isOwner { throw .file(.notOwner) }
            }
        }
    }

    static func apply(
        _ changes: AttributeChanges,
        to inode: inout InodeContent,
        by credentials: Credentials,
        now: Timestamp
    ) {
        if let mode = changes.mode {
            inode.mode = mode & 0o7777
            // A set-group-id bit is only for members of the group.
            if credentials.user != 0 && inode.type != .directory
                && !credentials.isMember(of: changes.group ?? inode.group)
            {
                inode.mode &= ~0o2000
            }
        }
        if let owner = changes.owner { inode.owner = owner }
        if let group = changes.group { inode.group = group }
        if changes.owner != nil || changes.group != nil, changes.mode == nil, credentials.user != 0 {
            inode.mode &= ~0o6000
        }
        inode.accessTime = resolve(changes.accessTime, inode.accessTime, now)
        inode.modifyTime = resolve(changes.modifyTime, inode.modifyTime, now)
        inode.changeTime = now
    }

    private static func resolve(_ setting: TimeSetting, _ present: Timestamp, _ now: Timestamp) -> Timestamp {
        switch setting {
        case .unchanged: present
        case .serverTime: now
        case .clientTime(let time): time
        }
    }

    /// FSSTAT: the space of the volume.
    package func space() -> VolumeSpace {
        let (size, used, inodes) = locked { (core.properties.sizeBytes, core.usedBytes, core.properties.usedInodes) }
        return VolumeSpace(
            sizeBytes: size,
            usedBytes: used,
            availableBytes: min(size > used ? size - used : 0, context.availableBytes),
            usedInodes: inodes,
            inodesMax: VolumeLimits.inodesMax
        )
    }
}
