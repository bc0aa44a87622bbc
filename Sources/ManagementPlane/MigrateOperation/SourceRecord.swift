package import Identity

/// How far the source side of an operation is.
package enum SourceState: String, Codable, Sendable {
    /// Known; clients are served as ever.
    case prepared
    /// The SVM's configuration is locked for a cutover; clients are served.
    case locked
    /// The commit deadline runs; the gate may be held.
    case commit
    /// The commit was given up; clients are served and the point of no return is refused.
    case recovered
    /// The point of no return: the source never serves this SVM again on its own.
    case ponr
    /// The source SVM is stopped and its interfaces are gone.
    case released
    /// The source SVM and its volumes are deleted.
    case cleaned
}

/// The source's own record of an operation, in its own database: the only arbiter of the point of no return.
package struct SourceRecord: VersionedRecord, Equatable {
    /// The version of this format.
    package static let currentFormatVersion = 3

    /// The version it was written with.
    package var formatVersion = Self.currentFormatVersion
    /// The operation.
    package var operation: ObjectUUID
    /// The newest epoch that called; calls with an older one are refused.
    package var epoch: UInt64
    /// The node of the source cluster that acts for the operation and watches its timers.
    package var owningNode: ObjectUUID
    /// Counts the changes of the owner: the nodes of the source cluster refuse an owner that was superseded.
    package var ownerEpoch: UInt64
    /// The SVM.
    package var svm: ObjectUUID
    /// Its name.
    package var svmName: String
    /// The name of the destination cluster.
    package var destinationCluster: String
    /// How far it is.
    package var state: SourceState
    /// The number of the cutover that `state` speaks of; grows with every try.
    package var attempt: UInt64
    /// When the commit is given up, in nanoseconds of the wall clock; only in state `commit`.
    package var commitDeadlineWallClockNanoseconds: Int64?
    /// When the configuration is unlocked again, in nanoseconds of the wall clock; only in state `locked`.
    package var lockDeadlineWallClockNanoseconds: Int64?
    /// Why the last commit was given up.
    package var lastRecoveryReason: String?
    /// The state of the operation as the last call told it: each side can say how far it is.
    package var operationState: MigrationState

    /// The record of a new operation.
    package init(
        operation: ObjectUUID,
        epoch: UInt64,
        owningNode: ObjectUUID,
        svm: ObjectUUID,
        svmName: String,
        destinationCluster: String
    ) {
        self.operation = operation
        self.epoch = epoch
        self.owningNode = owningNode
        ownerEpoch = 1
        self.svm = svm
        self.svmName = svmName
        self.destinationCluster = destinationCluster
        state = .prepared
        attempt = 0
        operationState = .setupConfiguration
    }

    /// Whether the source may serve clients of this SVM after a start of the daemon. A record in `cleaned` speaks of a copy
    /// that is deleted: an SVM of that identifier came back by another operation, and this one has no say in it.
    package var mayServe: Bool {
        switch state {
        case .prepared, .locked, .recovered, .cleaned: true
        case .commit, .ponr, .released: false
        }
    }
}

/// What can happen to a source record.
package enum SourceEvent: Equatable, Sendable {
    /// A cutover begins: the configuration is locked, until the deadline at the latest.
    case lock(attempt: UInt64, deadlineWallClockNanoseconds: Int64)
    /// The configuration was locked for too long: the cutover ends here [140].
    case expireLock(attempt: UInt64)
    /// The cutover is over without a commit, or its commit was given up.
    case unlock(attempt: UInt64)
    /// The commit begins and ends at the deadline at the latest.
    case arm(attempt: UInt64, deadlineWallClockNanoseconds: Int64)
    /// The commit is given up: by the timer, on request, or because the daemon was restarted.
    case recover(attempt: UInt64, reason: String)
    /// The destination asks for the point of no return.
    case pointOfNoReturn(attempt: UInt64)
    /// The SVM is stopped.
    case release
    /// The SVM is deleted.
    case clean
}

extension SourceRecord {
    /// The record after an event; equal to this one when the event had happened already.
    /// - Throws: `.refused`, `.commitRecovered` or `.pastPointOfNoReturn` when the event is not legal.
    package func after(_ event: SourceEvent) throws(MigrateError) -> SourceRecord {
        var next = self
        switch event {
        case .lock(let attempt, let deadline):
            if state == .locked && self.attempt == attempt { return self }
            guard state == .prepared, attempt > self.attempt else { throw illegal(event) }
            next.state = .locked
            next.attempt = attempt
            next.lockDeadlineWallClockNanoseconds = deadline
        case .expireLock(let attempt):
            // A commit that has begun has a timer of its own, and one that is over needs none.
            guard state == .locked, attempt == self.attempt else { return self }
            next.state = .recovered
            next.lockDeadlineWallClockNanoseconds = nil
            next.lastRecoveryReason = "the configuration was locked for longer than the pre-commit may take"
        case .unlock(let attempt):
            guard state == .prepared || state == .locked || state == .recovered, attempt >= self.attempt else {
                throw illegal(event)
            }
            // The attempt is remembered even when nothing was locked: a `lock` of it that comes late is refused.
            next.state = .prepared
            next.attempt = attempt
            next.lockDeadlineWallClockNanoseconds = nil
        case .arm(let attempt, let deadline):
            if state == .commit && self.attempt == attempt { return self }
            guard state == .locked, attempt == self.attempt else { throw illegal(event) }
            next.state = .commit
            next.commitDeadlineWallClockNanoseconds = deadline
            next.lockDeadlineWallClockNanoseconds = nil
        case .recover(let attempt, let reason):
            // Nothing is held before the commit. An attempt that is only locked is given up all the same, so that an
            // `arm` of it that comes late finds it gone.
            if state == .prepared || state == .recovered { return self }
            if state == .locked && attempt != self.attempt { return self }
            guard state == .commit || state == .locked, attempt == self.attempt else { throw illegal(event) }
            next.state = .recovered
            next.commitDeadlineWallClockNanoseconds = nil
            next.lockDeadlineWallClockNanoseconds = nil
            next.lastRecoveryReason = reason
        case .pointOfNoReturn(let attempt):
            if isPastPointOfNoReturn && self.attempt == attempt { return self }
            guard state == .commit, attempt == self.attempt else { throw illegal(event) }
            next.state = .ponr
            next.commitDeadlineWallClockNanoseconds = nil
        case .release:
            if state == .released || state == .cleaned { return self }
            guard state == .ponr else { throw illegal(event) }
            next.state = .released
        case .clean:
            if state == .cleaned { return self }
            guard state == .released else { throw illegal(event) }
            next.state = .cleaned
        }
        return next
    }

    /// Whether the destination alone may serve.
    package var isPastPointOfNoReturn: Bool { state == .ponr || state == .released || state == .cleaned }

    private func illegal(_ event: SourceEvent) -> MigrateError {
        if isPastPointOfNoReturn {
            return MigrateError(
                .pastPointOfNoReturn,
                code: MigrateCode.wrongState,
                "the point of no return of operation \(operation) has been recorded (state \(state.rawValue))",
                remedy: "go on with the destination; the source does not serve this SVM again"
            )
        }
        let asksToCommit =
            switch event {
            case .pointOfNoReturn: true
            case .arm: state == .recovered
            default: false
            }
        if asksToCommit {
            return MigrateError(
                .commitRecovered,
                code: MigrateCode.wrongState,
                "the source gave the commit up: \(lastRecoveryReason ?? "it is in state \(state.rawValue)")",
                remedy: "undo the cutover on the destination and try again"
            )
        }
        return MigrateError(
            .refused,
            code: MigrateCode.wrongState,
            "'\(event)' does not fit the source record in state \(state.rawValue), attempt \(attempt)",
            remedy: "read the record again and go on from its state"
        )
    }

    /// The record after another node has taken the operation over. A commit is given up: what its former owner knew of the
    /// held clients died with it.
    package func takenOver(by node: ObjectUUID) -> SourceRecord {
        var next = self
        next.owningNode = node
        next.ownerEpoch += 1
        guard state == .commit else { return next }
        next.state = .recovered
        next.commitDeadlineWallClockNanoseconds = nil
        next.lastRecoveryReason = "another node took over the operation at the source"
        return next
    }

    /// Checks the caller's epoch, and remembers a newer one and the state of the operation.
    /// - Throws: `.fenced` when a caller with a newer epoch was there before.
    package func fenced(by call: SourceCall) throws(MigrateError) -> SourceRecord {
        guard call.epoch >= epoch else {
            throw MigrateError(
                .fenced,
                "epoch \(call.epoch) of operation \(operation) has been superseded by \(epoch)",
                remedy: "stop this orchestrator; another one has taken over"
            )
        }
        var next = self
        next.epoch = call.epoch
        if let state = call.operationState { next.operationState = state }
        return next
    }
}
