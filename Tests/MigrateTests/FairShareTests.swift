import ClusterConfiguration
import Identity
import MigrateOperation
import Orchestrator
import ReplicatedDatabase
import Testing

private let large = ObjectUUID(high: 1, low: 0)
private let small = ObjectUUID(high: 2, low: 0)

@Suite struct FairShareTests {
    @Test func oneOperationMayHaveEverySlot() {
        var share = FairShare(slotCount: 4)
        for _ in 0..<6 { share.join(large) }
        let entered = (0..<6).filter { _ in share.enter(large) }
        #expect(entered.count == 4)
        #expect(share.running[large] == 4 && share.waiting[large] == 2)
    }

    /// An operation with many volumes leaves half of the slots to one that comes later.
    @Test func twoOperationsShare() {
        var share = FairShare(slotCount: 4)
        for _ in 0..<10 { share.join(large) }
        while share.enter(large) {}
        for _ in 0..<3 { share.join(small) }
        #expect(!share.enter(small))
        share.exit(large)
        // The slot that has become free is for the one that has less.
        #expect(!share.enter(large))
        #expect(share.enter(small))
        share.exit(large)
        #expect(!share.enter(large))
        #expect(share.enter(small))
        #expect(share.running == [large: 2, small: 2])
        #expect(!share.enter(small))
    }

    @Test func whoLeavesTakesNoSlot() {
        var share = FairShare(slotCount: 1)
        share.join(large)
        share.leave(large)
        #expect(!share.enter(large))
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
