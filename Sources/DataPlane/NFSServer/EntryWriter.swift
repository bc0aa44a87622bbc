import Bytes
import FileService
import Identity
import NIOCore
import VolumeEngine
import XDR

/// What an answer to READDIR or READDIRPLUS may hold.
struct EntryBudget {
    let isPlus: Bool
    /// Bytes of names, numbers and cookies that the client wants (READDIRPLUS only).
    let directoryBytes: Int
    /// Bytes of the whole result.
    let totalBytes: Int

    /// Bytes before the entries: attributes of the directory (4 + 84) and the verifier.
    static let headBytes = 96
    /// Bytes behind the entries: no further one, and whether it is the end.
    static let tailBytes = 8

    /// Memory that the result never exceeds.
    var memoryBytes: Int { max(totalBytes, Self.headBytes + Self.tailBytes) }
}

/// Writes the entries of a READDIR or READDIRPLUS into the memory of the answer until the budget is used up.
///
/// A listing is thousands of small fields. Each entry is measured before it is written, so that nothing grows and nothing
/// is taken back; going through the buffer field by field took five times as long.
struct EntryWriter: DirectoryPage {
    /// What handles are made of.
    struct Handles {
        var msid: VolumeMSID
        var key: SipHashKey
    }

    let budget: EntryBudget
    /// Of the volume that is listed; nil for a directory outside of volumes, whose entries have no handles.
    var handles: Handles?
    private var memory: XDRMemoryWriter
    private var directoryBytes = 0
    private(set) var entryCount = 0

    init(budget: EntryBudget, memory: UnsafeMutableRawBufferPointer) {
        self.budget = budget
        self.memory = XDRMemoryWriter(memory)
    }

    /// Bytes that were written.
    var byteCount: Int { memory.count }

    // MARK: Head and tail

    mutating func begin(_ directory: FileAttributes) {
        restart()
        memory.writePostOperation(directory, msid: handles!.msid)
        memory.write(0 as UInt64)
    }

    mutating func begin(_ directory: SyntheticDirectory) {
        restart()
        memory.write(1 as UInt32)
        // One of them in a listing: its fields go through a buffer of their own.
        var attributes = ByteBuffer()
        attributes.writeAttributes(directory)
        attributes.withUnsafeReadableBytes { memory.write(raw: $0) }
        memory.write(0 as UInt64)
    }

    private mutating func restart() {
        memory.clear()
        directoryBytes = 0
        entryCount = 0
    }

    mutating func finish(isEnd: Bool) {
        memory.write(0 as UInt32)
        memory.write(isEnd ? 1 : 0 as UInt32)
    }

    // MARK: Entries

    mutating func add(_ entry: DirectoryPageEntry) -> Bool {
        guard budget.isPlus, let attributes = entry.attributes, let handles else {
            return add(entry.reference.inode.rawValue, entry.name, entry.cookie)
        }
        // Attributes: 4 + 84. Handle: 4 + 4 + 32.
        guard
            head(entry.reference.inode.rawValue, entry.name, entry.cookie, plusBytes: 92 + 4 + FileHandle.byteCount)
        else { return false }
        memory.writePostOperation(attributes, msid: handles.msid)
        memory.write(1 as UInt32)
        memory.write(UInt32(FileHandle.byteCount))
        let words = FileHandle(msid: handles.msid, reference: attributes.reference).sealed(handles.key)
        memory.write(words.0)
        memory.write(words.1)
        memory.write(words.2)
        memory.write(words.3)
        return true
    }

    /// Adds an entry without attributes and handle.
    mutating func add(_ number: UInt64, _ name: [UInt8], _ cookie: UInt64) -> Bool {
        name.withUnsafeBytes { add(number, $0, cookie) }
    }

    private mutating func add(_ number: UInt64, _ name: UnsafeRawBufferPointer, _ cookie: UInt64) -> Bool {
        guard head(number, name, cookie, plusBytes: budget.isPlus ? 8 : 0) else { return false }
        if budget.isPlus { memory.write(0 as UInt64) }
        return true
    }

    /// Writes what all entries have; false when the entry has no room.
    private mutating func head(
        _ number: UInt64,
        _ name: UnsafeRawBufferPointer,
        _ cookie: UInt64,
        plusBytes: Int
    ) -> Bool {
        let nameBytes = 24 + (name.count + 3) & ~3
        guard memory.count + nameBytes + plusBytes + EntryBudget.tailBytes <= budget.totalBytes,
            directoryBytes + nameBytes <= budget.directoryBytes
        else { return false }
        memory.write(1 as UInt32)
        memory.write(number)
        memory.write(opaque: name)
        memory.write(cookie)
        directoryBytes += nameBytes
        entryCount += 1
        return true
    }
}

extension XDRMemoryWriter {
    /// `post_op_attr` with attributes; the fields of `ByteBuffer.writeAttributes`.
    mutating func writePostOperation(_ attributes: FileAttributes, msid: VolumeMSID) {
        let reference = attributes.reference
        write(1 as UInt32)
        write(UInt32(attributes.type.rawValue))
        write(UInt32(attributes.mode))
        write(attributes.linkCount)
        write(attributes.owner)
        write(attributes.group)
        write(attributes.sizeBytes)
        write(attributes.usedBytes)
        write(attributes.deviceMajor)
        write(attributes.deviceMinor)
        write(msid.fileSystemIdentifier(at: reference.epoch))
        write(reference.inode.rawValue)
        write(attributes.accessTime)
        write(attributes.modifyTime)
        write(attributes.changeTime)
    }

    private mutating func write(_ time: Timestamp) {
        write(time.wireSeconds)
        write(time.nanoseconds)
    }
}
