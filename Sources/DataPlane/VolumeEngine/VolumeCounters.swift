import Synchronization

/// What kind of request was executed, as performance counts it.
package enum OperationKind: Sendable {
    /// Reads data of files.
    case read
    /// Writes data of files.
    case write
    /// Everything else: names, attributes, commits.
    case other
}

/// The fixed buckets of latencies: four for each doubling, from below 1.024 µs to 17 s and more.
package enum LatencyBuckets {
    /// How many there are.
    package static let count = 97
    private static let firstBit = 10

    /// The bucket of a latency.
    package static func index(of nanoseconds: UInt64) -> Int {
        guard nanoseconds >= 1 << firstBit else { return 0 }
        let bit = UInt64.bitWidth - 1 - nanoseconds.leadingZeroBitCount
        let quarter = Int(nanoseconds >> (bit - 2) & 3)
        return min(1 + (bit - firstBit) * 4 + quarter, count - 1)
    }

    /// The least latency of a bucket, in nanoseconds. That of `count` is where the last bucket ends for whoever looks into
    /// it: longer latencies are in it as well.
    package static func lowerBoundNanoseconds(_ index: Int) -> UInt64 {
        guard index > 0 else { return 0 }
        let (doubling, quarter) = (index - 1).quotientAndRemainder(dividingBy: 4)
        return UInt64(4 + quarter) << (doubling + firstBit - 2)
    }
}

/// Requests that were executed, since a volume was opened or within an interval.
package struct OperationTotals: Equatable, Sendable {
    /// Requests that read data.
    package var reads: UInt64 = 0
    /// Requests that wrote data.
    package var writes: UInt64 = 0
    /// All others.
    package var others: UInt64 = 0
    /// Bytes of data that were read.
    package var readBytes: UInt64 = 0
    /// Bytes of data that were written.
    package var writtenBytes: UInt64 = 0
    /// The latencies of all of them together.
    package var latencyNanoseconds: UInt64 = 0
    /// How many there were of each bucket of `LatencyBuckets`.
    package var latencyCounts = [UInt64](repeating: 0, count: LatencyBuckets.count)

    /// None.
    package init() {}

    /// All requests.
    package var operations: UInt64 { reads + writes + others }

    /// Adds those of another volume or interval.
    package mutating func add(_ other: OperationTotals) {
        reads += other.reads
        writes += other.writes
        others += other.others
        readBytes += other.readBytes
        writtenBytes += other.writtenBytes
        latencyNanoseconds += other.latencyNanoseconds
        for index in latencyCounts.indices { latencyCounts[index] += other.latencyCounts[index] }
    }

    /// What came since earlier totals of the same counters.
    package func since(_ earlier: OperationTotals) -> OperationTotals {
        var result = self
        result.reads -= min(reads, earlier.reads)
        result.writes -= min(writes, earlier.writes)
        result.others -= min(others, earlier.others)
        result.readBytes -= min(readBytes, earlier.readBytes)
        result.writtenBytes -= min(writtenBytes, earlier.writtenBytes)
        result.latencyNanoseconds -= min(latencyNanoseconds, earlier.latencyNanoseconds)
        for index in latencyCounts.indices {
            result.latencyCounts[index] -= min(latencyCounts[index], earlier.latencyCounts[index])
        }
        return result
    }
}

/// Counts the requests of one open volume, from any thread.
///
/// For each request four additions to counters of their own: no lock, no allocation, no order between them, so that a reader
/// may see a request whose latency is not there yet.
package final class VolumeCounters: @unchecked Sendable {
    // Proof of Sendable: the pointer never changes, and what it points to are atomics, which live as long as the object.

    private enum Slot {
        static let operations = 0
        static let bytes = 3
        static let latency = 5
        static let buckets = 6
        static let count = buckets + LatencyBuckets.count
    }

    private let slots: UnsafeMutablePointer<Atomic<UInt64>>

    /// All are zero.
    package init() {
        slots = .allocate(capacity: Slot.count)
        for index in 0..<Slot.count { (slots + index).initialize(to: Atomic(0)) }
    }

    deinit {
        slots.deinitialize(count: Slot.count)
        slots.deallocate()
    }

    /// Counts a request that was answered.
    ///
    /// - Parameters:
    ///   - bytes: the data that it read or wrote.
    ///   - latencyNanoseconds: from its first execution to its answer.
    package func count(_ kind: OperationKind, bytes: Int, latencyNanoseconds: UInt64) {
        switch kind {
        case .read:
            add(1, to: Slot.operations)
            add(UInt64(bytes), to: Slot.bytes)
        case .write:
            add(1, to: Slot.operations + 1)
            add(UInt64(bytes), to: Slot.bytes + 1)
        case .other: add(1, to: Slot.operations + 2)
        }
        add(latencyNanoseconds, to: Slot.latency)
        add(1, to: Slot.buckets + LatencyBuckets.index(of: latencyNanoseconds))
    }

    private func add(_ amount: UInt64, to slot: Int) { slots[slot].wrappingAdd(amount, ordering: .relaxed) }

    private func value(_ slot: Int) -> UInt64 { slots[slot].load(ordering: .relaxed) }

    /// Everything since the volume was opened.
    package var totals: OperationTotals {
        var totals = OperationTotals()
        totals.reads = value(Slot.operations)
        totals.writes = value(Slot.operations + 1)
        totals.others = value(Slot.operations + 2)
        totals.readBytes = value(Slot.bytes)
        totals.writtenBytes = value(Slot.bytes + 1)
        totals.latencyNanoseconds = value(Slot.latency)
        for index in 0..<LatencyBuckets.count { totals.latencyCounts[index] = value(Slot.buckets + index) }
        return totals
    }
}
