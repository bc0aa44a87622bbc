/// Named limits of the configuration.
package enum ConfigurationLimits {
    /// Bytes of the smallest volume.
    package static let volumeSizeBytesMin: UInt64 = 1 << 20
    /// Bytes of the largest volume: 300 TiB.
    package static let volumeSizeBytesMax: UInt64 = 300 << 40
    /// A thin volume may be this many times as large as its aggregate.
    package static let thinVolumeFactorMax: UInt64 = 16
    /// Volumes of one SVM.
    package static let volumesPerSVMMax = 1_000
    /// SVMs of one cluster.
    package static let svmsMax = 1_000
    /// LIFs of one SVM.
    package static let lifsPerSVMMax = 64
    /// Rules of one export policy.
    package static let rulesPerPolicyMax = 1_024
    /// Characters of a name.
    package static let nameLengthMax = 203
    /// Bytes of a junction path.
    package static let junctionPathBytesMax = 255
    /// Bytes of a comment.
    package static let commentBytesMax = 1_023
    /// IP spaces, broadcast domains and subnets of one cluster, of each.
    package static let networkObjectsMax = 1_000
    /// Ports of one broadcast domain.
    package static let portsPerDomainMax = 1_000
    /// Ranges of one subnet.
    package static let rangesPerSubnetMax = 64
    /// Bytes of the largest packet of a broadcast domain: RFC 791 asks for 68, jumbo frames have some 9000.
    package static let domainMTUBytes = 68...9_216
    /// Characters of the shortest passphrase of a cluster peer.
    package static let passphraseLengthMin = 8
}

/// Checks of single values, the same for all records.
enum ConfigurationChecks {
    /// A name: letters, digits, `_`, `-` and `.`, a letter or `_` first.
    static func name(_ name: String, of kind: String, target: String = "name") throws(ManagementError) {
        let isGood = name.utf8.enumerated().allSatisfy { index, byte in
            switch byte {
            case 0x41...0x5a, 0x61...0x7a, 0x5f: true
            case 0x30...0x39, 0x2d, 0x2e: index > 0
            default: false
            }
        }
        guard isGood, (1...ConfigurationLimits.nameLengthMax).contains(name.utf8.count) else {
            throw ManagementError(
                .invalid,
                "name_invalid",
                "'\(name)' cannot be the name of a \(kind)",
                remedy: "use 1 to \(ConfigurationLimits.nameLengthMax) of A-Z a-z 0-9 _ - . with a letter or _ first",
                target: target
            )
        }
    }

    /// A comment that is not too long.
    static func comment(_ text: String) throws(ManagementError) {
        guard text.utf8.count <= ConfigurationLimits.commentBytesMax else {
            throw ManagementError(
                .invalid,
                "comment_too_long",
                "a comment of \(text.utf8.count) bytes is above \(ConfigurationLimits.commentBytesMax)",
                remedy: "make it shorter",
                target: "comment"
            )
        }
    }

    /// A path such as `/` or `/a/b`, without `.`, `..`, `.snapshot` and empty components.
    static func junctionPath(_ path: String) throws(ManagementError) {
        let components = path.dropFirst().split(separator: "/", omittingEmptySubsequences: false)
        let isGood =
            path == "/"
            || path.hasPrefix("/") && path.utf8.count <= ConfigurationLimits.junctionPathBytesMax
                && !path.utf8.contains(0)
                && components.allSatisfy { !["", ".", "..", ".snapshot"].contains($0) }
        guard isGood else {
            throw ManagementError(
                .invalid,
                "junction_path_invalid",
                "'\(path)' cannot be a junction path",
                remedy: "use / or /a/b: absolute, at most \(ConfigurationLimits.junctionPathBytesMax) bytes, no empty "
                    + "component, no '.', '..' or '.snapshot'",
                target: "nas.path"
            )
        }
    }

    /// An address that a LIF can have, with the subnet and the link that it needs.
    static func lifAddress(_ record: LIFRecord) throws(ManagementError) {
        guard let address = IPv4Address(record.address) else {
            throw ManagementError(
                .invalid,
                "lif_address_invalid",
                "'\(record.address)' is not an IPv4 address",
                remedy: "give four decimal octets such as 10.1.2.3; IPv6 is not in this version",
                target: "ip.address"
            )
        }
        guard !address.isLoopback else {
            guard record.homePort == nil, record.currentPort == nil, record.prefixLength == nil else {
                throw ManagementError(
                    .invalid,
                    "lif_address_loopback",
                    "\(address) is in 127.0.0.0/8, whose addresses are on no port and have no netmask of their own",
                    remedy: "leave the port and the netmask out, or give an address of the port's network",
                    target: "ip.address"
                )
            }
            return
        }
        guard let prefixLength = record.prefixLength, (1...32).contains(prefixLength) else {
            throw ManagementError(
                .invalid,
                "lif_netmask_missing",
                "an address outside of 127.0.0.0/8 needs a netmask",
                remedy: "give the length of the subnet's prefix, such as 24",
                target: "ip.netmask"
            )
        }
        guard record.homePort != nil, record.currentPort != nil else {
            throw ManagementError(
                .invalid,
                "lif_port_missing",
                "an address outside of 127.0.0.0/8 needs a port that it is put on",
                remedy: "name one of the node's ports, such as eth1 (ip link show)",
                target: "location.home_port.name"
            )
        }
        for port in [record.homePort, record.currentPort].compactMap({ $0 }) { try linkName(port) }
        let hostBits = prefixLength == 32 ? 0 : UInt32.max >> UInt32(prefixLength)
        let host = address.bits & hostBits
        let isEnd = prefixLength < 31 && (host == 0 || host == hostBits)
        guard (1..<224).contains(address.bits >> 24), !isEnd else {
            throw ManagementError(
                .invalid,
                "lif_address_not_of_a_host",
                "\(address)/\(prefixLength) is not the address of a host",
                remedy: "give one between the subnet's own address and its broadcast address, below 224.0.0.0",
                target: "ip.address"
            )
        }
    }

    /// The name of a link of Linux.
    static func linkName(_ name: String) throws(ManagementError) {
        let isGood = name.utf8.allSatisfy { (0x21...0x7e).contains($0) && $0 != 0x2f && $0 != 0x3a }
        guard isGood, (1...15).contains(name.utf8.count), name != ".", name != ".." else {
            throw ManagementError(
                .invalid,
                "port_name_invalid",
                "'\(name)' cannot be the name of a port",
                remedy: "give one of the node's links (ip link show)",
                target: "location.home_port.name"
            )
        }
    }

    /// A TCP port that one may ask for.
    static func port(_ port: Int, target: String) throws(ManagementError) {
        guard (1...65_535).contains(port) else {
            throw ManagementError(
                .invalid,
                "port_invalid",
                "\(port) is not a TCP port",
                remedy: "give 1 to 65535",
                target: target
            )
        }
    }

    /// A rule of an export policy.
    static func exportRule(_ rule: ExportRule) throws(ManagementError) {
        guard !rule.clients.isEmpty else {
            throw ManagementError(
                .invalid,
                "rule_without_clients",
                "rule \(rule.index) matches no client",
                remedy: "give at least one address or network, 0.0.0.0/0 for all",
                target: "clients"
            )
        }
        for client in rule.clients where IPv4Network(client) == nil {
            throw ManagementError(
                .invalid,
                "client_match_invalid",
                "'\(client)' is not an IPv4 address or network",
                remedy: "give an address such as 192.0.2.1 or a network such as 192.0.2.0/24 (no bits beyond the "
                    + "prefix); host names and netgroups are not in this version",
                target: "clients.match"
            )
        }
    }
}
