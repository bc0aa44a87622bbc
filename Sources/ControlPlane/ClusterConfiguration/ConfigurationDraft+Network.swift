package import Identity
import ReplicatedDatabase

// IP spaces, broadcast domains and subnets.
extension ConfigurationDraft {
    // MARK: - IP spaces

    /// Writes the record of an IP space.
    package mutating func putIPSpace(_ record: IPSpaceRecord) throws(ManagementError) {
        try ConfigurationChecks.name(record.name, of: "IP space")
        guard record.uuid != IPSpaceRecord.standard.uuid else { throw Self.standardIPSpace }
        let isStandard = record.name.lowercased() == IPSpaceRecord.standard.name.lowercased()
        let others = snapshot.ipSpaces.filter { $0.uuid != record.uuid }
        try unique(record.name, "IP space", isStandard || others.contains { $0.name == record.name })
        try Self.requireRoom(others.count, "IP spaces")
        edit { snapshot in
            snapshot.ipSpaces.removeAll { $0.uuid == record.uuid }
            snapshot.ipSpaces.append(record)
        }
        try put(record)
    }

    /// Deletes an IP space that nothing belongs to.
    package mutating func deleteIPSpace(_ uuid: ObjectUUID) throws(ManagementError) {
        guard uuid != IPSpaceRecord.standard.uuid else { throw Self.standardIPSpace }
        guard let space = snapshot.ipSpace(uuid) else { throw .notFound("IP space", uuid.description) }
        let users =
            snapshot.svms.filter { $0.ipSpace == uuid }.map { "SVM '\($0.name)'" }
            + snapshot.broadcastDomains.filter { $0.ipSpace == uuid }.map { "broadcast domain '\($0.name)'" }
            + snapshot.subnets.filter { $0.ipSpace == uuid }.map { "subnet '\($0.name)'" }
        try Self.requireUnused("ipspace", "IP space '\(space.name)'", by: users)
        edit { $0.ipSpaces.removeAll { $0.uuid == uuid } }
        delete(key: space.key)
    }

    /// An IP space that records may name.
    func requireIPSpace(_ uuid: ObjectUUID?) throws(ManagementError) {
        guard let uuid, snapshot.ipSpace(uuid) == nil else { return }
        throw .notFound("IP space", uuid.description, target: "ipspace.uuid")
    }

    /// The port that a LIF should be on is not known to be in another IP space than its SVM.
    func requirePortOfIPSpace(_ lif: LIFRecord) throws(ManagementError) {
        guard let node = lif.homeNode, let port = lif.homePort, let svm = snapshot.svm(lif.svm) else { return }
        let domain = snapshot.broadcastDomain(of: PortReference(node: node, name: port))
        guard domain?.ipSpace != svm.ipSpace, domain != nil || svm.ipSpace != nil else { return }
        let place =
            domain.map { "in IP space '\(snapshot.ipSpace($0.ipSpace)?.name ?? "")'" } ?? "in no broadcast domain"
        throw ManagementError(
            .conflict,
            "port_of_other_ipspace",
            "port '\(port)' is \(place), SVM '\(svm.name)' in IP space '\(snapshot.ipSpace(svm.ipSpace)?.name ?? "")'",
            remedy: "give a port that is in a broadcast domain of that IP space (godwit port show)",
            target: "location.home_port.name"
        )
    }

    /// The port that a user gives a LIF is not known to be on another Ethernet than the LIF's network: that of the subnet
    /// with its address, else the one on which it has been with this address. A port in no domain may be on any.
    ///
    /// For a LIF that stays where it is nothing is asked: how it came there is past. Nor for those that a migrate places,
    /// which has heard the networks.
    func requirePortOfNetwork(_ lif: LIFRecord) throws(ManagementError) {
        guard actor == .user, let node = lif.homeNode, let port = lif.homePort else { return }
        let old = snapshot.lif(lif.uuid)
        let isSameAddress = old?.address == lif.address
        if isSameAddress && old?.homeNode == node && old?.homePort == port { return }
        let wish = PortReference(node: node, name: port)
        guard let found = snapshot.broadcastDomain(of: wish) else { return }
        let subnet = snapshot.subnet(containing: lif.address, in: snapshot.svm(lif.svm)?.ipSpace)
        let known = isSameAddress ? old.flatMap { snapshot.domain(of: $0) } : nil
        let wanted = subnet.flatMap { snapshot.broadcastDomain($0.broadcastDomain) } ?? known
        guard let wanted, wanted.uuid != found.uuid else { return }
        let ports = wanted.ports.map(name(of:))
        let reason = subnet.map { "subnet '\($0.name)' has \(lif.address)" } ?? "the LIF has been there so far"
        let choice = ports.isEmpty ? "add a port to" : "give a port (\(ports.joined(separator: ", "))) of"
        throw ManagementError(
            .conflict,
            "port_of_other_broadcast_domain",
            "port '\(name(of: wish))' is in broadcast domain '\(found.name)', LIF '\(lif.name)' is on "
                + "'\(wanted.name)': \(reason)",
            remedy: "\(choice) broadcast domain '\(wanted.name)', give it an address of the port's network with it, or "
                + "mend what is said of the networks (godwit subnet show, godwit broadcast-domain show)",
            target: "location.home_port.name"
        )
    }

    // MARK: - Broadcast domains

    /// Writes the record of a broadcast domain.
    package mutating func putBroadcastDomain(_ given: BroadcastDomainRecord) throws(ManagementError) {
        var record = given
        record.ports.sort()
        try ConfigurationChecks.name(record.name, of: "broadcast domain")
        try requireIPSpace(record.ipSpace)
        let others = snapshot.broadcastDomains.filter { $0.uuid != record.uuid }
        let isTaken = others.contains { $0.name == record.name && $0.ipSpace == record.ipSpace }
        try unique(record.name, "broadcast domain", isTaken)
        try Self.requireRoom(others.count, "broadcast domains")
        try ConfigurationChecks.domainMTU(record.mtuBytes)
        if let old = snapshot.broadcastDomain(record.uuid), old.ipSpace != record.ipSpace {
            let users = snapshot.subnets.filter { $0.broadcastDomain == record.uuid }.map { "subnet '\($0.name)'" }
            try Self.requireUnused("broadcast_domain", "broadcast domain '\(old.name)'", by: users)
        }
        try requirePorts(of: record, others)
        try requireLeavable(record)
        edit { snapshot in
            snapshot.broadcastDomains.removeAll { $0.uuid == record.uuid }
            snapshot.broadcastDomains.append(record)
        }
        try put(record)
    }

    /// Each port is there, once, in no other domain, and carries no LIF of another IP space.
    private func requirePorts(
        of record: BroadcastDomainRecord,
        _ others: [BroadcastDomainRecord]
    ) throws(ManagementError) {
        guard record.ports.count <= ConfigurationLimits.portsPerDomainMax else {
            throw ManagementError(
                .invalid,
                "too_many_ports",
                "a broadcast domain has at most \(ConfigurationLimits.portsPerDomainMax) ports",
                remedy: "make several",
                target: "ports"
            )
        }
        for port in record.ports {
            guard let node = snapshot.node(port.node) else {
                throw .notFound("node", port.node.description, target: "ports.node.name")
            }
            try ConfigurationChecks.linkName(port.name)
            let isTwice = record.ports.count { $0 == port } > 1
            if let other = isTwice ? record : others.first(where: { $0.ports.contains(port) }) {
                throw ManagementError(
                    .exists,
                    "port_in_broadcast_domain",
                    "port '\(node.name):\(port.name)' is already in broadcast domain '\(other.name)'",
                    remedy: "take it out of that one first (godwit broadcast-domain modify --remove-ports)",
                    target: "ports"
                )
            }
            let stranger = snapshot.lifs(on: port).first { snapshot.svm($0.svm)?.ipSpace != record.ipSpace }
            guard let stranger else { continue }
            throw ManagementError(
                .conflict,
                "port_of_other_ipspace",
                "port '\(node.name):\(port.name)' has LIF '\(stranger.name)', whose SVM is in another IP space",
                remedy: "move the LIF to another port first",
                target: "ports"
            )
        }
    }

    /// What leaves a domain carries no LIF that would not be in its IP space any more: a port in no domain is of `Default`.
    private func requireLeavable(_ record: BroadcastDomainRecord) throws(ManagementError) {
        let old = snapshot.broadcastDomain(record.uuid)?.ports ?? []
        for port in old where !record.ports.contains(port) {
            let users = snapshot.lifs(on: port).filter { snapshot.svm($0.svm)?.ipSpace != nil }.map(name(of:))
            let what = "port '\(name(of: port))' of broadcast domain '\(record.name)'"
            try Self.requireUnused("port", what, by: users, target: "ports")
        }
    }

    private func name(of port: PortReference) -> String {
        "\(snapshot.node(port.node)?.name ?? port.node.description):\(port.name)"
    }

    private func name(of lif: LIFRecord) -> String {
        "LIF '\(lif.name)' of SVM '\(snapshot.svm(lif.svm)?.name ?? lif.svm.description)'"
    }

    /// Deletes a broadcast domain without subnets, and on whose ports is no LIF that needs it to be in its IP space.
    package mutating func deleteBroadcastDomain(_ uuid: ObjectUUID) throws(ManagementError) {
        guard let domain = snapshot.broadcastDomain(uuid) else {
            throw .notFound("broadcast domain", uuid.description)
        }
        var users = snapshot.subnets.filter { $0.broadcastDomain == uuid }.map { "subnet '\($0.name)'" }
        users += snapshot.lifs.filter { lif in
            snapshot.svm(lif.svm)?.ipSpace != nil && lif.ports.contains { domain.ports.contains($0) }
        }.map(name(of:))
        try Self.requireUnused("broadcast_domain", "broadcast domain '\(domain.name)'", by: users)
        edit { $0.broadcastDomains.removeAll { $0.uuid == uuid } }
        delete(key: domain.key)
    }

    // MARK: - Subnets

    /// Writes the record of a subnet. The network of one that LIFs are in stays as it is.
    package mutating func putSubnet(_ given: SubnetRecord) throws(ManagementError) {
        var record = given
        try ConfigurationChecks.name(record.name, of: "subnet")
        try requireIPSpace(record.ipSpace)
        let others = snapshot.subnets.filter { $0.uuid != record.uuid && $0.ipSpace == record.ipSpace }
        try unique(record.name, "subnet", others.contains { $0.name == record.name })
        try Self.requireRoom(snapshot.subnets.count { $0.uuid != record.uuid }, "subnets")
        guard let domain = snapshot.broadcastDomain(record.broadcastDomain) else {
            throw .notFound("broadcast domain", record.broadcastDomain.description, target: "broadcast_domain.uuid")
        }
        guard domain.ipSpace == record.ipSpace else {
            throw ManagementError(
                .invalid,
                "subnet_ipspace_differs",
                "broadcast domain '\(domain.name)' is in IP space '\(snapshot.ipSpace(domain.ipSpace)?.name ?? "")', not in "
                    + "that of the subnet",
                remedy: "name a broadcast domain of the same IP space",
                target: "broadcast_domain.name"
            )
        }
        let network = try ConfigurationChecks.subnet(record)
        record.network = network.description
        record.ranges.sort { ($0.bits?.lowerBound ?? 0) < ($1.bits?.lowerBound ?? 0) }
        if let other = others.first(where: { IPv4Network($0.network)?.overlaps(network) == true }) {
            throw ManagementError(
                .exists,
                "subnet_overlaps",
                "\(network) has addresses of subnet '\(other.name)' (\(other.network)) of the same IP space",
                remedy: "give another network, or make an IP space of its own for it",
                target: "subnet.address"
            )
        }
        if let old = snapshot.subnet(record.uuid), old.network != record.network || old.ipSpace != record.ipSpace {
            try requireNoLIFs(in: old)
        }
        let final = record
        edit { snapshot in
            snapshot.subnets.removeAll { $0.uuid == final.uuid }
            snapshot.subnets.append(final)
        }
        try put(final)
    }

    /// Deletes a subnet that no LIF has an address of.
    package mutating func deleteSubnet(_ uuid: ObjectUUID) throws(ManagementError) {
        guard let subnet = snapshot.subnet(uuid) else { throw .notFound("subnet", uuid.description) }
        try requireNoLIFs(in: subnet)
        edit { $0.subnets.removeAll { $0.uuid == uuid } }
        delete(key: subnet.key)
    }

    private func requireNoLIFs(in subnet: SubnetRecord) throws(ManagementError) {
        let users = snapshot.lifs(in: subnet).map { "LIF '\($0.name)' (\($0.address))" }
        try Self.requireUnused("subnet", "subnet '\(subnet.name)'", by: users)
    }

    // MARK: - Refusals

    private static var standardIPSpace: ManagementError {
        ManagementError(
            .conflict,
            "ipspace_standard",
            "the IP space '\(IPSpaceRecord.standard.name)' is always there, as it is",
            remedy: "make one of your own",
            target: "name"
        )
    }

    private static func requireUnused(
        _ code: String,
        _ what: String,
        by users: [String],
        target: String = "name"
    ) throws(ManagementError) {
        guard !users.isEmpty else { return }
        let shown = users.prefix(5).joined(separator: ", ") + (users.count > 5 ? " and \(users.count - 5) more" : "")
        throw ManagementError(
            .conflict,
            "\(code)_in_use",
            "\(what) is used by \(shown)",
            remedy: "delete or change those first, or move them away",
            target: target
        )
    }

    private static func requireRoom(_ count: Int, _ what: String) throws(ManagementError) {
        guard count >= ConfigurationLimits.networkObjectsMax else { return }
        throw ManagementError(
            .conflict,
            "too_many_network_objects",
            "the cluster has \(ConfigurationLimits.networkObjectsMax) \(what), the limit",
            remedy: "delete one that is not needed"
        )
    }
}

extension ConfigurationChecks {
    /// An MTU that a broadcast domain can have.
    static func domainMTU(_ bytes: Int) throws(ManagementError) {
        guard !ConfigurationLimits.domainMTUBytes.contains(bytes) else { return }
        let (low, high) = (ConfigurationLimits.domainMTUBytes.lowerBound, ConfigurationLimits.domainMTUBytes.upperBound)
        throw ManagementError(
            .invalid,
            "mtu_invalid",
            "\(bytes) is not an MTU of an Ethernet",
            remedy: "give \(low) to \(high) bytes, such as 1500 or 9000",
            target: "mtu"
        )
    }

    /// The network of a subnet, whose router and ranges are in it.
    static func subnet(_ record: SubnetRecord) throws(ManagementError) -> IPv4Network {
        guard let network = IPv4Network(record.network), (8...31).contains(network.prefixLength),
            (1..<224).contains(network.address.bits >> 24), !network.address.isLoopback
        else {
            throw ManagementError(
                .invalid,
                "subnet_invalid",
                "'\(record.network)' is not a network of hosts",
                remedy: "give an IPv4 network such as 10.1.2.0/24, with a prefix of 8 to 31 and no bits beyond it",
                target: "subnet.address"
            )
        }
        if let gateway = record.gateway {
            guard let address = IPv4Address(gateway), network.hasHost(address) else {
                throw outside(gateway, network, "gateway")
            }
        }
        guard record.ranges.count <= ConfigurationLimits.rangesPerSubnetMax else {
            throw ManagementError(
                .invalid,
                "too_many_ranges",
                "a subnet has at most \(ConfigurationLimits.rangesPerSubnetMax) ranges",
                remedy: "join ranges that follow each other",
                target: "ip_ranges"
            )
        }
        var known: [ClosedRange<UInt32>] = []
        for range in record.ranges {
            guard let bits = range.bits, network.hasHost(IPv4Address(bits: bits.lowerBound)),
                network.hasHost(IPv4Address(bits: bits.upperBound))
            else { throw outside("\(range.start)-\(range.end)", network, "ip_ranges") }
            guard !known.contains(where: { $0.overlaps(bits) }) else {
                throw ManagementError(
                    .invalid,
                    "ranges_overlap",
                    "the range \(range.start)-\(range.end) has addresses of another one",
                    remedy: "give ranges that have no address in common",
                    target: "ip_ranges"
                )
            }
            known.append(bits)
        }
        return network
    }

    private static func outside(_ what: String, _ network: IPv4Network, _ target: String) -> ManagementError {
        ManagementError(
            .invalid,
            "address_outside_subnet",
            "'\(what)' is not of hosts of \(network)",
            remedy: "give addresses between the network's own and its broadcast address",
            target: target
        )
    }
}
