package import GroupControl
package import Identity
package import MigrateOperation
package import Replication

/// What is left of a service behind a held gate.
package struct SealedService: Equatable, Sendable {
    /// What must move beside the volumes.
    package var protocolState: [UInt8]
    /// How long ago each connected client was answered last.
    package var lastAnswers: [ClientAnswerAge]
    /// The state of each volume's outgoing mirror, after its last snapshot.
    package var mirrorStates: [VolumeMSID: MirrorState]

    /// Makes one.
    package init(protocolState: [UInt8], lastAnswers: [ClientAnswerAge], mirrorStates: [VolumeMSID: MirrorState]) {
        self.protocolState = protocolState
        self.lastAnswers = lastAnswers
        self.mirrorStates = mirrorStates
    }
}

/// What the source side of a migrate needs of its own cluster's storage, on whichever nodes it is. Every deed is idempotent;
/// errors are of the kind that a caller may try again, unless they are a `MigrateError` that says otherwise.
package protocol SourceStorage: Sendable {
    /// The same storage for the owner of an operation: nodes refuse what a former owner still wants.
    func acting(as authority: GroupAuthority) -> any SourceStorage
    /// Lets this node refuse what is older than a record, and past its point of no return every opening of the gate.
    func note(_ record: SourceRecord)
    /// Answers a call through the node that owns its operation.
    /// - Throws: `.nodeAway` when that node does not answer.
    func pass(_ call: SourceCall, of svm: ObjectUUID, to node: ObjectUUID) async throws -> SourceReply
    /// Describes the SVM of a name and what speaks against moving it. Nil when there is none.
    func describe(svmName: String) async throws -> (description: SVMDescription, findings: [PrecheckFinding])?
    /// Whether this node has a part of an SVM: volumes or addresses.
    func isConcerned(by svm: ObjectUUID) async throws -> Bool
    /// The name of an SVM; nil when there is none.
    func name(of svm: ObjectUUID) async throws -> String?
    /// Marks the SVM as the source of an operation, or (nil) as one that takes part in none.
    func setOperation(_ operation: ObjectUUID?, of svm: ObjectUUID) async throws
    /// Locks the SVM's configuration, and with it snapshot creation, for an operation.
    func lockConfiguration(of svm: ObjectUUID, for operation: ObjectUUID) async throws
    /// Unlocks what an operation has locked; a lock of another operation is left alone.
    func unlockConfiguration(of svm: ObjectUUID, from operation: ObjectUUID) async throws
    /// Ends the outgoing mirrors of the SVM's volumes.
    func endMirrors(of svm: ObjectUUID) async throws
    /// Deletes every snapshot whose name begins with `prefix`, from every volume of the SVM.
    func deleteSnapshots(namePrefix: String, of svm: ObjectUUID) async throws
    /// Takes a snapshot of every volume of the SVM; a snapshot that is there already is no error.
    func takeSnapshot(_ snapshot: OperationSnapshot, of svm: ObjectUUID) async throws
    /// Deletes snapshots of every volume of the SVM; absent ones are no error.
    func deleteSnapshots(_ snapshots: [ObjectUUID], of svm: ObjectUUID) async throws
    /// The state of each volume's outgoing mirror.
    func mirrorStates(of svm: ObjectUUID) async throws -> [VolumeMSID: MirrorState]
    /// Requests of clients wait un-executed from now on, on every node. Returns when nothing is being executed and every
    /// answer has come to the node that has the client; false at the deadline.
    /// - Throws: `.refused` when the attempt is over already.
    func holdGate(of svm: ObjectUUID, attempt: UInt64, drainMilliseconds: UInt64) async throws -> Bool
    /// Ends, behind the held gate, what the clients have here: every answer has left and is acknowledged, and from then on
    /// nothing is acknowledged that arrives at addresses of the host, until the gate is reopened. Takes the snapshot of every
    /// volume; one that is there already is no error.
    ///
    /// - Parameter marks: of a node with a mark only what has come since is in the protocol state.
    /// - Returns: nil when the clients have not taken their answers at the deadline; the snapshot may be there nevertheless.
    /// - Throws: `.refused` when the attempt is over already.
    func seal(
        _ svm: ObjectUUID,
        _ snapshot: OperationSnapshot,
        attempt: UInt64,
        since marks: [ProtocolStateMark],
        withinMilliseconds: UInt64
    ) async throws -> SealedService?
    /// What must move beside the volumes: duplicate request caches and mounts; of a node with a mark only what has come
    /// since.
    func exportProtocolState(
        of svm: ObjectUUID,
        since marks: [ProtocolStateMark]
    ) async throws -> (state: [UInt8], marks: [ProtocolStateMark])
    /// Held requests run, and new ones too, on every node, unless a newer attempt has held the gate.
    func reopenGate(of svm: ObjectUUID, attempt: UInt64) async throws
    /// Takes the addresses of the host away from it, without a packet to any client: on return another host may have them.
    /// Addresses of the loopback stay until `releaseInterfaces`.
    func surrenderInterfaces(of svm: ObjectUUID) async throws
    /// Closes listeners and connections; held requests are dropped.
    func releaseInterfaces(of svm: ObjectUUID) async throws
    /// Records the SVM as stopped and locked for an operation and ends its outgoing mirrors.
    func stop(_ svm: ObjectUUID, for operation: ObjectUUID) async throws
    /// The hash over a full walk of a snapshot, as sixteen hexadecimal digits.
    func contentHash(of volume: VolumeMSID, in svm: ObjectUUID, snapshot: ObjectUUID) async throws -> String
    /// Deletes the SVM with all that belongs to it; absent is no error.
    func deleteSVM(_ svm: ObjectUUID) async throws
}

/// A storage whose addresses are all of the loopback.
extension SourceStorage {
    package func surrenderInterfaces(of svm: ObjectUUID) async throws {}
}
