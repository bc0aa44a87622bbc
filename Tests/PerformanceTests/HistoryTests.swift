import ClusterConfiguration
import Identity
import Performance
import ReplicatedDatabase
import Testing
import VolumeEngine

@Suite("History of samples")
struct HistoryTests {
    private let node = ObjectUUID(high: 1, low: 1)
    private let volume = ObjectUUID(high: 2, low: 1)
    private static let minute: Int64 = 60_000_000_000

    private func record(minute: Int, reads: UInt64) -> IntervalRecord {
        var totals = OperationTotals()
        totals.reads = reads
        totals.readBytes = reads * 4_096
        totals.latencyNanoseconds = reads * 2_000_000
        totals.latencyCounts[LatencyBuckets.index(of: 2_000_000)] = reads
        return IntervalRecord(
            endNanoseconds: Int64(minute) * Self.minute,
            durationNanoseconds: UInt64(Self.minute),
            measures: reads == 0 ? [] : [ObjectMeasure(object: volume, totals: totals)]
        )
    }

    @Test func theRingIsBounded() async throws {
        let database = InMemoryDatabase()
        let store = PerformanceStore(database)
        var history = PerformanceHistory()
        for minute in 1...(PerformanceLimits.historyLength * 2 + 7) {
            let record = record(minute: minute, reads: UInt64(minute))
            try await store.write(aggregates: record, volumes: record, of: node, slot: history.nextSlot)
            history.append(record)
            #expect(history.entries.count == min(minute, PerformanceLimits.historyLength))
        }
        let records = try await database.range(prefix: "performance/").records
        #expect(records.count == 2 * PerformanceLimits.historyLength)
        #expect(try await store.volumes(of: node) == history)
        #expect(try await store.aggregates() == [node: history])
        // A daemon that starts again goes on where it was.
        #expect(try await store.volumes(of: node).nextSlot == history.nextSlot)
        try await store.remove(node)
        #expect(try await database.range(prefix: "performance/").records.isEmpty)
    }

    @Test func recentIsNotWhatWasLeftBehind() {
        var history = PerformanceHistory()
        for minute in 1...10 { history.append(record(minute: minute, reads: 1)) }
        func minutes(_ entries: [PerformanceHistory.Entry]) -> [Int64] {
            entries.map { $0.record.endNanoseconds / Self.minute }
        }
        #expect(minutes(history.recent(at: 10 * Self.minute)) == [6, 7, 8, 9, 10])
        #expect(minutes(history.recent(at: 13 * Self.minute + 1)) == [8, 9, 10])
        #expect(history.recent(at: 60 * Self.minute).isEmpty)
        // A node that was away for a day has its old ring, and one new sample.
        history.append(record(minute: 2_000, reads: 1))
        #expect(minutes(history.kept(at: 2_000 * Self.minute)) == [2_000])
        // A clock that was set back: what is of a time to come does not count.
        #expect(history.recent(at: 1_000 * Self.minute).isEmpty)
    }

    @Test func aSummaryAddsUp() throws {
        let summary = PerformanceSummary(
            of: volume,
            in: [record(minute: 1, reads: 600), record(minute: 2, reads: 0), record(minute: 3, reads: 1_200)]
        )
        #expect(summary.operationsPerSecond == 10)
        #expect(summary.perSecond(summary.totals.readBytes) == 40_960)
        #expect(summary.meanLatencyNanoseconds == 2_000_000)
        // 1800 requests of 2 ms in 180 s.
        #expect(abs(summary.utilization - 0.02) < 1e-9)
        let median = try #require(summary.latencyNanoseconds(quantile: 0.5))
        #expect(abs(median - 2_000_000) < 500_000)
        let idle = PerformanceSummary(of: node, in: [record(minute: 1, reads: 600)])
        #expect(idle.operationsPerSecond == 0 && idle.meanLatencyNanoseconds == nil)
    }

    @Test func samplesAreSmallAndReadBack() throws {
        let record = record(minute: 1, reads: 5)
        let bytes = try ConfigurationCoding.encode(record)
        #expect(bytes.count < 250, "\(bytes.count) bytes")
        #expect(try ConfigurationCoding.decode(IntervalRecord.self, from: bytes, key: "k") == record)
        let measure = #"{"object":"00000000-0000-0000-0000-000000000001","counts":[1,2],"latencies":[]}"#
        let text = #"{"formatVersion":1,"endNanoseconds":1,"durationNanoseconds":1,"measures":["# + measure + "]}"
        #expect(throws: ManagementError.self) {
            try ConfigurationCoding.decode(IntervalRecord.self, from: Array(text.utf8), key: "k")
        }
    }
}
