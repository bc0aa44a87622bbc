package import ConfigurationReplication
package import Identity
package import Replication
package import Saga

/// What the orchestrator asks of the source. Every request is idempotent: who heard nothing asks again.
package enum SourceRequest: Codable, Equatable, Sendable {
    /// Describes an SVM and runs the source's pre-checks.
    case describe(svmName: String)
    /// Makes the source's record.
    case register(svm: ObjectUUID, destinationCluster: String)
    /// Describes the SVM of the operation as it is now.
    case refresh
    /// Tells what of the SVM's configuration has changed after a revision of the source's database, or (nil) all that it
    /// has. When there is nothing new the answer waits for something so long.
    case configuration(after: Int64?, waitMilliseconds: UInt64)
    /// Answers with so many bytes: measures the round trip and the rate between the clusters.
    case probe(answerBytes: UInt64)
    /// Ends the outgoing mirrors and unlocks. With `relationshipInfoOnly` the snapshots stay, so that a resume goes on
    /// from them; otherwise they are deleted [115].
    case release(relationshipInfoOnly: Bool)
    /// Forgets the operation before the point of no return: unlocks, removes its snapshots, deletes the record. The SVM
    /// is named, so that what is left is removed even when the record was lost.
    case forget(svm: ObjectUUID)
    /// Takes a snapshot of every volume.
    case takeSnapshot(OperationSnapshot)
    /// Deletes snapshots from every volume; absent ones are no error.
    case deleteSnapshots([ObjectUUID])
    /// Locks the configuration and stops snapshot creation for a cutover, until the budget is over at the latest.
    case lock(attempt: UInt64, budgetMilliseconds: UInt64)
    /// Takes `lock` back.
    case unlock(attempt: UInt64)
    /// The states of the outgoing mirrors.
    case mirrorStates
    /// Starts the commit deadline. From now on the source gives the commit up when the budget is over.
    case arm(attempt: UInt64, budgetMilliseconds: UInt64)
    /// Exports the protocol state while clients are served, so that only what comes later moves in the window: each node
    /// has a mark of its own, and one without gives everything. The answer has the attachment.
    case preload(since: [ProtocolStateMark])
    /// Holds the gates, drains, exports the protocol state since marks, takes the final snapshot. The answer has the
    /// attachment.
    case hold(attempt: UInt64, snapshot: OperationSnapshot, drainMilliseconds: UInt64, since: [ProtocolStateMark])
    /// Gives the commit up.
    case recover(attempt: UInt64, reason: String)
    /// Asks for the point of no return.
    case pointOfNoReturn(attempt: UInt64)
    /// How far the source is.
    case status
    /// Closes listeners and connections of the SVM without serving anything more.
    case releaseInterfaces
    /// Stops and locks the SVM, ends outgoing mirrors.
    case stop
    /// The hash over a full walk of a volume's snapshot.
    case contentHash(volume: VolumeMSID, snapshot: ObjectUUID)
    /// Deletes volumes, interfaces and the SVM.
    case deleteSVM

    /// How long to wait for an answer before the request is repeated.
    package var patienceMilliseconds: UInt64 {
        switch self {
        case .pointOfNoReturn, .status, .mirrorStates, .probe: 3_000
        // Clients wait for the answer, and the destination may serve without it.
        case .releaseInterfaces: 500
        case .hold(_, _, let drainMilliseconds, _): drainMilliseconds + 5_000
        case .contentHash, .deleteSVM, .deleteSnapshots, .forget, .release: 3_600_000
        case .takeSnapshot: 60_000
        // What is known already may need its time to come through the watch of the source's database.
        case .configuration(_, let waitMilliseconds): waitMilliseconds + 10_000
        default: 15_000
        }
    }
}

/// A request with the operation that it is made for.
package struct SourceCall: Codable, Equatable, Sendable {
    /// The version of the protocol that the caller speaks.
    package var protocolVersion = migrateProtocolVersion
    /// The operation.
    package var operation: ObjectUUID
    /// The caller's epoch: the source refuses older ones than it has seen.
    package var epoch: UInt64
    /// The state of the operation, for the source's record; nil before there is one.
    package var operationState: MigrationState?
    /// What is asked.
    package var request: SourceRequest

    /// Makes a call.
    package init(
        operation: ObjectUUID,
        epoch: UInt64,
        operationState: MigrationState? = nil,
        request: SourceRequest
    ) {
        self.operation = operation
        self.epoch = epoch
        self.operationState = operationState
        self.request = request
    }
}

/// What the source answers.
package enum SourceAnswer: Codable, Equatable, Sendable {
    /// Done; nothing more to say.
    case done
    /// To `describe` and `refresh`.
    case description(SVMDescription, findings: [PrecheckFinding])
    /// To `configuration`.
    case configuration(ConfigurationAnswer)
    /// To `mirrorStates`, by the MSID's decimal form.
    case mirrorStates([String: MirrorState])
    /// To `preload`: how far the state was exported; it is the reply's attachment.
    case preloaded([ProtocolStateMark])
    /// To `hold`: the stages, and when the clients were answered last; the protocol state is the reply's attachment.
    case held([WindowStage], lastAnswers: [ClientAnswerAge])
    /// To `status`.
    case status(SourceRecord)
    /// To `probe`: the source's wall clock in nanoseconds since 1970; the
    /// bytes are the reply's attachment.
    case probed(wallClockNanoseconds: Int64)
    /// To `contentHash`: sixteen hexadecimal digits.
    case contentHash(String)
}

/// An answer and the bytes that go beside it without being encoded.
package struct SourceReply: Equatable, Sendable {
    /// The answer.
    package var answer: SourceAnswer
    /// Opaque bytes; empty for most answers.
    package var attachment: [UInt8]

    /// Makes a reply.
    package init(_ answer: SourceAnswer, attachment: [UInt8] = []) {
        self.answer = answer
        self.attachment = attachment
    }
}

/// The source cluster as the orchestrator sees it. Errors of kind `.unreachable` say nothing about what happened.
package protocol SourceCluster: Sendable {
    /// Makes one call and returns its answer.
    func send(_ call: SourceCall) async throws -> SourceReply
}

/// Finds clusters by the names that peers have.
package protocol SourceClusterDirectory: Sendable {
    /// The cluster of a peer.
    /// - Throws: `MigrateError` `.notFound` with the code of an unknown peer.
    func sourceCluster(peerName: String) async throws -> any SourceCluster
}

/// Where a test may end the process. In production nothing happens at these points.
package struct CrashPoints: Sendable {
    /// Told of each point and moment.
    package let reached: @Sendable (String, SagaMoment) async throws -> Void

    /// Makes it out of its function.
    package init(reached: @escaping @Sendable (String, SagaMoment) async throws -> Void) {
        self.reached = reached
    }

    /// Nothing happens.
    package static let none = CrashPoints { _, _ in }

    /// Tells others after these.
    package func followed(by others: CrashPoints) -> CrashPoints {
        CrashPoints { step, moment in
            try await reached(step, moment)
            try await others.reached(step, moment)
        }
    }
}
