package import Environment
package import Identity
package import VolumeEngine

/// How the ends of a replication reach each other: over the network in a daemon, over simulated links in the simulator.
package protocol ReplicationTransport: Sendable {
    /// Serves the volumes that `volume` finds to other clusters.
    func listen(
        on endpoint: PeerEndpoint,
        secret: [UInt8],
        environment: Environment,
        volume: @escaping @Sendable (VolumeMSID) -> Volume?
    ) throws(StorageError) -> any ReplicationServing
    /// Opens an authenticated channel to a source; blocks.
    func connect(
        to source: PeerEndpoint,
        secret: [UInt8],
        environment: Environment
    ) throws(StorageError) -> any FrameChannel
}

/// The source's side of a node that is being served to other clusters.
package protocol ReplicationServing: AnyObject, Sendable {
    /// The state of a volume's outgoing mirror: `.inSync` when each acknowledged write is on both sides.
    func mirrorState(of msid: VolumeMSID) -> MirrorState
    /// Ends a volume's outgoing streams; clients go on.
    func disconnect(_ msid: VolumeMSID)
    /// Serves no more and ends every stream; idempotent; blocks.
    func stop()
}
