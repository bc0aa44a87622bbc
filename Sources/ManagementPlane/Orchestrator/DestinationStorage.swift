package import Identity
package import MigrateOperation
package import Replication

/// What the mirror of one volume is doing.
package struct VolumeMirrorStatus: Sendable, Equatable {
    /// The state.
    package var state: MirrorState
    /// What the running or last transfer has done.
    package var transfer: TransferStatistics
    /// Why the synchronous stream or the last transfer broke; nil when nothing did.
    package var failure: String?

    /// Makes a status.
    package init(state: MirrorState, transfer: TransferStatistics, failure: String?) {
        self.state = state
        self.transfer = transfer
        self.failure = failure
    }
}

/// What becomes of the snapshots of an operation when its mirrors are deleted on the destination [113-114].
package enum SnapshotRetention: Sendable {
    /// All stay: RETAIN_ALL_SNAPSHOTS, after a pause or a failure, so that a resume goes on from them.
    case all
    /// None stays: RETAIN_NO_SNAPSHOTS, after an abort.
    case none
    /// Only the final one stays, for the integrity check: RETAIN_ONLY_FINAL_SNAPSHOT, after the cutover.
    case onlyFinal
}

/// What the orchestrator needs of its own cluster's storage. Every deed is idempotent. A `MigrateError` of kind
/// `.refused` means that trying again is of no use (no space, damage); every other error is tried again.
package protocol DestinationStorage: Sendable {
    /// Whether this node has every volume of the SVM that has a place already.
    func isHere(_ svm: SVMDescription) async throws -> Bool
    /// Finds what speaks against receiving the SVM, and chooses an aggregate for each volume.
    func precheck(
        _ svm: SVMDescription,
        _ options: MigrationOptions
    ) async throws -> (findings: [PrecheckFinding], volumes: [VolumeDescription])
    /// Chooses an aggregate for each of some volumes of an SVM that is here already.
    func place(
        _ volumes: [VolumeDescription],
        _ options: MigrationOptions
    ) async throws -> (findings: [PrecheckFinding], volumes: [VolumeDescription])
    /// Deletes some replicas of the operation's SVM; absent ones are no error.
    func removeVolumes(_ volumes: [VolumeDescription], of svm: SVMDescription, for operation: ObjectUUID) async throws
    /// Deletes the volumes, interfaces and export policies of the operation's SVM that its description does not have.
    func removeAbsent(_ svm: SVMDescription, for operation: ObjectUUID) async throws
    /// Makes the SVM and its export policies, stopped and locked for the operation, with the same name and identity.
    func createSVM(_ svm: SVMDescription, for operation: ObjectUUID) async throws
    /// Makes the volumes as replicas with the same identities.
    func createVolumes(_ svm: SVMDescription, for operation: ObjectUUID) async throws
    /// Makes the interfaces, not yet bound.
    func createInterfaces(_ svm: SVMDescription, for operation: ObjectUUID) async throws
    /// Deletes all that `create…` made for the operation; an SVM that does not belong to it is left alone.
    func deleteSVM(_ svm: SVMDescription, for operation: ObjectUUID) async throws
    /// Transfers every snapshot of a volume up to and including one; resumes what was cut off.
    func transfer(
        _ volume: VolumeMSID,
        of svm: SVMDescription,
        upTo snapshot: ObjectUUID,
        throttleBytesPerSecond: UInt64
    ) async throws -> TransferStatistics
    /// Begins the synchronous stream of a volume in the background.
    func startSynchronous(_ volume: VolumeMSID, of svm: SVMDescription) async throws
    /// What the mirror of a volume is doing; cheap.
    func mirrorStatus(of volume: VolumeMSID) -> VolumeMirrorStatus
    /// Ends the mirrors of the SVM and deletes the snapshots whose names begin with `namePrefix`, save those that are to
    /// be retained [113].
    func deleteMirrors(
        of svm: SVMDescription,
        namePrefix: String,
        retaining: SnapshotRetention,
        final: ObjectUUID?
    ) async throws
    /// Ends transfer and stream of a volume; nothing more is applied afterwards.
    func stopMirror(_ volume: VolumeMSID) async throws
    /// Whether a snapshot is there, with all that came before it.
    func hasSnapshot(_ snapshot: ObjectUUID, _ volume: VolumeMSID) async throws -> Bool
    /// Makes a volume read-write (false) or a replica again (true), durably.
    func setReplica(_ isReplica: Bool, _ volume: VolumeMSID) async throws
    /// Deletes snapshots of every volume of the SVM; absent ones are no error.
    func deleteSnapshots(_ snapshots: [ObjectUUID], of svm: SVMDescription) async throws
    /// Builds all that serving needs beforehand, with the gate held; nothing is bound.
    func prepareToServe(_ svm: SVMDescription) async throws
    /// Drops what `prepareToServe` built and what was imported.
    func discardPrepared(_ svm: SVMDescription) async throws
    /// Takes over the duplicate request cache and the mounts of the source.
    func importProtocolState(_ state: [UInt8], of svm: SVMDescription) async throws
    /// Binds the interfaces; the gate is still held.
    func bindInterfaces(of svm: SVMDescription) async throws
    /// Lets requests run.
    func openGate(of svm: SVMDescription) async throws
    /// How long ago each connected client was answered first.
    func firstAnswers(of svm: SVMDescription) async throws -> [ClientAnswerAge]
    /// Records the SVM as running, its volumes as read-write and everything as unlocked, so that it is served after
    /// every start of the daemon.
    func recordServing(_ svm: SVMDescription, for operation: ObjectUUID) async throws
    /// The hash over a full walk of a snapshot, as sixteen hexadecimal digits.
    func contentHash(of volume: VolumeMSID, snapshot: ObjectUUID) async throws -> String
}
