/// An IPv4 address.
package struct IPv4Address: Hashable, Sendable, CustomStringConvertible {
    /// The 32 bits, first octet highest.
    package let bits: UInt32

    /// Reads four decimal octets; nil for anything else, leading zeroes too (they mean octal to some programs).
    package init?(_ text: String) {
        let octets = text.split(separator: ".", omittingEmptySubsequences: false)
        guard octets.count == 4 else { return nil }
        var bits: UInt32 = 0
        for octet in octets {
            guard octet.utf8.allSatisfy({ (0x30...0x39).contains($0) }), (1...3).contains(octet.utf8.count),
                octet.utf8.count == 1 || octet.utf8.first != 0x30, let value = UInt8(octet)
            else { return nil }
            bits = bits << 8 | UInt32(value)
        }
        self.bits = bits
    }

    /// The length of the prefix that a netmask such as `255.255.255.0` or `24` means; nil when it is none.
    package static func prefixLength(ofNetmask text: String) -> Int? {
        if let mask = IPv4Address(text) {
            let length = (~mask.bits).leadingZeroBitCount
            return mask.bits == (length == 0 ? 0 : UInt32.max << UInt32(32 - length)) ? length : nil
        }
        guard let length = Int(text), (0...32).contains(length), String(length) == text else { return nil }
        return length
    }

    /// The address of these bits.
    package init(bits: UInt32) { self.bits = bits }

    /// Whether it is in 127.0.0.0/8.
    package var isLoopback: Bool { bits >> 24 == 127 }

    /// The dotted form.
    package var description: String { "\(bits >> 24).\(bits >> 16 & 255).\(bits >> 8 & 255).\(bits & 255)" }
}

/// An IPv4 address or network, as in the rules of export policies.
package struct IPv4Network: Hashable, Sendable, CustomStringConvertible {
    /// The address.
    package let address: IPv4Address
    /// How many leading bits count: 0 to 32.
    package let prefixLength: Int

    /// Reads `192.0.2.1` or `192.0.2.0/24`; nil for anything else. Bits beyond the prefix must be zero.
    package init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard let address = parts.first.flatMap({ IPv4Address(String($0)) }), parts.count <= 2 else { return nil }
        var length = 32
        if parts.count == 2 {
            guard let given = Int(parts[1]), (0...32).contains(given), String(given) == parts[1] else { return nil }
            length = given
        }
        let hostBits = length == 0 ? UInt32.max : (length == 32 ? 0 : UInt32.max >> UInt32(length))
        guard address.bits & hostBits == 0 else { return nil }
        self.address = address
        prefixLength = length
    }

    /// The network that an address with its prefix is in.
    package init(of address: IPv4Address, prefixLength: Int) {
        self.address = IPv4Address(bits: address.bits & Self.mask(prefixLength))
        self.prefixLength = prefixLength
    }

    /// The bits of a prefix: 0 to 32 of them.
    private static func mask(_ length: Int) -> UInt32 { length == 0 ? 0 : UInt32.max << UInt32(32 - length) }

    /// The last address: that of broadcasts, where there is one.
    package var last: IPv4Address { IPv4Address(bits: address.bits | ~Self.mask(prefixLength)) }

    /// Whether an address is in it.
    package func contains(_ other: IPv4Address) -> Bool { other.bits & Self.mask(prefixLength) == address.bits }

    /// Whether a host may have an address: in the network, and neither its own nor that of broadcasts.
    package func hasHost(_ other: IPv4Address) -> Bool {
        contains(other) && (prefixLength >= 31 || other.bits != address.bits && other.bits != last.bits)
    }

    /// Whether they have an address in common.
    package func overlaps(_ other: IPv4Network) -> Bool { contains(other.address) || other.contains(address) }

    /// As `192.0.2.0/24`.
    package var description: String { "\(address)/\(prefixLength)" }
}
