package import Environment
package import Identity
package import Replication
package import VolumeEngine

// SKELETON: signatures only, so that other rooms compile.

/// The destination's side of one volume's replication: pulls from the other cluster and applies to a replica volume.
/// Methods block; call them from a thread, not from the cooperative pool.
package final class VolumeReplicator: Sendable {
    /// Makes a replicator for a replica volume.
    package init(volume: Volume, source: PeerEndpoint, secret: [UInt8], environment: Environment) { fatalError() }
    /// Transfers every snapshot of the source up to and including `snapshot` (baseline when there is nothing in common,
    /// incremental otherwise; resumes what an earlier call did not finish). `throttleBytesPerSecond` 0 = unlimited.
    package func transfer(upTo snapshot: ObjectUUID, throttleBytesPerSecond: UInt64) throws(StorageError) -> TransferStatistics { fatalError() }
    /// Begins the synchronous stream in the background; watch `state`.
    package func startSynchronous() throws(StorageError) { fatalError() }
    /// The state and the progress of the running transfer.
    package var status: (state: MirrorState, current: TransferStatistics, failure: String?) { fatalError() }
    /// Ends whatever runs; returns when nothing more will be applied.
    package func stop() { fatalError() }
}

/// The source's side: a listener that serves transfers of its volumes.
package final class ReplicationListener: Sendable {
    /// Listens; `volume` finds a volume by its identity.
    package static func start(
        on endpoint: PeerEndpoint, secret: [UInt8], environment: Environment, volume: @escaping @Sendable (VolumeMSID) -> Volume?
    ) throws(StorageError) -> ReplicationListener { fatalError() }
    /// The state of a volume's outgoing mirror: .inSync when each acknowledged write is on both sides.
    package func mirrorState(of msid: VolumeMSID) -> MirrorState { fatalError() }
    /// Ends a volume's outgoing streams (the mirror becomes OutOfSync; clients go on).
    package func disconnect(_ msid: VolumeMSID) { fatalError() }
    /// Stops listening.
    package func stop() { fatalError() }
}
