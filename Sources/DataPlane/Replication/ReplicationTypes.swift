/// Where the replication listener of the other cluster is.
package struct PeerEndpoint: Hashable, Sendable, Codable {
    /// An IPv4 address.
    package var address: String
    /// A TCP port.
    package var port: Int
    /// Makes an endpoint.
    package init(address: String, port: Int) {
        self.address = address
        self.port = port
    }
}

/// The state of a mirrored volume (names of the REST interface: `transfer_state`).
package enum MirrorState: String, Sendable, Codable {
    /// Nothing runs.
    case idle = "Idle"
    /// A baseline or an incremental transfer runs.
    case transferring = "Transferring"
    /// On the way from asynchronous to synchronous.
    case transitioning = "Transitioning"
    /// Every acknowledged write is on both sides.
    case inSync = "InSync"
    /// The synchronous stream broke.
    case outOfSync = "OutOfSync"
}

/// What a transfer has done; all counters only grow.
package struct TransferStatistics: Equatable, Sendable, Codable {
    /// Records applied.
    package var records: UInt64 = 0
    /// Bytes received.
    package var bytes: UInt64 = 0
    /// Bytes that the transfer is expected to take, 0 when not known.
    package var bytesExpected: UInt64 = 0
    /// Nanoseconds that it took.
    package var durationNanoseconds: UInt64 = 0
    /// Nothing done yet.
    package init() {}
}

/// How far the protocol state of a face has been exported.
package struct ProtocolStateMark: Codable, Equatable, Sendable {
    /// Which face: one that was made anew begins anew.
    package var face: UInt64
    /// How much of its state.
    package var position: UInt64

    /// Makes a mark.
    package init(face: UInt64, position: UInt64) {
        self.face = face
        self.position = position
    }
}
