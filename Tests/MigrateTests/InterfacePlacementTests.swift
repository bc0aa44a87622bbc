import ClusterConfiguration
import Environment
import HostNetwork
import Identity
import MigrateOperation
import GroupControl
import Testing

/// Which port an interface gets that comes from another cluster.
@Suite struct InterfacePlacementTests {
    private let interface = LIFRecord(
        uuid: .random(.system),
        name: "lif1",
        svm: .random(.system),
        address: "10.0.1.10",
        port: 2049,
        prefixLength: 24,
        homePort: "eth1"
    )

    private func link(_ index: Int, _ name: String, isUp: Bool = true) -> HostLink {
        HostLink(
            index: index,
            name: name,
            hardwareAddress: HardwareAddress([2, 0, 0, 0, 0, UInt8(index)]),
            isUp: isUp,
            isRunning: isUp
        )
    }

    private func address(_ index: Int, _ text: String) -> HostLinkAddress {
        HostLinkAddress(linkIndex: index, address: HostAddress(text)!, prefixLength: 24)
    }

    @Test func thePortOfTheSameNameIsTaken() {
        let placed = InterfacePlacement.place(
            [interface],
            on: [link(2, "eth0"), link(3, "eth1")],
            with: [address(2, "10.0.1.1")]
        )
        #expect(placed.findings.isEmpty && placed.interfaces[0].currentPort == "eth1")
    }

    @Test func elseTheOnlyOneOfItsSubnet() {
        let placed = InterfacePlacement.place(
            [interface],
            on: [link(2, "eth0"), link(3, "eth1", isUp: false), link(4, "eth2")],
            with: [address(2, "10.0.1.1"), address(4, "10.0.2.1")]
        )
        #expect(placed.findings.isEmpty)
        #expect(placed.interfaces[0].currentPort == "eth0" && placed.interfaces[0].homePort == "eth0")
    }

    @Test func noneAndSeveralAreFindings() {
        let none = InterfacePlacement.place([interface], on: [link(2, "eth0")], with: [address(2, "10.0.2.1")])
        #expect(none.findings.map(\.code) == [MigrateCode.interfacePort])
        let several = InterfacePlacement.place(
            [interface],
            on: [link(2, "eth0"), link(4, "eth2")],
            with: [address(2, "10.0.1.1"), address(4, "10.0.1.2")]
        )
        #expect(several.findings.map(\.code) == [MigrateCode.interfacePort])
        #expect(several.findings.first?.message.contains("eth0, eth2") == true)
    }

    @Test func anAddressOfTheHostIsAFinding() {
        let placed = InterfacePlacement.place(
            [interface],
            on: [link(3, "eth1")],
            with: [address(3, "10.0.1.10")]
        )
        #expect(placed.findings.map(\.code) == [MigrateCode.interfaceAddress])
    }

    @Test func anAddressOfTheLoopbackNeedsNoPort() {
        var loopback = interface
        (loopback.address, loopback.prefixLength, loopback.homePort, loopback.currentPort) = (
            "127.0.0.9", nil, nil, nil
        )
        let placed = InterfacePlacement.place([loopback], on: [], with: [])
        #expect(placed.findings.isEmpty && placed.interfaces == [loopback])
    }
}
