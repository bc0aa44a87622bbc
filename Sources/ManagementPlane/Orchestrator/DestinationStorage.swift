package import ConfigurationReplication
package import GroupControl
package import Identity
package import MigrateOperation
package import Replication

/// What becomes of the snapshots of an operation when its mirrors are deleted on the destination [113-114].
package enum SnapshotRetention: Sendable {
    /// All stay: RETAIN_ALL_SNAPSHOTS, after a pause or a failure, so that a resume goes on from them.
    case all
    /// None stays: RETAIN_NO_SNAPSHOTS, after an abort.
    case none
    /// Only the final one stays, for the integrity check: RETAIN_ONLY_FINAL_SNAPSHOT, after the cutover.
    case onlyFinal
}

/// What the orchestrator needs of its own cluster's storage, on whichever nodes it is. Every deed is idempotent. A
/// `MigrateError` of kind `.refused` means that trying again is of no use (no space, damage), one of kind `.nodeAway` that a
/// node does not answer; every other error is tried again.
package protocol DestinationStorage: Sendable {
    /// The same storage for the orchestrator of an operation: nodes refuse what a former one still wants.
    func acting(as authority: GroupAuthority) -> any DestinationStorage
    /// Whether this node can act for an operation: what it owns of the SVM's volumes is open.
    func isReady(for svm: SVMDescription) async throws -> Bool
    /// Finds what speaks against receiving the SVM, and chooses an aggregate for each volume and a port for each interface.
    ///
    /// - Returns: the SVM with its places, and why those.
    func precheck(
        _ svm: SVMDescription,
        _ options: MigrationOptions
    ) async throws -> (findings: [PrecheckFinding], svm: SVMDescription, decisions: [PlacementDecision])
    /// Deletes some replicas of the operation's SVM; absent ones are no error.
    func removeVolumes(_ volumes: [VolumeDescription], of svm: SVMDescription, for operation: ObjectUUID) async throws
    /// How far the operation is with the configuration of its SVM; nil when the SVM is not here yet.
    func configurationPosition(of svm: ObjectUUID, for operation: ObjectUUID) async throws -> ConfigurationPosition?
    /// Applies what the source has told of its configuration, and nothing of it twice: the SVM stopped and locked for the
    /// operation, its volumes as replicas, its interfaces not yet bound. Returns when each volume is there on its node.
    ///
    /// - Parameters:
    ///   - answer: what the source said. Nothing is applied of a kind or a format that is not known.
    ///   - asked: the position that it was asked with.
    ///   - svm: what is known of the SVM otherwise: places that were chosen, and what volumes hold.
    /// - Returns: How far the operation is now.
    func replicate(
        _ answer: ConfigurationAnswer,
        asked: ConfigurationPosition?,
        of svm: SVMDescription,
        _ options: MigrationOptions,
        for operation: ObjectUUID
    ) async throws -> ConfigurationPosition
    /// Returns when volumes that are recorded are there, each on its node.
    func settle(_ volumes: [ObjectUUID], of svm: SVMDescription) async throws
    /// The aggregates of the volumes that the SVM has here, by their identities.
    func placements(of svm: SVMDescription) async throws -> [ObjectUUID: ObjectUUID]
    /// What of the SVM is here.
    func objectsHere(of svm: SVMDescription) async throws -> ObjectsHere
    /// Deletes all that `replicate` made for the operation; an SVM that does not belong to it is left alone.
    func deleteSVM(_ svm: SVMDescription, for operation: ObjectUUID) async throws
    /// Transfers every snapshot of a volume up to and including one; resumes what was cut off.
    func transfer(
        _ volume: VolumeDescription,
        of svm: SVMDescription,
        upTo snapshot: ObjectUUID,
        throttleBytesPerSecond: UInt64
    ) async throws -> TransferStatistics
    /// Begins the synchronous streams of all volumes in the background.
    func startSynchronous(_ svm: SVMDescription) async throws
    /// What the mirror of a volume was doing when it was last heard of; cheap.
    func mirrorStatus(of volume: VolumeMSID) -> VolumeMirrorStatus
    /// What the mirrors of all volumes are doing now.
    func mirrorStatuses(of svm: SVMDescription) async throws -> [VolumeMSID: VolumeMirrorStatus]
    /// The name of the node that holds a volume; empty when it is not known.
    func nodeName(holding volume: VolumeMSID) -> String
    /// Ends the mirrors of the SVM and deletes the snapshots whose names begin with `namePrefix`, save those that are to
    /// be retained [113].
    func deleteMirrors(
        of svm: SVMDescription,
        namePrefix: String,
        retaining: SnapshotRetention,
        final: ObjectUUID?
    ) async throws
    /// Ends transfers and streams of volumes; nothing more is applied afterwards.
    func stopMirrors(_ volumes: [VolumeMSID], of svm: SVMDescription) async throws
    /// Waits until a snapshot has come to every volume, with all that came before it; then takes over the protocol state, as
    /// `importProtocolState` does, and makes the volumes read-write, durably.
    /// - Returns: the volumes that do not have the snapshot when the time is over. Volumes on other nodes may be read-write
    ///   then.
    func promote(
        at snapshot: ObjectUUID,
        _ protocolState: [UInt8],
        of svm: SVMDescription,
        withinMilliseconds: UInt64
    ) async throws -> [VolumeMSID]
    /// Makes the volumes read-write (false) or replicas again (true), durably.
    func setReplica(_ isReplica: Bool, of svm: SVMDescription) async throws
    /// Deletes snapshots of every volume of the SVM; absent ones are no error.
    func deleteSnapshots(_ snapshots: [ObjectUUID], of svm: SVMDescription) async throws
    /// Builds all that serving needs beforehand, with the gates held; nothing is bound.
    func prepareToServe(_ svm: SVMDescription) async throws
    /// Drops what `prepareToServe` built and what was imported.
    func discardPrepared(_ svm: SVMDescription) async throws
    /// Takes over the duplicate request caches and the mounts of the source, on every node: a request may come to any.
    func importProtocolState(_ state: [UInt8], of svm: SVMDescription) async throws
    /// Binds the interfaces; the gates are still held.
    func bindInterfaces(of svm: SVMDescription) async throws
    /// Lets requests run, on every node.
    func openGate(of svm: SVMDescription) async throws
    /// How long ago each connected client was answered first.
    func firstAnswers(of svm: SVMDescription) async throws -> [ClientAnswerAge]
    /// Records the SVM as running, its volumes as read-write and everything as unlocked, so that it is served after
    /// every start of a daemon.
    func recordServing(_ svm: SVMDescription, for operation: ObjectUUID) async throws
    /// The hash over a full walk of a snapshot, as sixteen hexadecimal digits.
    func contentHash(of volume: VolumeMSID, in svm: SVMDescription, snapshot: ObjectUUID) async throws -> String
}
