import Bytes
import FileIO
import Identity
import RocksStore

/// Brings what a crash took from the metadata database back into it, before anybody reads it.
struct CommitJournalRecovery {
    let directory: String
    let sizeBytes: Int
    let database: RocksDatabase

    private var path: String { directory + "/journal" }

    /// Opens the journal of an aggregate, empty: all that was in it is durable in the database.
    ///
    /// - Throws: `damaged` when a commit that was durable is neither in the database nor in the journal.
    func open() throws -> CommitJournal {
        let stored = try lastInDatabase()
        if stored == nil && !FileSystem.exists(path) { try make() }
        guard FileSystem.exists(path) else {
            throw damaged("there is no journal, and the metadata has commits up to \(stored ?? 0)")
        }
        let file = try File(path: path, .readWrite)
        let size = try file.size()
        // Its making may have been cut off; its first commit has then not begun.
        guard size >= sizeBytes || stored == nil else {
            throw damaged("the journal has \(size) bytes instead of \(sizeBytes)")
        }
        let last = try replay(file, after: stored ?? 0)
        try wipe(file)
        return CommitJournal(file: file, sizeBytes: sizeBytes, database: database, last: last)
    }

    private func make() throws {
        try wipe(File(path: path, .readWrite))
        try FileSystem.synchronizeDirectory(directory)
    }

    /// Zeros are written and not left out: a hole would have to be filled in by the commits.
    private func wipe(_ file: File) throws {
        let zeros = UnsafeMutableRawBufferPointer.allocate(byteCount: sizeBytes, alignment: 4096)
        defer { zeros.deallocate() }
        zeros.initializeMemory(as: UInt8.self, repeating: 0)
        try file.write(UnsafeRawBufferPointer(zeros), at: 0)
        try file.synchronizeData()
    }

    /// Writes the commits that the database has lost into it; returns the number of the last one.
    private func replay(_ file: File, after stored: UInt64) throws -> UInt64 {
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: try file.size(), alignment: 4096)
        defer { bytes.deallocate() }
        let count = try file.read(into: bytes, at: 0)
        var last = stored
        for entry in CommitJournalEntry.all(in: UnsafeRawBufferPointer(rebasing: bytes[..<count]), after: stored) {
            guard entry.number == last + 1 else {
                // Without its predecessor: a power cut has torn that one while neither was durable, so that nobody was
                // told of them.
                if entry.durable <= last { continue }
                throw damaged("commit \(last + 1) is missing, and was durable when \(entry.number) was written")
            }
            try database.write(RocksBatch(entry.changes), isSynced: false)
            last = entry.number
        }
        if last > 0 { try database.synchronizeLog() }
        return last
    }

    private func lastInDatabase() throws -> UInt64? {
        var last: UInt64?
        _ = try DatabaseKey.lastCommit.withUnsafeBytes { key in
            try database.get(key, cachedOnly: false) { last = DatabaseKey.bigEndian($0, 0) }
        }
        return last
    }

    private func damaged(_ what: String) -> StorageError {
        StorageError(
            .damaged,
            "the commit journal of the aggregate in \(directory) cannot be used: \(what)",
            remedy: "restore \(path) from before it was changed, or the aggregate from a replica"
        )
    }
}
