internal import Glibc

/// An IPv4 address of the host's network.
package struct HostAddress: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// The 32 bits, first octet highest.
    package let bits: UInt32

    /// The address with these bits.
    package init(bits: UInt32) { self.bits = bits }

    /// Reads four decimal octets; nil for anything else.
    package init?(_ text: String) {
        var address = in_addr()
        guard inet_pton(AF_INET, text, &address) == 1 else { return nil }
        bits = UInt32(bigEndian: address.s_addr)
    }

    /// 0.0.0.0: no address yet.
    package static let none = HostAddress(bits: 0)

    /// Whether two addresses are in one subnet.
    package func isNeighbour(of other: HostAddress, prefixLength: Int) -> Bool {
        let mask = prefixLength <= 0 ? 0 : UInt32.max << UInt32(max(0, 32 - prefixLength))
        return bits & mask == other.bits & mask
    }

    /// By the bits.
    package static func < (left: HostAddress, right: HostAddress) -> Bool { left.bits < right.bits }

    /// The dotted form.
    package var description: String { "\(bits >> 24).\(bits >> 16 & 255).\(bits >> 8 & 255).\(bits & 255)" }
}

/// The address of an Ethernet interface (MAC).
package struct HardwareAddress: Hashable, Sendable, CustomStringConvertible {
    /// Six bytes.
    package let bytes: [UInt8]

    /// The address of six bytes; nil for another count.
    package init?(_ bytes: some Collection<UInt8>) {
        guard bytes.count == 6 else { return nil }
        self.bytes = Array(bytes)
    }

    private init(repeating byte: UInt8) { bytes = [UInt8](repeating: byte, count: 6) }

    /// Everybody on the link.
    package static let broadcast = HardwareAddress(repeating: 0xff)
    /// Nobody: what is asked for.
    package static let unknown = HardwareAddress(repeating: 0)

    /// Reads `02:00:5e:00:53:01`; nil for anything else.
    package init?(_ text: String) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        let bytes = parts.compactMap { $0.utf8.count == 2 ? UInt8($0, radix: 16) : nil }
        guard bytes.count == parts.count else { return nil }
        self.init(bytes)
    }

    /// As `02:00:5e:00:53:01`.
    package var description: String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: ":")
    }
}

/// A network interface of the host: an Ethernet port, a VLAN on one, a bridge.
package struct HostLink: Equatable, Sendable {
    /// The number that the kernel has given it.
    package var index: Int
    /// Its name, as `eth1`.
    package var name: String
    /// Its Ethernet address; nil for a link that has none, such as the loopback or a tunnel.
    package var hardwareAddress: HardwareAddress?
    /// Bytes of its largest packet.
    package var mtuBytes: Int
    /// Whether an administrator has set it up.
    package var isUp: Bool
    /// Whether it has a carrier, too.
    package var isRunning: Bool
    /// Whether it is the loopback.
    package var isLoopback: Bool
    /// What made it, as `vlan`, `bridge` or `veth`; nil for a port of hardware.
    package var kind: String?
    /// The number of its VLAN; nil when it is none.
    package var vlan: Int?
    /// The index of the link that it is on; nil when it is on none, or on one that is not of this network namespace.
    package var parentIndex: Int?
    /// The index of the bridge or bond that it is a member of; nil when it is of none. Packets for an address of a member
    /// do not arrive at it.
    package var masterIndex: Int?
    /// Its speed; nil when the driver does not know it.
    package var speedMegabitsPerSecond: Int?

    /// Makes a link.
    package init(
        index: Int,
        name: String,
        hardwareAddress: HardwareAddress? = nil,
        mtuBytes: Int = 0,
        isUp: Bool = false,
        isRunning: Bool = false,
        isLoopback: Bool = false,
        kind: String? = nil,
        vlan: Int? = nil,
        parentIndex: Int? = nil,
        masterIndex: Int? = nil,
        speedMegabitsPerSecond: Int? = nil
    ) {
        self.index = index
        self.name = name
        self.hardwareAddress = hardwareAddress
        self.mtuBytes = mtuBytes
        self.isUp = isUp
        self.isRunning = isRunning
        self.isLoopback = isLoopback
        self.kind = kind
        self.vlan = vlan
        self.parentIndex = parentIndex
        self.masterIndex = masterIndex
        self.speedMegabitsPerSecond = speedMegabitsPerSecond
    }
}

/// An IPv4 address on a link.
package struct HostLinkAddress: Hashable, Sendable {
    /// The index of the link.
    package var linkIndex: Int
    /// The address.
    package var address: HostAddress
    /// How many leading bits are its subnet's.
    package var prefixLength: Int
    /// Whether the kernel deletes it together with another one of its subnet, which came before it.
    package var isSecondary: Bool

    /// Makes an address.
    package init(linkIndex: Int, address: HostAddress, prefixLength: Int, isSecondary: Bool = false) {
        self.linkIndex = linkIndex
        self.address = address
        self.prefixLength = prefixLength
        self.isSecondary = isSecondary
    }
}

/// A TCP connection of a client, by its two ends.
package struct TransportConnection: Hashable, Sendable {
    /// The address of the LIF.
    package var local: HostAddress
    /// Its port.
    package var localPort: UInt16
    /// The client's address.
    package var remote: HostAddress
    /// Its port.
    package var remotePort: UInt16

    /// Names a connection.
    package init(local: HostAddress, localPort: UInt16, remote: HostAddress, remotePort: UInt16) {
        self.local = local
        self.localPort = localPort
        self.remote = remote
        self.remotePort = remotePort
    }
}

/// The kernel refused to change or to tell the host's network.
package struct HostNetworkError: Error, Equatable, Sendable, CustomStringConvertible {
    /// What was asked, as the `ip` command that does the same.
    package var operation: String
    /// The error number (errno).
    package var number: Int32

    /// Makes an error.
    package init(_ operation: String, _ number: Int32) {
        self.operation = operation
        self.number = number
    }

    /// Whether the process may not do it: CAP_NET_ADMIN, or CAP_NET_RAW for packets of its own, is missing.
    package var isNotPermitted: Bool { number == EPERM || number == EACCES }
    /// Whether what should be made is there.
    package var isPresent: Bool { number == EEXIST }
    /// Whether what should be deleted, or the link that it should be on, is not there.
    package var isAbsent: Bool { number == EADDRNOTAVAIL || number == ENODEV || number == ESRCH || number == ENOENT }
    /// Whether the kernel was built without it.
    package var isUnsupported: Bool { number == EOPNOTSUPP || number == EPROTONOSUPPORT }

    /// The command and the reason.
    package var description: String { "\(operation): \(String(cString: strerror(number)))" }
}

/// The network of the host as far as LIFs need it. Every call blocks for as long as the kernel takes, `holder` until its
/// deadline; all may be made from any thread.
package protocol HostNetwork: Sendable {
    /// Every link, by index: `ip -details link show`.
    func links() throws(HostNetworkError) -> [HostLink]
    /// Every IPv4 address: `ip -4 address show`.
    func addresses() throws(HostNetworkError) -> [HostLinkAddress]
    /// Adds an address: `ip address add ADDRESS/PREFIX dev LINK`.
    /// - Throws: `isPresent` when the link has it.
    func add(_ address: HostAddress, prefixLength: Int, to link: String) throws(HostNetworkError)
    /// Removes an address: `ip address del ADDRESS/PREFIX dev LINK`. Other addresses of its subnet stay.
    /// - Throws: `isAbsent` when the link does not have it.
    func remove(_ address: HostAddress, prefixLength: Int, from link: String) throws(HostNetworkError)
    /// Tells everybody on a link once that an address is here: a gratuitous ARP request (RFC 5227, section 3), like
    /// `arping -A -c 1 -I LINK ADDRESS`.
    func announce(_ address: HostAddress, on link: String) throws(HostNetworkError)
    /// Who on a link answers for an address: an L2 ping, as `arping -c 3 -f -I LINK ADDRESS`.
    ///
    /// - Parameters:
    ///   - sender: an address of this host; `none` for the probe of an address that may be nobody's (RFC 5227, section 2.1),
    ///     which changes nothing in anybody's ARP table.
    ///   - milliseconds: how long to wait; it is asked three times within this.
    /// - Returns: the Ethernet address of the first one to answer; nil when none did.
    func holder(
        of address: HostAddress,
        on link: String,
        asking sender: HostAddress,
        withinMilliseconds milliseconds: Int
    ) throws(HostNetworkError) -> HardwareAddress?
    /// Everybody on a link who answers for some addresses: an L2 ping of all of them at once.
    ///
    /// - Parameters:
    ///   - addresses: what is asked for, by a probe that changes nothing in anybody's ARP table (RFC 5227, section 2.1).
    ///   - milliseconds: how long answers are collected; each address is asked for three times within this.
    /// - Returns: the Ethernet addresses that answered, by the address; more than one is a conflict of addresses.
    func holders(
        of addresses: Set<HostAddress>,
        on link: String,
        withinMilliseconds milliseconds: Int
    ) throws(HostNetworkError) -> [HostAddress: Set<HardwareAddress>]
    /// Sends each client a TCP ACK that fits nothing. A client that still has the connection answers, is told by this host's
    /// kernel (RST) that there is none, and connects again at once instead of waiting for its own time-out.
    func tickle(_ connections: [TransportConnection]) throws(HostNetworkError)
    /// Ends every TCP socket that an address of this host has, those too that no process holds any more:
    /// `ss --tcp --kill src ADDRESS`. Nothing is sent if the address has left its link before.
    func destroySockets(of address: HostAddress) throws(HostNetworkError)
}
