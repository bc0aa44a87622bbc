import ClusterConfiguration
import Identity
import MigrateOperation
import Orchestrator
import Performance
import Replication
import Testing

@Suite("Placement of volumes")
struct VolumePlacementTests {
    private static let gibibyte: UInt64 = 1 << 30

    private func volume(
        _ name: String,
        used: UInt64 = gibibyte,
        size: UInt64 = 4 * gibibyte,
        isGuaranteed: Bool = false,
        load: Double? = nil
    ) -> VolumeDescription {
        VolumeDescription(
            uuid: ObjectUUID(high: 1, low: UInt64(name.utf8.reduce(7) { $0 * 31 + Int($1) })),
            name: name,
            msid: VolumeMSID(rawValue: 1),
            sizeBytes: size,
            isSpaceGuaranteed: isGuaranteed,
            usedBytes: used,
            busiestOperationsPerSecond: load,
            source: VolumeSource(nodeName: "a", endpoint: PeerEndpoint(address: "127.0.0.1", port: 1), secret: "")
        )
    }

    private func aggregate(
        _ number: UInt64,
        free: UInt64,
        tier: AggregateTier? = nil,
        headroom: Headroom = .unknown(.tooFewSamples),
        refusal: String? = nil
    ) -> AggregateCandidate {
        AggregateCandidate(
            aggregate: ObjectUUID(high: 9, low: number),
            name: "aggr\(number)",
            availableBytes: free,
            tier: tier,
            headroom: headroom,
            refusal: refusal
        )
    }

    private func choices(
        _ volumes: [VolumeDescription],
        _ candidates: [AggregateCandidate],
        tier: AggregateTier? = nil
    ) -> [String?] {
        let placed = VolumePlacement.place(volumes, on: candidates, tier: tier)
        // What is explained is what is done.
        for (volume, decision) in zip(placed.volumes, placed.decisions) {
            let chosen = candidates.first { $0.aggregate == volume.destinationAggregate }?.name
            #expect(decision.choice == chosen && decision.name == volume.name && decision.kind == .volume)
            #expect(decision.options.count == candidates.count)
            #expect(chosen == nil || decision.options.first?.name == chosen)
            #expect(chosen == nil || decision.options.first?.refusal == nil)
        }
        return placed.decisions.map(\.choice)
    }

    private func refusals(_ decision: PlacementDecision) -> [String: String] {
        Dictionary(
            decision.options.compactMap { option in option.refusal.map { (option.name, $0) } },
            uniquingKeysWith: { first, _ in first }
        )
    }

    @Test func theMostFreeSpaceIsTaken() {
        let candidates = [aggregate(1, free: 100 * Self.gibibyte), aggregate(2, free: 200 * Self.gibibyte)]
        #expect(choices([volume("v")], candidates) == ["aggr2"])
    }

    @Test func volumesSpreadOverAggregatesThatAreAlike() {
        let candidates = (1...3).map { aggregate($0, free: 1_000 * Self.gibibyte) }
        let volumes = (0..<6).map { volume("v\($0)") }
        let found = choices(volumes, candidates)
        #expect(found == ["aggr1", "aggr2", "aggr3", "aggr1", "aggr2", "aggr3"])
        #expect(choices(volumes, candidates) == found)
    }

    @Test func aGuaranteedVolumeNeedsItsWholeSize() {
        let candidates = [aggregate(1, free: 2 * Self.gibibyte)]
        #expect(choices([volume("thin")], candidates) == ["aggr1"])
        let placed = VolumePlacement.place([volume("thick", isGuaranteed: true)], on: candidates)
        #expect(placed.findings.map(\.code) == [MigrateCode.noCapacity])
        #expect(placed.findings[0].message.contains("'aggr1': 2 GiB are free, and 4 GiB are needed"))
        #expect(placed.volumes[0].destinationAggregate == nil)
        #expect(placed.decisions[0].choice == nil)
        #expect(placed.decisions[0].reason.contains("its size, which is guaranteed"))
    }

    @Test func aThinVolumeNeedsAnOverheadToo() {
        let needed = Self.gibibyte + Self.gibibyte / 100 * 5
        #expect(choices([volume("v")], [aggregate(1, free: needed)]) == ["aggr1"])
        #expect(choices([volume("v")], [aggregate(1, free: needed - 1)]) == [nil])
        #expect(choices([volume("v", used: .max)], [aggregate(1, free: .max - 1)]) == [nil])
    }

    @Test func theLargestComeFirst() {
        // In the order of names the small one would take the place of the large one.
        let candidates = [aggregate(1, free: 11 * Self.gibibyte), aggregate(2, free: 5 * Self.gibibyte)]
        let volumes = [volume("a", used: 2 * Self.gibibyte), volume("b", used: 10 * Self.gibibyte)]
        #expect(choices(volumes, candidates) == ["aggr2", "aggr1"])
    }

    @Test func whatTheUserDoesNotWantIsRefusedWithItsReason() {
        let candidates = [
            aggregate(1, free: 500 * Self.gibibyte, refusal: "it is not among the aggregates that may be used"),
            aggregate(2, free: 100 * Self.gibibyte),
        ]
        #expect(choices([volume("v")], candidates) == ["aggr2"])
        let decision = VolumePlacement.place([volume("v")], on: candidates).decisions[0]
        #expect(refusals(decision) == ["aggr1": "it is not among the aggregates that may be used"])
        #expect(decision.reason.hasPrefix("it is the only one that qualifies"))
    }

    @Test func aTierIsAskedFor() {
        let candidates = [
            aggregate(1, free: 900 * Self.gibibyte), aggregate(2, free: 800 * Self.gibibyte, tier: .performance),
            aggregate(3, free: 100 * Self.gibibyte, tier: .capacity),
        ]
        #expect(choices([volume("v")], candidates) == ["aggr1"])
        #expect(choices([volume("v")], candidates, tier: .capacity) == ["aggr3"])
        let decision = VolumePlacement.place([volume("v")], on: candidates, tier: .capacity).decisions[0]
        #expect(
            refusals(decision) == [
                "aggr1": "its tier is not configured, and 'capacity' is asked for",
                "aggr2": "its tier is 'performance', and 'capacity' is asked for",
            ]
        )
        let none = VolumePlacement.place([volume("v")], on: Array(candidates.prefix(2)), tier: .capacity)
        #expect(none.findings.first?.remedy.contains("another tier") == true)
    }

    @Test func headroomIsNeededForTheLoadOfTheVolume() {
        let candidates = [
            aggregate(1, free: 900 * Self.gibibyte, headroom: .known(optimal: 1_000, operational: 900)),
            aggregate(2, free: 100 * Self.gibibyte, headroom: .known(optimal: 1_000, operational: 200)),
        ]
        #expect(choices([volume("busy", load: 500)], candidates) == ["aggr2"])
        let decision = VolumePlacement.place([volume("busy", load: 500)], on: candidates).decisions[0]
        #expect(
            refusals(decision) == ["aggr1": "it has headroom for 100 IOPS, and the volume had up to 500 IOPS"]
        )
        #expect(decision.options[0].detail.contains("headroom 80 % (200 IOPS of 1000 IOPS)"))
        // One whose load is not known, or that has none, is judged by space alone.
        #expect(choices([volume("unknown"), volume("idle", load: 0)], candidates) == ["aggr1", "aggr1"])
    }

    @Test func headroomThatWasGivenAwayIsGone() {
        let candidates = (1...2).map {
            aggregate($0, free: 900 * Self.gibibyte, headroom: .known(optimal: 1_000, operational: 300))
        }
        let volumes = ["a", "b", "c"].map { volume($0, load: 400) }
        // Each takes one; for the third there is no headroom, and it goes where most is left: both are alike.
        #expect(choices(volumes, candidates) == ["aggr1", "aggr2", "aggr1"])
        let decision = VolumePlacement.place(volumes, on: candidates).decisions[2]
        #expect(decision.reason.hasPrefix("no aggregate has the headroom for it"))
    }

    @Test func performanceAloneStopsNothing() {
        let candidates = [
            aggregate(1, free: 900 * Self.gibibyte, headroom: .known(optimal: 100, operational: 100)),
            aggregate(2, free: 900 * Self.gibibyte, headroom: .known(optimal: 1_000, operational: 900)),
            aggregate(3, free: 1, headroom: .known(optimal: 100_000, operational: 0)),
        ]
        let placed = VolumePlacement.place([volume("v", load: 500)], on: candidates)
        #expect(placed.findings.isEmpty)
        #expect(placed.decisions[0].choice == "aggr2")
        #expect(refusals(placed.decisions[0]).keys.sorted() == ["aggr3"])
    }

    @Test func headroomComparesOnlyWhereAllAreMeasured() {
        let known = aggregate(1, free: 500 * Self.gibibyte, headroom: .known(optimal: 1_000, operational: 0))
        let unknown = aggregate(2, free: 900 * Self.gibibyte)
        #expect(choices([volume("v", load: 100)], [known, unknown]) == ["aggr2"])
        let busier = aggregate(2, free: 900 * Self.gibibyte, headroom: .known(optimal: 1_000, operational: 600))
        #expect(choices([volume("v", load: 100)], [known, busier]) == ["aggr1"])
    }

    @Test func withoutAggregatesThereIsAFinding() {
        let placed = VolumePlacement.place([volume("v")], on: [])
        #expect(placed.findings.first?.message.contains("there is none") == true)
        #expect(
            placed.decisions == [
                PlacementDecision(
                    kind: .volume,
                    name: "v",
                    options: [],
                    choice: nil,
                    reason: placed.decisions[0].reason
                )
            ]
        )
    }
}
