import ClusterConfiguration
package import Identity
package import ReplicatedDatabase

/// Where the records of migrate operations are in a cluster's database.
package enum MigrateKeys {
    /// All records of the destination side.
    package static let destinationPrefix = "migrate/destination/"
    /// All records of the source side.
    package static let sourcePrefix = "migrate/source/"

    /// What is written to measure how long a transaction takes.
    package static let probe = "migrate/probe"

    /// The destination's record of an operation.
    package static func destination(_ operation: ObjectUUID) -> String { destinationPrefix + operation.description }
    /// The source's record of an operation.
    package static func source(_ operation: ObjectUUID) -> String { sourcePrefix + operation.description }
}

/// A record whose format may change between versions of the software.
package protocol VersionedRecord: Codable, Sendable {
    /// The version that this software writes and reads.
    static var currentFormatVersion: Int { get }
    /// The version that it was written with.
    var formatVersion: Int { get }
}

/// A record with the revision that it was read at.
package struct Stored<Record: Sendable>: Sendable {
    /// The record.
    package var record: Record
    /// The revision that last wrote it; 0 when it was never written.
    package var revision: Int64

    /// Makes one.
    package init(record: Record, revision: Int64) {
        self.record = record
        self.revision = revision
    }
}

/// Typed access to the records of one side.
package struct MigrateRecords<Record: VersionedRecord>: Sendable {
    private let database: any ReplicatedDatabase
    private let prefix: String

    /// Access to the records under a prefix of `MigrateKeys`.
    package init(_ database: any ReplicatedDatabase, prefix: String) {
        self.database = database
        self.prefix = prefix
    }

    /// One record; nil when there is none.
    package func get(_ operation: ObjectUUID) async throws -> Stored<Record>? {
        guard let found = try await database.get(prefix + operation.description) else { return nil }
        return Stored(record: try Self.decode(found), revision: found.modifyRevision)
    }

    /// Every record, by operation, but for some operations.
    package func all(except known: Set<ObjectUUID> = []) async throws -> [Stored<Record>] {
        let (records, _) = try await database.range(prefix: prefix)
        let knownKeys = Set(known.map { prefix + $0.description })
        return try records.filter { !knownKeys.contains($0.key) }.map {
            Stored(record: try Self.decode($0), revision: $0.modifyRevision)
        }
    }

    /// Writes a record if nobody wrote it since `revision` (0: if it does not exist).
    /// - Returns: The new revision; nil when somebody else was first.
    package func put(_ record: Record, of operation: ObjectUUID, at revision: Int64) async throws -> Int64? {
        let key = prefix + operation.description
        let value = try ConfigurationCoding.encode(record)
        let condition: DatabaseCondition =
            revision == 0 ? .absent(key: key) : .modifyRevision(key: key, equals: revision)
        switch try await database.transact(when: [condition], [.put(key: key, value: value)]) {
        case .committed(let revision): return revision
        case .conflicted: return nil
        }
    }

    /// Deletes a record; absent is no error.
    package func delete(_ operation: ObjectUUID) async throws {
        _ = try await database.transact(when: [], [.delete(key: prefix + operation.description)])
    }

    /// Only the version, whatever else the record holds.
    private struct Version: Decodable { var formatVersion: Int }

    private static func decode(_ record: DatabaseRecord) throws -> Record {
        let version = try ConfigurationCoding.decode(Version.self, from: record.value, key: record.key).formatVersion
        guard version == Record.currentFormatVersion else {
            throw MigrateError(
                .wrongVersion,
                code: MigrateCode.wrongVersion,
                "the record at '\(record.key)' has format \(version), this version reads \(Record.currentFormatVersion)",
                remedy: "run the version of the software that wrote it until the operation has ended"
            )
        }
        return try ConfigurationCoding.decode(Record.self, from: record.value, key: record.key)
    }
}

/// What the names of all snapshots of an operation begin with.
package func snapshotNamePrefix(of operation: ObjectUUID) -> String {
    "godwit-migrate-\(operation.description.prefix(8))"
}
