import Identity
package import MigrateOperation

/// What a node has seen of the masters of operations, and refuses accordingly: pure.
///
/// It lives in memory and dies with the daemon, as do the gates that it guards; what a daemon must know of the time before
/// its start it learns from the source's records (`note`).
package struct GroupFence: Sendable {
    private struct Key: Hashable {
        var operation: ObjectUUID
        var side: GroupSide
    }

    private struct Entry {
        var epoch: UInt64 = 0
        /// The newest attempt that held the gate.
        var heldAttempt: UInt64 = 0
        /// The newest attempt that was given up: a hold of it that comes late must not close a gate that nobody reopens.
        var reopenedAttempt: UInt64 = 0
        /// The point of no return is recorded: the gate of this operation never opens again.
        var isPastPointOfNoReturn = false
    }

    private var entries: [Key: Entry] = [:]

    /// Has seen nothing.
    package init() {}

    /// Lets a master's call in, unless there was a newer master.
    /// - Throws: `.fenced`.
    package mutating func admit(_ authority: GroupAuthority) throws(MigrateError) {
        try enter(authority) { (_: inout Entry) in }
    }

    /// Lets a hold in, unless its attempt is over already.
    /// - Throws: `.fenced`; `.refused` when the attempt was given up, or a newer one has held.
    package mutating func admitHold(_ authority: GroupAuthority, attempt: UInt64) throws(MigrateError) {
        try enter(authority) { entry throws(MigrateError) in
            guard attempt > entry.reopenedAttempt, attempt >= entry.heldAttempt, !entry.isPastPointOfNoReturn
            else {
                throw Self.tooLate(authority, attempt)
            }
            entry.heldAttempt = attempt
        }
    }

    /// Lets what is done behind the held gate in, as long as this attempt holds it.
    /// - Throws: `.fenced`; `.refused` when the attempt has not held here, was given up, or a newer one has held.
    package mutating func admitSeal(_ authority: GroupAuthority, attempt: UInt64) throws(MigrateError) {
        try enter(authority) { entry throws(MigrateError) in
            guard attempt > entry.reopenedAttempt, attempt == entry.heldAttempt, !entry.isPastPointOfNoReturn else {
                throw Self.tooLate(authority, attempt)
            }
        }
    }

    /// Whether the gate has been reopened since an attempt held it, and no other one holds it now.
    package func isReopened(_ authority: GroupAuthority, attempt: UInt64) -> Bool {
        guard let entry = entries[Key(operation: authority.operation, side: authority.side)] else { return false }
        return entry.reopenedAttempt >= attempt && entry.heldAttempt <= entry.reopenedAttempt
            && !entry.isPastPointOfNoReturn
    }

    /// Lets a reopening in, unless a newer attempt has held since.
    /// - Throws: `.fenced`; `.refused` when a newer attempt has held; `.pastPointOfNoReturn`.
    package mutating func admitReopening(_ authority: GroupAuthority, attempt: UInt64) throws(MigrateError) {
        try enter(authority) { entry throws(MigrateError) in
            guard !entry.isPastPointOfNoReturn else {
                throw MigrateError(
                    .pastPointOfNoReturn,
                    code: MigrateCode.wrongState,
                    "the point of no return of operation \(authority.operation) has been recorded",
                    remedy: "go on with the destination; the source does not serve this SVM again"
                )
            }
            guard attempt >= entry.heldAttempt else { throw Self.tooLate(authority, attempt) }
            entry.reopenedAttempt = max(entry.reopenedAttempt, attempt)
        }
    }

    /// Notes what the source's record says: its owner's epoch, its attempt, and whether the point of no return is behind it.
    package mutating func note(_ record: SourceRecord) {
        let key = Key(operation: record.operation, side: .source)
        var entry = entries[key] ?? Entry()
        entry.epoch = max(entry.epoch, record.ownerEpoch)
        if record.state == .ponr || record.state == .released {
            entry.heldAttempt = max(entry.heldAttempt, record.attempt)
            entry.isPastPointOfNoReturn = true
        }
        entries[key] = entry
    }

    private mutating func enter(
        _ authority: GroupAuthority,
        _ body: (inout Entry) throws(MigrateError) -> Void
    ) throws(MigrateError) {
        let key = Key(operation: authority.operation, side: authority.side)
        var entry = entries[key] ?? Entry()
        guard authority.epoch >= entry.epoch else {
            throw MigrateError(
                .fenced,
                "epoch \(authority.epoch) of operation \(authority.operation) has been superseded by \(entry.epoch)",
                remedy: "stop this master; another node has taken the operation over"
            )
        }
        entry.epoch = authority.epoch
        try body(&entry)
        entries[key] = entry
    }

    private static func tooLate(_ authority: GroupAuthority, _ attempt: UInt64) -> MigrateError {
        MigrateError(
            .refused,
            code: MigrateCode.wrongState,
            "cutover \(attempt) of operation \(authority.operation) is over",
            remedy: "read the record again and go on from its state"
        )
    }
}
