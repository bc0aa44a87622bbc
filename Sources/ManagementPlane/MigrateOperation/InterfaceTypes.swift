package import Identity

/// Who holds the address of an interface on the network of the source, as its node says.
package struct InterfaceHolder: Codable, Equatable, Sendable {
    /// The Ethernet addresses of the host that has it, that of its port first: a host with several ports on one Ethernet may
    /// answer with any of them. Empty when the interface is down and nobody should answer.
    package var hardwareAddresses: [String]
    /// The number of the VLAN that its port is, 0 for a port that is none; nil when a source of an older version does not say.
    package var vlan: Int?

    /// Makes a holder.
    package init(hardwareAddresses: [String], vlan: Int? = nil) {
        self.hardwareAddresses = hardwareAddresses
        self.vlan = vlan
    }
}

/// Where an interface goes on the destination.
package struct InterfacePlace: Codable, Equatable, Sendable {
    /// The node.
    package var node: ObjectUUID
    /// The port of that node; nil for an address in 127.0.0.0/8.
    package var port: String?

    /// Makes a place.
    package init(node: ObjectUUID, port: String?) {
        self.node = node
        self.port = port
    }
}

/// Where a user wants an interface on the destination.
package struct InterfaceChoice: Codable, Equatable, Sendable {
    /// The name of the interface.
    package var interface: String
    /// The node.
    package var node: ObjectUUID
    /// The port of that node.
    package var port: String

    /// Makes a choice.
    package init(interface: String, node: ObjectUUID, port: String) {
        self.interface = interface
        self.node = node
        self.port = port
    }
}
