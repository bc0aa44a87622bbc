import Foundation
import GRDB
package import ReplicatedDatabase
package import struct ReplicatedDatabase.DatabaseError
import Synchronization

// One file, `rdb.sqlite`:
//
//     record   key | value | createRevision | modifyRevision        the state
//     history  revision, sequence | key | value or NULL             what a watch may still ask for
//     meta     name | number                                        format, revision, compacted
//
// The revision is in the transaction that it numbers. Write-ahead log with synchronous FULL: a committed transaction
// survives the loss of power.

/// A `ReplicatedDatabase` for a cluster of one node: one SQLite file, owned by one process.
package final class SQLiteDatabase: ReplicatedDatabase {
    /// The format that this version writes and the only one that it reads.
    package static let formatVersion: Int64 = 1

    private let queue: DatabaseQueue
    private let hub = Mutex(WatchHub())
    private let historyRevisionsMax: Int64

    /// Opens a database file, or makes one.
    ///
    /// - Parameters:
    ///   - path: the file; its directory must exist.
    ///   - historyRevisionsMax: how many revisions back a watch may start.
    /// - Throws: `.unavailable` when another process holds the file, `.damaged` when it is not one of ours.
    package init(path: String, historyRevisionsMax: Int64 = 10_000) throws(DatabaseError) {
        self.historyRevisionsMax = historyRevisionsMax
        var configuration = Configuration()
        configuration.label = "godwit.rdb"
        configuration.prepareDatabase { database in
            // Exclusive: a second daemon on the same file fails at once and cannot read what is half old.
            try database.execute(sql: "PRAGMA locking_mode = EXCLUSIVE")
            try database.execute(sql: "PRAGMA journal_mode = WAL")
            try database.execute(sql: "PRAGMA synchronous = FULL")
        }
        do {
            queue = try DatabaseQueue(path: path, configuration: configuration)
            try queue.write { try Self.prepareTables($0) }
        } catch {
            throw Self.translate(error, "opening \(path)")
        }
    }

    /// The record at a key.
    package func get(_ key: String) async throws(DatabaseError) -> DatabaseRecord? {
        do {
            return try await queue.read { try Self.record(at: key, $0) }
        } catch {
            throw Self.translate(error, "reading '\(key)'")
        }
    }

    /// Every record under a prefix, in key order.
    package func range(prefix: String) async throws(DatabaseError) -> (records: [DatabaseRecord], revision: Int64) {
        do {
            return try await queue.read { database in
                let rows = try Row.fetchAll(
                    database,
                    sql: """
                        SELECT key, value, createRevision, modifyRevision FROM record
                        WHERE substr(key, 1, length(?1)) = ?1 AND key >= ?1 ORDER BY key
                        """,
                    arguments: [Self.blob(prefix)]
                )
                return (rows.map(Self.record(from:)), try Self.meta("revision", database))
            }
        } catch {
            throw Self.translate(error, "reading '\(prefix)…'")
        }
    }

    /// Makes all changes or none; durable when it returns.
    package func transact(
        when conditions: [DatabaseCondition],
        _ changes: [DatabaseChange]
    ) async throws(DatabaseError) -> TransactionOutcome {
        let limit = historyRevisionsMax
        do {
            return try await queue.writeWithoutTransaction { database in
                var outcome = TransactionOutcome.conflicted(revision: 0)
                var events: [WatchEvent] = []
                try database.inTransaction(.immediate) {
                    events = []
                    outcome = try Self.perform(conditions, changes, keeping: limit, &events, database)
                    return .commit
                }
                // Still on the serial queue: watchers see transactions in the order of their revisions.
                for watch in self.hub.withLock({ $0.publish(events) }) { watch.finish() }
                return outcome
            }
        } catch {
            throw Self.translate(error, "a transaction of \(changes.count) changes")
        }
    }

    /// Every change under a prefix after a revision.
    package func watch(prefix: String, after revision: Int64) -> AsyncThrowingStream<WatchEvent, any Error> {
        let (stream, continuation) = AsyncThrowingStream<WatchEvent, any Error>.makeStream(
            bufferingPolicy: .bufferingOldest(WatchHub.pendingEventsMax)
        )
        // On the serial queue, so that no transaction falls between the history and the registration.
        queue.asyncWriteWithoutTransaction { [weak self] database in
            guard let self else { return continuation.finish() }
            do {
                let compacted = try Self.meta("compacted", database)
                guard revision >= compacted else { throw DatabaseError.compacted(revision, oldest: compacted) }
                let history = try Self.history(after: revision, database)
                let added = self.hub.withLock { $0.add(prefix: prefix, history: history, continuation) }
                continuation.onTermination = { [weak self] _ in
                    self?.hub.withLock { $0.remove(added.identifier) }
                }
                added.ended?.finish()
            } catch {
                continuation.finish(throwing: Self.translate(error, "watching '\(prefix)…'"))
            }
        }
        return stream
    }

    /// Closes the file and ends every watch.
    package func close() throws(DatabaseError) {
        for watch in hub.withLock({ $0.removeAll() }) { watch.finish() }
        do {
            try queue.close()
        } catch {
            throw Self.translate(error, "closing")
        }
    }
}

extension SQLiteDatabase {
    private static func prepareTables(_ database: Database) throws {
        // The promise of durability stands on these two settings (2 is FULL), so they are asked back.
        let mode = try String.fetchOne(database, sql: "PRAGMA journal_mode")
        let level = try Int.fetchOne(database, sql: "PRAGMA synchronous")
        guard mode == "wal", level == 2 else {
            throw DatabaseError(
                .unavailable,
                "the file system does not allow a durable database (journal \(mode ?? ""), synchronous \(level ?? -1)); "
                    + "use a local file system such as ext4 or XFS"
            )
        }
        try database.execute(
            sql: """
                CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY NOT NULL, number INTEGER NOT NULL) WITHOUT ROWID;
                CREATE TABLE IF NOT EXISTS record (
                    key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL,
                    createRevision INTEGER NOT NULL, modifyRevision INTEGER NOT NULL) WITHOUT ROWID;
                CREATE TABLE IF NOT EXISTS history (
                    revision INTEGER NOT NULL, sequence INTEGER NOT NULL, key BLOB NOT NULL, value BLOB,
                    PRIMARY KEY (revision, sequence)) WITHOUT ROWID;
                INSERT OR IGNORE INTO meta VALUES ('format', \(formatVersion)), ('revision', 0), ('compacted', 0);
                """
        )
        let found = try meta("format", database)
        guard found == formatVersion else {
            throw DatabaseError(
                .damaged,
                "the database has format \(found), this version reads \(formatVersion); use the version that wrote it"
            )
        }
    }

    private static func perform(
        _ conditions: [DatabaseCondition],
        _ changes: [DatabaseChange],
        keeping limit: Int64,
        _ events: inout [WatchEvent],
        _ database: Database
    ) throws -> TransactionOutcome {
        let current = try meta("revision", database)
        for condition in conditions where !(try holds(condition, database)) { return .conflicted(revision: current) }
        let revision = current + 1
        for change in EffectiveChange.list(changes) { try apply(change, at: revision, &events, database) }
        guard !events.isEmpty else { return .committed(revision: current) }
        for (sequence, event) in events.enumerated() {
            try database.execute(
                sql: "INSERT INTO history VALUES (?, ?, ?, ?)",
                arguments: [revision, sequence, blob(event.key), event.value.map { Data($0) }]
            )
        }
        try database.execute(sql: "UPDATE meta SET number = ? WHERE name = 'revision'", arguments: [revision])
        let oldest = revision - limit
        if oldest > 0 {
            try database.execute(sql: "DELETE FROM history WHERE revision <= ?", arguments: [oldest])
            try database.execute(sql: "UPDATE meta SET number = ? WHERE name = 'compacted'", arguments: [oldest])
        }
        return .committed(revision: revision)
    }

    private static func holds(_ condition: DatabaseCondition, _ database: Database) throws -> Bool {
        switch condition {
        case .modifyRevision(let key, let expected): try record(at: key, database)?.modifyRevision == expected
        case .absent(let key): try record(at: key, database) == nil
        case .present(let key): try record(at: key, database) != nil
        }
    }

    private static func apply(
        _ change: EffectiveChange,
        at revision: Int64,
        _ events: inout [WatchEvent],
        _ database: Database
    ) throws {
        switch change {
        case .put(let key, let value):
            try database.execute(
                sql: """
                    INSERT INTO record VALUES (?1, ?2, ?3, ?3)
                    ON CONFLICT (key) DO UPDATE SET value = ?2, modifyRevision = ?3
                    """,
                arguments: [blob(key), Data(value), revision]
            )
            events.append(WatchEvent(key: key, value: value, revision: revision))
        case .delete(let key):
            try database.execute(sql: "DELETE FROM record WHERE key = ?", arguments: [blob(key)])
            if database.changesCount > 0 { events.append(WatchEvent(key: key, value: nil, revision: revision)) }
        case .deletePrefix(let prefix, let sparing):
            let keys = try Data.fetchAll(
                database,
                sql: "SELECT key FROM record WHERE substr(key, 1, length(?1)) = ?1 ORDER BY key",
                arguments: [blob(prefix)]
            )
            for key in keys where !sparing.contains(text(key)) {
                try database.execute(sql: "DELETE FROM record WHERE key = ?", arguments: [key])
                events.append(WatchEvent(key: text(key), value: nil, revision: revision))
            }
        }
    }

    private static func history(after revision: Int64, _ database: Database) throws -> [WatchEvent] {
        let rows = try Row.fetchAll(
            database,
            sql: "SELECT key, value, revision FROM history WHERE revision > ? ORDER BY revision, sequence",
            arguments: [revision]
        )
        return rows.map { row in
            WatchEvent(
                key: text(row["key"]),
                value: (row["value"] as Data?).map { [UInt8]($0) },
                revision: row["revision"]
            )
        }
    }

    private static func record(at key: String, _ database: Database) throws -> DatabaseRecord? {
        try Row.fetchOne(
            database,
            sql: "SELECT key, value, createRevision, modifyRevision FROM record WHERE key = ?",
            arguments: [blob(key)]
        ).map(record(from:))
    }

    private static func record(from row: Row) -> DatabaseRecord {
        DatabaseRecord(
            key: text(row["key"]),
            value: [UInt8](row["value"] as Data),
            createRevision: row["createRevision"],
            modifyRevision: row["modifyRevision"]
        )
    }

    private static func meta(_ name: String, _ database: Database) throws -> Int64 {
        guard
            let number = try Int64.fetchOne(database, sql: "SELECT number FROM meta WHERE name = ?", arguments: [name])
        else { throw DatabaseError(.damaged, "the database lacks its '\(name)' number; restore it from a backup") }
        return number
    }

    /// Keys are stored as bytes: SQLite then orders them as the interface says, by bytes.
    private static func blob(_ key: String) -> Data { Data(key.utf8) }

    private static func text(_ key: Data) -> String { String(decoding: key, as: UTF8.self) }

    private static func translate(_ error: any Error, _ action: String) -> DatabaseError {
        if let error = error as? DatabaseError { return error }
        guard let failure = error as? GRDB.DatabaseError else {
            return DatabaseError(.unavailable, "\(action): \(error); read to find out what happened, then try again")
        }
        switch failure.resultCode {
        case .SQLITE_BUSY, .SQLITE_LOCKED:
            return DatabaseError(
                .unavailable,
                "\(action): another process holds the database; end it or use another data directory"
            )
        case .SQLITE_CORRUPT, .SQLITE_NOTADB:
            return DatabaseError(.damaged, "\(action): \(failure); restore the file from a backup")
        case .SQLITE_CANTOPEN, .SQLITE_PERM, .SQLITE_READONLY:
            return DatabaseError(
                .unavailable,
                "\(action): \(failure); check that the directory exists and may be written to"
            )
        default:
            return DatabaseError(.unavailable, "\(action): \(failure); check the disk, then try again")
        }
    }
}
