package import ClusterConfiguration
package import Identity

/// Which nodes of a cluster have a part of an SVM: pure.
package struct GroupMembers: Equatable, Sendable {
    /// A node and the volumes that it holds.
    package struct Holding: Equatable, Sendable {
        /// The node.
        package var node: ObjectUUID
        /// Its volumes, in their order in the configuration.
        package var volumes: [VolumeMSID]
    }

    /// The nodes that hold volumes, by identifier.
    package private(set) var holdings: [Holding] = []
    /// The nodes on which the SVM has addresses, with the enabled ones of them.
    package private(set) var interfaces: [(node: ObjectUUID, endpoints: [NetworkEndpoint])] = []

    /// Finds the nodes.
    ///
    /// - Parameter own: the node that asks; what no record places is with it.
    package init(of svm: ObjectUUID, in snapshot: ConfigurationSnapshot, own: ObjectUUID) {
        var volumes: [ObjectUUID: [VolumeMSID]] = [:]
        for record in snapshot.volumes(of: svm) where record.state != .deleting {
            volumes[snapshot.aggregate(record.aggregate)?.node ?? own, default: []].append(record.msid)
        }
        holdings = volumes.sorted { $0.key < $1.key }.map { Holding(node: $0.key, volumes: $0.value) }
        var endpoints: [ObjectUUID: [NetworkEndpoint]] = [:]
        for lif in snapshot.lifs(of: svm) {
            let node = snapshot.node(serving: lif)?.uuid ?? own
            let enabled = lif.isEnabled ? [NetworkEndpoint(address: lif.address, port: lif.port)] : []
            endpoints[node, default: []] += enabled
        }
        interfaces = endpoints.sorted { $0.key < $1.key }.map { (node: $0.key, endpoints: $0.value) }
    }

    /// All of them, by identifier.
    package var nodes: [ObjectUUID] { Set(holdings.map(\.node) + interfaces.map(\.node)).sorted() }

    /// The volumes of a node.
    package func volumes(on node: ObjectUUID) -> [VolumeMSID] { holdings.first { $0.node == node }?.volumes ?? [] }

    /// The node that holds a volume; nil when no record names it.
    package func node(holding volume: VolumeMSID) -> ObjectUUID? {
        holdings.first { $0.volumes.contains(volume) }?.node
    }

    /// Compares all of both.
    package static func == (left: GroupMembers, right: GroupMembers) -> Bool {
        left.holdings == right.holdings
            && left.interfaces.elementsEqual(right.interfaces) { $0.node == $1.node && $0.endpoints == $1.endpoints }
    }
}
