import Environment
import Identity
import FileIO
import Synchronization
package import VolumeEngine

/// A real aggregate in a folder of its own under the system's temporary directory, with one volume.
package final class TestVolume {
    /// The folder of the aggregate.
    package let directory: String
    /// The aggregate.
    package private(set) var aggregate: Aggregate
    /// The volume.
    package private(set) var volume: Volume
    /// What the aggregate reported.
    package let events = EventCollector()
    private let node: ObjectUUID
    private let capacityBytes: UInt64
    private let journalBytes: Int?

    /// Makes an aggregate with a volume of `sizeBytes`.
    package init(
        sizeBytes: UInt64 = 1 << 40,
        capacityBytes: UInt64 = 1 << 40,
        isReplica: Bool = false,
        msid: UInt64 = 7,
        journalBytes: Int? = nil
    ) throws {
        directory = try TemporaryDirectory.make()
        node = ObjectUUID.random(.system)
        self.capacityBytes = capacityBytes
        self.journalBytes = journalBytes
        aggregate = try Aggregate.open(
            directory: directory,
            options: AggregateOptions(
                node: node,
                capacityBytes: capacityBytes,
                journalBytes: journalBytes,
                onEvent: events.add
            ),
            environment: .system
        )
        volume = try aggregate.createVolume(
            msid: VolumeMSID(rawValue: msid),
            sizeBytes: sizeBytes,
            isSpaceGuaranteed: false,
            isReplica: isReplica
        )
    }

    /// Closes and opens the aggregate again.
    package func reopen() throws {
        aggregate.close()
        aggregate = try Aggregate.open(
            directory: directory,
            options: AggregateOptions(
                node: node,
                capacityBytes: capacityBytes,
                journalBytes: journalBytes,
                onEvent: events.add
            ),
            environment: .system
        )
        volume = aggregate.volume(volume.msid)!
    }

    /// Opens a copy of the aggregate's files as they are at this moment: what a crash would leave behind. `change` is shown
    /// the copy's folder before that.
    package func openCopy(changing change: (String) throws -> Void = { _ in }) throws -> TestVolume {
        try TestVolume(copyOf: self, change)
    }

    private init(copyOf original: TestVolume, _ change: (String) throws -> Void) throws {
        directory = try TemporaryDirectory.make()
        node = original.node
        capacityBytes = original.capacityBytes
        journalBytes = original.journalBytes
        try TemporaryDirectory.copy(original.directory, to: directory)
        try change(directory)
        aggregate = try Aggregate.open(
            directory: directory,
            options: AggregateOptions(
                node: node,
                capacityBytes: capacityBytes,
                journalBytes: journalBytes,
                onEvent: events.add
            ),
            environment: .system
        )
        volume = aggregate.volume(original.volume.msid)!
    }

    /// Closes the aggregate and deletes its folder.
    package func remove() {
        aggregate.close()
        TemporaryDirectory.remove(directory)
    }
}

/// Keeps events for a test to look at.
package final class EventCollector: Sendable {
    private let events = Mutex<[StorageEvent]>([])

    /// Adds an event.
    package func add(_ event: StorageEvent) { events.withLock { $0.append(event) } }

    /// The events so far.
    package var all: [StorageEvent] { events.withLock { $0 } }
}

extension Volume {
    /// Makes a regular file.
    package func makeFile(
        _ name: String,
        in directory: FileReference,
        as credentials: Credentials = .superuser,
        mode: UInt16 = 0o644
    ) throws -> FileReference {
        try name.withRawBytes {
            try create($0, in: directory, mode: .guarded(AttributeChanges(mode: mode)), as: credentials, .blocking)
        }.object.reference
    }

    /// Writes bytes.
    @discardableResult
    package func put(
        _ bytes: [UInt8],
        at offset: UInt64,
        to file: FileReference,
        isStable: Bool = false
    ) throws -> CommitTicket {
        try bytes.withUnsafeBytes {
            try write($0, at: offset, to: file, isStable: isStable, as: .superuser, .blocking)
        }.1
    }

    /// Reads bytes.
    package func get(_ count: Int, at offset: UInt64 = 0, from file: FileReference) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0xAA, count: count)
        let result = try bytes.withUnsafeMutableBytes {
            try read(file, offset: offset, into: $0, as: .superuser, .blocking)
        }
        return Array(bytes.prefix(result.count))
    }

    /// Looks a name up.
    package func find(_ name: String, in directory: FileReference, as credentials: Credentials = .superuser) throws
        -> FileAttributes
    {
        try name.withRawBytes { try lookup($0, in: directory, as: credentials, .blocking) }.object
    }

    /// Every name of a directory but the dots, read in pages of `page`.
    package func list(_ directory: FileReference, page: Int = 100) throws -> [String] {
        try listAttributes(directory, page: page).map(\.name)
    }

    /// Every name of a directory but the dots with what it leads to, read in pages of `page`.
    package func listAttributes(
        _ directory: FileReference,
        page: Int = 100
    ) throws -> [(name: String, attributes: FileAttributes?)] {
        var entries: [(name: String, attributes: FileAttributes?)] = []
        var cookie: UInt64 = 0
        while true {
            var collected = CollectedPage(entriesMax: page)
            let isEnd = try readDirectory(
                directory,
                after: cookie,
                entriesMax: page,
                withAttributes: true,
                as: .superuser,
                .blocking,
                into: &collected
            )
            entries += collected.entries.filter { $0.cookie > 2 }.map { ($0.name, $0.attributes) }
            guard let last = collected.entries.last, !isEnd else { return entries }
            cookie = last.cookie
        }
    }
}

/// Keeps the entries of a directory.
private struct CollectedPage: DirectoryPage {
    let entriesMax: Int
    var entries: [(cookie: UInt64, name: String, attributes: FileAttributes?)] = []

    init(entriesMax: Int) { self.entriesMax = entriesMax }

    mutating func begin(_ directory: FileAttributes) { entries = [] }

    mutating func add(_ entry: DirectoryPageEntry) -> Bool {
        guard entries.count < entriesMax else { return false }
        entries.append((entry.cookie, String(decoding: entry.name, as: UTF8.self), entry.attributes))
        return true
    }
}

extension String {
    /// Shows the bytes of the string.
    package func withRawBytes<Outcome>(_ body: (UnsafeRawBufferPointer) throws -> Outcome) rethrows -> Outcome {
        try Array(utf8).withUnsafeBytes(body)
    }
}
