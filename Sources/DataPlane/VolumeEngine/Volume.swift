package import Environment
package import Identity

// SKELETON: signatures only, so that other rooms compile. The engine replaces this file.

/// One volume.
package final class Volume: Sendable {
    /// Its identity.
    package let msid: VolumeMSID
    init(msid: VolumeMSID) { self.msid = msid }
    /// Root.
    package var rootReference: FileReference { fatalError() }
    /// Verifier.
    package var writeVerifier: UInt64 { fatalError() }
    /// Space.
    package func space() -> VolumeSpace { fatalError() }
    /// Snapshots.
    package func snapshots() -> [Snapshot] { fatalError() }
    /// Runs the completion when the ticket is durable.
    package func whenDurable(_ ticket: CommitTicket, _ completion: @escaping @Sendable () -> Void) { fatalError() }
    /// GETATTR.
    package func attributes(of reference: FileReference, _ execution: Execution) throws(FileError) -> FileAttributes { fatalError() }
    /// LOOKUP.
    package func lookup(
        _ name: UnsafeRawBufferPointer, in directory: FileReference, as credentials: Credentials, _ execution: Execution
    ) throws(FileError) -> (object: FileAttributes, directory: FileAttributes) { fatalError() }
    /// ACCESS.
    package func access(
        _ rights: AccessRights, to reference: FileReference, as credentials: Credentials, _ execution: Execution
    ) throws(FileError) -> (rights: AccessRights, attributes: FileAttributes) { fatalError() }
    /// READLINK.
    package func readLink(
        _ reference: FileReference, as credentials: Credentials, _ execution: Execution
    ) throws(FileError) -> (target: [UInt8], attributes: FileAttributes) { fatalError() }
    /// READ.
    package func read(
        _ reference: FileReference, offset: UInt64, into buffer: UnsafeMutableRawBufferPointer,
        as credentials: Credentials, _ execution: Execution
    ) throws(FileError) -> ReadResult { fatalError() }
    /// READDIR.
    package func readDirectory(
        _ reference: FileReference, after cookie: UInt64, entriesMax: Int, withAttributes: Bool,
        as credentials: Credentials, _ execution: Execution
    ) throws(FileError) -> DirectoryListing { fatalError() }
    /// SETATTR.
    package func setAttributes(
        _ changes: AttributeChanges, of reference: FileReference, guardChangeTime: Timestamp?,
        as credentials: Credentials, _ execution: Execution
    ) throws(FileError) -> (WeakCacheConsistency, CommitTicket) { fatalError() }
    /// WRITE.
    package func write(
        _ data: UnsafeRawBufferPointer, at offset: UInt64, to reference: FileReference, isStable: Bool,
        as credentials: Credentials, _ execution: Execution
    ) throws(FileError) -> (WeakCacheConsistency, CommitTicket) { fatalError() }
    /// COMMIT.
    package func commit(
        _ reference: FileReference, as credentials: Credentials, _ execution: Execution
    ) throws(FileError) -> (WeakCacheConsistency, CommitTicket) { fatalError() }
    /// CREATE.
    package func create(
        _ name: UnsafeRawBufferPointer, in directory: FileReference, mode: CreateMode,
        as credentials: Credentials, _ execution: Execution
    ) throws(FileError) -> CreateResult { fatalError() }
    /// MKDIR.
    package func makeDirectory(
        _ name: UnsafeRawBufferPointer, in directory: FileReference, attributes: AttributeChanges,
        as credentials: Credentials, _ execution: Execution
    ) throws(FileError) -> CreateResult { fatalError() }
    /// SYMLINK.
    package func makeSymbolicLink(
        _ name: UnsafeRawBufferPointer, in directory: FileReference, target: [UInt8], attributes: AttributeChanges,
        as credentials: Credentials, _ execution: Execution
    ) throws(FileError) -> CreateResult { fatalError() }
    /// MKNOD.
    package func makeSpecialFile(
        _ name: UnsafeRawBufferPointer, in directory: FileReference, _ kind: SpecialFile, attributes: AttributeChanges,
        as credentials: Credentials, _ execution: Execution
    ) throws(FileError) -> CreateResult { fatalError() }
    /// REMOVE.
    package func remove(
        _ name: UnsafeRawBufferPointer, from directory: FileReference, as credentials: Credentials, _ execution: Execution
    ) throws(FileError) -> (WeakCacheConsistency, CommitTicket) { fatalError() }
    /// RMDIR.
    package func removeDirectory(
        _ name: UnsafeRawBufferPointer, from directory: FileReference, as credentials: Credentials, _ execution: Execution
    ) throws(FileError) -> (WeakCacheConsistency, CommitTicket) { fatalError() }
    /// RENAME.
    package func rename(
        _ name: UnsafeRawBufferPointer, from directory: FileReference,
        to newName: UnsafeRawBufferPointer, in newDirectory: FileReference,
        as credentials: Credentials, _ execution: Execution
    ) throws(FileError) -> (from: WeakCacheConsistency, to: WeakCacheConsistency, ticket: CommitTicket) { fatalError() }
    /// LINK.
    package func link(
        _ reference: FileReference, to name: UnsafeRawBufferPointer, in directory: FileReference,
        as credentials: Credentials, _ execution: Execution
    ) throws(FileError) -> (object: FileAttributes, directory: WeakCacheConsistency, ticket: CommitTicket) { fatalError() }

    // Management: blocking calls, for worker threads.
    /// Takes a snapshot, durably; the same uuid again is no error.
    package func createSnapshot(name: String, uuid: ObjectUUID) throws(StorageError) -> Snapshot { fatalError() }
    /// Deletes a snapshot and gives its space back; absent is no error.
    package func deleteSnapshot(_ uuid: ObjectUUID) throws(StorageError) { fatalError() }
    /// Restores the active file system (newer snapshots are deleted).
    package func restore(to uuid: ObjectUUID) throws(StorageError) { fatalError() }
    /// Sets the size.
    package func resize(toBytes: UInt64) throws(StorageError) { fatalError() }
    /// Whether the volume is a replica that only replication writes.
    package var isReplica: Bool { fatalError() }
    /// Replica -> read-write (true -> false) or back; durable; idempotent.
    package func setReplica(_ isReplica: Bool) throws(StorageError) { fatalError() }
    /// Reads and verifies every block.
    package func scrub(progress: (UInt64) -> Void) throws(StorageError) -> ScrubReport { fatalError() }
    /// The fsck-style walk: everything that is not as it should be, in words.
    package func checkConsistency() throws(StorageError) -> [String] { fatalError() }
    /// A hash over a full walk of a snapshot: names, attributes, data; equal on equal replicas.
    package func contentHash(of uuid: ObjectUUID) throws(StorageError) -> UInt64 { fatalError() }
}

/// What a scrub found.
package struct ScrubReport: Equatable, Sendable {
    /// Blocks read.
    package var blocksVerified: UInt64
    /// Damaged blocks, in words.
    package var damage: [String]
}

/// What an aggregate tells the world outside.
package enum StorageEvent: Equatable, Sendable {
    /// A block whose checksum is wrong was read.
    case checksumMismatch(volume: VolumeMSID, inode: InodeNumber, offsetBytes: UInt64, segment: UInt32)
    /// The aggregate has run out of space, or has space again.
    case spaceExhausted(volume: VolumeMSID)
}

/// How an aggregate is opened.
package struct AggregateOptions: Sendable {
    /// The node that owns it; another owner's directory is refused.
    package var node: ObjectUUID
    /// Bytes that all volumes together may use.
    package var capacityBytes: UInt64
    /// Told of events, on any thread.
    package var onEvent: @Sendable (StorageEvent) -> Void
    /// Makes options.
    package init(node: ObjectUUID, capacityBytes: UInt64, onEvent: @escaping @Sendable (StorageEvent) -> Void = { _ in }) {
        self.node = node
        self.capacityBytes = capacityBytes
        self.onEvent = onEvent
    }
}

/// A directory that holds volumes.
package final class Aggregate: Sendable {
    /// Its identifier.
    package let uuid: ObjectUUID
    init(uuid: ObjectUUID) { self.uuid = uuid }
    /// Opens the aggregate in a directory, or makes one in an empty or missing directory.
    package static func open(directory: String, options: AggregateOptions, environment: Environment) throws(StorageError) -> Aggregate { fatalError() }
    /// Makes a volume; the same msid again with the same properties is no error.
    package func createVolume(msid: VolumeMSID, sizeBytes: UInt64, isSpaceGuaranteed: Bool, isReplica: Bool) throws(StorageError) -> Volume { fatalError() }
    /// A volume by identity.
    package func volume(_ msid: VolumeMSID) -> Volume? { fatalError() }
    /// All volumes by msid.
    package var volumes: [Volume] { fatalError() }
    /// Deletes a volume and all its data; absent is no error.
    package func deleteVolume(_ msid: VolumeMSID) throws(StorageError) { fatalError() }
    /// Bytes: capacity, used, available.
    package func space() -> (capacityBytes: UInt64, usedBytes: UInt64, availableBytes: UInt64) { fatalError() }
    /// Stops; everything acknowledged is durable.
    package func close() { fatalError() }
}
