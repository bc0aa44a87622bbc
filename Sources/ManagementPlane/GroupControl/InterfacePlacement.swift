package import ClusterConfiguration
package import HostNetwork
package import MigrateOperation

/// Chooses a port of this node for each interface that comes: pure.
package enum InterfacePlacement {
    /// The port of the same name, or else the only one that has an address in the interface's subnet.
    ///
    /// - Parameters:
    ///   - links: the links of this host.
    ///   - addresses: the addresses that are on them and not LIFs.
    package static func place(
        _ interfaces: [LIFRecord],
        on links: [HostLink],
        with addresses: [HostLinkAddress]
    ) -> (findings: [PrecheckFinding], interfaces: [LIFRecord]) {
        var findings: [PrecheckFinding] = []
        let placed = interfaces.map { interface in
            guard let wanted = interface.currentPort, let address = HostAddress(interface.address),
                let prefixLength = interface.prefixLength
            else { return interface }
            if let taken = addresses.first(where: { $0.address == address }) {
                let name = links.first { $0.index == taken.linkIndex }?.name ?? "?"
                findings.append(
                    PrecheckFinding(
                        code: MigrateCode.interfaceAddress,
                        "\(address) of interface '\(interface.name)' is an address of this host, on \(name)",
                        remedy: "take it off (ip address del \(address)/\(taken.prefixLength) dev \(name))"
                    )
                )
            }
            let candidates = candidates(wanted, address, prefixLength, links, addresses)
            guard candidates.count == 1 else {
                findings.append(finding(interface, wanted, candidates))
                return interface
            }
            var interface = interface
            interface.homePort = candidates[0].name
            interface.currentPort = candidates[0].name
            return interface
        }
        return (findings, placed)
    }

    private static func candidates(
        _ wanted: String,
        _ address: HostAddress,
        _ prefixLength: Int,
        _ links: [HostLink],
        _ addresses: [HostLinkAddress]
    ) -> [HostLink] {
        let usable = links.filter { $0.hardwareAddress != nil && !$0.isLoopback && $0.isUp && $0.isRunning }
        let named = usable.filter { $0.name == wanted }
        if !named.isEmpty { return named }
        return usable.filter { link in
            addresses.contains { other in
                other.linkIndex == link.index && other.prefixLength == prefixLength
                    && other.address.isNeighbour(of: address, prefixLength: prefixLength)
            }
        }
    }

    private static func finding(_ interface: LIFRecord, _ wanted: String, _ candidates: [HostLink]) -> PrecheckFinding {
        let subnet = "\(interface.address)/\(interface.prefixLength ?? 0)"
        let reason =
            candidates.isEmpty
            ? "none has an address in the subnet of \(subnet)"
            : "several have an address in the subnet of \(subnet): \(candidates.map(\.name).joined(separator: ", "))"
        return PrecheckFinding(
            code: MigrateCode.interfacePort,
            "interface '\(interface.name)' has no port here: none that is up is named '\(wanted)', and \(reason)",
            remedy: "set the port up, or give one port of this node an address in that subnet"
        )
    }
}
