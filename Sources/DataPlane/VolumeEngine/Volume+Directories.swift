import Identity
import RocksStore

extension Volume {
    /// READDIR and READDIRPLUS: shows the entries after `cookie` (0 = from the start), in the order of their cookies, to
    /// `page` until it has no room for one; whether nothing follows.
    ///
    /// `.` has the cookie 1 and `..` the cookie 2. Entries that exist during the whole reading appear exactly once.
    ///
    /// - Parameter entriesMax: more entries than this are not looked for where they must be collected first.
    package func readDirectory(
        _ reference: FileReference,
        after cookie: UInt64,
        entriesMax: Int,
        withAttributes: Bool,
        as credentials: Credentials,
        _ execution: Execution,
        into page: inout some DirectoryPage
    ) throws(FileError) -> Bool {
        if reference == .snapshotDirectory {
            return Self.show(try listSnapshots(after: cookie, entriesMax, execution), to: &page)
        }
        if reference.epoch != .active {
            return Self.show(
                try listInSnapshot(reference, cookie, entriesMax, withAttributes, credentials, execution),
                to: &page
            )
        }
        var mayRead = true
        while true {
            switch try showIndexed(reference, cookie, withAttributes, credentials, execution, to: &page) {
            case .complete(let isEnd): return isEnd
            case .unread where mayRead:
                // When names change faster than they are read, the page comes from the database.
                mayRead = try readIndex(reference.inode.rawValue, execution)
            case .unread, .large:
                var listing = try beginListing(reference, cookie, credentials, execution)
                try appendEntries(to: &listing, reference.inode.rawValue, max(cookie, 2), entriesMax, execution)
                if withAttributes { try appendAttributes(to: &listing, execution) }
                return Self.show(listing, to: &page)
            }
        }
    }

    /// Shows what was collected.
    private static func show(_ listing: DirectoryListing, to page: inout some DirectoryPage) -> Bool {
        page.begin(listing.directory)
        for entry in listing.entries where !show(entry, to: &page) { return false }
        return listing.isEnd
    }

    private static func show(_ entry: DirectoryListingEntry, to page: inout some DirectoryPage) -> Bool {
        entry.name.withUnsafeBytes { name in
            page.add(
                DirectoryPageEntry(
                    cookie: entry.cookie,
                    name: name,
                    reference: entry.reference,
                    attributes: entry.attributes
                )
            )
        }
    }

    /// Where the names of a page come from.
    private enum PageNames {
        /// They were shown; whether nothing follows.
        case complete(isEnd: Bool)
        /// The directory is to be read page by page.
        case large
        /// The directory is to be read into an index first.
        case unread
    }

    /// Shows a page out of the directory's index, if there is one.
    private func showIndexed(
        _ reference: FileReference,
        _ cookie: UInt64,
        _ withAttributes: Bool,
        _ credentials: Credentials,
        _ execution: Execution,
        to page: inout some DirectoryPage
    ) throws(FileError) -> PageNames {
        try transact(execution) { (core) throws(CoreFailure) in
            let record = try core.resolveDirectory(reference)
            try Permissions.check(Permissions.read, on: record.content!, by: credentials)
            let parent = cookie < 2 ? try core.parent(of: record).attributes : record.attributes
            let count = record.content!.entryCount
            guard count >= DirectoryIndexes.directoryEntriesMin, count <= DirectoryIndexes.directoryEntriesMax else {
                return .large
            }
            guard let index = core.directoryIndexes[reference.inode.rawValue] else { return .unread }
            page.begin(record.attributes)
            for entry in Self.dots(after: cookie, record.attributes, parent) where !Self.show(entry, to: &page) {
                return .complete(isEnd: false)
            }
            return .complete(
                isEnd: try index.show(after: cookie, withAttributes: withAttributes, core, to: &page)
            )
        }
    }

    /// A page that begins with the dots, where they are asked for.
    private func beginListing(
        _ reference: FileReference,
        _ cookie: UInt64,
        _ credentials: Credentials,
        _ execution: Execution
    ) throws(FileError) -> DirectoryListing {
        try transact(execution) { (core) throws(CoreFailure) in
            let record = try core.resolveDirectory(reference)
            try Permissions.check(Permissions.read, on: record.content!, by: credentials)
            let parent = cookie < 2 ? try core.parent(of: record).attributes : record.attributes
            return DirectoryListing(
                entries: Self.dots(after: cookie, record.attributes, parent),
                isEnd: false,
                directory: record.attributes
            )
        }
    }

    /// Reads all names of a directory into an index; false when they have changed meanwhile.
    private func readIndex(_ directory: UInt64, _ execution: Execution) throws(FileError) -> Bool {
        let change = locked { core.directoryIndexes.changeCount }
        var listing = DirectoryListing(
            entries: [],
            isEnd: false,
            directory: try attributes(of: rootReference, execution)
        )
        try appendEntries(to: &listing, directory, 2, Int(DirectoryIndexes.directoryEntriesMax) * 2, execution)
        let names = DirectoryNames(listing.entries)
        return locked {
            core.directoryIndexes.insert(directory, names, readAt: change)
            return core.directoryIndexes[directory] != nil
        }
    }

    private func appendAttributes(to listing: inout DirectoryListing, _ execution: Execution) throws(FileError) {
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
