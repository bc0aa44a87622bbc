import Identity
import Performance
import Testing
import VolumeEngine

@Suite("Latency curve and headroom")
struct CurveTests {
    /// A queue with one server (M/M/1): its power is greatest at half of its capacity.
    private static func queue(capacity: Double, upTo part: Double, count: Int = 160) -> [LoadPoint] {
        (1...count).map { index in
            let load = capacity * part * Double(index) / Double(count)
            return LoadPoint(operationsPerSecond: load, latencyNanoseconds: 1e9 / (capacity - load))
        }
    }

    @Test func theOptimumOfAQueueIsHalfItsCapacity() throws {
        let curve = LatencyCurve(Self.queue(capacity: 10_000, upTo: 0.96))
        let optimum = try curve.optimalPoint.get()
        #expect(abs(optimum.operationsPerSecond - 5_000) < 600, "\(optimum)")
        let headroom = Headroom(curve, operational: optimum.operationsPerSecond / 4)
        #expect(headroom.part == 0.75)
        #expect(Headroom(curve, operational: 0).part == 1)
        let beyond = Headroom(curve, operational: optimum.operationsPerSecond * 2)
        #expect(beyond.part == -1 && beyond.freeOperationsPerSecond == 0)
    }

    @Test func theOrderOfPointsDoesNotMatter() {
        let points = Self.queue(capacity: 300, upTo: 0.9)
        #expect(LatencyCurve(points).optimalPoint == LatencyCurve(points.reversed()).optimalPoint)
    }

    @Test func aCurveThatEndsBeforeItsBendSaysNothing() {
        let curve = LatencyCurve(Self.queue(capacity: 10_000, upTo: 0.4))
        #expect(curve.optimalPoint == .failure(.init(.noBend)))
        #expect(Headroom(curve, operational: 100) == .unknown(.noBend))
        #expect(Headroom(curve, operational: 100).part == nil)
        // Nor does noise at the end of it.
        let noisy = Self.queue(capacity: 10_000, upTo: 0.4).map { point in
            var point = point
            if point.operationsPerSecond > 3_900 { point.latencyNanoseconds *= 1.05 }
            return point
        }
        #expect(LatencyCurve(noisy).optimalPoint == .failure(.init(.noBend)))
    }

    @Test func degenerateCurvesAreUnknown() {
        #expect(LatencyCurve([]).optimalPoint == .failure(.init(.tooFewSamples)))
        let same = [LoadPoint](repeating: .init(operationsPerSecond: 50, latencyNanoseconds: 1_000), count: 100)
        #expect(LatencyCurve(same).optimalPoint == .failure(.init(.noVariation)))
        let few = Array(Self.queue(capacity: 10, upTo: 0.9, count: 9))
        #expect(LatencyCurve(few).optimalPoint == .failure(.init(.tooFewSamples)))
        // What cannot be is left out.
        let impossible = [0, -1, .nan, .infinity].flatMap { value in
            [
                LoadPoint(operationsPerSecond: value, latencyNanoseconds: 1),
                LoadPoint(operationsPerSecond: 1, latencyNanoseconds: value),
            ]
        }
        #expect(LatencyCurve(impossible + impossible).optimalPoint == .failure(.init(.tooFewSamples)))
        #expect(LoadPoint(OperationTotals(), durationNanoseconds: 1) == nil)
    }

    @Test func loadIsTakenFromHeadroom() {
        let headroom = Headroom.known(optimal: 1_000, operational: 400)
        #expect(headroom.part == 0.6)
        #expect(headroom.freeOperationsPerSecond == 600)
        #expect(headroom.taking(100).freeOperationsPerSecond == 500)
        #expect(Headroom.unknown(.noBend).taking(100) == .unknown(.noBend))
    }

    @Test func theCurveIsOfAllNodesAndThePresentOfTheOwner() throws {
        let nodes = [ObjectUUID(high: 1, low: 1), ObjectUUID(high: 1, low: 2)]
        let aggregate = ObjectUUID(high: 2, low: 1)
        let second: Int64 = 1_000_000_000
        let now = 200 * second
        /// A hundred seconds of a node, one sample each, of a queue that serves 1000 a second.
        func history(from start: Int, load: (Int) -> UInt64) -> PerformanceHistory {
            var history = PerformanceHistory()
            for index in 0..<100 {
                var totals = OperationTotals()
                totals.reads = load(index)
                totals.latencyNanoseconds =
                    totals.reads == 0 ? 0 : totals.reads * (1_000_000_000 / (1_000 - totals.reads))
                let measures = totals.reads == 0 ? [] : [ObjectMeasure(object: aggregate, totals: totals)]
                history.append(
                    IntervalRecord(
                        endNanoseconds: Int64(start + index + 1) * second,
                        durationNanoseconds: UInt64(second),
                        measures: measures
                    )
                )
            }
            return history
        }
        let histories = [
            nodes[0]: history(from: 0) { UInt64(9 * ($0 + 1)) }, nodes[1]: history(from: 100) { $0 < 95 ? 0 : 100 },
        ]
        let performance = ClusterPerformance(histories, now: now)
        // It was taken over: the former owner had seen the bend, the present one sees a load of 100.
        guard case .known(let optimal, let operational) = performance.headroom(of: aggregate, on: nodes[1]) else {
            Issue.record("the headroom is not known")
            return
        }
        #expect(abs(optimal - 500) < 60)
        #expect(operational == 100)
        #expect(performance.recent(of: nodes[0]).isEmpty)
        #expect(performance.headroom(of: aggregate, on: nodes[0]) == .unknown(.tooFewSamples))
    }
}
