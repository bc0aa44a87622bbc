import Environment
import Identity
import Replication
import VolumeEngine

/// Replication over the simulated network, as one process uses it.
struct SimulatedTransport: ReplicationTransport, @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    let node: Node
    let process: SimulatedProcess

    func listen(
        on endpoint: PeerEndpoint,
        secret: [UInt8],
        environment: Environment,
        volume: @escaping @Sendable (VolumeMSID) -> Volume?
    ) throws(StorageError) -> any ReplicationServing {
        let source = ReplicationSource(environment: environment, volume: volume)
        simulation.network.listen(node, process, source)
        return SimulatedListener(node: node, source: source)
    }

    func connect(
        to source: PeerEndpoint,
        secret: [UInt8],
        environment: Environment
    ) throws(StorageError) -> any FrameChannel {
        try simulation.network.connect(from: node, process, to: source)
    }
}

/// The source's side of a node.
private final class SimulatedListener: ReplicationServing {
    private let node: Node
    private let source: ReplicationSource

    init(node: Node, source: ReplicationSource) {
        self.node = node
        self.source = source
    }

    func mirrorState(of msid: VolumeMSID) -> MirrorState { source.mirrorState(of: msid) }
    func disconnect(_ msid: VolumeMSID) { source.disconnect(msid) }
    func stop() {
        simulation.network.endListening(node)
        source.stop()
    }
}
