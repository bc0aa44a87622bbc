import Bytes

/// A key and its value, in one piece of memory that does not move: iterators hand out pointers into it.
final class StoreEntry {
    private let memory: UnsafeMutableRawBufferPointer
    let keyCount: Int

    init(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
        memory = .allocate(byteCount: max(1, key.count + value.count), alignment: 8)
        keyCount = key.count
        valueCount = value.count
        UnsafeMutableRawBufferPointer(rebasing: memory[..<key.count]).copyMemory(from: key)
        UnsafeMutableRawBufferPointer(rebasing: memory[key.count..<key.count + value.count]).copyMemory(from: value)
    }

    deinit { memory.deallocate() }

    let valueCount: Int
    var key: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: memory[..<keyCount]) }
    var value: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: memory[keyCount..<keyCount + valueCount]) }
}

/// A change of a batch.
enum StoreChange {
    case put(StoreEntry)
    case delete([UInt8])

    /// The changes as bytes, never none.
    static func encode(_ changes: [StoreChange]) -> [UInt8] {
        var writer = ByteWriter(capacity: 1024)
        writer.append(UInt32(changes.count))
        for change in changes {
            switch change {
            case .put(let entry):
                writer.append(UInt8(1))
                writer.append(counted: [UInt8](entry.key))
                writer.append(counted: [UInt8](entry.value))
            case .delete(let key):
                writer.append(UInt8(0))
                writer.append(counted: key)
            }
        }
        return writer.bytes
    }

    /// Changes out of bytes whose checksum was right.
    static func decode(_ bytes: UnsafeRawBufferPointer) -> [StoreChange] {
        var reader = ByteReader(bytes)
        func changes() throws(ByteFormatError) -> [StoreChange] {
            let count = try reader.read(UInt32.self)
            var changes: [StoreChange] = []
            for _ in 0..<count {
                let isPut = try reader.read(UInt8.self) == 1
                let key = try reader.readCounted(limit: bytes.count)
                guard isPut else {
                    changes.append(.delete(key))
                    continue
                }
                let value = try reader.readCounted(limit: bytes.count)
                changes.append(
                    key.withUnsafeBytes { key in value.withUnsafeBytes { .put(StoreEntry(key, $0)) } }
                )
            }
            return changes
        }
        do { return try changes() } catch { fatalError("a batch is not what it was: \(error)") }
    }
}

/// An ordered store of keys with the contract of a RocksDB with one log: a batch happens as a whole; a synchronised
/// batch is durable with all that came before it; of the others a crash keeps some first part.
final class OrderedStore {
    /// What a batch replaced: the entry that a key had, nil for none.
    private typealias Undo = [(key: StoreEntry, before: StoreEntry?)]

    private(set) var entries: [StoreEntry] = []
    private var unsynced: [(number: UInt64, undo: Undo)] = []
    /// Synchronised batches that are on their way into the log.
    private var inFlight: [UInt64: [StoreChange]] = [:]
    private var nextNumber: UInt64 = 0
    private unowned let disk: SimulatedDisk

    init(disk: SimulatedDisk) { self.disk = disk }

    /// The place of the first entry that is not below `key`.
    func position(of key: UnsafeRawBufferPointer) -> Int { Self.position(of: key, in: entries) }

    static func position(of key: UnsafeRawBufferPointer, in entries: [StoreEntry]) -> Int {
        var (low, high) = (0, entries.count)
        while low < high {
            let middle = (low + high) / 2
            if precedes(entries[middle].key, key) { low = middle + 1 } else { high = middle }
        }
        return low
    }

    static func precedes(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
        let order = compare(left, right)
        return order < 0 || (order == 0 && left.count < right.count)
    }

    private static func compare(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Int {
        let count = min(left.count, right.count)
        for index in 0..<count where left[index] != right[index] {
            return left[index] < right[index] ? -1 : 1
        }
        return 0
    }

    /// The entry of a key.
    func find(_ key: UnsafeRawBufferPointer) -> StoreEntry? {
        let position = position(of: key)
        guard position < entries.count, entries[position].key.elementsEqual(key) else { return nil }
        return entries[position]
    }

    /// Makes the changes of a batch.
    func write(_ changes: [StoreChange], isSynced: Bool) {
        disk.touched()
        disk.aggregateWritten()
        nextNumber += 1
        let number = nextNumber
        guard isSynced else {
            unsynced.append((number, apply(changes)))
            return
        }
        inFlight[number] = changes
        disk.wait()
        inFlight[number] = nil
        _ = apply(changes)
        unsynced.removeAll { $0.number < number }
    }

    /// Makes everything durable that was written before.
    func synchronizeLog() {
        disk.touched()
        let number = nextNumber
        disk.wait()
        unsynced.removeAll { $0.number <= number }
    }

    private func apply(_ changes: [StoreChange]) -> Undo {
        var undo: Undo = []
        for change in changes {
            switch change {
            case .put(let entry): undo.append((entry, set(entry.key, entry)))
            case .delete(let key):
                key.withUnsafeBytes { key in
                    if let before = set(key, nil) { undo.append((before, before)) }
                }
            }
        }
        return undo
    }

    private func set(_ key: UnsafeRawBufferPointer, _ entry: StoreEntry?) -> StoreEntry? {
        let position = position(of: key)
        let before = position < entries.count && entries[position].key.elementsEqual(key) ? entries[position] : nil
        switch (before, entry) {
        case (nil, nil): break
        case (nil, let entry?): entries.insert(entry, at: position)
        case (_?, let entry?): entries[position] = entry
        case (_?, nil): entries.remove(at: position)
        }
        return before
    }

    /// The process that had it open has died: what it was writing is in the log of the page cache, or is not.
    func processDied(_ generator: inout Generator) {
        for flight in inFlight.keys.sorted() where generator.oneIn(2) {
            unsynced.append((flight, apply(inFlight[flight]!)))
        }
        inFlight = [:]
    }

    /// All that is written is durable.
    func becomeDurable() { unsynced = [] }

    /// Gives its memory back.
    func clear() { (entries, unsynced, inFlight) = ([], [], [:]) }

    /// Loses what a crash loses.
    func crash(_ generator: inout Generator) {
        let kept = generator.below(unsynced.count + 1)
        for (_, undo) in unsynced[kept...].reversed() {
            for (entry, before) in undo.reversed() { _ = set(entry.key, before) }
        }
        // The log was being written: what had been in it before is there if the batch is.
        if kept == unsynced.count {
            for flight in inFlight.keys.sorted() where generator.oneIn(2) { _ = apply(inFlight[flight]!) }
        }
        unsynced = []
        inFlight = [:]
    }
}
