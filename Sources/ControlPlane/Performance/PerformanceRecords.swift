package import Identity
package import VolumeEngine

/// What clients asked of one volume or aggregate within an interval.
package struct ObjectMeasure: Equatable, Sendable {
    /// The volume or aggregate.
    package var object: ObjectUUID
    /// The requests.
    package var totals: OperationTotals

    /// Makes a measure.
    package init(object: ObjectUUID, totals: OperationTotals) {
        self.object = object
        self.totals = totals
    }
}

extension ObjectMeasure: Codable {
    private enum CodingKeys: String, CodingKey { case object, counts, latencies }

    /// Reads `counts` (reads, writes, others, bytes read, bytes written, nanoseconds of latency) and `latencies` (a bucket and
    /// its count, and so on).
    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        object = try container.decode(ObjectUUID.self, forKey: .object)
        let counts = try container.decode([UInt64].self, forKey: .counts)
        let latencies = try container.decode([UInt64].self, forKey: .latencies)
        guard counts.count == 6, latencies.count.isMultiple(of: 2) else {
            throw DecodingError.dataCorruptedError(
                forKey: .counts,
                in: container,
                debugDescription: "\(counts.count) counts and \(latencies.count) words of latencies"
            )
        }
        totals = OperationTotals()
        totals.reads = counts[0]
        totals.writes = counts[1]
        totals.others = counts[2]
        totals.readBytes = counts[3]
        totals.writtenBytes = counts[4]
        totals.latencyNanoseconds = counts[5]
        for pair in stride(from: 0, to: latencies.count, by: 2) {
            // A bucket that this version does not have is above all of its own.
            let bucket = Int(min(latencies[pair], UInt64(LatencyBuckets.count - 1)))
            totals.latencyCounts[bucket] += latencies[pair + 1]
        }
    }

    /// Writes only the buckets that are not empty: most are.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(object, forKey: .object)
        try container.encode(
            [
                totals.reads, totals.writes, totals.others, totals.readBytes, totals.writtenBytes,
                totals.latencyNanoseconds,
            ],
            forKey: .counts
        )
        var latencies: [UInt64] = []
        for (bucket, count) in totals.latencyCounts.enumerated() where count > 0 {
            latencies += [UInt64(bucket), count]
        }
        try container.encode(latencies, forKey: .latencies)
    }
}

/// What a node measured within an interval, of its volumes or of its aggregates. Those of which nothing was asked are left
/// out.
package struct IntervalRecord: Codable, Equatable, Sendable {
    /// The format of the record.
    package var formatVersion = 1
    /// When the interval ended, in nanoseconds since 1970.
    package var endNanoseconds: Int64
    /// How long it was.
    package var durationNanoseconds: UInt64
    /// What was measured.
    package var measures: [ObjectMeasure]

    /// Makes a record.
    package init(endNanoseconds: Int64, durationNanoseconds: UInt64, measures: [ObjectMeasure]) {
        self.endNanoseconds = endNanoseconds
        self.durationNanoseconds = durationNanoseconds
        self.measures = measures
    }

    /// What was asked of an object: nothing, when the record does not name it.
    package func totals(of object: ObjectUUID) -> OperationTotals {
        measures.first { $0.object == object }?.totals ?? OperationTotals()
    }
}

/// Where samples are in the replicated database: a ring of slots for each node, so that the history is bounded by its
/// keys, and nothing has to be deleted for it.
///
///     performance/aggregate/<node>/<slot>
///     performance/volume/<node>/<slot>
package enum PerformanceKeys {
    /// All samples of aggregates.
    package static let aggregates = "performance/aggregate/"
    /// All samples of volumes.
    package static let volumes = "performance/volume/"

    /// What a node has measured of aggregates.
    package static func aggregates(of node: ObjectUUID) -> String { "\(aggregates)\(node)/" }
    /// What a node has measured of volumes.
    package static func volumes(of node: ObjectUUID) -> String { "\(volumes)\(node)/" }
    /// A sample of aggregates.
    package static func aggregates(of node: ObjectUUID, slot: Int) -> String { aggregates(of: node) + text(slot) }
    /// A sample of volumes.
    package static func volumes(of node: ObjectUUID, slot: Int) -> String { volumes(of: node) + text(slot) }

    private static func text(_ slot: Int) -> String {
        let digits = String(slot)
        return String(repeating: "0", count: max(0, 3 - digits.count)) + digits
    }
}

/// The limits of what is kept.
package enum PerformanceLimits {
    /// Intervals that are kept: three hours of minutes.
    package static let historyLength = 180
    /// Intervals that count as now.
    package static let recentLength = 5
    /// How long an interval is when nothing else is configured.
    package static let intervalSecondsDefault = 60
}
