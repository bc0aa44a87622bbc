import Bytes
package import Environment
import FileIO
package import Identity
import RocksStore
import SegmentStore
import Synchronization

/// What an aggregate tells the world outside.
package enum StorageEvent: Equatable, Sendable {
    /// A block whose checksum is wrong was read; the reader got an I/O error.
    case checksumMismatch(volume: VolumeMSID, inode: InodeNumber, offsetBytes: UInt64, segment: UInt32)
    /// A client was refused because the aggregate has no room.
    case spaceExhausted(volume: VolumeMSID)
    /// Something else failed.
    case failure(volume: VolumeMSID, String)
}

/// How an aggregate is opened.
package struct AggregateOptions: Sendable {
    /// The node that owns it; another owner's directory is refused.
    package var node: ObjectUUID
    /// Counts the changes of the owner. One that is newer than the directory's takes it over from the former owner, an older
    /// one is refused.
    package var ownershipEpoch: UInt64
    /// Bytes that all volumes together may use.
    package var capacityBytes: UInt64
    /// Size of the commit journal.
    package var journalBytes: Int
    /// Told of events, on any thread.
    package var onEvent: @Sendable (StorageEvent) -> Void

    /// Makes options.
    package init(
        node: ObjectUUID,
        ownershipEpoch: UInt64 = 0,
        capacityBytes: UInt64,
        journalBytes: Int? = nil,
        onEvent: @escaping @Sendable (StorageEvent) -> Void = { _ in }
    ) {
        self.node = node
        self.ownershipEpoch = ownershipEpoch
        self.capacityBytes = capacityBytes
        self.journalBytes = journalBytes ?? CommitJournal.sizeBytes
        self.onEvent = onEvent
    }
}

/// A directory that holds volumes:
///
///     aggregate/
///         aggregate.label   what this is, whose it is: uuid, node, epoch, format version
///         lock              locked by the process that has it open
///         metadata/         one RocksDB for all volumes
///         journal           commits that the metadata's log may not have yet
///         segments/         a folder of data files for each volume
package final class Aggregate: @unchecked Sendable {
    // Proof of Sendable: `open` is touched under its mutex; the rest is immutable or thread-safe itself.

    /// Its identifier.
    package let uuid: ObjectUUID
    private let context: AggregateContext
    private let lockFile: Mutex<File?>
    /// The bytes of a label that was found not to be a newer owner's.
    private let seenLabel = Mutex<[UInt8]>([])
    private let open = Mutex<[VolumeMSID: Volume]>([:])
    private let reclaimer = Reclaimer()
    /// Set under `management`.
    private let isClosed = Atomic(false)
    /// Serialises making and deleting volumes.
    private let management = Monitor()
    private static let cacheBytes = 256 << 20

    private init(uuid: ObjectUUID, context: AggregateContext, lockFile: File) {
        self.uuid = uuid
        self.context = context
        self.lockFile = Mutex(lockFile)
    }

    /// Whether a directory holds an aggregate: a missing label may mean that its file system is not mounted.
    package static func isPresent(in directory: String) -> Bool { FileSystem.exists(directory + "/aggregate.label") }

    /// Opens the aggregate in a directory, or makes one in an empty or missing directory. Recovers from a crash.
    ///
    /// - Throws: `.wrongOwner` when it belongs to somebody else, or is still open in another process: a former owner that
    ///   lives closes it when it sees the newer epoch, so that trying again helps.
    package static func open(
        directory: String,
        options: AggregateOptions,
        environment: Environment
    ) throws(StorageError) -> Aggregate {
        do {
            try FileSystem.makeDirectories(directory + "/segments")
            // Before the lock: a former owner that still has it must learn that it is one.
            try AggregateLabel.raise(directory, options)
            let lockFile = try File(path: directory + "/lock", .readWrite)
            do throws(FileIOError) { try lockFile.lockExclusively() } catch {
                throw StorageError(
                    .wrongOwner,
                    "the aggregate directory \(directory) is open in another process",
                    remedy: "stop that process, or give this node another directory"
                )
            }
            let label = try AggregateLabel.claim(directory, options, environment)
            let database = try RocksDatabase(
                path: directory + "/metadata",
                prefixLength: DatabaseKey.recordPrefixLength,
                cacheBytes: cacheBytes
            )
            let journal = try CommitJournalRecovery(
                directory: directory,
                sizeBytes: options.journalBytes,
                database: database
            ).open()
            let context = AggregateContext(
                directory: directory,
                database: database,
                journal: journal,
                environment: environment,
                options: options
            )
            let aggregate = Aggregate(uuid: label.uuid, context: context, lockFile: lockFile)
            try aggregate.start()
            return aggregate
        } catch let error as StorageError {
            throw error
        } catch let error as FileIOError {
            throw .io(error)
        } catch {
            throw .metadata(RocksError(description: "\(error)"))
        }
    }

    private func start() throws(StorageError) {
        context.journal.start()
        context.scheduler.start()
        for deletion in try VolumeDeletion.begun(in: context) { try deletion.finish() }
        for (msid, properties) in try storedVolumes() {
            let volume = try Volume.recover(msid, properties, context)
            open.withLock { $0[msid] = volume }
        }
        for volume in volumes { try volume.resumeInterrupted() }
        reclaimer.start(context) { [self] in volumes }
    }

    private func storedVolumes() throws(StorageError) -> [(VolumeMSID, VolumeProperties)] {
        var found: [(VolumeMSID, VolumeProperties)] = []
        let prefix = DatabaseKey.prefix(VolumeMSID(rawValue: 0), DatabaseKey.volumeKind)
        let iterator = context.database.iterator(.ordered)
        iterator.seek(prefix)
        while iterator.isValid, DatabaseKey.hasPrefix(iterator.key, prefix) {
            let msid = VolumeMSID(rawValue: DatabaseKey.bigEndian(iterator.key, 9))
            do { found.append((msid, try VolumeProperties.decode(iterator.value))) } catch {
                throw StorageError(
                    .damaged,
                    "the record of volume \(msid) is damaged: \(error)",
                    remedy: "restore the aggregate from a replica"
                )
            }
            iterator.next()
        }
        do { _ = try iterator.check(cachedOnly: false) } catch { throw .metadata(error) }
        return found
    }

    /// A volume by its identity.
    package func volume(_ msid: VolumeMSID) -> Volume? { open.withLock { $0[msid] } }

    /// All volumes, by identity.
    package var volumes: [Volume] { open.withLock { $0.values.sorted { $0.msid < $1.msid } } }

    /// Makes a volume with an empty root directory, durably; the same msid again is no error.
    package func createVolume(
        msid: VolumeMSID,
        sizeBytes: UInt64,
        isSpaceGuaranteed: Bool,
        isReplica: Bool
    ) throws(StorageError) -> Volume {
        try management.locked { () throws(StorageError) -> Volume in
            if let existing = volume(msid) { return existing }
            guard !isClosed.load(ordering: .relaxed) else {
                throw StorageError(
                    .conflict,
                    "the aggregate is closed: this node ends, or another one owns it now",
                    remedy: "try again; the node that has the aggregate does it (godwit aggregate show)"
                )
            }
            try finishDeletion(of: msid)
            let available = context.availableBytes
            if isSpaceGuaranteed && sizeBytes > available {
                throw StorageError(
                    .noSpace,
                    "a guaranteed volume of \(sizeBytes) bytes does not fit: \(available) bytes are available",
                    remedy: "choose a smaller size, no guarantee, or another aggregate"
                )
            }
            let volume = try Volume.create(msid, sizeBytes, isSpaceGuaranteed, isReplica, context)
            open.withLock { $0[msid] = volume }
            return volume
        }
    }

    /// Deletes a volume with all its data, durably; absent is no error.
    package func deleteVolume(_ msid: VolumeMSID) throws(StorageError) {
        try management.locked { () throws(StorageError) in
            guard let volume = volume(msid) else { return try finishDeletion(of: msid) }
            volume.locked { volume.core.isBusy = true }
            volume.detachMirror()
            volume.flush()
            open.withLock { $0[msid] = nil }
            let deletion = VolumeDeletion(msid: msid, context: context)
            try deletion.begin()
            volume.forgetAccounting()
            try deletion.finish()
        }
    }

    /// Ends a deletion that an error cut off.
    private func finishDeletion(of msid: VolumeMSID) throws(StorageError) {
        for deletion in try VolumeDeletion.begun(in: context) where deletion.msid == msid { try deletion.finish() }
    }

    /// Bytes that volumes may use, use, and have left.
    package func space() -> (capacityBytes: UInt64, usedBytes: UInt64, availableBytes: UInt64) {
        (context.options.capacityBytes, context.usedBytes.load(ordering: .relaxed), context.availableBytes)
    }

    /// Whether a newer owner has been written into the directory: this one must close it at once.
    package func isTakenOver() -> Bool {
        // A label that cannot be read says nothing; what is on the disk is this owner's as long as it has the lock.
        guard let bytes = AggregateLabel.bytes(context.directory) else { return false }
        // Asked for many times a second, and nearly always the same as at the last time.
        if seenLabel.withLock({ $0 == bytes }) { return false }
        guard let label = AggregateLabel(text: String(decoding: bytes, as: UTF8.self)) else { return false }
        guard label.ownershipEpoch <= context.options.ownershipEpoch else { return true }
        seenLabel.withLock { $0 = bytes }
        return false
    }

    /// Stops; everything that was ordered is durable afterwards. Calls that come later are refused.
    package func close() {
        management.locked { isClosed.store(true, ordering: .relaxed) }
        reclaimer.stop()
        for volume in volumes { volume.close() }
        context.scheduler.stop()
        context.journal.stop()
        open.withLock { $0 = [:] }
        context.database.close()
        // Closing the file gives the lock back.
        lockFile.withLock { $0 = nil }
    }
}
