package import ClusterConfiguration
package import Environment
package import HostNetwork
package import Identity
import Logging
import ReplicatedDatabase

// The ports of the nodes: each tells its own, any shows all.
extension StorageController {
    /// How often a node looks at its links. Nobody waits for it: whatever is decided about a port asks the node itself.
    private static let portsMilliseconds: UInt64 = 2_000

    /// The ports of this node as they are now, by name. Without a network of a host there are none.
    package func ownPorts() async throws -> [NodePort] {
        guard let hostAddresses else { return [] }
        let record = try await store.database.get(ConfigurationKeys.ports(of: node.uuid))
        let known = try record.map {
            try ConfigurationCoding.decode(NodePortsRecord.self, from: $0.value, key: $0.key).ports
        }
        let (links, addresses) = (try await hostAddresses.links(), try await hostAddresses.addresses())
        let lifs = hostAddresses.places
        return NodePort.ports(of: links, with: addresses.filter { lifs[$0.address] == nil }) { name in
            known?.first { $0.name == name }?.uuid ?? .random(environment)
        }
    }

    /// Tells the cluster the ports of this node, if they have changed.
    package func reportPorts() async throws {
        let found = NodePortsRecord(node: node.uuid, ports: try await ownPorts())
        let known = try await store.database.get(found.key)
        let value = try ConfigurationCoding.encode(found)
        if known?.value == value { return }
        // Nobody else writes it.
        _ = try await store.database.transact(when: [], [.put(key: found.key, value: value)])
    }

    /// Tells the ports of this node until the task is cancelled.
    package func followPorts(_ waiting: Waiting) async {
        var failure: ManagementError?
        repeat {
            do {
                try await reportPorts()
                failure = nil
            } catch {
                let newest = ManagementError.from(error)
                // While the database does not answer this comes at every turn.
                if failure != newest { logger.warning("the ports of this node cannot be told: \(newest)") }
                failure = newest
            }
        } while (try? await waiting.milliseconds(Self.portsMilliseconds)) != nil
    }

    /// What the nodes of the cluster have told of their ports, by node.
    package func reportedPorts() async throws(ManagementError) -> [ObjectUUID: [NodePort]] {
        let records: [DatabaseRecord]
        do { records = try await store.database.range(prefix: ConfigurationKeys.ports).0 } catch {
            throw ManagementError(database: error)
        }
        var ports: [ObjectUUID: [NodePort]] = [:]
        for record in records {
            let told = try ConfigurationCoding.decode(NodePortsRecord.self, from: record.value, key: record.key)
            ports[told.node] = told.ports
        }
        return ports
    }
}

extension NodePort {
    /// The ports among the links of a host, by name: what has an Ethernet address and is not the loopback. Pure.
    ///
    /// - Parameters:
    ///   - addresses: the addresses of the host's own, without those of LIFs.
    ///   - identifier: the identifier of a port, by its name.
    package static func ports(
        of links: [HostLink],
        with addresses: [HostLinkAddress],
        identifier: (String) -> ObjectUUID
    ) -> [NodePort] {
        let names = Dictionary(links.map { ($0.index, $0.name) }, uniquingKeysWith: { first, _ in first })
        return links.compactMap { link in
            guard !link.isLoopback, let hardware = link.hardwareAddress else { return nil }
            return NodePort(
                uuid: identifier(link.name),
                name: link.name,
                hardwareAddress: hardware.description,
                mtuBytes: link.mtuBytes,
                isUp: link.isUp,
                isRunning: link.isRunning,
                kind: link.kind,
                vlan: link.vlan,
                parent: link.kind == "vlan" ? link.parentIndex.flatMap { names[$0] } : nil,
                master: link.masterIndex.map { names[$0] ?? "?" },
                speedMegabitsPerSecond: link.speedMegabitsPerSecond,
                addresses: addresses.filter { $0.linkIndex == link.index }.sorted { $0.address < $1.address }
                    .map { "\($0.address)/\($0.prefixLength)" }
            )
        }.sorted { $0.name < $1.name }
    }
}
