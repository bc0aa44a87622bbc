package import ClusterConfiguration
import Environment
package import Identity
package import ReplicatedDatabase
import Synchronization

extension StorageController {
    /// Changes the configuration and makes it so. When the data plane refuses the change to `object`, the change is
    /// taken back and the reason is thrown.
    ///
    /// - Parameters:
    ///   - actor: on whose behalf.
    ///   - object: the object that the change is about, when it has a runtime (volume, LIF).
    ///   - undo: edits a draft so that the change is taken back.
    ///   - body: edits the draft.
    @discardableResult
    package func change<Result: Sendable>(
        as actor: ConfigurationActor,
        about object: ObjectUUID? = nil,
        undo: ((inout ConfigurationDraft) throws(ManagementError) -> Void)? = nil,
        _ body: (inout ConfigurationDraft) throws(ManagementError) -> Result
    ) async throws -> Result {
        let result = try await store.change(as: actor, body).result
        await reconcile()
        guard let object, let undo, let failure = failure(of: object) else { return result }
        _ = try await store.change(as: .system, undo)
        state.withLock { $0.failures[object] = nil }
        await reconcile()
        throw failure
    }

    /// The same for a change that depends on a record outside of the configuration, too; see `ConfigurationStore.change`.
    package func change<Result: Sendable>(
        as actor: ConfigurationActor,
        beside key: String,
        _ body: (inout ConfigurationDraft, DatabaseRecord?) throws(ManagementError) -> Result
    ) async throws -> Result {
        let result = try await store.change(as: actor, beside: key, body).result
        await reconcile()
        return result
    }

    /// Makes an SVM with an export policy `default` that admits nobody yet.
    package func createSVM(
        named name: String,
        comment: String,
        ipSpace: ObjectUUID? = nil
    ) async throws -> SVMRecord {
        let record = SVMRecord(
            uuid: .random(environment),
            name: name,
            state: .running,
            handleKey: HandleKey(first: environment.randomBits(), second: environment.randomBits()),
            comment: comment,
            ipSpace: ipSpace
        )
        let policy = newPolicyIdentifier()
        try await change(as: .user) { draft throws(ManagementError) in
            try draft.putSVM(record, defaultPolicyIdentifier: policy)
        }
        return record
    }

    /// Changes an SVM.
    package func modifySVM(
        _ uuid: ObjectUUID,
        _ edit: (inout SVMRecord) throws(ManagementError) -> Void
    ) async throws {
        try await change(as: .user) { draft throws(ManagementError) in
            var record = try draft.changeableSVM(uuid)
            try edit(&record)
            try draft.putSVM(record)
        }
    }

    /// Deletes an SVM that is empty.
    package func deleteSVM(_ uuid: ObjectUUID) async throws {
        try await change(as: .user) { draft throws(ManagementError) in try draft.deleteSVM(uuid) }
        if let failure = failure(of: uuid) { throw failure }
    }

    /// Makes a volume; its data is there and, when it has a junction path, clients reach it.
    package func createVolume(_ record: VolumeRecord) async throws {
        try await change(
            as: .user,
            about: record.uuid,
            undo: { draft throws(ManagementError) in try draft.deleteVolume(record.uuid) },
            { draft throws(ManagementError) in try draft.putVolume(record) }
        )
    }

    /// Changes a volume; a size that the data plane refuses is taken back.
    package func modifyVolume(
        _ uuid: ObjectUUID,
        _ edit: (inout VolumeRecord) throws(ManagementError) -> Void
    ) async throws {
        guard let old = try await store.snapshot().volume(uuid) else {
            throw ManagementError.notFound("volume", uuid.description)
        }
        try await change(
            as: .user,
            about: uuid,
            undo: { draft throws(ManagementError) in try draft.putVolume(old) },
            { draft throws(ManagementError) in
                guard var record = draft.snapshot.volume(uuid) else {
                    throw .notFound("volume", uuid.description)
                }
                try edit(&record)
                try draft.putVolume(record)
            }
        )
    }

    /// Deletes a volume with its data and its snapshots.
    package func deleteVolume(_ uuid: ObjectUUID) async throws {
        try await change(as: .user) { draft throws(ManagementError) in try draft.deleteVolume(uuid) }
        if let failure = failure(of: uuid) { throw failure }
    }

    /// Makes a LIF; when its address cannot be bound it is not made.
    package func createLIF(_ record: LIFRecord) async throws {
        try await change(
            as: .user,
            about: record.uuid,
            undo: { draft throws(ManagementError) in try draft.deleteLIF(record.uuid) },
            { draft throws(ManagementError) in try draft.putLIF(record) }
        )
    }

    /// Changes a LIF; an address that cannot be bound is taken back.
    package func modifyLIF(
        _ uuid: ObjectUUID,
        _ edit: (inout LIFRecord) throws(ManagementError) -> Void
    ) async throws {
        guard let old = try await store.snapshot().lif(uuid) else {
            throw ManagementError.notFound("LIF", uuid.description)
        }
        try await change(
            as: .user,
            about: uuid,
            undo: { draft throws(ManagementError) in
                var record = old
                if let now = draft.snapshot.lif(uuid) { record.moveBack(after: now) }
                try draft.putLIF(record)
            },
            { draft throws(ManagementError) in
                guard var record = draft.snapshot.lif(uuid) else { throw .notFound("LIF", uuid.description) }
                try edit(&record)
                try draft.putLIF(record)
            }
        )
    }

    /// Whether a LIF is bound.
    package func isUp(_ lif: LIFRecord) -> Bool {
        let service = state.withLock { $0.services[lif.svm]?.service }
        return service.map { isUp(lif, on: $0) } ?? false
    }

    /// A number for a new export policy: random, so that it stays free when its SVM moves to another cluster.
    package func newPolicyIdentifier() -> UInt64 { max(1, environment.randomBits() & 0xff_ffff_ffff) }
}
