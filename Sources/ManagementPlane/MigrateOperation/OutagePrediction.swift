/// What was measured of the way between two clusters and of their databases before a cutover.
package struct PathMeasurement: Codable, Equatable, Sendable {
    /// Shortest of some round trips of the control connection.
    package var roundTripMicroseconds: UInt64
    /// Bytes per second of one large answer; 0 when it was not measured.
    package var bytesPerSecond: UInt64
    /// How far the source's wall clock is ahead of ours.
    package var clockSkewMicroseconds: Int64
    /// How long a transaction of our own database takes.
    package var commitMicroseconds: UInt64

    /// Makes a measurement.
    package init(
        roundTripMicroseconds: UInt64,
        bytesPerSecond: UInt64,
        clockSkewMicroseconds: Int64,
        commitMicroseconds: UInt64
    ) {
        self.roundTripMicroseconds = roundTripMicroseconds
        self.bytesPerSecond = bytesPerSecond
        self.clockSkewMicroseconds = clockSkewMicroseconds
        self.commitMicroseconds = commitMicroseconds
    }
}

/// How long clients will be held, foretold from what was measured; and how long the baseline takes.
package struct OutagePrediction: Codable, Equatable, Sendable {
    /// What it is made of.
    package var path: PathMeasurement
    /// Connections of clients.
    package var connectionCount: UInt64
    /// Volumes.
    package var volumeCount: UInt64
    /// How long no side will serve.
    package var outageMicroseconds: UInt64
    /// How long the baseline takes; nil when the rate is not known.
    package var baselineMilliseconds: UInt64?

    /// Calls to the source inside the window: hold, point of no return, release.
    package static let roundTripsInWindow: UInt64 = 3
    /// Transactions one after the other inside the window: the snapshot and the point of no return on the source, the
    /// promotion and the record on the destination.
    package static let commitsInWindow: UInt64 = 4
    /// What the window costs with nothing to wait for: draining, and moving what is left of the duplicate request cache.
    package static let fixedMicroseconds: UInt64 = 5_000
    /// What a volume adds: its snapshot and its promotion share commits with the others.
    package static let perVolumeMicroseconds: UInt64 = 100
    /// What a connection adds: its answers are drained, it is made again on the other side.
    package static let perConnectionMicroseconds: UInt64 = 50

    /// Foretells.
    /// - Parameter usedBytes: What the volumes hold together.
    package init(path: PathMeasurement, connectionCount: UInt64, volumeCount: UInt64, usedBytes: UInt64) {
        self.path = path
        self.connectionCount = connectionCount
        self.volumeCount = volumeCount
        outageMicroseconds =
            Self.fixedMicroseconds + Self.roundTripsInWindow * path.roundTripMicroseconds
            + Self.commitsInWindow * path.commitMicroseconds + volumeCount * Self.perVolumeMicroseconds
            + connectionCount * Self.perConnectionMicroseconds
        baselineMilliseconds =
            path.bytesPerSecond == 0
            ? nil : UInt64(Double(usedBytes) / Double(path.bytesPerSecond) * 1_000)
    }
}

/// The gap that the servers saw at one client connection: from the last answer of the source to the first one of the
/// destination.
package struct ConnectionGap: Codable, Equatable, Sendable {
    /// The client's address.
    package var client: String
    /// How long it was without an answer.
    package var microseconds: UInt64

    /// Makes a gap.
    package init(client: String, microseconds: UInt64) {
        self.client = client
        self.microseconds = microseconds
    }
}

/// How long ago a client got an answer.
package struct ClientAnswerAge: Codable, Equatable, Sendable {
    /// The client's address and port.
    package var client: String
    /// How long ago.
    package var microseconds: UInt64

    /// Makes an age.
    package init(client: String, microseconds: UInt64) {
        self.client = client
        self.microseconds = microseconds
    }

    /// The address without the port.
    var address: Substring { client.prefix { $0 != ":" } }
}

/// The outage of a cutover as the servers saw it.
package struct ObservedOutage: Codable, Equatable, Sendable {
    /// From the hold of the source's gate until the destination's gate opened.
    package var holdMicroseconds: UInt64
    /// Per client that had an answer on both sides, longest first; at most `gapCountMax`.
    package var gaps: [ConnectionGap]

    /// How many gaps are kept.
    package static let gapCountMax = 64

    /// Makes an outage.
    package init(holdMicroseconds: UInt64, gaps: [ConnectionGap]) {
        self.holdMicroseconds = holdMicroseconds
        self.gaps = gaps
    }

    /// The gaps of clients that were answered on both sides. A client that came back from the same port is compared with
    /// itself, another one with whatever its address was answered last.
    /// - Parameters:
    ///   - last: How long before a moment each connection was answered last on the source.
    ///   - first: How long ago each connection was answered first on the destination.
    ///   - elapsedMicroseconds: How long ago that moment was.
    package static func gaps(
        last: [ClientAnswerAge],
        first: [ClientAnswerAge],
        elapsedMicroseconds: UInt64
    ) -> [ConnectionGap] {
        let gaps = first.compactMap { answer -> ConnectionGap? in
            let same = last.first { $0.client == answer.client }
            let ages = last.filter { $0.address == answer.address }.map(\.microseconds)
            guard let before = same?.microseconds ?? ages.min(), answer.microseconds <= elapsedMicroseconds else {
                return nil
            }
            let after = elapsedMicroseconds - answer.microseconds
            return ConnectionGap(client: answer.client, microseconds: before + after)
        }
        let longest = gaps.sorted { ($1.microseconds, $0.client) < ($0.microseconds, $1.client) }
        return Array(longest.prefix(gapCountMax))
    }

    /// The longest gap; nil when no client was seen on both sides.
    package var longestGapMicroseconds: UInt64? { gaps.map(\.microseconds).max() }
}
