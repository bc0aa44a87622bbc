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
    /// Bytes that all volumes together may use.
    package var capacityBytes: UInt64
    /// Size of the commit journal.
    package var journalBytes: Int
    /// Told of events, on any thread.
    package var onEvent: @Sendable (StorageEvent) -> Void

    /// Makes options.
    package init(
        node: ObjectUUID,
        capacityBytes: UInt64,
        journalBytes: Int? = nil,
        onEvent: @escaping @Sendable (StorageEvent) -> Void = { _ in }
    ) {
        self.node = node
        self.capacityBytes = capacityBytes
        self.journalBytes = journalBytes ?? CommitJournal.sizeBytes
        self.onEvent = onEvent
    }
}

/// A directory that holds volumes:
///
///     aggregate/
///         aggregate.label   what this is, whose it is: uuid, node, format version
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
    private let open = Mutex<[VolumeMSID: Volume]>([:])
    private let reclaimer = Reclaimer()
    /// Serialises making and deleting volumes.
    private let management = Monitor()
    private static let cacheBytes = 256 << 20

    private init(uuid: ObjectUUID, context: AggregateContext, lockFile: File) {
        self.uuid = uuid
        self.context = context
        self.lockFile = Mutex(lockFile)
    }

    /// Opens the aggregate in a directory, or makes one in an empty or missing directory. Recovers from a crash.
    package static func open(
        directory: String,
        options: AggregateOptions,
        environment: Environment
    ) throws(StorageError) -> Aggregate {
        do {
            try FileSystem.makeDirectories(directory + "/segments")
            let lockFile = try File(path: directory + "/lock", .readWrite)
            do throws(FileIOError) { try lockFile.lockExclusively() } catch {
                throw StorageError(
                    .wrongOwner,
                    "the aggregate directory \(directory) is open in another process",
                    remedy: "stop that process, or give this node another directory"
                )
            }
            let label = try AggregateLabel.claim(directory, options.node, environment)
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

    /// Stops; everything that was ordered is durable afterwards.
    package func close() {
        reclaimer.stop()
        for volume in volumes {
            volume.locked {
                volume.core.isBusy = true
                volume.core.properties.isClean = true
                volume.core.pending.hasProperties = true
            }
            volume.detachMirror()
            volume.flush()
        }
        context.scheduler.stop()
        context.journal.stop()
        open.withLock { $0 = [:] }
        context.database.close()
        // Closing the file gives the lock back.
        lockFile.withLock { $0 = nil }
    }
}

/// What an aggregate directory says of itself.
struct AggregateLabel {
    /// 2: no range of keys was ever deleted from the metadata (decision 0022).
    static let formatVersion = 2
    var uuid: ObjectUUID
    var node: ObjectUUID

    /// Reads the label and checks the owner, or writes the label of a new aggregate.
    static func claim(
        _ directory: String,
        _ node: ObjectUUID,
        _ environment: Environment
    ) throws(StorageError) -> AggregateLabel {
        let label = try readOrWrite(directory, node, environment)
        guard label.node == node else {
            throw StorageError(
                .wrongOwner,
                "the aggregate in \(directory) belongs to node \(label.node), not to this node (\(node))",
                remedy: "give this node a directory of its own, or start the node that owns it"
            )
        }
        return label
    }

    private static func readOrWrite(
        _ directory: String,
        _ node: ObjectUUID,
        _ environment: Environment
    ) throws(StorageError) -> AggregateLabel {
        let path = directory + "/aggregate.label"
        do {
            guard FileSystem.exists(path) else {
                guard !FileSystem.exists(directory + "/metadata") else {
                    throw FileIOError(operation: "open", path: path, number: 2)
                }
                let label = AggregateLabel(uuid: .random(environment), node: node)
                try FileSystem.writeAtomically(Array(label.text.utf8), to: path)
                return label
            }
            let text = String(decoding: try FileSystem.readAll(path), as: UTF8.self)
            if let other = otherFormatVersion(text) {
                throw StorageError(
                    .conflict,
                    "the aggregate in \(directory) has format version \(other), and this program writes \(formatVersion)",
                    remedy: "move its volumes away with the program that wrote it, and give this one an empty directory"
                )
            }
            guard let label = AggregateLabel(text: text) else {
                throw FileIOError(operation: "parse", path: path, number: 22)
            }
            return label
        } catch let error as StorageError {
            throw error
        } catch {
            throw StorageError(
                .damaged,
                "\(directory) holds an aggregate without a readable label (\(error))",
                remedy: "restore \(path), or give the node an empty directory"
            )
        }
    }

    var text: String { "godwit aggregate \(Self.formatVersion)\nuuid \(uuid)\nnode \(node)\n" }

    init(uuid: ObjectUUID, node: ObjectUUID) {
        self.uuid = uuid
        self.node = node
    }

    private static func otherFormatVersion(_ text: String) -> Int? {
        let words = text.prefix { $0 != "\n" }.split(separator: " ")
        guard words.count == 3, words[0] == "godwit", words[1] == "aggregate", let version = Int(words[2]) else {
            return nil
        }
        return version == formatVersion ? nil : version
    }

    init?(text: String) {
        let lines = text.split(separator: "\n")
        guard lines.count >= 3, lines[0] == "godwit aggregate \(Self.formatVersion)",
            lines[1].hasPrefix("uuid "), lines[2].hasPrefix("node "),
            let uuid = ObjectUUID(String(lines[1].dropFirst(5))), let node = ObjectUUID(String(lines[2].dropFirst(5)))
        else { return nil }
        self.init(uuid: uuid, node: node)
    }
}
