import Identity

/// Directories that were read whole, in the order of their cookies: a reading that goes on page by page need not go to
/// the database for each page. A change of a directory's names forgets its index.
struct DirectoryIndexes {
    /// Entries of all indexes together.
    static let entriesMax = 1 << 20
    /// Directories below this many names are quick to read without an index.
    static let directoryEntriesMin: UInt64 = 32
    /// Directories above this many names are read page by page.
    static let directoryEntriesMax: UInt64 = 1 << 18

    private var indexes: [UInt64: DirectoryIndex] = [:]
    private var entryCount = 0
    /// Grows with every name that changes anywhere: an index that was read before a change is not taken in after it.
    private(set) var changeCount: UInt64 = 0

    /// The names of a directory, if it was read since its last change.
    subscript(directory: UInt64) -> DirectoryIndex? { indexes[directory] }

    /// Takes an index in, unless names have changed since it was read.
    mutating func insert(_ directory: UInt64, _ names: DirectoryNames, readAt change: UInt64) {
        guard change == changeCount else { return }
        if entryCount + names.entries.count > Self.entriesMax {
            indexes = [:]
            entryCount = 0
        }
        forget(directory, isChange: false)
        indexes[directory] = DirectoryIndex(names)
        entryCount += names.entries.count
    }

    /// Forgets a directory whose names change.
    mutating func forget(_ directory: UInt64, isChange: Bool = true) {
        if isChange { changeCount += 1 }
        guard !indexes.isEmpty, let old = indexes.removeValue(forKey: directory) else { return }
        entryCount -= old.names.entries.count
    }
}

/// The names of a directory in the order of their cookies, packed: an entry is 32 bytes beside its name.
struct DirectoryNames: Sendable {
    struct Entry: Sendable {
        var cookie: UInt64
        var inode: UInt64
        var generation: UInt32
        /// Where the name begins in `bytes`: 2^18 names of 255 bytes fit.
        var nameStart: UInt32
        var nameCount: UInt8
    }

    private(set) var entries: [Entry] = []
    private(set) var bytes: [UInt8] = []

    init(_ listing: [DirectoryListingEntry]) {
        entries.reserveCapacity(listing.count)
        bytes.reserveCapacity(listing.reduce(0) { $0 + $1.name.count })
        for entry in listing {
            entries.append(
                Entry(
                    cookie: entry.cookie,
                    inode: entry.reference.inode.rawValue,
                    generation: entry.reference.generation,
                    nameStart: UInt32(bytes.count),
                    nameCount: UInt8(entry.name.count)
                )
            )
            bytes += entry.name
        }
    }

    /// The first entry after `cookie`.
    func place(after cookie: UInt64) -> Int {
        var (low, high) = (0, entries.count)
        while low < high {
            let middle = (low + high) / 2
            if entries[middle].cookie > cookie { high = middle } else { low = middle + 1 }
        }
        return low
    }
}

/// The names of a directory, and the inodes that they lead to as far as they were asked for.
///
/// Touched under its volume's lock only.
final class DirectoryIndex {
    let names: DirectoryNames
    /// Records that memory held at `evictions`: until records leave memory the next time, they are the ones it holds.
    private var inodes: [Record<InodeContent>?] = []
    private var evictions: UInt64 = .max

    init(_ names: DirectoryNames) { self.names = names }

    /// Shows the entries after `cookie` to `page` until it has no room; whether all were shown.
    func show(
        after cookie: UInt64,
        withAttributes: Bool,
        _ core: VolumeCore,
        to page: inout some DirectoryPage
    ) throws(CoreFailure) -> Bool {
        if withAttributes && evictions != core.evictions {
            inodes = Array(repeating: nil, count: names.entries.count)
            evictions = core.evictions
        }
        // A local copy, so that the array is not looked up and checked for other users with every entry.
        var known = inodes
        inodes = []
        defer { inodes = known }
        let (entries, bytes) = (names.entries, names.bytes)
        for place in names.place(after: cookie)..<entries.count {
            let entry = entries[place]
            var attributes: FileAttributes?
            if withAttributes {
                let record: Record<InodeContent>
                if let present = known[place] {
                    record = present
                } else {
                    record = try core.inode(entry.inode)
                    known[place] = record
                }
                attributes = record.attributes
            }
            let start = Int(entry.nameStart)
            let isTaken = bytes.withUnsafeBytes { bytes in
                page.add(
                    DirectoryPageEntry(
                        cookie: entry.cookie,
                        name: UnsafeRawBufferPointer(rebasing: bytes[start..<start + Int(entry.nameCount)]),
                        reference: FileReference(
                            inode: InodeNumber(rawValue: entry.inode),
                            generation: entry.generation
                        ),
                        attributes: attributes
                    )
                )
            }
            if !isTaken { return false }
        }
        return true
    }
}
