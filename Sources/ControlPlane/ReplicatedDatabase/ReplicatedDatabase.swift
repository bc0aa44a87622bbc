/// A key of the replicated database, with its value and the revisions that wrote it.
package struct DatabaseRecord: Equatable, Sendable {
    /// The key, a path such as `svm/<uuid>/volume/<uuid>`.
    package var key: String
    /// The value.
    package var value: [UInt8]
    /// The revision that created the key.
    package var createRevision: Int64
    /// The revision that last wrote it.
    package var modifyRevision: Int64

    /// Makes a record.
    package init(key: String, value: [UInt8], createRevision: Int64, modifyRevision: Int64) {
        self.key = key
        self.value = value
        self.createRevision = createRevision
        self.modifyRevision = modifyRevision
    }
}

/// What must hold for a transaction to happen.
package enum DatabaseCondition: Equatable, Sendable {
    /// The key was last written at exactly this revision.
    case modifyRevision(key: String, equals: Int64)
    /// The key does not exist.
    case absent(key: String)
    /// The key exists.
    case present(key: String)
}

/// A change within a transaction.
package enum DatabaseChange: Equatable, Sendable {
    /// Writes a key.
    case put(key: String, value: [UInt8])
    /// Deletes a key; no error when it is absent.
    case delete(key: String)
    /// Deletes every key that begins with a prefix.
    case deletePrefix(String)
}

/// What came of a transaction.
package enum TransactionOutcome: Equatable, Sendable {
    /// All changes happened, at this revision.
    case committed(revision: Int64)
    /// A condition did not hold; nothing changed. The database stood at this revision.
    case conflicted(revision: Int64)
}

/// A change that a watch saw.
package struct WatchEvent: Equatable, Sendable {
    /// The key.
    package var key: String
    /// The new value; nil when the key was deleted.
    package var value: [UInt8]?
    /// The revision of the change.
    package var revision: Int64

    /// Makes an event.
    package init(key: String, value: [UInt8]?, revision: Int64) {
        self.key = key
        self.value = value
        self.revision = revision
    }
}

/// Why the database did not answer.
package struct DatabaseError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The kinds of failure.
    package enum Code: Equatable, Sendable {
        /// Not reachable or too slow. A transaction may or may not have happened: read to find out.
        case unavailable
        /// A watch asked for a revision that has been compacted away: read the range and watch again.
        case compacted
        /// The store is damaged or of another format.
        case damaged
    }

    /// The kind.
    package var code: Code
    /// What happened and how to mend it.
    package var description: String

    /// Makes an error.
    package init(_ code: Code, _ description: String) {
        self.code = code
        self.description = description
    }
}

/// The replicated database (RDB) of a cluster [105, 123]: keys and values under one growing revision, with
/// compare-and-set transactions and watches. Reads are linearisable.
package protocol ReplicatedDatabase: Sendable {
    /// The record at a key.
    func get(_ key: String) async throws(DatabaseError) -> DatabaseRecord?
    /// Every record whose key begins with `prefix`, in key order, and the revision that this is the state of.
    func range(prefix: String) async throws(DatabaseError) -> (records: [DatabaseRecord], revision: Int64)
    /// Makes all changes at one revision if every condition holds, durably, or none. Of several changes of a key the last
    /// one counts.
    func transact(when conditions: [DatabaseCondition], _ changes: [DatabaseChange]) async throws(DatabaseError)
        -> TransactionOutcome
    /// Every change of keys under `prefix` after `revision`, in order, without gaps.
    func watch(prefix: String, after revision: Int64) -> AsyncThrowingStream<WatchEvent, any Error>
}

/// A promise to a database to be there: keys that are put with it go when it is not renewed in time.
///
/// Nobody may conclude from a key that is still there that its owner lives, nor from one that has gone that it is dead: a
/// new leader gives every lease its whole time again. What needs an owner compares a revision in its transaction.
package struct DatabaseLease: Equatable, Sendable {
    /// Its number.
    package let identifier: Int64
    /// Seconds that it lives after each renewal: what was granted, which may be more than was asked for.
    package let seconds: Int64

    /// Makes a lease.
    package init(identifier: Int64, seconds: Int64) {
        self.identifier = identifier
        self.seconds = seconds
    }
}

/// A database that several nodes share, and in which keys can live as long as their owner does.
package protocol LeasingDatabase: ReplicatedDatabase {
    /// Begins a lease.
    func grantLease(seconds: Int64) async throws(DatabaseError) -> DatabaseLease
    /// Lets a lease live for its whole time again; false when it has ended.
    func renew(_ lease: DatabaseLease) async throws(DatabaseError) -> Bool
    /// Ends a lease and with it its keys; no error when it has ended already.
    func revoke(_ lease: DatabaseLease) async throws(DatabaseError)
    /// `transact`, where what is put lives as long as the lease.
    func transact(
        when conditions: [DatabaseCondition],
        _ changes: [DatabaseChange],
        with lease: DatabaseLease?
    ) async throws(DatabaseError) -> TransactionOutcome
}
