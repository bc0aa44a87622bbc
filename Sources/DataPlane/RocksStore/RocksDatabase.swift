internal import CRocksDB
import FileIO
import Synchronization

/// RocksDB refused or found damage; the text is its own.
package struct RocksError: Error, Equatable, CustomStringConvertible {
    /// What RocksDB said.
    package let description: String

    /// Makes an error with its explanation.
    package init(description: String) { self.description = description }
}

/// What a lookup found.
package enum RocksLookup: Equatable, Sendable {
    /// The key is there; the closure has seen it.
    case found
    /// The key is not there.
    case absent
    /// Not known without the disk (only for lookups that may not touch it).
    case needsDisk
}

/// One open RocksDB, the home of an aggregate's metadata.
///
/// RocksDB brings the log, atomic batches, bloom filters, block cache, checksums and crash recovery.
package final class RocksDatabase: @unchecked Sendable {
    // Proof of Sendable: the C handles are set once in `init`, RocksDB's own functions on them are thread-safe, and
    // `close()` frees them when nobody is inside any more (`users`).
    private let handle: OpaquePointer
    private let options: OpaquePointer
    private let cache: OpaquePointer
    private let syncedWrite: OpaquePointer
    private let relaxedWrite: OpaquePointer
    fileprivate let prefixRead: OpaquePointer
    fileprivate let prefixReadMemory: OpaquePointer
    fileprivate let orderedRead: OpaquePointer
    fileprivate let orderedReadMemory: OpaquePointer
    /// Calls and iterators that are under way; `closedMark` and more once the database is being closed. An aggregate changes
    /// hands while calls of management may still be on their way to it: they must be refused, not find freed memory. Two
    /// atomic additions are little beside a lookup.
    private let users = Atomic<Int>(0)
    private static let closedMark = Int.max / 2

    /// Opens or makes the database in `path`.
    ///
    /// - Parameters:
    ///   - prefixLength: keys of at least this length get bloom filters over their first bytes.
    ///   - cacheBytes: size of the block cache.
    package init(path: String, prefixLength: Int, cacheBytes: Int) throws(RocksError) {
        options = rocksdb_options_create()
        rocksdb_options_set_create_if_missing(options, 1)
        rocksdb_options_set_prefix_extractor(options, Self.makePrefixExtractor(prefixLength))
        rocksdb_options_set_memtable_prefix_bloom_size_ratio(options, 0.1)
        rocksdb_options_set_write_buffer_size(options, Self.writeBufferBytes)
        rocksdb_options_set_max_write_buffer_number(options, 4)
        rocksdb_options_set_max_background_jobs(options, 2)
        rocksdb_options_set_compression(options, Int32(rocksdb_lz4_compression))
        rocksdb_options_set_paranoid_checks(options, 1)
        rocksdb_options_set_keep_log_file_num(options, 4)
        rocksdb_options_set_max_open_files(options, -1)
        // A log ends where something is not whole: what was not synchronised, a crash leaves in pieces. Whether that is all
        // of what must be there is for the caller to find out (see `CommitJournal`).
        rocksdb_options_set_wal_recovery_mode(options, Int32(rocksdb_point_in_time_recovery))
        cache = rocksdb_cache_create_lru(cacheBytes)
        let table = rocksdb_block_based_options_create()
        rocksdb_block_based_options_set_block_cache(table, cache)
        rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom_full(10))
        rocksdb_block_based_options_set_format_version(table, 5)
        rocksdb_options_set_block_based_table_factory(options, table)
        rocksdb_block_based_options_destroy(table)

        var message: UnsafeMutablePointer<CChar>?
        let opened = rocksdb_open(options, path, &message)
        guard let opened, message == nil else {
            rocksdb_options_destroy(options)
            rocksdb_cache_destroy(cache)
            throw RocksDatabase.error(message)
        }
        handle = opened
        syncedWrite = rocksdb_writeoptions_create()
        rocksdb_writeoptions_set_sync(syncedWrite, 1)
        relaxedWrite = rocksdb_writeoptions_create()
        prefixRead = rocksdb_readoptions_create()
        rocksdb_readoptions_set_prefix_same_as_start(prefixRead, 1)
        prefixReadMemory = rocksdb_readoptions_create()
        rocksdb_readoptions_set_prefix_same_as_start(prefixReadMemory, 1)
        rocksdb_readoptions_set_read_tier(prefixReadMemory, 1)
        orderedRead = rocksdb_readoptions_create()
        rocksdb_readoptions_set_total_order_seek(orderedRead, 1)
        orderedReadMemory = rocksdb_readoptions_create()
        rocksdb_readoptions_set_total_order_seek(orderedReadMemory, 1)
        rocksdb_readoptions_set_read_tier(orderedReadMemory, 1)
        // There are no deletions of ranges (decision 0022), and nobody need look for them. Where it does look, an iterator
        // that may not touch the disk can forget that it needed to.
        for readOptions in [prefixRead, prefixReadMemory, orderedRead, orderedReadMemory] {
            rocksdb_readoptions_set_ignore_range_deletions(readOptions, 1)
        }
    }

    private static let writeBufferBytes = 32 << 20

    /// The first bytes of a key; of a shorter one all. RocksDB's own fixed prefix must not be asked about shorter keys, and its
    /// iterators do ask when one follows what they look for (7.8, `DBIter::FindNextUserEntryInternal`): the process ends.
    private static func makePrefixExtractor(_ length: Int) -> OpaquePointer {
        let state = UnsafeMutablePointer<Int>.allocate(capacity: 1)
        state.initialize(to: length)
        return rocksdb_slicetransform_create(
            state,
            { $0?.assumingMemoryBound(to: Int.self).deallocate() },
            { state, key, count, prefixCount in
                prefixCount?.pointee = min(count, state!.load(as: Int.self))
                return UnsafeMutablePointer(mutating: key)
            },
            // Only keys of the whole length are in the filters.
            { state, _, count in count >= state!.load(as: Int.self) ? 1 : 0 },
            { state, _, count in count == state!.load(as: Int.self) ? 1 : 0 },
            { _ in UnsafeRawPointer(RocksDatabase.prefixExtractorName.utf8Start).assumingMemoryBound(to: CChar.self) }
        )
    }

    /// For ever the same, as it is written into the files: filters of another extractor are not used.
    private static let prefixExtractorName = "godwit.prefix" as StaticString

    /// Ends the counting of comparisons and bytes that RocksDB does for each thread and that nobody reads here: some
    /// hundred thread-local variables per commit.
    package static func disableCountersOfThread() { rocksdb_set_perf_level(Int32(rocksdb_disable)) }

    /// Closes the database once every call and iterator that is under way has ended; later ones are refused.
    package func close() {
        var inside = users.wrappingAdd(Self.closedMark, ordering: .acquiringAndReleasing).newValue
        precondition(inside < 2 * Self.closedMark, "a database is closed once")
        while inside > Self.closedMark {
            SystemThread.pause(milliseconds: 1)
            inside = users.load(ordering: .acquiring)
        }
        rocksdb_close(handle)
        for readOptions in [prefixRead, prefixReadMemory, orderedRead, orderedReadMemory] {
            rocksdb_readoptions_destroy(readOptions)
        }
        rocksdb_writeoptions_destroy(syncedWrite)
        rocksdb_writeoptions_destroy(relaxedWrite)
        rocksdb_options_destroy(options)
        rocksdb_cache_destroy(cache)
    }

    /// Begins a call; false when the database is closed.
    fileprivate func enter() -> Bool {
        if users.wrappingAdd(1, ordering: .acquiring).newValue < Self.closedMark { return true }
        leave()
        return false
    }

    /// Ends a call.
    fileprivate func leave() { users.wrappingSubtract(1, ordering: .releasing) }

    fileprivate static let closedError = RocksError(description: "the database is closed")

    /// Reads one key and shows its value to `body`.
    package func get(
        _ key: UnsafeRawBufferPointer,
        cachedOnly: Bool,
        _ body: (UnsafeRawBufferPointer) -> Void
    ) throws(RocksError) -> RocksLookup {
        guard enter() else { throw Self.closedError }
        defer { leave() }
        var message: UnsafeMutablePointer<CChar>?
        let slice = rocksdb_get_pinned(
            handle,
            cachedOnly ? prefixReadMemory : prefixRead,
            key.baseAddress,
            key.count,
            &message
        )
        if let message {
            // "Result incomplete" is the answer of a lookup that may not go to the disk.
            if cachedOnly {
                rocksdb_free(message)
                return .needsDisk
            }
            throw RocksDatabase.error(message)
        }
        guard let slice else { return .absent }
        var count = 0
        let value = rocksdb_pinnableslice_value(slice, &count)
        body(UnsafeRawBufferPointer(start: value, count: count))
        rocksdb_pinnableslice_destroy(slice)
        return .found
    }

    /// Makes the changes of a batch at once; durable on return when `isSynced`.
    package func write(_ batch: borrowing RocksBatch, isSynced: Bool) throws(RocksError) {
        guard enter() else { throw Self.closedError }
        defer { leave() }
        var message: UnsafeMutablePointer<CChar>?
        rocksdb_write(handle, isSynced ? syncedWrite : relaxedWrite, batch.handle, &message)
        if message != nil { throw RocksDatabase.error(message) }
    }

    /// Makes everything that was written before durable in the log.
    package func synchronizeLog() throws(RocksError) {
        guard enter() else { throw Self.closedError }
        defer { leave() }
        var message: UnsafeMutablePointer<CChar>?
        rocksdb_flush_wal(handle, 1, &message)
        if message != nil { throw RocksDatabase.error(message) }
    }

    /// Writes the memory's part of a range of keys out and rewrites the files that hold it without what was deleted: the
    /// logs and files that only deleted records keep alive go. Reads and writes go on meanwhile.
    package func compact(from start: [UInt8], to end: [UInt8]) {
        guard enter() else { return }
        defer { leave() }
        start.withUnsafeBytes { start in
            end.withUnsafeBytes { end in
                rocksdb_compact_range(
                    handle,
                    start.baseAddress?.assumingMemoryBound(to: CChar.self),
                    start.count,
                    end.baseAddress?.assumingMemoryBound(to: CChar.self),
                    end.count
                )
            }
        }
    }

    /// An iterator over keys that share the prefix of the key it seeks (bloom filters help), or over all keys in order.
    package func iterator(_ kind: RocksIterator.Kind) -> RocksIterator {
        let readOptions =
            switch kind {
            case .prefix: prefixRead
            case .prefixInMemory: prefixReadMemory
            case .ordered: orderedRead
            case .inMemory: orderedReadMemory
            }
        guard enter() else { return RocksIterator(handle: nil, database: self) }
        return RocksIterator(handle: rocksdb_create_iterator(handle, readOptions), database: self)
    }

    fileprivate static func error(_ message: UnsafeMutablePointer<CChar>?) -> RocksError {
        guard let message else { return RocksError(description: "RocksDB gave no reason") }
        defer { rocksdb_free(message) }
        return RocksError(description: String(cString: message))
    }
}

/// Changes that happen together.
package struct RocksBatch: ~Copyable {
    fileprivate let handle: OpaquePointer

    /// An empty batch.
    package init() { handle = rocksdb_writebatch_create() }

    /// A batch with the bytes that `data` of another one had.
    package init(_ data: UnsafeRawBufferPointer) {
        handle = rocksdb_writebatch_create_from(data.baseAddress, data.count)
    }

    deinit { rocksdb_writebatch_destroy(handle) }

    /// The changes as bytes, valid until the next change.
    package var data: UnsafeRawBufferPointer {
        var count = 0
        let start = rocksdb_writebatch_data(handle, &count)
        return UnsafeRawBufferPointer(start: start, count: count)
    }

    /// Changes in the batch.
    package var count: Int { Int(rocksdb_writebatch_count(handle)) }

    /// Writes a key.
    package func put(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
        rocksdb_writebatch_put(handle, key.baseAddress, key.count, value.baseAddress, value.count)
    }

    /// Writes a key.
    package func put(_ key: [UInt8], _ value: [UInt8]) {
        key.withUnsafeBytes { key in value.withUnsafeBytes { value in put(key, value) } }
    }

    /// Deletes a key; no error when it is absent.
    package func delete(_ key: UnsafeRawBufferPointer) { rocksdb_writebatch_delete(handle, key.baseAddress, key.count) }

    /// Deletes a key; no error when it is absent.
    package func delete(_ key: [UInt8]) { key.withUnsafeBytes { delete($0) } }

    /// Forgets all changes.
    package func clear() { rocksdb_writebatch_clear(handle) }
}

/// A position in the keys, over the state of the database at the time it was made.
package struct RocksIterator: ~Copyable {
    /// Which keys an iterator shows.
    package enum Kind: Sendable {
        /// Those that share the prefix of the key that is sought.
        case prefix
        /// The same, and only what is in memory.
        case prefixInMemory
        /// All, in order.
        case ordered
        /// All, in order, and only what is in memory.
        case inMemory
    }

    /// Nil over a database that is closed.
    private let handle: OpaquePointer?
    private let database: RocksDatabase

    fileprivate init(handle: OpaquePointer?, database: RocksDatabase) {
        self.handle = handle
        self.database = database
    }

    deinit {
        guard let handle else { return }
        rocksdb_iter_destroy(handle)
        database.leave()
    }

    /// Whether the iterator stands on a key.
    package var isValid: Bool { handle.map { rocksdb_iter_valid($0) != 0 } ?? false }

    /// The key, valid until the next move.
    package var key: UnsafeRawBufferPointer {
        var count = 0
        let start = rocksdb_iter_key(handle, &count)
        return UnsafeRawBufferPointer(start: start, count: count)
    }

    /// The value, valid until the next move.
    package var value: UnsafeRawBufferPointer {
        var count = 0
        let start = rocksdb_iter_value(handle, &count)
        return UnsafeRawBufferPointer(start: start, count: count)
    }

    /// Moves to the first key that is not below `key`.
    package func seek(_ key: UnsafeRawBufferPointer) {
        guard let handle else { return }
        rocksdb_iter_seek(handle, key.baseAddress, key.count)
    }

    /// Moves to the first key that is not below `key`.
    package func seek(_ key: [UInt8]) { key.withUnsafeBytes { seek($0) } }

    /// Moves to the next key.
    package func next() { rocksdb_iter_next(handle) }

    /// Throws when the iterator stopped because of an error; returns false when it needs the disk and may not touch it.
    package func check(cachedOnly: Bool) throws(RocksError) -> Bool {
        guard handle != nil else { throw RocksDatabase.closedError }
        var message: UnsafeMutablePointer<CChar>?
        rocksdb_iter_get_error(handle, &message)
        guard let message else { return true }
        if cachedOnly {
            rocksdb_free(message)
            return false
        }
        throw RocksDatabase.error(message)
    }
}
