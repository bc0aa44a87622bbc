package import Identity

/// An IP space: a network of its own, in which addresses are told apart. Ports, subnets and SVMs belong to one.
package struct IPSpaceRecord: ConfigurationRecord {
    /// The format of the record.
    package var formatVersion = 1
    /// Its identifier.
    package var uuid: ObjectUUID
    /// Its name.
    package var name: String

    /// Makes a record.
    package init(uuid: ObjectUUID, name: String) {
        self.uuid = uuid
        self.name = name
    }

    /// Where it lives.
    package var key: String { ConfigurationKeys.ipSpace(uuid) }

    /// The one that is always there and has no record; records that name none belong to it. The identifier is the same in
    /// every cluster.
    package static let standard = IPSpaceRecord(
        uuid: ObjectUUID(high: 0x676f_6477_6974_4000, low: 0x8000_0000_0000_0001),
        name: "Default"
    )

    /// How records name it: nil for the standard one.
    package var reference: ObjectUUID? { uuid == Self.standard.uuid ? nil : uuid }
}

/// A port of a node, by its names.
package struct PortReference: Codable, Hashable, Sendable, Comparable {
    /// The node.
    package var node: ObjectUUID
    /// The name of the link of its host.
    package var name: String

    /// Names a port.
    package init(node: ObjectUUID, name: String) {
        self.node = node
        self.name = name
    }

    /// By node and name.
    package static func < (left: PortReference, right: PortReference) -> Bool {
        (left.node, left.name) < (right.node, right.name)
    }
}

/// A broadcast domain: ports that are on one Ethernet, as an administrator knows. What they reach is the same, so that an
/// address may be on any of them.
package struct BroadcastDomainRecord: ConfigurationRecord {
    /// The format of the record.
    package var formatVersion = 1
    /// Its identifier.
    package var uuid: ObjectUUID
    /// Its name, unique within the IP space.
    package var name: String
    /// Its IP space; nil is `Default`.
    package var ipSpace: ObjectUUID?
    /// Bytes of the largest packet that all its ports must be able to send.
    package var mtuBytes: Int
    /// Its ports, in order. A port is in one domain at most.
    package var ports: [PortReference]

    /// Makes a record.
    package init(
        uuid: ObjectUUID,
        name: String,
        ipSpace: ObjectUUID? = nil,
        mtuBytes: Int = 1500,
        ports: [PortReference] = []
    ) {
        self.uuid = uuid
        self.name = name
        self.ipSpace = ipSpace
        self.mtuBytes = mtuBytes
        self.ports = ports
    }

    /// Where it lives.
    package var key: String { ConfigurationKeys.broadcastDomain(uuid) }
}

/// Addresses from one up to another one, both included.
package struct AddressRange: Codable, Hashable, Sendable {
    /// The first address, dotted.
    package var start: String
    /// The last address, dotted.
    package var end: String

    /// Makes a range.
    package init(start: String, end: String) {
        self.start = start
        self.end = end
    }
}

/// A subnet: which addresses there are on a broadcast domain, and which of them LIFs may have.
package struct SubnetRecord: ConfigurationRecord {
    /// The format of the record.
    package var formatVersion = 1
    /// Its identifier.
    package var uuid: ObjectUUID
    /// Its name, unique within the IP space.
    package var name: String
    /// Its IP space; nil is `Default`.
    package var ipSpace: ObjectUUID?
    /// The broadcast domain that it is on, of the same IP space.
    package var broadcastDomain: ObjectUUID
    /// The network, such as `10.1.2.0/24`.
    package var network: String
    /// The address of its router, dotted; nil when none is known.
    package var gateway: String?
    /// The addresses that LIFs are given; empty when none are given out.
    package var ranges: [AddressRange]

    /// Makes a record.
    package init(
        uuid: ObjectUUID,
        name: String,
        ipSpace: ObjectUUID? = nil,
        broadcastDomain: ObjectUUID,
        network: String,
        gateway: String? = nil,
        ranges: [AddressRange] = []
    ) {
        self.uuid = uuid
        self.name = name
        self.ipSpace = ipSpace
        self.broadcastDomain = broadcastDomain
        self.network = network
        self.gateway = gateway
        self.ranges = ranges
    }

    /// Where it lives.
    package var key: String { ConfigurationKeys.subnet(uuid) }

    /// Whether an address is in it.
    package func contains(_ address: String) -> Bool {
        guard let address = IPv4Address(address), let network = IPv4Network(network) else { return false }
        return network.contains(address)
    }
}

/// A port of a node's host as the node saw it last.
package struct NodePort: Codable, Equatable, Sendable {
    /// Its identifier, kept for as long as the node has a port of that name.
    package var uuid: ObjectUUID
    /// Its name, such as `eth1`.
    package var name: String
    /// Its Ethernet address, as `02:00:5e:00:53:01`.
    package var hardwareAddress: String
    /// Bytes of its largest packet.
    package var mtuBytes: Int
    /// Whether an administrator has set it up.
    package var isUp: Bool
    /// Whether it has a carrier, too.
    package var isRunning: Bool
    /// What made it, as `vlan`, `bond` or `veth`; nil for a port of hardware.
    package var kind: String?
    /// The number of its VLAN; nil when it is none.
    package var vlan: Int?
    /// The name of the link that it is a VLAN on; nil when it is none, or not in the namespace of the node.
    package var parent: String?
    /// The name of the bridge or bond that it is a member of, and on which addresses are put instead; nil when it is of none.
    package var master: String?
    /// Its speed; nil when the driver does not know it.
    package var speedMegabitsPerSecond: Int?
    /// The addresses of the host that are on it, each with its prefix as `10.1.2.3/24`; those of LIFs are not among them.
    package var addresses: [String]

    /// Makes a port.
    package init(
        uuid: ObjectUUID,
        name: String,
        hardwareAddress: String,
        mtuBytes: Int = 1500,
        isUp: Bool = true,
        isRunning: Bool = true,
        kind: String? = nil,
        vlan: Int? = nil,
        parent: String? = nil,
        master: String? = nil,
        speedMegabitsPerSecond: Int? = nil,
        addresses: [String] = []
    ) {
        self.uuid = uuid
        self.name = name
        self.hardwareAddress = hardwareAddress
        self.mtuBytes = mtuBytes
        self.isUp = isUp
        self.isRunning = isRunning
        self.kind = kind
        self.vlan = vlan
        self.parent = parent
        self.master = master
        self.speedMegabitsPerSecond = speedMegabitsPerSecond
        self.addresses = addresses
    }
}

extension NodePort {
    /// Why no address can be on it; nil when one can.
    package var obstacle: String? {
        if let master { return "it is a member of \(master)" }
        if !isUp { return "it is down" }
        return isRunning ? nil : "it has no carrier"
    }
}

/// What a node tells of the ports of its host. It is beside the configuration and not in it: a cable that is pulled is no
/// change of what administrators wanted.
package struct NodePortsRecord: ConfigurationRecord {
    /// The format of the record.
    package var formatVersion = 1
    /// The node.
    package var node: ObjectUUID
    /// Its ports, by name.
    package var ports: [NodePort]

    /// Makes a record.
    package init(node: ObjectUUID, ports: [NodePort]) {
        self.node = node
        self.ports = ports
    }

    /// Where it lives.
    package var key: String { ConfigurationKeys.ports(of: node) }
}
