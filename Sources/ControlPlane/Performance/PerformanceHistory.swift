package import Identity
package import VolumeEngine

/// The last intervals that a node measured, oldest first, each in its slot of the ring. A value.
package struct PerformanceHistory: Equatable, Sendable {
    /// An interval and where it is kept.
    package struct Entry: Equatable, Sendable {
        /// The slot.
        package var slot: Int
        /// The interval.
        package var record: IntervalRecord

        /// Makes an entry.
        package init(slot: Int, record: IntervalRecord) {
            self.slot = slot
            self.record = record
        }
    }

    /// How many intervals it keeps at most.
    package let length: Int
    /// The intervals, oldest first.
    package private(set) var entries: [Entry] = []

    /// An empty history.
    package init(length: Int = PerformanceLimits.historyLength) { self.length = length }

    /// A history of what was read; of the newest `length` intervals.
    package init(_ entries: [Entry], length: Int = PerformanceLimits.historyLength) {
        self.length = length
        self.entries = Array(entries.sorted { Self.isEarlier($0, $1) }.suffix(length))
    }

    private static func isEarlier(_ left: Entry, _ right: Entry) -> Bool {
        (left.record.endNanoseconds, left.slot) < (right.record.endNanoseconds, right.slot)
    }

    /// The slot of the next interval: that of the oldest one when the ring is full.
    package var nextSlot: Int { entries.last.map { ($0.slot + 1) % length } ?? 0 }

    /// Takes an interval into the next slot, and forgets what was in it.
    package mutating func append(_ record: IntervalRecord) {
        let slot = nextSlot
        entries.removeAll { $0.slot == slot }
        entries.append(Entry(slot: slot, record: record))
    }

    /// The intervals that count as now: the last ones, as far as they are not older than so many intervals of their own
    /// length and one more, nor of a time to come, which a clock that was set back has left.
    ///
    /// - Parameter now: nanoseconds since 1970.
    package func recent(at now: Int64, count: Int = PerformanceLimits.recentLength) -> [Entry] {
        let last = entries.suffix(count)
        let longest = last.map(\.record.durationNanoseconds).max() ?? 0
        let age = Int64(clamping: longest.multipliedReportingOverflow(by: UInt64(count + 1)).partialValue)
        let ahead = Int64(clamping: longest)
        return last.filter { $0.record.endNanoseconds > now - age && $0.record.endNanoseconds <= now + ahead }
    }

    /// The intervals that a ring of that length may hold: what is older was left by a node that was away for long, and was
    /// not overwritten.
    package func kept(at now: Int64) -> [Entry] { recent(at: now, count: length) }
}

/// What was asked of one object in several intervals together.
package struct PerformanceSummary: Equatable, Sendable {
    /// The requests.
    package var totals: OperationTotals
    /// How long the intervals were together.
    package var durationNanoseconds: UInt64

    /// Adds up intervals.
    package init(of object: ObjectUUID, in records: [IntervalRecord]) {
        totals = OperationTotals()
        durationNanoseconds = 0
        for record in records {
            totals.add(record.totals(of: object))
            durationNanoseconds += record.durationNanoseconds
        }
    }

    /// Seconds of the intervals.
    package var seconds: Double { Double(durationNanoseconds) / 1e9 }

    /// A count as a rate.
    package func perSecond(_ count: UInt64) -> Double { durationNanoseconds == 0 ? 0 : Double(count) / seconds }

    /// Requests per second.
    package var operationsPerSecond: Double { perSecond(totals.operations) }

    /// The mean latency in nanoseconds; nil when nothing was asked.
    package var meanLatencyNanoseconds: Double? {
        totals.operations == 0 ? nil : Double(totals.latencyNanoseconds) / Double(totals.operations)
    }

    /// How many requests were under way on average: the time that all of them took, by the time that passed (Little's law).
    package var concurrency: Double {
        durationNanoseconds == 0 ? 0 : Double(totals.latencyNanoseconds) / Double(durationNanoseconds)
    }

    /// The part of the time in which requests were under way, 0 to 1. Where several were at a time it is an upper bound.
    package var utilization: Double { min(1, concurrency) }

    /// The latency in nanoseconds that a part of the requests (0 to 1) did not exceed; nil when nothing was asked.
    package func latencyNanoseconds(quantile: Double) -> Double? {
        LatencyQuantiles.value(quantile, of: totals.latencyCounts)
    }
}

/// Quantiles of latencies that are known by their buckets.
package enum LatencyQuantiles {
    /// The latency in nanoseconds that a part of the requests did not exceed, as if those of a bucket were spread evenly over
    /// it: off by at most a bucket, a quarter of the latency.
    ///
    /// - Parameters:
    ///   - quantile: the part, 0 to 1.
    ///   - counts: one for each bucket of `LatencyBuckets`.
    /// - Returns: nil when there are none.
    package static func value(_ quantile: Double, of counts: [UInt64]) -> Double? {
        let total = counts.reduce(0, +)
        guard total > 0 else { return nil }
        let rank = max(1, (min(max(quantile, 0), 1) * Double(total)).rounded(.up))
        var below: Double = 0
        for (bucket, count) in counts.enumerated() where count > 0 {
            if below + Double(count) >= rank {
                let low = Double(LatencyBuckets.lowerBoundNanoseconds(bucket))
                let high = Double(LatencyBuckets.lowerBoundNanoseconds(bucket + 1))
                return low + (high - low) * (rank - below) / Double(count)
            }
            below += Double(count)
        }
        return nil
    }
}
