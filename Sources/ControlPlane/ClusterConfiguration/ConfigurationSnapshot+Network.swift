package import Identity

// What the configuration says of networks.
extension ConfigurationSnapshot {
    /// The IP space of an identifier; nil is the standard one.
    package func ipSpace(_ uuid: ObjectUUID?) -> IPSpaceRecord? {
        guard let uuid, uuid != IPSpaceRecord.standard.uuid else { return .standard }
        return ipSpaces.first { $0.uuid == uuid }
    }

    /// The IP space of a name.
    package func ipSpace(named name: String) -> IPSpaceRecord? {
        name == IPSpaceRecord.standard.name ? .standard : ipSpaces.first { $0.name == name }
    }

    /// The broadcast domain of an identifier.
    package func broadcastDomain(_ uuid: ObjectUUID) -> BroadcastDomainRecord? {
        broadcastDomains.first { $0.uuid == uuid }
    }

    /// The broadcast domain that a port is in; nil when it is in none.
    package func broadcastDomain(of port: PortReference) -> BroadcastDomainRecord? {
        broadcastDomains.first { $0.ports.contains(port) }
    }

    /// The subnet of an identifier.
    package func subnet(_ uuid: ObjectUUID) -> SubnetRecord? { subnets.first { $0.uuid == uuid } }

    /// The subnet of an IP space that an address is in; nil when none is described.
    package func subnet(containing address: String, in ipSpace: ObjectUUID?) -> SubnetRecord? {
        subnets.first { $0.ipSpace == ipSpace && $0.contains(address) }
    }

    /// The LIFs with an address of a subnet.
    package func lifs(in subnet: SubnetRecord) -> [LIFRecord] {
        lifs.filter { svm($0.svm)?.ipSpace == subnet.ipSpace && subnet.contains($0.address) }
    }

    /// The LIFs whose home is a port, or that are on it now.
    func lifs(on port: PortReference) -> [LIFRecord] { lifs.filter { $0.ports.contains(port) } }

    /// How many addresses the ranges of a subnet have, and how many of them LIFs have.
    package func addressCounts(of subnet: SubnetRecord) -> (total: UInt64, used: UInt64) {
        let ranges = subnet.ranges.compactMap(\.bits)
        let used = lifs(in: subnet).compactMap { IPv4Address($0.address)?.bits }
        return (
            ranges.reduce(0) { $0 + UInt64($1.count) },
            UInt64(used.count { bits in ranges.contains { $0.contains(bits) } })
        )
    }

    /// The first address of a subnet's ranges that no LIF and not the router has; nil when there is none.
    package func freeAddress(in subnet: SubnetRecord) -> String? {
        let gateway = subnet.gateway.flatMap { IPv4Address($0)?.bits }
        // Those of other IP spaces, too: an address is unique in the cluster.
        let taken = Set(lifs.compactMap { IPv4Address($0.address)?.bits } + [gateway].compactMap { $0 })
        for range in subnet.ranges.compactMap(\.bits) {
            if let free = range.first(where: { !taken.contains($0) }) { return IPv4Address(bits: free).description }
        }
        return nil
    }

    // MARK: Where LIFs go

    /// The link of a node that a LIF goes to: its home port at home, elsewhere the one that `refuge` finds, or else the one
    /// of the same name. The one place that decides it.
    package func port(for lif: LIFRecord, on node: ObjectUUID) -> String? {
        if lif.homeNode == node { return lif.homePort ?? lif.currentPort }
        if case .port(let name) = refuge(of: lif, on: node) { return name }
        return lif.currentPort
    }

    /// Where a LIF would be on another node.
    enum Refuge: Equatable {
        /// On no port: its address is of the loopback.
        case loopback
        /// On the port of this name.
        case port(String)
        /// Nowhere: its port is in a broadcast domain that has no port there, and the port of the same name is in another.
        case none
    }

    /// Where a LIF is on a node that is not its home, so that it can be reached as before.
    func refuge(of lif: LIFRecord, on node: ObjectUUID) -> Refuge {
        guard let name = lif.currentPort else { return .loopback }
        guard let domain = domain(of: lif) else { return .port(name) }
        let there = domain.ports.filter { $0.node == node }.map(\.name)
        if let port = there.first(where: { $0 == name || $0 == lif.homePort }) ?? there.min() { return .port(port) }
        // Nobody has said yet where the node's port of that name is: it is believed to be what it is elsewhere.
        return broadcastDomain(of: PortReference(node: node, name: name)) == nil ? .port(name) : .none
    }

    /// The broadcast domain of the port that a LIF should be on, or that it is on.
    func domain(of lif: LIFRecord) -> BroadcastDomainRecord? {
        lif.ports.lazy.compactMap { self.broadcastDomain(of: $0) }.first
    }
}

extension LIFRecord {
    /// The port of its home, and the one that it is on, as far as it has any.
    var ports: [PortReference] {
        let home = homeNode.flatMap { node in homePort.map { PortReference(node: node, name: $0) } }
        let current = currentNode.flatMap { node in currentPort.map { PortReference(node: node, name: $0) } }
        return [home, current].compactMap { $0 }
    }
}

extension AddressRange {
    /// Its addresses; nil when it is none.
    var bits: ClosedRange<UInt32>? {
        guard let first = IPv4Address(start)?.bits, let last = IPv4Address(end)?.bits, first <= last else { return nil }
        return first...last
    }
}
