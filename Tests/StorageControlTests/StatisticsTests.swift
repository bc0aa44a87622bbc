import ClusterConfiguration
import Environment
import Foundation
import Identity
import Performance
import ReplicatedDatabase
import StorageControl
import Synchronization
import Testing
import VolumeEngine

/// Samples of a node: written, kept over restarts, and made good when the database was away.
@Suite("Statistics of a node", .serialized)
struct StatisticsTests {
    /// A clock that goes as it is told.
    private final class Clock: Sendable {
        let seconds = Atomic<UInt64>(1_000_000)

        var environment: Environment {
            Environment(
                monotonicNanoseconds: { self.seconds.load(ordering: .relaxed) * 1_000_000_000 },
                wallClockNanoseconds: { Int64(self.seconds.load(ordering: .relaxed)) * 1_000_000_000 },
                randomBits: Environment.system.randomBits
            )
        }

        func pass(_ count: UInt64) { seconds.wrappingAdd(count, ordering: .relaxed) }
    }

    private func start(_ directory: String, _ database: any ReplicatedDatabase, _ clock: Clock) async throws
        -> StorageController
    {
        let environment = clock.environment
        let controller = try await OneNode.open(in: directory, on: database, environment, tier: .performance)
        try await controller.startServices()
        controller.beginStatistics()
        return controller
    }

    private func work(_ controller: StorageController, _ record: VolumeRecord, _ count: Int) throws {
        let counters = try controller.openVolume(record).counters
        for _ in 0..<count { counters.count(.read, bytes: 100, latencyNanoseconds: 1_000_000) }
    }

    @Test func samplesAreKeptAndNothingIsLost() async throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "godwit-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let (database, clock) = (FailingDatabase(), Clock())
        var controller = try await start(directory, database, clock)
        let aggregate = try #require(try await controller.store.snapshot().aggregates.first)
        #expect(aggregate.tier == .performance)
        let svm = try await controller.createSVM(named: "tenant", comment: "")
        let record = VolumeRecord(
            uuid: .random(.system),
            name: "data",
            msid: .random(.system),
            svm: svm.uuid,
            aggregate: aggregate.uuid,
            sizeBytes: 64 << 20
        )
        try await controller.createVolume(record)
        #expect(controller.busiestOperationsPerSecond(of: record.uuid) == nil)

        try work(controller, record, 600)
        clock.pass(60)
        await controller.collectStatisticsOnce()
        #expect(controller.busiestOperationsPerSecond(of: record.uuid) == 10)
        // While the database is away nothing is written, and afterwards one sample is of all of it.
        database.isAway.withLock { $0 = true }
        try work(controller, record, 3_000)
        clock.pass(60)
        await controller.collectStatisticsOnce()
        database.isAway.withLock { $0 = false }
        try work(controller, record, 600)
        clock.pass(60)
        await controller.collectStatisticsOnce()
        let samples = PerformanceStore(database)
        let written = try await samples.volumes(of: controller.node.uuid).entries.map(\.record)
        #expect(written.map { $0.totals(of: record.uuid).reads } == [600, 3_600])
        #expect(written.map(\.durationNanoseconds) == [60_000_000_000, 120_000_000_000])
        #expect(controller.busiestOperationsPerSecond(of: record.uuid) == 30)
        let performance = try await controller.clusterPerformance()
        let summary = try #require(performance.recentSummary(of: aggregate.uuid, on: controller.node.uuid))
        #expect(summary.totals.reads == 4_200 && summary.seconds == 180)
        #expect(performance.headroom(of: aggregate.uuid, on: controller.node.uuid) == .unknown(.tooFewSamples))

        // A restart goes on with the history; an interval without work is one, too.
        await controller.stop()
        controller = try await start(directory, database, clock)
        clock.pass(60)
        await controller.collectStatisticsOnce()
        #expect(controller.busiestOperationsPerSecond(of: record.uuid) == 30)
        let history = try await samples.volumes(of: controller.node.uuid)
        #expect(history.entries.map(\.slot) == [0, 1, 2])
        #expect(history.entries.last?.record.measures.isEmpty == true)
        let recent = try await controller.recentVolumeSamples(
            of: controller.node.uuid,
            try await controller.clusterPerformance()
        )
        #expect(recent.count == 3)
        await controller.stop()
    }
}
