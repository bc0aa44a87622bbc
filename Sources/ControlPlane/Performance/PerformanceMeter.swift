package import Identity
package import VolumeEngine

/// Makes samples out of counters that only grow. A value: reading counters and writing samples is its caller's.
package struct PerformanceMeter: Sendable {
    /// What the counters of an open volume say now.
    package struct Reading: Sendable {
        /// The volume; nil for one without a record, which counts for its aggregate only.
        package var volume: ObjectUUID?
        /// The aggregate that holds it.
        package var aggregate: ObjectUUID
        /// The counters: a volume that is opened anew has new ones.
        package var counters: VolumeCounters
        /// What they say.
        package var totals: OperationTotals

        /// Makes a reading.
        package init(
            volume: ObjectUUID?,
            aggregate: ObjectUUID,
            counters: VolumeCounters,
            totals: OperationTotals
        ) {
            self.volume = volume
            self.aggregate = aggregate
            self.counters = counters
            self.totals = totals
        }
    }

    /// What was read last, of the counters that were read then.
    private var last: [ObjectIdentifier: Reading] = [:]

    /// Nothing was read yet: counters begin at zero.
    package init() {}

    /// What was asked since the readings that were accepted last. Volumes and aggregates of which nothing was asked are left
    /// out, and of more than 500 volumes those that were asked least; both are in the order of their identifiers.
    package func measures(_ readings: [Reading]) -> (aggregates: [ObjectMeasure], volumes: [ObjectMeasure]) {
        var aggregates: [ObjectUUID: OperationTotals] = [:]
        var volumes: [ObjectUUID: OperationTotals] = [:]
        for reading in readings {
            let earlier = last[ObjectIdentifier(reading.counters)]?.totals ?? OperationTotals()
            let new = reading.totals.since(earlier)
            guard new.operations > 0 else { continue }
            aggregates[reading.aggregate, default: OperationTotals()].add(new)
            if let volume = reading.volume { volumes[volume, default: OperationTotals()].add(new) }
        }
        return (Self.sorted(aggregates), Self.sorted(Self.busiest(volumes)))
    }

    /// Counts from these readings on. Not called when a sample could not be kept: the next one then is of both intervals.
    package mutating func accept(_ readings: [Reading]) {
        last = Dictionary(readings.map { (ObjectIdentifier($0.counters), $0) }, uniquingKeysWith: { first, _ in first })
    }

    /// A sample is one value of the database, which takes 1.5 MiB at most when it is an etcd.
    private static let volumesMax = 500

    private static func busiest(_ totals: [ObjectUUID: OperationTotals]) -> [ObjectUUID: OperationTotals] {
        guard totals.count > volumesMax else { return totals }
        let kept = totals.sorted { ($1.value.operations, $0.key) < ($0.value.operations, $1.key) }.prefix(volumesMax)
        return Dictionary(kept.map { ($0.key, $0.value) }, uniquingKeysWith: { first, _ in first })
    }

    private static func sorted(_ totals: [ObjectUUID: OperationTotals]) -> [ObjectMeasure] {
        totals.sorted { $0.key < $1.key }.map { ObjectMeasure(object: $0.key, totals: $0.value) }
    }
}

/// What is known of the load of a cluster: the history of every node, at one moment.
package struct ClusterPerformance: Sendable {
    private let histories: [ObjectUUID: PerformanceHistory]
    private let now: Int64

    /// Makes it of the histories of aggregates by node; `now` is in nanoseconds since 1970.
    package init(_ histories: [ObjectUUID: PerformanceHistory], now: Int64) {
        self.histories = histories
        self.now = now
    }

    /// The intervals of a node that count as now; none when it does not measure.
    package func recent(of node: ObjectUUID) -> [PerformanceHistory.Entry] { histories[node]?.recent(at: now) ?? [] }

    /// What was asked of an aggregate lately; nil when the node that holds it does not measure.
    package func recentSummary(of aggregate: ObjectUUID, on node: ObjectUUID) -> PerformanceSummary? {
        let records = recent(of: node).map(\.record)
        return records.isEmpty ? nil : PerformanceSummary(of: aggregate, in: records)
    }

    /// The headroom of an aggregate: the curve is of all nodes that ever held it, the operational point of the one that does.
    package func headroom(of aggregate: ObjectUUID, on node: ObjectUUID) -> Headroom {
        guard let present = recentSummary(of: aggregate, on: node) else { return .unknown(.tooFewSamples) }
        let points = histories.sorted { $0.key < $1.key }.flatMap { $0.value.kept(at: now) }.compactMap { entry in
            LoadPoint(
                entry.record.totals(of: aggregate),
                durationNanoseconds: entry.record.durationNanoseconds
            )
        }
        return Headroom(LatencyCurve(points), operational: present.operationsPerSecond)
    }
}
