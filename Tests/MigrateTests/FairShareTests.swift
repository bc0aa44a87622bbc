import ClusterConfiguration
import Identity
import MigrateOperation
import Orchestrator
import ReplicatedDatabase
import Testing

private let large = ObjectUUID(high: 1, low: 0)
private let small = ObjectUUID(high: 2, low: 0)

extension FairShare {
    /// Enters as a test wants to see it: the macro cannot call what changes.
    fileprivate mutating func enters(_ operation: ObjectUUID, _ expected: Bool) {
        let entered = enter(operation)
        #expect(entered == expected)
    }
}

@Suite struct FairShareTests {
    @Test func oneOperationMayHaveEverySlot() {
        var share = FairShare(slotCount: 4)
        for _ in 0..<6 { share.join(large) }
        for _ in 0..<4 { share.enters(large, true) }
        share.enters(large, false)
        #expect(share.running[large] == 4 && share.waiting[large] == 2)
    }

    /// An operation with many volumes leaves half of the slots to one that comes later.
    @Test func twoOperationsShare() {
        var share = FairShare(slotCount: 4)
        for _ in 0..<10 { share.join(large) }
        while share.enter(large) {}
        for _ in 0..<3 { share.join(small) }
        share.enters(small, false)
        share.exit(large)
        // The slot that has become free is for the one that has less.
        share.enters(large, false)
        share.enters(small, true)
        share.exit(large)
        share.enters(large, false)
        share.enters(small, true)
        #expect(share.running == [large: 2, small: 2])
        share.enters(small, false)
    }

    @Test func whoLeavesTakesNoSlot() {
        var share = FairShare(slotCount: 1)
        share.join(large)
        share.leave(large)
        share.enters(large, false)
        #expect(share == FairShare(slotCount: 1))
    }
}

@Suite struct RecordVersionTests {
    /// A record of another version is not guessed at: neither taken for missing nor read wrongly.
    @Test func otherVersionsAreRefused() async throws {
        let database = InMemoryDatabase()
        let operation = ObjectUUID(high: 1, low: 1)
        let records = MigrateRecords<SourceRecord>(database, prefix: MigrateKeys.sourcePrefix)
        let record = SourceRecord(
            operation: operation,
            epoch: 1,
            owningNode: ObjectUUID(high: 9, low: 1),
            svm: ObjectUUID(high: 2, low: 2),
            svmName: "svm",
            destinationCluster: "beta"
        )
        #expect(try await records.put(record, of: operation, at: 0) != nil)
        #expect(try await records.get(operation)?.record == record)
        var newer = record
        newer.formatVersion += 1
        let value = try ConfigurationCoding.encode(newer)
        _ = try await database.transact(when: [], [.put(key: MigrateKeys.source(operation), value: value)])
        await #expect(throws: MigrateError.self) { try await records.get(operation) }
    }
}
