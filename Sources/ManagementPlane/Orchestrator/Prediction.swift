import Environment
import Identity
import Logging
import MigrateOperation
import ReplicatedDatabase

/// Measures the way between the clusters, and foretells the outage and the baseline from it (requirement E2).
enum Prediction {
    static let roundTrips = 5
    static let rateProbeBytes: UInt64 = 4 << 20

    /// Measures the path to a source and the commit latency here.
    static func path(
        to source: any SourceCluster,
        operation: ObjectUUID,
        database: any ReplicatedDatabase,
        environment: Environment,
        measuresRate: Bool
    ) async throws -> PathMeasurement {
        var shortest = UInt64.max
        var skewMicroseconds: Int64 = 0
        for _ in 0..<roundTrips {
            let began = environment.monotonicNanoseconds()
            let wallClock = environment.wallClockNanoseconds()
            let reply = try await source.send(
                SourceCall(operation: operation, epoch: 1, request: .probe(answerBytes: 0))
            )
            let duration = environment.monotonicNanoseconds() - began
            guard case .probed(let there) = reply.answer else { throw Migration.strangeAnswer("probe") }
            if duration < shortest {
                shortest = duration
                skewMicroseconds = (there - wallClock - Int64(duration / 2)) / 1_000
            }
        }
        var bytesPerSecond: UInt64 = 0
        if measuresRate {
            let began = environment.monotonicNanoseconds()
            _ = try await source.send(
                SourceCall(operation: operation, epoch: 1, request: .probe(answerBytes: rateProbeBytes))
            )
            let seconds = Double(max(1, environment.monotonicNanoseconds() - began)) / 1e9
            bytesPerSecond = UInt64(Double(rateProbeBytes) / seconds)
        }
        let began = environment.monotonicNanoseconds()
        _ = try await database.transact(
            when: [],
            [.put(key: MigrateKeys.probe, value: [UInt8]("probe".utf8))]
        )
        let commitMicroseconds = (environment.monotonicNanoseconds() - began) / 1_000
        // Pre-checks alone, and an operation that is aborted, leave nothing.
        _ = try await database.transact(when: [], [.delete(key: MigrateKeys.probe)])
        return PathMeasurement(
            roundTripMicroseconds: shortest / 1_000,
            bytesPerSecond: bytesPerSecond,
            clockSkewMicroseconds: skewMicroseconds,
            commitMicroseconds: commitMicroseconds
        )
    }

    /// Foretells the outage of the cutover that is about to begin; nil when the way cannot be measured now, which is no
    /// reason not to try the cutover.
    static func measure(_ migration: Migration) async -> OutagePrediction? {
        do {
            let record = migration.record
            guard case .description(let now, _) = try await migration.ask(.refresh).answer else { return nil }
            let path = try await migration.measurePath()
            return OutagePrediction(
                path: path,
                connectionCount: now.connectionCount,
                volumeCount: UInt64(record.svm.volumes.count),
                usedBytes: record.svm.volumes.reduce(0) { $0 + $1.usedBytes }
            )
        } catch {
            migration.log.warning("the outage cannot be predicted: \(error)")
            return nil
        }
    }
}
