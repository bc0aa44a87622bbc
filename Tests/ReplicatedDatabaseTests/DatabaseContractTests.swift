import Foundation
import ReplicatedDatabase
import ReplicatedDatabaseSQLite
import TestKit
import Testing

@Suite("Replicated database contract")
struct DatabaseContractTests {
    @Test(arguments: DatabaseContract.clauses.map(\.name))
    func inMemory(clause: String) async throws {
        let run = try #require(DatabaseContract.clauses.first { $0.name == clause }).run
        try await run(InMemoryDatabase())
    }

    @Test(arguments: DatabaseContract.clauses.map(\.name))
    func sqlite(clause: String) async throws {
        let run = try #require(DatabaseContract.clauses.first { $0.name == clause }).run
        try await withDatabase { try await run($0) }
    }

    @Test func compactionInMemory() async throws {
        try await DatabaseContract.compaction(InMemoryDatabase(historyRevisionsMax: 5), keeps: 5)
    }

    @Test func compactionSQLite() async throws {
        try await withDatabase(historyRevisionsMax: 5) { try await DatabaseContract.compaction($0, keeps: 5) }
    }

    @Test func sqliteSurvivesReopening() async throws {
        try await withDirectory { path in
            var database = try SQLiteDatabase(path: path + "/rdb.sqlite")
            _ = try await database.transact(when: [], [.put(key: "a", value: [1, 2, 3])])
            try database.close()
            database = try SQLiteDatabase(path: path + "/rdb.sqlite")
            #expect(try await database.get("a")?.value == [1, 2, 3])
            #expect(
                try await database.transact(when: [], [.put(key: "a", value: [])]) == .committed(revision: 2)
            )
            var iterator = database.watch(prefix: "", after: 0).makeAsyncIterator()
            #expect(try await iterator.next()?.value == [1, 2, 3])
            try database.close()
        }
    }

    @Test func sqliteRefusesForeignFiles() async throws {
        try await withDirectory { path in
            let file = path + "/rdb.sqlite"
            try Data("this is not a database, it is a poem about godwits".utf8).write(to: URL(filePath: file))
            #expect { _ = try SQLiteDatabase(path: file) } throws: { ($0 as? DatabaseError)?.code == .damaged }
            #expect {
                _ = try SQLiteDatabase(path: path + "/missing/rdb.sqlite")
            } throws: {
                ($0 as? DatabaseError)?.code == .unavailable
            }
        }
    }

    private func withDatabase(
        historyRevisionsMax: Int64 = 100,
        _ body: (SQLiteDatabase) async throws -> Void
    ) async throws {
        try await withDirectory { path in
            let database = try SQLiteDatabase(path: path + "/rdb.sqlite", historyRevisionsMax: historyRevisionsMax)
            try await body(database)
            try database.close()
        }
    }

    private func withDirectory(_ body: (String) async throws -> Void) async throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "godwit-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        try await body(directory.path)
    }
}
