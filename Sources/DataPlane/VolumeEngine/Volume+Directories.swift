import Identity
import RocksStore

extension Volume {
    /// READDIR and READDIRPLUS: entries after `cookie` (0 = from the start), in the order of their cookies.
    ///
    /// `.` has the cookie 1 and `..` the cookie 2. Entries that exist during the whole reading appear exactly once.
    package func readDirectory(
        _ reference: FileReference,
        after cookie: UInt64,
        entriesMax: Int,
        withAttributes: Bool,
        as credentials: Credentials,
        _ execution: Execution
    ) throws(FileError) -> DirectoryListing {
        if reference == .snapshotDirectory { return try listSnapshots(after: cookie, entriesMax, execution) }
        if reference.epoch != .active {
            return try listInSnapshot(reference, cookie, entriesMax, withAttributes, credentials, execution)
        }
        let (directory, parent) = try transact(execution) { (core) throws(CoreFailure) in
            let record = try core.resolveDirectory(reference)
            try Permissions.check(Permissions.read, on: record.content!, by: credentials)
            return (record.attributes, try core.inode(record.content!.parent).attributes)
        }
        var listing = DirectoryListing(
            entries: Self.dots(after: cookie, directory, parent),
            isEnd: false,
            directory: directory
        )
        try appendEntries(to: &listing, reference.inode.rawValue, max(cookie, 2), entriesMax, execution)
        if withAttributes {
            for index in listing.entries.indices where listing.entries[index].attributes == nil {
                let entry = listing.entries[index].reference
                do throws(FileError) {
                    listing.entries[index].attributes = try attributes(of: entry, execution)
                } catch {
                    // Removed since the page was read: the client gets the name without attributes.
                    guard error == .stale else { throw error }
                }
            }
        }
        return listing
    }

    static func dots(
        after cookie: UInt64,
        _ directory: FileAttributes,
        _ parent: FileAttributes
    ) -> [DirectoryListingEntry] {
        var entries: [DirectoryListingEntry] = []
        if cookie < 1 {
            entries.append(
                DirectoryListingEntry(cookie: 1, name: [46], reference: directory.reference, attributes: directory)
            )
        }
        if cookie < 2 {
            entries.append(
                DirectoryListingEntry(cookie: 2, name: [46, 46], reference: parent.reference, attributes: parent)
            )
        }
        return entries
    }

    private func appendEntries(
        to listing: inout DirectoryListing,
        _ directory: UInt64,
        _ cookie: UInt64,
        _ entriesMax: Int,
        _ execution: Execution
    ) throws(FileError) {
        // The iterator is made under the lock that the names are copied under: what is not in the one is in the other.
        let isCachedOnly = execution == .cachedOnly
        var unsettled: [DirectoryChange] = []
        let stored: [DirectoryListingEntry]
        let isStoredEnd: Bool
        do {
            let iterator = IteratorBox()
            unsettled = locked {
                iterator.iterator = context.database.iterator(isCachedOnly ? .inMemory : .ordered)
                return core.unsettledEntries[directory].map { Self.changes($0, after: cookie) } ?? []
            }
            (stored, isStoredEnd) = try readEntries(iterator, directory, cookie, entriesMax, isCachedOnly)
        }
        listing.entries += Self.merge(stored, unsettled, limit: isStoredEnd ? nil : stored.last?.cookie)
        listing.isEnd = isStoredEnd
        if listing.entries.count > entriesMax {
            listing.entries.removeLast(listing.entries.count - entriesMax)
            listing.isEnd = false
        }
    }

    /// A name that is not durable yet: added or changed (`entry`), or taken away (nil).
    private struct DirectoryChange: Sendable {
        var cookie: UInt64
        var entry: DirectoryListingEntry?
    }

    private static func changes(_ records: [UInt64: Record<EntryContent>], after cookie: UInt64) -> [DirectoryChange] {
        records.filter { $0.key > cookie }.sorted { $0.key < $1.key }.map { place, record in
            DirectoryChange(cookie: place, entry: record.content.map { entry(place, $0, .active) })
        }
    }

    static func entry(_ cookie: UInt64, _ content: EntryContent, _ epoch: Epoch) -> DirectoryListingEntry {
        DirectoryListingEntry(
            cookie: cookie,
            name: content.name,
            reference: FileReference(
                inode: InodeNumber(rawValue: content.inode),
                generation: content.generation,
                epoch: epoch
            )
        )
    }

    private static func merge(
        _ stored: [DirectoryListingEntry],
        _ changes: [DirectoryChange],
        limit: UInt64?
    ) -> [DirectoryListingEntry] {
        guard !changes.isEmpty else { return stored }
        var merged: [DirectoryListingEntry] = []
        var remaining = stored[...]
        for change in changes {
            if let limit, change.cookie > limit { break }
            while let next = remaining.first, next.cookie < change.cookie { merged.append(remaining.removeFirst()) }
            if remaining.first?.cookie == change.cookie { remaining.removeFirst() }
            if let entry = change.entry { merged.append(entry) }
        }
        return merged + remaining
    }

    private func readEntries(
        _ iterator: IteratorBox,
        _ directory: UInt64,
        _ cookie: UInt64,
        _ entriesMax: Int,
        _ isCachedOnly: Bool
    ) throws(FileError) -> (entries: [DirectoryListingEntry], isEnd: Bool) {
        var entries: [DirectoryListingEntry] = []
        let start = DatabaseKey.version(msid, RecordKey(.entry, directory, cookie + 1), Epoch(rawValue: .max))
        do {
            return try iterator.use { (iterator) throws(RocksError) -> ([DirectoryListingEntry], Bool) in
                iterator.seek(start)
                var last: UInt64 = 0
                while true {
                    guard try iterator.check(cachedOnly: isCachedOnly) else { throw RocksError.needsDisk }
                    guard iterator.isValid, DatabaseKey.hasPrefix(iterator.key, Array(start[0..<17])),
                        let found = DatabaseKey.parseVersion(iterator.key)
                    else { return (entries, true) }
                    // Only the newest version of a name counts, and a tombstone says that there is none.
                    if found.key.second != last {
                        last = found.key.second
                        if !iterator.value.isEmpty {
                            if entries.count >= entriesMax { return (entries, false) }
                            guard let content = try? EntryContent.decode(iterator.value) else {
                                throw RocksError(description: "a damaged name in directory \(directory)")
                            }
                            entries.append(Self.entry(last, content, .active))
                        }
                    }
                    iterator.next()
                }
            }
        } catch {
            if error == .needsDisk { throw .wouldBlock }
            report(.metadata(error))
            throw .inputOutput
        }
    }
}

extension RocksError {
    fileprivate static let needsDisk = RocksError(description: "the disk is needed")
}
