/// Directories that were read whole, in the order of their cookies: a reading that goes on page by page need not go to
/// the database for each page. A change of a directory's names forgets its index.
struct DirectoryIndexes {
    /// Entries of all indexes together.
    static let entriesMax = 1 << 20
    /// Directories below this many names are quick to read without an index.
    static let directoryEntriesMin: UInt64 = 32
    /// Directories above this many names are read page by page.
    static let directoryEntriesMax: UInt64 = 1 << 18

    private var indexes: [UInt64: [DirectoryListingEntry]] = [:]
    private var entryCount = 0
    /// Grows with every name that changes anywhere: an index that was read before a change is not taken in after it.
    private(set) var changeCount: UInt64 = 0

    /// The entries of a directory, if it was read since its last change.
    subscript(directory: UInt64) -> [DirectoryListingEntry]? { indexes[directory] }

    /// Takes an index in, unless names have changed since it was read.
    mutating func insert(_ directory: UInt64, _ entries: [DirectoryListingEntry], readAt change: UInt64) {
        guard change == changeCount else { return }
        if entryCount + entries.count > Self.entriesMax {
            indexes = [:]
            entryCount = 0
        }
        forget(directory, isChange: false)
        indexes[directory] = entries
        entryCount += entries.count
    }

    /// Forgets a directory whose names change.
    mutating func forget(_ directory: UInt64, isChange: Bool = true) {
        if isChange { changeCount += 1 }
        guard !indexes.isEmpty, let old = indexes.removeValue(forKey: directory) else { return }
        entryCount -= old.count
    }
}
