import RocksStore
import TestKit
import Testing

@Suite("Store of the metadata")
struct StoreTests {
    private func withDatabase(_ body: (RocksDatabase) throws -> Void) throws {
        let directory = try TemporaryDirectory.make()
        defer { TemporaryDirectory.remove(directory) }
        let database = try RocksDatabase(path: directory + "/metadata", prefixLength: 8, cacheBytes: 1 << 20)
        try body(database)
        database.close()
    }

    @Test func iteratorOverAPrefixMayMeetAShorterKey() throws {
        try withDatabase { database in
            let batch = RocksBatch()
            batch.put([UInt8](repeating: 1, count: 12), [1])
            batch.put([2, 2], [2])
            try database.write(batch, isSynced: false)
            for kind in [RocksIterator.Kind.prefix, .prefixInMemory] {
                let iterator = database.iterator(kind)
                // Nothing has this prefix, and what comes next is shorter than a prefix.
                iterator.seek([UInt8](repeating: 1, count: 11) + [2])
                let isValid = iterator.isValid
                #expect(!isValid)
                _ = try iterator.check(cachedOnly: false)
            }
            let iterator = database.iterator(.prefix)
            iterator.seek([UInt8](repeating: 1, count: 12))
            let isFound = iterator.isValid
            #expect(isFound)
            iterator.next()
            let isValid = iterator.isValid
            #expect(!isValid)
        }
    }

    @Test func closedDatabaseRefusesCalls() throws {
        let directory = try TemporaryDirectory.make()
        defer { TemporaryDirectory.remove(directory) }
        let database = try RocksDatabase(path: directory + "/metadata", prefixLength: 8, cacheBytes: 1 << 20)
        database.close()
        let batch = RocksBatch()
        batch.put([1], [1])
        #expect(throws: RocksError.self) { try database.write(batch, isSynced: false) }
        #expect(throws: RocksError.self) {
            _ = try [UInt8(1)].withUnsafeBytes { try database.get($0, cachedOnly: false) { _ in } }
        }
        let iterator = database.iterator(.ordered)
        iterator.seek([1])
        let isValid = iterator.isValid
        #expect(!isValid)
        #expect(throws: RocksError.self) { _ = try iterator.check(cachedOnly: false) }
    }
}
