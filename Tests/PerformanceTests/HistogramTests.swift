import Identity
import Performance
import Testing
import VolumeEngine

@Suite("Latencies and counters")
struct HistogramTests {
    @Test func bucketsMeetEachOther() {
        for bucket in 0..<LatencyBuckets.count {
            let low = LatencyBuckets.lowerBoundNanoseconds(bucket)
            let high = LatencyBuckets.lowerBoundNanoseconds(bucket + 1)
            #expect(low < high)
            #expect(LatencyBuckets.index(of: low) == bucket)
            #expect(LatencyBuckets.index(of: high - 1) == bucket)
            // A quarter of a doubling: nothing is off by more than that.
            if bucket > 0 { #expect(Double(high) / Double(low) <= 1.25) }
        }
        #expect(LatencyBuckets.index(of: 0) == 0)
        #expect(LatencyBuckets.index(of: .max) == LatencyBuckets.count - 1)
    }

    @Test func quantilesAreWithinABucketOfTheTruth() throws {
        var counts = [UInt64](repeating: 0, count: LatencyBuckets.count)
        let latencies = (1...10_000).map { UInt64($0) * 1_000 }
        for latency in latencies { counts[LatencyBuckets.index(of: latency)] += 1 }
        for quantile in [0.01, 0.5, 0.95, 0.99, 1] {
            let truth = Double(latencies[Int(quantile * 10_000) - 1])
            let found = try #require(LatencyQuantiles.value(quantile, of: counts))
            #expect(abs(found - truth) / truth < 0.25, "\(quantile): \(found) instead of \(truth)")
        }
        let values = [0, 0.25, 0.5, 0.75, 1].compactMap { LatencyQuantiles.value($0, of: counts) }
        #expect(values == values.sorted())
    }

    @Test func nothingHasNoQuantiles() {
        #expect(LatencyQuantiles.value(0.5, of: [UInt64](repeating: 0, count: LatencyBuckets.count)) == nil)
    }

    @Test func oneRequestIsEveryQuantile() throws {
        var counts = [UInt64](repeating: 0, count: LatencyBuckets.count)
        counts[LatencyBuckets.index(of: 5_000_000)] = 1
        let values = [0, 0.5, 0.99, 1].map { LatencyQuantiles.value($0, of: counts) }
        #expect(Set(values).count == 1)
        #expect(abs(try #require(values[0]) - 5_000_000) / 5_000_000 < 0.25)
    }

    @Test func countersCountFromManyThreads() async {
        let counters = VolumeCounters()
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<8 {
                group.addTask {
                    for _ in 0..<1_000 {
                        counters.count(.read, bytes: 10, latencyNanoseconds: 2_000)
                        counters.count(.write, bytes: 20, latencyNanoseconds: 4_000)
                        counters.count(.other, bytes: 0, latencyNanoseconds: 1)
                    }
                }
            }
        }
        let totals = counters.totals
        #expect(totals.reads == 8_000 && totals.writes == 8_000 && totals.others == 8_000)
        #expect(totals.readBytes == 80_000 && totals.writtenBytes == 160_000)
        #expect(totals.latencyNanoseconds == 8_000 * 6_001)
        #expect(totals.latencyCounts.reduce(0, +) == totals.operations)
        #expect(totals.since(totals).operations == 0)
    }

    @Test func aSampleIsOfWhatCameSince() {
        let (first, second) = (VolumeCounters(), VolumeCounters())
        let ids = (1...4).map { ObjectUUID(high: 0, low: UInt64($0)) }
        func readings(_ other: VolumeCounters) -> [PerformanceMeter.Reading] {
            [
                .init(volume: ids[0], aggregate: ids[2], counters: first, totals: first.totals),
                .init(volume: ids[1], aggregate: ids[2], counters: other, totals: other.totals),
                .init(volume: nil, aggregate: ids[3], counters: first, totals: OperationTotals()),
            ]
        }
        var meter = PerformanceMeter()
        first.count(.read, bytes: 1, latencyNanoseconds: 1_000)
        second.count(.write, bytes: 2, latencyNanoseconds: 1_000)
        let begun = readings(second)
        let early = meter.measures(begun)
        #expect(early.volumes.map(\.object) == [ids[0], ids[1]])
        #expect(early.aggregates.map(\.object) == [ids[2]])
        #expect(early.aggregates[0].totals.operations == 2)
        // A sample that could not be written is in the next one.
        #expect(meter.measures(readings(second)).aggregates[0].totals.operations == 2)
        meter.accept(begun)
        #expect(meter.measures(begun).volumes.isEmpty)
        first.count(.read, bytes: 1, latencyNanoseconds: 1_000)
        #expect(meter.measures(readings(second)).volumes.map(\.object) == [ids[0]])
        // A volume that was opened anew begins at zero, and nothing of it is lost.
        let reopened = VolumeCounters()
        reopened.count(.other, bytes: 0, latencyNanoseconds: 1_000)
        let late = meter.measures(readings(reopened))
        #expect(late.volumes.map(\.totals.operations) == [1, 1])
    }
}
