package import VolumeEngine

/// The load of an aggregate in one interval and the latency that it had: a point of the curve.
package struct LoadPoint: Equatable, Sendable {
    /// Requests per second.
    package var operationsPerSecond: Double
    /// The mean latency of these requests, in nanoseconds.
    package var latencyNanoseconds: Double

    /// Makes a point.
    package init(operationsPerSecond: Double, latencyNanoseconds: Double) {
        self.operationsPerSecond = operationsPerSecond
        self.latencyNanoseconds = latencyNanoseconds
    }

    /// The point of an interval; nil for one without load.
    package init?(_ totals: OperationTotals, durationNanoseconds: UInt64) {
        guard totals.operations > 0, durationNanoseconds > 0 else { return nil }
        operationsPerSecond = Double(totals.operations) * 1e9 / Double(durationNanoseconds)
        latencyNanoseconds = Double(totals.latencyNanoseconds) / Double(totals.operations)
    }
}

/// Why an aggregate's headroom is not known.
package enum HeadroomObstacle: String, Equatable, Sendable {
    /// Too few intervals with load.
    case tooFewSamples = "too few samples under load"
    /// All of them had about the same load.
    case noVariation = "the load has not varied enough"
    /// Latency grew less than load up to the highest load that was seen: the aggregate can take more, nobody knows how much.
    case noBend = "latency has not risen faster than load so far"
}

/// Latency against load, as measured [166]: points that are put together by their load.
///
/// The optimal point is where *power*, load by latency, is greatest (Kleinrock, 1979). At that point load and latency grow at
/// the same rate; below it more load costs less than its share of latency, beyond it more. It counts only when a
/// part of the curve beyond it was measured, where power is clearly less: otherwise the end of the curve is where
/// measuring ended, and says nothing about the aggregate.
package struct LatencyCurve: Equatable, Sendable {
    /// Points that are needed.
    package static let pointsMin = 10
    /// Parts of equal width that the load up to the highest one is divided into.
    package static let binCount = 16
    /// Parts that must have points.
    package static let usedBinsMin = 3
    /// How much less the power beyond the optimal point must be, as a part of the greatest one: less than this is noise.
    package static let bendPart = 0.1

    /// The mean of the points of a part, in the order of load.
    package let bins: [LoadPoint]
    private let pointCount: Int

    /// A curve through points in any order.
    package init(_ points: [LoadPoint]) {
        let usable = points.filter {
            $0.operationsPerSecond > 0 && $0.operationsPerSecond.isFinite && $0.latencyNanoseconds > 0
                && $0.latencyNanoseconds.isFinite
        }
        pointCount = usable.count
        let highest = usable.map(\.operationsPerSecond).max() ?? 0
        var sums = [(load: Double, time: Double, count: Double)](repeating: (0, 0, 0), count: Self.binCount)
        for point in usable {
            let part = point.operationsPerSecond / highest * Double(Self.binCount)
            let index = min(Self.binCount - 1, Int(part))
            sums[index].load += point.operationsPerSecond
            // By requests, so that a minute with few of them does not count as much as one with many.
            sums[index].time += point.latencyNanoseconds * point.operationsPerSecond
            sums[index].count += 1
        }
        bins = sums.filter { $0.count > 0 }.map { sum in
            LoadPoint(operationsPerSecond: sum.load / sum.count, latencyNanoseconds: sum.time / sum.load)
        }
    }

    private static func power(_ point: LoadPoint) -> Double { point.operationsPerSecond / point.latencyNanoseconds }

    /// The optimal point, or why there is none.
    package var optimalPoint: Result<LoadPoint, HeadroomError> {
        guard pointCount >= Self.pointsMin else { return .failure(HeadroomError(.tooFewSamples)) }
        guard bins.count >= Self.usedBinsMin else { return .failure(HeadroomError(.noVariation)) }
        var best = 0
        for index in bins.indices where Self.power(bins[index]) > Self.power(bins[best]) { best = index }
        let limit = Self.power(bins[best]) * (1 - Self.bendPart)
        guard bins[(best + 1)...].contains(where: { Self.power($0) <= limit }) else {
            return .failure(HeadroomError(.noBend))
        }
        return .success(bins[best])
    }
}

/// That a headroom is not known, as an error.
package struct HeadroomError: Error, Equatable, Sendable {
    /// Why.
    package var obstacle: HeadroomObstacle

    /// Makes an error.
    package init(_ obstacle: HeadroomObstacle) { self.obstacle = obstacle }
}

/// How much load an aggregate can take on before its latency rises faster than its load [165].
///
/// Headroom = (optimal − operational) / optimal. The formula that the reference prints, optimal / (optimal − operational),
/// is the reciprocal of it: it would be least for an idle aggregate, and without bound for one at its optimum.
package enum Headroom: Equatable, Sendable {
    /// It was measured: requests per second at the optimal point, and now.
    case known(optimal: Double, operational: Double)
    /// It is not known.
    case unknown(HeadroomObstacle)

    /// Of a curve and the present load in requests per second.
    package init(_ curve: LatencyCurve, operational: Double) {
        switch curve.optimalPoint {
        case .success(let point): self = .known(optimal: point.operationsPerSecond, operational: operational)
        case .failure(let error): self = .unknown(error.obstacle)
        }
    }

    /// As a part of the optimum, 1 for an idle aggregate, below 0 for one beyond its optimum; nil when it is not known.
    package var part: Double? {
        guard case .known(let optimal, let operational) = self, optimal > 0 else { return nil }
        return (optimal - operational) / optimal
    }

    /// Requests per second up to the optimum, at least 0; nil when it is not known.
    package var freeOperationsPerSecond: Double? {
        guard case .known(let optimal, let operational) = self else { return nil }
        return max(0, optimal - operational)
    }

    /// The same with more load.
    package func taking(_ operationsPerSecond: Double) -> Headroom {
        guard case .known(let optimal, let operational) = self else { return self }
        return .known(optimal: optimal, operational: operational + operationsPerSecond)
    }
}
