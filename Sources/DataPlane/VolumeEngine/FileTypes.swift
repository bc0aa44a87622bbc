package import Identity

/// Why an operation on a file did not happen. The names are those of RFC 1813, section 2.6, without their prefix.
package enum FileError: Error, Equatable, Sendable {
    /// The caller lacks the right that the operation needs, and only its owner may do it.
    case notOwner
    /// No such file or directory.
    case noEntry
    /// A disk or checksum error.
    case inputOutput
    /// The mode bits do not allow it.
    case accessDenied
    /// The name exists already.
    case exists
    /// A link or rename across volumes or into a snapshot.
    case crossDevice
    /// Not a directory.
    case notDirectory
    /// A directory where a file is wanted.
    case isDirectory
    /// An argument that the operation cannot have.
    case invalid
    /// Larger than a file may be.
    case fileTooBig
    /// The volume or its aggregate is full.
    case noSpace
    /// Snapshots and read-only volumes cannot be changed.
    case readOnly
    /// Too many hard links.
    case tooManyLinks
    /// A name above 255 bytes.
    case nameTooLong
    /// The directory still has entries.
    case notEmpty
    /// The object is gone, or the generation is another one.
    case stale
    /// The guard of SETATTR did not match.
    case notSynchronized
    /// The cookie verifier of a directory reading is not ours.
    case badCookie
    /// Nothing of that kind on this file type.
    case notSupported
    /// The volume is being restored, or stops: try later.
    case busy
    /// Not an error that a client sees: the records are not in memory, run again with `.blocking` off the event loop.
    case wouldBlock
}

/// Whether an operation may wait for the disk.
package enum Execution: Sendable {
    /// Only what is in memory; throws `FileError.wouldBlock` otherwise. For event loops.
    case cachedOnly
    /// May read from the disk. For worker threads.
    case blocking
}

/// What kind of object an inode is. Raw values are those of `ftype3` (RFC 1813, section 2.6).
package enum FileType: UInt8, Sendable {
    /// A regular file.
    case regular = 1
    /// A directory.
    case directory = 2
    /// A block device.
    case blockDevice = 3
    /// A character device.
    case characterDevice = 4
    /// A symbolic link.
    case symbolicLink = 5
    /// A socket.
    case socket = 6
    /// A named pipe.
    case namedPipe = 7
}

/// A point in time since 1970-01-01 00:00:00 UTC.
package struct Timestamp: Hashable, Sendable, Comparable {
    /// Whole seconds.
    package var seconds: Int64
    /// Nanoseconds within the second.
    package var nanoseconds: UInt32

    /// Makes a time out of seconds and nanoseconds.
    package init(seconds: Int64, nanoseconds: UInt32) {
        self.seconds = seconds
        self.nanoseconds = nanoseconds
    }

    /// Makes a time out of nanoseconds since 1970.
    package init(wallClockNanoseconds: Int64) {
        seconds = wallClockNanoseconds / 1_000_000_000
        nanoseconds = UInt32(wallClockNanoseconds % 1_000_000_000)
    }

    /// Orders times.
    package static func < (left: Timestamp, right: Timestamp) -> Bool {
        (left.seconds, left.nanoseconds) < (right.seconds, right.nanoseconds)
    }
}

/// Names one object of a volume, in the active file system or in a snapshot.
package struct FileReference: Hashable, Sendable {
    /// The inode.
    package var inode: InodeNumber
    /// The generation that the inode number must still have.
    package var generation: UInt32
    /// `Epoch.active`, or the epoch of the snapshot that is looked into.
    package var epoch: Epoch

    /// Makes a reference.
    package init(inode: InodeNumber, generation: UInt32, epoch: Epoch = .active) {
        self.inode = inode
        self.generation = generation
        self.epoch = epoch
    }

    /// The root directory of every volume.
    package static let volumeRoot = FileReference(inode: .root, generation: 1)

    /// The read-only directory that lists the snapshots of a volume, reached as `.snapshot` in the volume's root.
    package static let snapshotDirectory = FileReference(inode: InodeNumber(rawValue: 2), generation: 0)
}

/// The attributes of an object.
package struct FileAttributes: Equatable, Sendable {
    /// The kind of the object.
    package var type: FileType
    /// The permission bits with set-user-id, set-group-id and sticky (low 12 bits).
    package var mode: UInt16
    /// Hard links; for a directory 2 plus its subdirectories.
    package var linkCount: UInt32
    /// The owner.
    package var owner: UInt32
    /// The owner's group.
    package var group: UInt32
    /// Bytes up to the end of the file.
    package var sizeBytes: UInt64
    /// Bytes that the object occupies.
    package var usedBytes: UInt64
    /// Device numbers of a block or character device.
    package var deviceMajor: UInt32
    /// Device numbers of a block or character device.
    package var deviceMinor: UInt32
    /// The inode and generation of the object, and where it was looked up.
    package var reference: FileReference
    /// Grows with every change of data or attributes (RFC 8881, section 5.8.1.4).
    package var change: UInt64
    /// Last access.
    package var accessTime: Timestamp
    /// Last change of the data.
    package var modifyTime: Timestamp
    /// Last change of the attributes.
    package var changeTime: Timestamp
    /// The directory that holds a directory (the root is its own parent).
    package var parent: InodeNumber
}

/// What a client that writes shows itself as (AUTH_SYS, RFC 5531, appendix A), after squashing.
package struct Credentials: Equatable, Sendable {
    /// The user; 0 may do everything.
    package var user: UInt32
    /// The user's first group.
    package var group: UInt32
    /// Further groups.
    package var groups: [UInt32]

    /// Makes credentials.
    package init(user: UInt32, group: UInt32, groups: [UInt32] = []) {
        self.user = user
        self.group = group
        self.groups = groups
    }

    /// The superuser.
    package static let superuser = Credentials(user: 0, group: 0)

    /// Whether the group is one of the caller's.
    package func isMember(of wanted: UInt32) -> Bool { group == wanted || groups.contains(wanted) }
}

/// A time to set: none, the server's now, or the client's own.
package enum TimeSetting: Equatable, Sendable {
    /// Leave it.
    case unchanged
    /// The server's clock.
    case serverTime
    /// The client's value.
    case clientTime(Timestamp)
}

/// Attributes to set; nil leaves one as it is (`sattr3`).
package struct AttributeChanges: Equatable, Sendable {
    /// Permission bits.
    package var mode: UInt16?
    /// Owner.
    package var owner: UInt32?
    /// Group.
    package var group: UInt32?
    /// Size: cuts or extends with a hole.
    package var sizeBytes: UInt64?
    /// Access time.
    package var accessTime: TimeSetting
    /// Modification time.
    package var modifyTime: TimeSetting

    /// Makes changes.
    package init(
        mode: UInt16? = nil,
        owner: UInt32? = nil,
        group: UInt32? = nil,
        sizeBytes: UInt64? = nil,
        accessTime: TimeSetting = .unchanged,
        modifyTime: TimeSetting = .unchanged
    ) {
        self.mode = mode
        self.owner = owner
        self.group = group
        self.sizeBytes = sizeBytes
        self.accessTime = accessTime
        self.modifyTime = modifyTime
    }
}

/// The part of an object's attributes that a client needs from before an operation (`wcc_attr`).
package struct PreOperationAttributes: Equatable, Sendable {
    /// Bytes up to the end of the file.
    package var sizeBytes: UInt64
    /// Last change of the data.
    package var modifyTime: Timestamp
    /// Last change of the attributes.
    package var changeTime: Timestamp
}

/// Attributes of one object around an operation (`wcc_data`).
package struct WeakCacheConsistency: Equatable, Sendable {
    /// Before.
    package var before: PreOperationAttributes
    /// After.
    package var after: FileAttributes
}

/// The place of a change in the volume's log; durable when the commit that holds it is (`Volume.whenDurable`).
package struct CommitTicket: RawRepresentable, Hashable, Sendable, Comparable {
    /// The number of the commit.
    package let rawValue: UInt64

    /// Wraps a number.
    package init(rawValue: UInt64) { self.rawValue = rawValue }

    /// Durable already.
    package static let durable = CommitTicket(rawValue: 0)

    /// Orders tickets by time.
    package static func < (left: CommitTicket, right: CommitTicket) -> Bool { left.rawValue < right.rawValue }
}

/// How an exclusive or simple CREATE treats a name that exists (RFC 1813, section 3.3.8).
package enum CreateMode: Equatable, Sendable {
    /// An existing regular file is taken; its size may be set.
    case unchecked(AttributeChanges)
    /// An existing name is an error.
    case guarded(AttributeChanges)
    /// An existing name is an error unless it was made with the same verifier.
    case exclusive(verifier: UInt64)
}

/// What MKNOD makes.
package enum SpecialFile: Equatable, Sendable {
    /// A block device.
    case blockDevice(major: UInt32, minor: UInt32)
    /// A character device.
    case characterDevice(major: UInt32, minor: UInt32)
    /// A socket.
    case socket
    /// A named pipe.
    case namedPipe
}

/// The rights that ACCESS asks for and answers (`ACCESS3_*`, RFC 1813, section 3.3.4).
package struct AccessRights: OptionSet, Sendable {
    /// The bits on the wire.
    package let rawValue: UInt32
    /// Wraps bits.
    package init(rawValue: UInt32) { self.rawValue = rawValue }
    /// Read data or a directory.
    package static let read = AccessRights(rawValue: 0x01)
    /// Look up a name in a directory.
    package static let lookup = AccessRights(rawValue: 0x02)
    /// Rewrite data or change entries.
    package static let modify = AccessRights(rawValue: 0x04)
    /// Write new data or add entries.
    package static let extend = AccessRights(rawValue: 0x08)
    /// Delete an entry.
    package static let delete = AccessRights(rawValue: 0x10)
    /// Execute a file.
    package static let execute = AccessRights(rawValue: 0x20)
}

/// One entry of a directory.
struct DirectoryListingEntry: Sendable {
    /// Where to go on after this entry; the same on both clusters and across restarts.
    var cookie: UInt64
    /// The name, 1 to 255 bytes.
    var name: [UInt8]
    /// The object.
    var reference: FileReference
    /// Its attributes, when they were asked for.
    var attributes: FileAttributes?
}

/// Entries of a directory that were collected.
struct DirectoryListing: Sendable {
    /// The entries in the order of their cookies.
    var entries: [DirectoryListingEntry]
    /// Whether nothing follows.
    var isEnd: Bool
    /// The directory.
    var directory: FileAttributes
}

/// An entry of a directory that is shown to a `DirectoryPage`.
package struct DirectoryPageEntry {
    /// Where to go on after this entry; the same on both clusters and across restarts.
    package var cookie: UInt64
    /// The name, 1 to 255 bytes; valid while the entry is shown.
    package var name: UnsafeRawBufferPointer
    /// The object.
    package var reference: FileReference
    /// Its attributes, when they were asked for.
    package var attributes: FileAttributes?
}

/// What takes the entries of a directory, one after another, straight from where the volume keeps them.
///
/// Called under the volume's lock: must be quick and must not call the volume.
package protocol DirectoryPage {
    /// Begins anew; what was taken before is void.
    mutating func begin(_ directory: FileAttributes)
    /// Takes an entry; false when there is no room for it.
    mutating func add(_ entry: DirectoryPageEntry) -> Bool
}

/// Space and files of a volume (`FSSTAT`).
package struct VolumeSpace: Equatable, Sendable {
    /// The size that the volume was given.
    package var sizeBytes: UInt64
    /// Bytes in use, snapshots included.
    package var usedBytes: UInt64
    /// Bytes that can still be written: the least of what the volume and the aggregate have left.
    package var availableBytes: UInt64
    /// Inodes in use.
    package var usedInodes: UInt64
    /// Inodes that a volume may have.
    package var inodesMax: UInt64
}

/// Limits that hold for every volume.
package enum VolumeLimits {
    /// Bytes of a block, the unit of checksums and of space.
    package static let blockSizeBytes = 4096
    /// Blocks of a chunk, the unit of block maps.
    package static let chunkBlocks = 64
    /// Bytes of a chunk.
    package static let chunkSizeBytes = blockSizeBytes * chunkBlocks
    /// Bytes of a name.
    package static let nameBytesMax = 255
    /// Bytes of a symbolic link's target.
    package static let linkTargetBytesMax = 4095
    /// Bytes of a file.
    package static let fileSizeBytesMax: UInt64 = 1 << 46
    /// Hard links of a file.
    package static let linkCountMax: UInt32 = 65_000
    /// Bytes of one read or write.
    package static let transferBytesMax = 1 << 20
    /// Inodes of a volume.
    package static let inodesMax: UInt64 = 1 << 40
    /// Snapshots of a volume.
    package static let snapshotsMax = 1023
}
