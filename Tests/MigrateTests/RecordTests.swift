import Identity
import MigrateOperation
import Testing

private func record() -> SourceRecord {
    SourceRecord(
        operation: ObjectUUID(high: 1, low: 1),
        epoch: 3,
        owningNode: ObjectUUID(high: 9, low: 1),
        svm: ObjectUUID(high: 2, low: 2),
        svmName: "svm",
        destinationCluster: "beta"
    )
}

private func committed() throws -> SourceRecord {
    try record().after(.lock(attempt: 1, deadlineWallClockNanoseconds: 9)).after(
        .arm(attempt: 1, deadlineWallClockNanoseconds: 5)
    )
}

private func kind(_ body: () throws -> SourceRecord) -> MigrateError.Kind? {
    do {
        _ = try body()
        return nil
    } catch {
        return (error as? MigrateError)?.kind
    }
}

@Suite struct SourceRecordTests {
    @Test func exactlyOneOfTimerAndPointOfNoReturnWins() throws {
        let recovered = try committed().after(.recover(attempt: 1, reason: "timer"))
        #expect(recovered.state == .recovered)
        #expect(kind { try recovered.after(.pointOfNoReturn(attempt: 1)) } == .commitRecovered)
        let passed = try committed().after(.pointOfNoReturn(attempt: 1))
        #expect(passed.state == .ponr)
        #expect(kind { try passed.after(.recover(attempt: 1, reason: "timer")) } == .pastPointOfNoReturn)
    }

    @Test func everyEventMayBeRepeated() throws {
        let events: [SourceEvent] = [
            .lock(attempt: 1, deadlineWallClockNanoseconds: 9), .arm(attempt: 1, deadlineWallClockNanoseconds: 5),
            .pointOfNoReturn(attempt: 1),
            .release,
            .clean,
        ]
        var current = record()
        for event in events {
            current = try current.after(event)
            #expect(try current.after(event) == current)
        }
        #expect(current.state == .cleaned)
    }

    @Test func pointOfNoReturnOfAnOlderAttemptIsRefused() throws {
        let second = try committed().after(.recover(attempt: 1, reason: "timer")).after(.unlock(attempt: 1))
            .after(.lock(attempt: 2, deadlineWallClockNanoseconds: 9)).after(
                .arm(attempt: 2, deadlineWallClockNanoseconds: 9)
            )
        #expect(kind { try second.after(.pointOfNoReturn(attempt: 1)) } == .commitRecovered)
        #expect(try second.after(.pointOfNoReturn(attempt: 2)).state == .ponr)
    }

    @Test func olderEpochsAreFenced() throws {
        func call(_ epoch: UInt64) -> SourceCall {
            SourceCall(operation: record().operation, epoch: epoch, operationState: .transferring, request: .status)
        }
        #expect(kind { try record().fenced(by: call(2)) } == .fenced)
        #expect(try record().fenced(by: call(7)).epoch == 7)
        #expect(try record().fenced(by: call(3)).operationState == .transferring)
    }

    @Test func aLockEndsByItselfUnlessTheCommitHasBegun() throws {
        let locked = try record().after(.lock(attempt: 1, deadlineWallClockNanoseconds: 9))
        let expired = try locked.after(.expireLock(attempt: 1))
        #expect(expired.state == .recovered)
        #expect(kind { try expired.after(.arm(attempt: 1, deadlineWallClockNanoseconds: 5)) } == .commitRecovered)
        #expect(try expired.after(.unlock(attempt: 1)).state == .prepared)
        #expect(try committed().after(.expireLock(attempt: 1)) == committed())
        #expect(try locked.after(.expireLock(attempt: 0)) == locked)
    }

    /// Found by the model of the point of no return: what was on its way for too long finds its attempt gone.
    @Test func requestsOfAnAttemptThatIsOverComeTooLate() throws {
        let locked = try record().after(.lock(attempt: 1, deadlineWallClockNanoseconds: 9))
        let recovered = try locked.after(.recover(attempt: 1, reason: "undone"))
        #expect(recovered.state == .recovered)
        #expect(recovered.lockDeadlineWallClockNanoseconds == nil)
        #expect(kind { try recovered.after(.arm(attempt: 1, deadlineWallClockNanoseconds: 5)) } == .commitRecovered)
        let unlocked = try record().after(.unlock(attempt: 1))
        #expect(unlocked.state == .prepared)
        #expect(kind { try unlocked.after(.lock(attempt: 1, deadlineWallClockNanoseconds: 9)) } == .refused)
        let second = try unlocked.after(.lock(attempt: 2, deadlineWallClockNanoseconds: 9))
        #expect(kind { try second.after(.unlock(attempt: 1)) } == .refused)
        #expect(try second.after(.recover(attempt: 1, reason: "late")) == second)
    }

    @Test func servesOnlyWhenNobodyElseMay() throws {
        #expect(record().mayServe)
        #expect(try !committed().mayServe)
        #expect(try committed().after(.recover(attempt: 1, reason: "")).mayServe)
        let passed = try committed().after(.pointOfNoReturn(attempt: 1))
        #expect(!passed.mayServe)
        #expect(try !passed.after(.release).mayServe)
        // The copy is deleted: the SVM may have come back by another operation.
        #expect(try passed.after(.release).after(.clean).mayServe)
    }
}
