import Glibc

// The functions of RocksDB's C interface that RocksStore uses, over `OrderedStore`. A program that links this room uses
// them instead of librocksdb, since its own symbols come first: the production code above is not changed in anything,
// and a daemon, which does not link this room, has no seam that could cost it time.

/// The options of a database, of which only the length of prefixes means something here.
private final class StoreOptions {
    var prefixLength = 0
}

/// An open database.
private final class OpenStore {
    let store: OrderedStore
    let prefixLength: Int
    let disk: SimulatedDisk

    init(_ store: OrderedStore, _ prefixLength: Int, _ disk: SimulatedDisk) {
        self.store = store
        self.prefixLength = prefixLength
        self.disk = disk
    }
}

private final class ReadOptions {
    var isPrefix = false
    var isMemoryOnly = false
}

private final class WriteOptions {
    var isSynced = false
}

private final class Batch {
    var changes: [StoreChange] = []
    /// The changes as bytes, for as long as the caller may look at them.
    var data: UnsafeMutableRawBufferPointer?

    deinit { data?.deallocate() }
}

/// A position over the state of the database when it was made.
private final class StoreIterator {
    let entries: [StoreEntry]
    let options: ReadOptions
    let prefixLength: Int
    var prefix: [UInt8] = []
    var index: Int
    /// What it seeks is not in memory.
    var needsDisk = false

    init(_ open: OpenStore, _ options: ReadOptions) {
        entries = open.store.entries
        self.options = options
        prefixLength = open.prefixLength
        index = entries.count
        needsDisk = options.isMemoryOnly && open.disk.generator.oneIn(8)
    }

    var isValid: Bool {
        guard !needsDisk, index < entries.count else { return false }
        return prefix.isEmpty || entries[index].key.starts(with: prefix)
    }
}

private func made(_ object: AnyObject) -> OpaquePointer { OpaquePointer(Unmanaged.passRetained(object).toOpaque()) }

private func object<Object: AnyObject>(_ handle: OpaquePointer?, _ type: Object.Type) -> Object {
    Unmanaged<Object>.fromOpaque(UnsafeRawPointer(handle!)).takeUnretainedValue()
}

private func release(_ handle: OpaquePointer?) {
    if let handle { Unmanaged<AnyObject>.fromOpaque(UnsafeRawPointer(handle)).release() }
}

private func bytes(_ start: UnsafePointer<CChar>?, _ count: Int) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: start, count: count)
}

/// What a caller gets who may not go to the disk.
private func incomplete() -> UnsafeMutablePointer<CChar>? { strdup("Result incomplete: not in memory") }

// MARK: Options

/// `rocksdb_options_create` of `rocksdb/c.h`.
@c(rocksdb_options_create) public func optionsCreate() -> OpaquePointer { made(StoreOptions()) }

/// `rocksdb_options_destroy` of `rocksdb/c.h`.
@c(rocksdb_options_destroy) public func optionsDestroy(_ options: OpaquePointer?) { release(options) }

/// `rocksdb_slicetransform_create` of `rocksdb/c.h`.
@c(rocksdb_slicetransform_create) public func makePrefix(
    _ state: UnsafeMutableRawPointer?,
    _ destructor: (@convention(c) (UnsafeMutableRawPointer?) -> Void)?,
    _ transform: (
        @convention(c) (UnsafeMutableRawPointer?, UnsafePointer<CChar>?, Int, UnsafeMutablePointer<Int>?)
            -> UnsafeMutablePointer<CChar>?
    )?,
    _ isInDomain: (@convention(c) (UnsafeMutableRawPointer?, UnsafePointer<CChar>?, Int) -> UInt8)?,
    _ isInRange: (@convention(c) (UnsafeMutableRawPointer?, UnsafePointer<CChar>?, Int) -> UInt8)?,
    _ name: (@convention(c) (UnsafeMutableRawPointer?) -> UnsafePointer<CChar>?)?
) -> OpaquePointer {
    let options = StoreOptions()
    // A prefix here is a length: that of the prefix of a key that is longer than all.
    let key = [CChar](repeating: 0, count: 1024)
    _ = transform?(state, key, key.count, &options.prefixLength)
    destructor?(state)
    return made(options)
}

/// `rocksdb_options_set_prefix_extractor` of `rocksdb/c.h`.
@c(rocksdb_options_set_prefix_extractor) public func setPrefix(_ options: OpaquePointer?, _ prefix: OpaquePointer?) {
    object(options, StoreOptions.self).prefixLength = object(prefix, StoreOptions.self).prefixLength
    release(prefix)
}

/// `rocksdb_cache_create_lru` of `rocksdb/c.h`.
@c(rocksdb_cache_create_lru) public func cacheCreate(_ bytes: Int) -> OpaquePointer { made(StoreOptions()) }

/// `rocksdb_cache_destroy` of `rocksdb/c.h`.
@c(rocksdb_cache_destroy) public func cacheDestroy(_ cache: OpaquePointer?) { release(cache) }

/// `rocksdb_block_based_options_create` of `rocksdb/c.h`.
@c(rocksdb_block_based_options_create) public func tableCreate() -> OpaquePointer { made(StoreOptions()) }

/// `rocksdb_block_based_options_destroy` of `rocksdb/c.h`.
@c(rocksdb_block_based_options_destroy) public func tableDestroy(_ table: OpaquePointer?) { release(table) }

/// `rocksdb_filterpolicy_create_bloom_full` of `rocksdb/c.h`.
@c(rocksdb_filterpolicy_create_bloom_full) public func bloomCreate(_ bits: Double) -> OpaquePointer {
    made(StoreOptions())
}

/// `rocksdb_block_based_options_set_filter_policy` of `rocksdb/c.h`.
@c(rocksdb_block_based_options_set_filter_policy)
public func setFilter(_ table: OpaquePointer?, _ filter: OpaquePointer?) { release(filter) }

// Settings of speed and space: they mean nothing here.
/// `rocksdb_options_set_create_if_missing` of `rocksdb/c.h`.
@c(rocksdb_options_set_create_if_missing) public func setCreate(_ options: OpaquePointer?, _ value: UInt8) {}

/// `rocksdb_options_set_memtable_prefix_bloom_size_ratio` of `rocksdb/c.h`.
@c(rocksdb_options_set_memtable_prefix_bloom_size_ratio)
public func setBloomRatio(_ options: OpaquePointer?, _ value: Double) {}

/// `rocksdb_options_set_write_buffer_size` of `rocksdb/c.h`.
@c(rocksdb_options_set_write_buffer_size) public func setBuffer(_ options: OpaquePointer?, _ value: Int) {}

/// `rocksdb_options_set_max_write_buffer_number` of `rocksdb/c.h`.
@c(rocksdb_options_set_max_write_buffer_number) public func setBuffers(_ options: OpaquePointer?, _ value: CInt) {}

/// `rocksdb_options_set_max_background_jobs` of `rocksdb/c.h`.
@c(rocksdb_options_set_max_background_jobs) public func setJobs(_ options: OpaquePointer?, _ value: CInt) {}

/// `rocksdb_options_set_compression` of `rocksdb/c.h`.
@c(rocksdb_options_set_compression) public func setCompression(_ options: OpaquePointer?, _ value: CInt) {}

/// `rocksdb_options_set_paranoid_checks` of `rocksdb/c.h`.
@c(rocksdb_options_set_paranoid_checks) public func setParanoid(_ options: OpaquePointer?, _ value: UInt8) {}

/// `rocksdb_options_set_keep_log_file_num` of `rocksdb/c.h`.
@c(rocksdb_options_set_keep_log_file_num) public func setLogs(_ options: OpaquePointer?, _ value: Int) {}

/// `rocksdb_options_set_max_open_files` of `rocksdb/c.h`.
@c(rocksdb_options_set_max_open_files) public func setOpenFiles(_ options: OpaquePointer?, _ value: CInt) {}

/// `rocksdb_set_perf_level` of `rocksdb/c.h`.
@c(rocksdb_set_perf_level) public func setCounters(_ level: CInt) {}

/// `rocksdb_options_set_wal_recovery_mode` of `rocksdb/c.h`.
@c(rocksdb_options_set_wal_recovery_mode) public func setRecovery(_ options: OpaquePointer?, _ value: CInt) {}

/// `rocksdb_block_based_options_set_block_cache` of `rocksdb/c.h`.
@c(rocksdb_block_based_options_set_block_cache)
public func setCache(_ table: OpaquePointer?, _ cache: OpaquePointer?) {}

/// `rocksdb_block_based_options_set_format_version` of `rocksdb/c.h`.
@c(rocksdb_block_based_options_set_format_version) public func setFormat(_ table: OpaquePointer?, _ value: CInt) {}

/// `rocksdb_options_set_block_based_table_factory` of `rocksdb/c.h`.
@c(rocksdb_options_set_block_based_table_factory)
public func setTable(_ options: OpaquePointer?, _ table: OpaquePointer?) {}

/// `rocksdb_readoptions_create` of `rocksdb/c.h`.
@c(rocksdb_readoptions_create) public func readOptionsCreate() -> OpaquePointer { made(ReadOptions()) }

/// `rocksdb_readoptions_destroy` of `rocksdb/c.h`.
@c(rocksdb_readoptions_destroy) public func readOptionsDestroy(_ options: OpaquePointer?) { release(options) }

/// `rocksdb_readoptions_set_prefix_same_as_start` of `rocksdb/c.h`.
@c(rocksdb_readoptions_set_prefix_same_as_start) public func setSame(_ options: OpaquePointer?, _ value: UInt8) {
    object(options, ReadOptions.self).isPrefix = value != 0
}

/// `rocksdb_readoptions_set_total_order_seek` of `rocksdb/c.h`.
@c(rocksdb_readoptions_set_total_order_seek) public func setTotal(_ options: OpaquePointer?, _ value: UInt8) {}

/// `rocksdb_readoptions_set_ignore_range_deletions` of `rocksdb/c.h`.
@c(rocksdb_readoptions_set_ignore_range_deletions) public func setIgnore(_ options: OpaquePointer?, _ value: UInt8) {}

/// `rocksdb_readoptions_set_read_tier` of `rocksdb/c.h`.
@c(rocksdb_readoptions_set_read_tier) public func setTier(_ options: OpaquePointer?, _ value: CInt) {
    object(options, ReadOptions.self).isMemoryOnly = value == 1
}

/// `rocksdb_writeoptions_create` of `rocksdb/c.h`.
@c(rocksdb_writeoptions_create) public func writeOptionsCreate() -> OpaquePointer { made(WriteOptions()) }

/// `rocksdb_writeoptions_destroy` of `rocksdb/c.h`.
@c(rocksdb_writeoptions_destroy) public func writeOptionsDestroy(_ options: OpaquePointer?) { release(options) }

/// `rocksdb_writeoptions_set_sync` of `rocksdb/c.h`.
@c(rocksdb_writeoptions_set_sync) public func setSync(_ options: OpaquePointer?, _ value: UInt8) {
    object(options, WriteOptions.self).isSynced = value != 0
}

// MARK: The database

/// `rocksdb_open` of `rocksdb/c.h`.
@c(rocksdb_open)
public func open(
    _ options: OpaquePointer?,
    _ path: UnsafePointer<CChar>?,
    _ message: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> OpaquePointer? {
    let path = String(cString: path!)
    guard let disk = simulation.disk(of: path) else {
        message?.pointee = strdup("IO error: there is no disk for \(path)")
        return nil
    }
    let store = disk.stores[path] ?? OrderedStore(disk: disk)
    disk.stores[path] = store
    disk.isOpen = true
    return made(OpenStore(store, object(options, StoreOptions.self).prefixLength, disk))
}

/// `rocksdb_close` of `rocksdb/c.h`.
@c(rocksdb_close) public func close(_ database: OpaquePointer?) { release(database) }

/// `rocksdb_free` of `rocksdb/c.h`.
@c(rocksdb_free) public func free(_ memory: UnsafeMutableRawPointer?) { Glibc.free(memory) }

/// `rocksdb_get_pinned` of `rocksdb/c.h`.
@c(rocksdb_get_pinned)
public func getPinned(
    _ database: OpaquePointer?,
    _ options: OpaquePointer?,
    _ key: UnsafePointer<CChar>?,
    _ count: Int,
    _ message: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> OpaquePointer? {
    let open = object(database, OpenStore.self)
    if object(options, ReadOptions.self).isMemoryOnly && open.disk.generator.oneIn(8) {
        message?.pointee = incomplete()
        return nil
    }
    return open.store.find(bytes(key, count)).map { made($0) }
}

/// `rocksdb_pinnableslice_value` of `rocksdb/c.h`.
@c(rocksdb_pinnableslice_value)
public func sliceValue(_ slice: OpaquePointer?, _ count: UnsafeMutablePointer<Int>?) -> UnsafePointer<CChar>? {
    let value = object(slice, StoreEntry.self).value
    count?.pointee = value.count
    return value.baseAddress?.assumingMemoryBound(to: CChar.self)
}

/// `rocksdb_pinnableslice_destroy` of `rocksdb/c.h`.
@c(rocksdb_pinnableslice_destroy) public func sliceDestroy(_ slice: OpaquePointer?) { release(slice) }

/// `rocksdb_write` of `rocksdb/c.h`.
@c(rocksdb_write)
public func write(
    _ database: OpaquePointer?,
    _ options: OpaquePointer?,
    _ batch: OpaquePointer?,
    _ message: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) {
    let changes = object(batch, Batch.self).changes
    object(database, OpenStore.self).store.write(changes, isSynced: object(options, WriteOptions.self).isSynced)
}

/// `rocksdb_flush_wal` of `rocksdb/c.h`.
@c(rocksdb_flush_wal)
public func flushLog(
    _ database: OpaquePointer?,
    _ isSynced: UInt8,
    _ message: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) {
    object(database, OpenStore.self).store.synchronizeLog()
}

/// `rocksdb_compact_range` of `rocksdb/c.h`: what is deleted takes no room here.
@c(rocksdb_compact_range)
public func compactRange(
    _ database: OpaquePointer?,
    _ start: UnsafePointer<CChar>?,
    _ startCount: Int,
    _ limit: UnsafePointer<CChar>?,
    _ limitCount: Int
) {}

// MARK: Batches

/// `rocksdb_writebatch_create` of `rocksdb/c.h`.
@c(rocksdb_writebatch_create) public func batchCreate() -> OpaquePointer { made(Batch()) }

/// `rocksdb_writebatch_data` of `rocksdb/c.h`.
@c(rocksdb_writebatch_data)
public func batchData(_ batch: OpaquePointer?, _ count: UnsafeMutablePointer<Int>?) -> UnsafePointer<CChar>? {
    let batch = object(batch, Batch.self)
    let encoded = StoreChange.encode(batch.changes)
    batch.data?.deallocate()
    batch.data = .allocate(byteCount: encoded.count, alignment: 8)
    batch.data!.copyBytes(from: encoded)
    count?.pointee = encoded.count
    return UnsafePointer(batch.data!.baseAddress!.assumingMemoryBound(to: CChar.self))
}

/// `rocksdb_writebatch_create_from` of `rocksdb/c.h`.
@c(rocksdb_writebatch_create_from)
public func batchCreateFrom(_ data: UnsafePointer<CChar>?, _ count: Int) -> OpaquePointer {
    let batch = Batch()
    batch.changes = StoreChange.decode(bytes(data, count))
    return made(batch)
}

/// `rocksdb_writebatch_destroy` of `rocksdb/c.h`.
@c(rocksdb_writebatch_destroy) public func batchDestroy(_ batch: OpaquePointer?) { release(batch) }

/// `rocksdb_writebatch_clear` of `rocksdb/c.h`.
@c(rocksdb_writebatch_clear) public func batchClear(_ batch: OpaquePointer?) { object(batch, Batch.self).changes = [] }

/// `rocksdb_writebatch_count` of `rocksdb/c.h`.
@c(rocksdb_writebatch_count) public func batchCount(_ batch: OpaquePointer?) -> CInt {
    CInt(object(batch, Batch.self).changes.count)
}

/// `rocksdb_writebatch_put` of `rocksdb/c.h`.
@c(rocksdb_writebatch_put)
public func batchPut(
    _ batch: OpaquePointer?,
    _ key: UnsafePointer<CChar>?,
    _ keyCount: Int,
    _ value: UnsafePointer<CChar>?,
    _ valueCount: Int
) {
    object(batch, Batch.self).changes.append(.put(StoreEntry(bytes(key, keyCount), bytes(value, valueCount))))
}

/// `rocksdb_writebatch_delete` of `rocksdb/c.h`.
@c(rocksdb_writebatch_delete)
public func batchDelete(_ batch: OpaquePointer?, _ key: UnsafePointer<CChar>?, _ count: Int) {
    object(batch, Batch.self).changes.append(.delete([UInt8](bytes(key, count))))
}

// MARK: Iterators

/// `rocksdb_create_iterator` of `rocksdb/c.h`.
@c(rocksdb_create_iterator)
public func iteratorCreate(_ database: OpaquePointer?, _ options: OpaquePointer?) -> OpaquePointer {
    made(StoreIterator(object(database, OpenStore.self), object(options, ReadOptions.self)))
}

/// `rocksdb_iter_destroy` of `rocksdb/c.h`.
@c(rocksdb_iter_destroy) public func iteratorDestroy(_ iterator: OpaquePointer?) { release(iterator) }

/// `rocksdb_iter_valid` of `rocksdb/c.h`.
@c(rocksdb_iter_valid) public func iteratorValid(_ iterator: OpaquePointer?) -> UInt8 {
    object(iterator, StoreIterator.self).isValid ? 1 : 0
}

/// `rocksdb_iter_seek` of `rocksdb/c.h`.
@c(rocksdb_iter_seek)
public func iteratorSeek(_ iterator: OpaquePointer?, _ key: UnsafePointer<CChar>?, _ count: Int) {
    let iterator = object(iterator, StoreIterator.self)
    let key = bytes(key, count)
    iterator.index = OrderedStore.position(of: key, in: iterator.entries)
    let hasPrefix = iterator.options.isPrefix && count >= iterator.prefixLength
    iterator.prefix = hasPrefix ? [UInt8](key.prefix(iterator.prefixLength)) : []
}

/// `rocksdb_iter_next` of `rocksdb/c.h`.
@c(rocksdb_iter_next) public func iteratorNext(_ iterator: OpaquePointer?) {
    object(iterator, StoreIterator.self).index += 1
}

/// `rocksdb_iter_key` of `rocksdb/c.h`.
@c(rocksdb_iter_key)
public func iteratorKey(_ iterator: OpaquePointer?, _ count: UnsafeMutablePointer<Int>?) -> UnsafePointer<CChar>? {
    let iterator = object(iterator, StoreIterator.self)
    let key = iterator.entries[iterator.index].key
    count?.pointee = key.count
    return key.baseAddress?.assumingMemoryBound(to: CChar.self)
}

/// `rocksdb_iter_value` of `rocksdb/c.h`.
@c(rocksdb_iter_value)
public func iteratorValue(_ iterator: OpaquePointer?, _ count: UnsafeMutablePointer<Int>?) -> UnsafePointer<CChar>? {
    let iterator = object(iterator, StoreIterator.self)
    let value = iterator.entries[iterator.index].value
    count?.pointee = value.count
    return value.baseAddress?.assumingMemoryBound(to: CChar.self)
}

/// `rocksdb_iter_get_error` of `rocksdb/c.h`.
@c(rocksdb_iter_get_error)
public func iteratorError(
    _ iterator: OpaquePointer?,
    _ message: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) {
    if object(iterator, StoreIterator.self).needsDisk { message?.pointee = incomplete() }
}
