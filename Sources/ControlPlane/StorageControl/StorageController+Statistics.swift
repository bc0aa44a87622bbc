package import ClusterConfiguration
package import Environment
package import Identity
import Logging
package import Performance
import Synchronization
import VolumeEngine

/// What a node remembers of its own samples.
struct PerformanceState {
    /// What the counters said last.
    var meter = PerformanceMeter()
    /// When that was, in nanoseconds of the monotonic clock; nil before the first.
    var readNanoseconds: UInt64?
    /// What it has measured of volumes; nil until it was read from the database.
    var history: PerformanceHistory?
}

// What volumes and aggregates do: counted by the volumes, collected on a schedule, kept in the replicated database, so that
// every node can tell of all.
extension StorageController {
    /// Writes a sample down after every interval, until the task is cancelled.
    package func collectStatistics(everySeconds seconds: Int, _ waiting: Waiting) async {
        beginStatistics()
        while (try? await waiting.milliseconds(UInt64(seconds) * 1_000)) != nil { await collectStatisticsOnce() }
    }

    /// Lets the first interval begin now.
    package func beginStatistics() {
        let now = environment.monotonicNanoseconds()
        state.withLock { $0.performance.readNanoseconds = now }
    }

    /// Writes down what was asked since the last sample. When the database does not answer, the next sample is of both
    /// intervals.
    package func collectStatisticsOnce() async {
        let samples = PerformanceStore(store.database)
        do throws(ManagementError) {
            let known = state.withLock { $0.performance.history }
            let history: PerformanceHistory
            if let known { history = known } else { history = try await samples.volumes(of: node.uuid) }
            let snapshot = reconciledConfiguration
            let volumes = Dictionary(
                snapshot.volumes.map { ($0.msid, $0.uuid) },
                uniquingKeysWith: { first, _ in first }
            )
            let open = state.withLock { $0.aggregates }
            let readings = open.sorted { $0.key < $1.key }.flatMap { uuid, aggregate in
                aggregate.volumes.map { volume in
                    PerformanceMeter.Reading(
                        volume: volumes[volume.msid],
                        aggregate: uuid,
                        counters: volume.counters,
                        totals: volume.counters.totals
                    )
                }
            }
            let now = environment.monotonicNanoseconds()
            let (measures, began) = state.withLock { state in
                (state.performance.meter.measures(readings), state.performance.readNanoseconds ?? now)
            }
            guard now > began else { return beginStatistics() }
            var record = IntervalRecord(
                endNanoseconds: environment.wallClockNanoseconds(),
                durationNanoseconds: now - began,
                measures: measures.aggregates
            )
            let aggregates = record
            record.measures = measures.volumes
            let written = record
            try await samples.write(
                aggregates: aggregates,
                volumes: written,
                of: node.uuid,
                slot: history.nextSlot
            )
            state.withLock { state in
                var history = history
                history.append(written)
                state.performance.history = history
                state.performance.meter.accept(readings)
                state.performance.readNanoseconds = now
            }
        } catch {
            logger.debug("a sample of the statistics is not written yet: \(error)")
        }
    }

    /// The requests per second of a volume in its busiest interval of the history of this node; nil when nothing was measured.
    package func busiestOperationsPerSecond(of volume: ObjectUUID) -> Double? {
        let history = state.withLock { $0.performance.history }
        return history?.kept(at: environment.wallClockNanoseconds())
            .map { PerformanceSummary(of: volume, in: [$0.record]).operationsPerSecond }.max()
    }

    /// What is known of the load of all nodes.
    package func clusterPerformance() async throws(ManagementError) -> ClusterPerformance {
        ClusterPerformance(
            try await PerformanceStore(store.database).aggregates(),
            now: environment.wallClockNanoseconds()
        )
    }

    /// The recent samples of the volumes of one node.
    package func recentVolumeSamples(
        of node: ObjectUUID,
        _ performance: ClusterPerformance
    ) async throws(ManagementError) -> [IntervalRecord] {
        let slots = performance.recent(of: node).map(\.slot)
        return try await PerformanceStore(store.database).volumes(of: node, slots: slots)
    }
}
