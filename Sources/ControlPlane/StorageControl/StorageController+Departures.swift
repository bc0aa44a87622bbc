import ClusterConfiguration
import Environment
import HostNetwork
import Identity
import Logging
import ReplicatedDatabase
import Synchronization

/// What a node tells of a LIF that has left it for another node of its cluster.
struct LIFDeparture: Codable, Equatable, Sendable {
    /// The format of the record.
    var formatVersion = 1
    /// Which of the LIF's moves it is.
    var moveCount: UInt64
    /// Where its clients' connections came from.
    var clients: [NetworkEndpoint]
}

// A LIF that moves between nodes is on one of them at a time: the node that it comes to waits until the other one says that
// the address has left, and learns from it which clients to wake.
extension StorageController {
    /// Longer than a node that is up needs to answer what it executes and to let the address go.
    private static let departureMilliseconds = drainMilliseconds + 1_000
    private static let departureLookMilliseconds: UInt64 = 10

    /// Whether a LIF has left this node, last, for another one.
    func hasLeft(_ lif: LIFRecord) -> Bool {
        lif.place != nil && lif.formerNode == node.uuid && lif.currentNode != node.uuid
    }

    /// Tells the node that a LIF goes to that its address has left; once for each move.
    func tellDeparture(of lif: LIFRecord, _ connections: [TransportConnection]) async {
        guard let moveCount = lif.moveCount, state.withLock({ $0.toldMoves[lif.uuid] }) != moveCount else { return }
        let clients = connections.map { NetworkEndpoint(address: $0.remote.description, port: Int($0.remotePort)) }
        do {
            let departure = LIFDeparture(moveCount: moveCount, clients: clients)
            let value = try ConfigurationCoding.encode(departure)
            _ = try await store.database.transact(
                when: [],
                [.put(key: ConfigurationKeys.departure(of: lif.uuid), value: value)]
            )
            state.withLock { $0.toldMoves[lif.uuid] = moveCount }
        } catch {
            // The other node waits for its time, and its clients for theirs.
            logger.warning("LIF '\(lif.name)' has left, and the database was not told: \(error)")
        }
    }

    /// Waits until the node that had a LIF before says that its address has left; one that is down is not waited for.
    func awaitDeparture(of lif: LIFRecord, for service: any ClientService) async throws {
        guard let former = lif.formerNode, former != node.uuid, lif.place != nil, let moveCount = lif.moveCount,
            let address = HostAddress(lif.address)
        else { return }
        let key = ConfigurationKeys.departure(of: lif.uuid)
        let name = try await store.snapshot().node(former)?.name
        let up = try await namesOfNodesUp()
        let isUp = name.map(up.contains) ?? false
        let deadline = environment.monotonicNanoseconds() + Self.departureMilliseconds * 1_000_000
        repeat {
            if let record = try await store.database.get(key) {
                let departure = try ConfigurationCoding.decode(LIFDeparture.self, from: record.value, key: key)
                if departure.moveCount == moveCount {
                    service.expect(
                        departure.clients.compactMap { client in
                            HostAddress(client.address).map { remote in
                                TransportConnection(
                                    local: address,
                                    localPort: UInt16(truncatingIfNeeded: lif.port),
                                    remote: remote,
                                    remotePort: UInt16(truncatingIfNeeded: client.port)
                                )
                            }
                        }
                    )
                    _ = try await store.database.transact(when: [], [.delete(key: key)])
                    return
                }
            }
            guard isUp else { return }
            try await waiting.milliseconds(Self.departureLookMilliseconds)
        } while environment.monotonicNanoseconds() < deadline
        events.record(
            name: "lif.departureUnconfirmed",
            severity: "error",
            "node '\(name ?? former.description)' is up and has not confirmed that it has given up \(lif.address) of LIF "
                + "'\(lif.name)', which node '\(node.name)' serves now"
        )
    }
}
