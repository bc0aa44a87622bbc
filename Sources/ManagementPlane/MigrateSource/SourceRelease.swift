package import Identity
import Logging
import MigrateOperation

// How the source's side of an operation ends before the point of no return.
extension MigrateSource {
    /// Ends the mirrors and unlocks; the record stays, so that no other operation takes the SVM.
    func release(_ relationshipInfoOnly: Bool, _ call: SourceCall) async throws {
        let record = try await current(call)
        try requireBeforeCommit(record)
        try await storage(of: record).endMirrors(of: record.svm)
        if !relationshipInfoOnly {
            try await storage(of: record).deleteSnapshots(
                namePrefix: snapshotNamePrefix(of: call.operation),
                of: record.svm
            )
        }
        try await unlock(record.attempt, call)
    }

    func forget(_ svm: ObjectUUID, _ call: SourceCall) async throws -> SourceReply {
        if try await records.get(call.operation) != nil {
            try requireBeforeCommit(try await current(call))
        }
        try await forget(call.operation, svm)
        return SourceReply(.done)
    }

    /// Removes all that an operation left here.
    private func forget(_ operation: ObjectUUID, _ svm: ObjectUUID) async throws {
        try await storage.endMirrors(of: svm)
        try await storage.deleteSnapshots(namePrefix: snapshotNamePrefix(of: operation), of: svm)
        try await storage.unlockConfiguration(of: svm, from: operation)
        if try await records(of: svm).allSatisfy({ $0.operation == operation }) {
            try await storage.setOperation(nil, of: svm)
        }
        try await records.delete(operation)
        heldReplies[operation] = nil
        gateAttempts[operation] = nil
        owned.remove(operation)
    }

    /// Takes the source's side of an operation away on a user's wish, because its destination is gone for ever.
    /// - Throws: `.refused` in a commit and after the point of no return; `.notFound`.
    package func abandon(_ operation: ObjectUUID) async throws {
        guard let record = try await records.get(operation)?.record else { throw Self.unknown(operation) }
        guard record.owningNode == node else { throw Self.elsewhere(record) }
        try requireBeforeCommit(record)
        try await forget(operation, record.svm)
        log.warning("the source's side of operation \(operation) was removed by a user")
    }

    private func requireBeforeCommit(_ record: SourceRecord) throws(MigrateError) {
        guard !record.isPastPointOfNoReturn, record.state != .commit else {
            throw MigrateError(
                record.isPastPointOfNoReturn ? .pastPointOfNoReturn : .refused,
                code: MigrateCode.wrongState,
                "operation \(record.operation) cannot be taken back in state \(record.state.rawValue)",
                remedy: "undo the commit first; after the point of no return go on instead"
            )
        }
    }
}
