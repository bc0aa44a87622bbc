package import ReplicatedDatabase

/// What every `ReplicatedDatabase` must do; run on each engine. A clause throws the first
/// promise that is broken, in words.
package enum DatabaseContract {
    /// The engine broke a promise.
    package struct Violation: Error, CustomStringConvertible {
        /// Which one.
        package let description: String
    }

    /// All clauses by name. Each is given an empty database that keeps at least 100 revisions of history.
    package static let clauses: [(name: String, run: @Sendable (any ReplicatedDatabase) async throws -> Void)] = [
        ("a put can be read and carries its revisions", putAndGet),
        ("a range is sorted by bytes and bounded by its prefix", rangeOrder),
        ("a condition that does not hold changes nothing", conditions),
        ("deletes remove exactly what they name", deletes),
        ("the last change of a key in a transaction counts", lastChangeCounts),
        ("a range of many records is one state", manyRecords),
        ("a transaction without effect takes no revision", emptyTransactions),
        ("a watch sees history and news in order, without gaps", watchOrder),
        ("exactly one of two writers on one revision wins", compareAndSet),
    ]

    /// A database that keeps only a few revisions must say so to a watch that wants more.
    package static func compaction(_ database: any ReplicatedDatabase, keeps revisions: Int64) async throws {
        for number in 0..<(revisions * 3) { try await put(database, "key", [UInt8(truncatingIfNeeded: number)]) }
        do {
            for try await _ in database.watch(prefix: "", after: 0) {
                throw Violation(description: "a watch from compacted history gave an event")
            }
            throw Violation(description: "a watch from compacted history ended without an error")
        } catch let error as DatabaseError {
            try expect(error.code == .compacted, "the error is \(error), not compacted")
        }
        var recent = database.watch(prefix: "", after: revisions * 3 - 1).makeAsyncIterator()
        try expect(try await recent.next()?.revision == revisions * 3, "kept history was not given")
    }

    private static func putAndGet(_ database: any ReplicatedDatabase) async throws {
        try expect(try await database.get("a") == nil, "an empty database has a key")
        let first = try await put(database, "a", [1])
        let second = try await put(database, "a", [2])
        try expect(second == first + 1, "revisions do not grow by one")
        let record = DatabaseRecord(key: "a", value: [2], createRevision: first, modifyRevision: second)
        try expect(try await database.get("a") == record, "the record is not what was put")
    }

    private static func rangeOrder(_ database: any ReplicatedDatabase) async throws {
        let keys = ["b/2", "b/10", "b", "c", "a/1", "b/\u{e9}", "b/Z", "B/1"]
        let outcome = try await database.transact(when: [], keys.map { .put(key: $0, value: [7]) })
        let (records, revision) = try await database.range(prefix: "b/")
        try expect(records.map(\.key) == ["b/10", "b/2", "b/Z", "b/\u{e9}"], "keys are \(records.map(\.key))")
        try expect(outcome == .committed(revision: revision), "the range has another revision than the transaction")
        try expect(try await database.range(prefix: "").records.count == keys.count, "the empty prefix is not all")
    }

    private static func conditions(_ database: any ReplicatedDatabase) async throws {
        let revision = try await put(database, "a", [1])
        let failing: [DatabaseCondition] = [
            .absent(key: "a"), .present(key: "b"), .modifyRevision(key: "a", equals: revision + 1),
            .modifyRevision(key: "b", equals: revision),
        ]
        for condition in failing {
            let outcome = try await database.transact(
                when: [.present(key: "a"), condition],
                [.put(key: "a", value: [9]), .put(key: "b", value: [9])]
            )
            try expect(outcome == .conflicted(revision: revision), "\(condition) did not conflict")
        }
        try expect(try await database.get("a")?.value == [1], "a conflicted transaction wrote")
        try expect(try await database.get("b") == nil, "a conflicted transaction created")
        let holding: [DatabaseCondition] = [
            .present(key: "a"), .absent(key: "b"), .modifyRevision(key: "a", equals: revision),
        ]
        let outcome = try await database.transact(when: holding, [.put(key: "b", value: [2])])
        try expect(outcome == .committed(revision: revision + 1), "conditions that hold conflicted")
    }

    private static func deletes(_ database: any ReplicatedDatabase) async throws {
        let keys = ["s/1", "s/1/v", "s/1/w", "s/10", "s/2", "t%", "t_"]
        _ = try await database.transact(when: [], keys.map { .put(key: $0, value: []) })
        _ = try await database.transact(when: [], [.deletePrefix("s/1/"), .delete(key: "s/2"), .deletePrefix("t_")])
        let left = try await database.range(prefix: "").records.map(\.key)
        try expect(left == ["s/1", "s/10", "t%"], "left are \(left)")
        let created = try await put(database, "s/2", [5])
        try expect(try await database.get("s/2")?.createRevision == created, "a new key remembers a deleted one")
    }

    private static func lastChangeCounts(_ database: any ReplicatedDatabase) async throws {
        let created = try await put(database, "l/kept", [1])
        _ = try await database.transact(when: [], [.put(key: "l/old", value: [1]), .put(key: "l/zz", value: [1])])
        let outcome = try await database.transact(
            when: [],
            [
                .put(key: "l/gone", value: [1]), .deletePrefix("l/"), .put(key: "l/kept", value: [2]),
                .put(key: "l/new", value: [1]), .put(key: "l/new", value: [2]), .put(key: "m", value: [1]),
                .delete(key: "m"),
            ]
        )
        let (records, revision) = try await database.range(prefix: "")
        try expect(outcome == .committed(revision: revision), "the transaction did not commit: \(outcome)")
        let wanted = [
            DatabaseRecord(key: "l/kept", value: [2], createRevision: created, modifyRevision: revision),
            DatabaseRecord(key: "l/new", value: [2], createRevision: revision, modifyRevision: revision),
        ]
        try expect(records == wanted, "left are \(records)")
    }

    private static func manyRecords(_ database: any ReplicatedDatabase) async throws {
        let keys = (0..<2500).map { "many/\(10_000 + $0)" }
        for start in stride(from: 0, to: keys.count, by: 100) {
            _ = try await database.transact(
                when: [],
                keys[start..<start + 100].map { .put(key: $0, value: Array($0.utf8)) }
            )
        }
        let (records, revision) = try await database.range(prefix: "many/")
        try expect(records.map(\.key) == keys, "\(records.count) of \(keys.count) records were read")
        try expect(records.allSatisfy { $0.value == Array($0.key.utf8) }, "a record has the value of another")
        try expect(records.last?.modifyRevision == revision, "the range has another revision than its newest record")
    }

    private static func emptyTransactions(_ database: any ReplicatedDatabase) async throws {
        let revision = try await put(database, "a", [1])
        let outcome = try await database.transact(when: [.present(key: "a")], [.delete(key: "b"), .deletePrefix("c")])
        try expect(outcome == .committed(revision: revision), "deleting nothing took a revision: \(outcome)")
    }

    private static func watchOrder(_ database: any ReplicatedDatabase) async throws {
        let start = try await put(database, "w/0", [0])
        _ = try await put(database, "w/1", [1])
        _ = try await put(database, "other", [1])
        var iterator = database.watch(prefix: "w/", after: start).makeAsyncIterator()
        try expect(
            try await iterator.next() == WatchEvent(key: "w/1", value: [1], revision: start + 1),
            "history is missing"
        )
        _ = try await database.transact(
            when: [],
            [.put(key: "w/2", value: [2]), .delete(key: "w/1"), .put(key: "other", value: [2])]
        )
        try expect(
            try await iterator.next() == WatchEvent(key: "w/2", value: [2], revision: start + 3),
            "a put is missing"
        )
        try expect(
            try await iterator.next() == WatchEvent(key: "w/1", value: nil, revision: start + 3),
            "a delete is missing"
        )
        for number in 0..<50 { _ = try await put(database, "w/3", [UInt8(number)]) }
        for number in 0..<50 {
            try expect(try await iterator.next()?.value == [UInt8(number)], "event \(number) is not in its place")
        }
    }

    private static func compareAndSet(_ database: any ReplicatedDatabase) async throws {
        var revision = try await put(database, "counter", [0])
        for _ in 0..<20 {
            let expected = revision
            let outcomes = try await withThrowingTaskGroup(of: TransactionOutcome.self) { group in
                for writer in 0..<4 {
                    group.addTask {
                        try await database.transact(
                            when: [.modifyRevision(key: "counter", equals: expected)],
                            [.put(key: "counter", value: [UInt8(writer)])]
                        )
                    }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            let winners = outcomes.filter { $0 == .committed(revision: expected + 1) }
            try expect(winners.count == 1, "\(winners.count) writers won")
            revision += 1
        }
    }

    @discardableResult
    private static func put(_ database: any ReplicatedDatabase, _ key: String, _ value: [UInt8]) async throws -> Int64 {
        let outcome = try await database.transact(when: [], [.put(key: key, value: value)])
        guard case .committed(let revision) = outcome else { throw Violation(description: "a put conflicted") }
        return revision
    }

    private static func expect(_ isKept: Bool, _ description: @autoclosure () -> String) throws {
        if !isKept { throw Violation(description: description()) }
    }
}
