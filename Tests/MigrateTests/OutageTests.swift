import Environment
import MigrateOperation
import Orchestrator
import Testing

@Suite struct OutageTests {
    @Test func gapsAreThoseOfClientsThatCameBack() {
        let last = [
            ClientAnswerAge(client: "192.0.2.7:903", microseconds: 30),
            ClientAnswerAge(client: "192.0.2.7:904", microseconds: 10),
            ClientAnswerAge(client: "192.0.2.8:700", microseconds: 50),
        ]
        let first = [
            // From the same port: 30 before, 1000 - 800 after.
            ClientAnswerAge(client: "192.0.2.7:903", microseconds: 800),
            // From another port: what its address was answered last.
            ClientAnswerAge(client: "192.0.2.7:5000", microseconds: 900),
            // A new client has no gap.
            ClientAnswerAge(client: "192.0.2.9:700", microseconds: 100),
        ]
        let gaps = ObservedOutage.gaps(last: last, first: first, elapsedMicroseconds: 1_000)
        #expect(
            gaps == [
                ConnectionGap(client: "192.0.2.7:903", microseconds: 230),
                ConnectionGap(client: "192.0.2.7:5000", microseconds: 110),
            ]
        )
    }

    @Test func predictionGrowsWithWhatItIsMadeOf() {
        func predicted(roundTrip: UInt64 = 100, commit: UInt64 = 500, connections: UInt64 = 1, volumes: UInt64 = 4)
            -> UInt64
        {
            let path = PathMeasurement(
                roundTripMicroseconds: roundTrip,
                bytesPerSecond: 100_000_000,
                clockSkewMicroseconds: 0,
                commitMicroseconds: commit
            )
            return OutagePrediction(path: path, connectionCount: connections, volumeCount: volumes, usedBytes: 0)
                .outageMicroseconds
        }
        #expect(predicted(roundTrip: 10_100) == predicted() + 3 * 10_000)
        #expect(predicted(commit: 1_500) == predicted() + 4 * 1_000)
        #expect(predicted(connections: 101) > predicted())
        #expect(predicted(volumes: 64) == predicted() + 60 * OutagePrediction.perVolumeMicroseconds)
    }

    @Test func baselineTimeComesFromTheRate() {
        let path = PathMeasurement(
            roundTripMicroseconds: 1,
            bytesPerSecond: 100_000_000,
            clockSkewMicroseconds: 0,
            commitMicroseconds: 1
        )
        let prediction = OutagePrediction(path: path, connectionCount: 0, volumeCount: 1, usedBytes: 1_000_000_000)
        #expect(prediction.baselineMilliseconds == 10_000)
    }

    @Test func waitsGrowWithJitterUpToTheLongest() {
        let bits = [UInt64(0), .max, 7, 123_456_789]
        for random in bits {
            let environment = Environment(
                monotonicNanoseconds: { 0 },
                wallClockNanoseconds: { 0 },
                randomBits: { random }
            )
            var backOff = BackOff(minMilliseconds: 100, maxMilliseconds: 1_000)
            for whole in [UInt64(100), 200, 400, 800, 1_000, 1_000] {
                let wait = backOff.next(environment)
                #expect(wait >= whole / 2 && wait <= whole, "\(wait) of \(whole)")
            }
        }
    }
}
