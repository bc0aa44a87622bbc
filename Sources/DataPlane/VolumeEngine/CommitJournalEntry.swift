import Bytes

/// One commit in the journal.
struct CommitJournalEntry {
    var number: UInt64
    /// The last number that was known to be durable when this was written.
    var durable: UInt64
    var changes: UnsafeRawBufferPointer

    /// Writes the entry into memory that it fills.
    func encode(into buffer: UnsafeMutableRawBufferPointer) {
        buffer.storeBytes(of: CommitJournal.magic.littleEndian, as: UInt32.self)
        buffer.storeBytes(of: UInt32(changes.count).littleEndian, toByteOffset: 4, as: UInt32.self)
        buffer.storeBytes(of: number.littleEndian, toByteOffset: 8, as: UInt64.self)
        buffer.storeBytes(of: durable.littleEndian, toByteOffset: 16, as: UInt64.self)
        let body = UnsafeMutableRawBufferPointer(rebasing: buffer[CommitJournal.headerBytes...])
        body.copyMemory(from: changes)
        let checksum = Self.checksum(UnsafeRawBufferPointer(buffer))
        buffer.storeBytes(of: checksum.littleEndian, toByteOffset: 24, as: UInt64.self)
    }

    private static func checksum(_ entry: UnsafeRawBufferPointer) -> UInt64 {
        let header = Checksum.xxh3(UnsafeRawBufferPointer(rebasing: entry[..<24]))
        return Checksum.xxh3(UnsafeRawBufferPointer(rebasing: entry[CommitJournal.headerBytes...]), seed: header)
    }

    /// The entry at the start of `bytes`, if a whole one is there.
    init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= CommitJournal.headerBytes else { return nil }
        func field<Value: FixedWidthInteger>(_ offset: Int, _ type: Value.Type) -> Value {
            Value(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: type))
        }
        let count = Int(field(4, UInt32.self))
        guard field(0, UInt32.self) == CommitJournal.magic, count <= bytes.count - CommitJournal.headerBytes else {
            return nil
        }
        let entry = UnsafeRawBufferPointer(rebasing: bytes[..<(CommitJournal.headerBytes + count)])
        guard field(24, UInt64.self) == Self.checksum(entry) else { return nil }
        number = field(8, UInt64.self)
        durable = field(16, UInt64.self)
        changes = UnsafeRawBufferPointer(rebasing: entry[CommitJournal.headerBytes...])
    }

    init(number: UInt64, durable: UInt64, changes: UnsafeRawBufferPointer) {
        (self.number, self.durable, self.changes) = (number, durable, changes)
    }

    /// Every whole entry with a number above `number`, wherever it lies. What a power cut has torn is passed over, and so is
    /// what is left of earlier turns, which has lower numbers.
    static func all(in journal: UnsafeRawBufferPointer, after number: UInt64) -> [CommitJournalEntry] {
        var found: [CommitJournalEntry] = []
        var position = 0
        while position + CommitJournal.headerBytes <= journal.count {
            // An entry begins with this byte (the integers are little-endian), most others of an unused journal are zeros.
            guard journal[position] == UInt8(truncatingIfNeeded: CommitJournal.magic) else {
                position += 1
                continue
            }
            guard let entry = CommitJournalEntry(UnsafeRawBufferPointer(rebasing: journal[position...])) else {
                position += 1
                continue
            }
            if entry.number > number { found.append(entry) }
            position += CommitJournal.headerBytes + entry.changes.count
        }
        return found.sorted { $0.number < $1.number }
    }
}
