import Foundation
import HostNetwork
import Testing

/// What goes over the wire and to the kernel, against what others make of it.
@Suite struct PacketTests {
    private let hardware = HardwareAddress([0x02, 0, 0x5e, 0, 0x53, 1])!

    @Test func anAnnouncementAsksForItsOwnAddress() throws {
        let address = try #require(HostAddress("10.1.2.3"))
        let frame = ARPPacket.announcement(of: address, at: hardware).frame
        let expected: [UInt8] =
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0x5e, 0, 0x53, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]
            + [2, 0, 0x5e, 0, 0x53, 1, 10, 1, 2, 3, 0, 0, 0, 0, 0, 0, 10, 1, 2, 3]
        #expect(frame == expected)
        let read = frame.withUnsafeBytes { ARPPacket(frame: $0) }
        #expect(read?.sender == address && read?.target == address && read?.operation == .request)
        #expect(frame.dropLast().withUnsafeBytes { ARPPacket(frame: $0) } == nil)
    }

    /// Checksums and fields as RFC 791, section 3.1, and RFC 9293, section 3.1, have them.
    @Test func aTickleIsAnAcknowledgementWithRightChecksums() throws {
        let connection = TransportConnection(
            local: HostAddress("10.1.2.3")!,
            localPort: 2049,
            remote: HostAddress("10.1.2.200")!,
            remotePort: 901
        )
        let packet = TicklePacket.bytes(for: connection)
        #expect(packet.count == 40)
        // A sum over what carries its own checksum is 0.
        #expect(TicklePacket.checksum(Array(packet[..<20])) == 0)
        let pseudo = Array(packet[12..<20]) + [0, 6, 0, 20]
        #expect(TicklePacket.checksum(pseudo + packet[20...]) == 0)
        #expect(packet[33] == 0x10)
        #expect(Array(packet[20..<24]) == [8, 1, 3, 0x85])
    }

    /// What the kernel tells of `x.5`, VLAN 5 on link 1 that is a member of bridge 9, written down by hand from rtnetlink(7).
    @Test func aVLANIsToldWithItsNumberAndItsLinks() throws {
        let body: [UInt8] =
            [0, 0, 1, 0, 7, 0, 0, 0, 0x41, 0, 0, 0, 0, 0, 0, 0]
            + [8, 0, 3, 0, 0x78, 0x2e, 0x35, 0]
            + [8, 0, 5, 0, 1, 0, 0, 0]
            + [8, 0, 10, 0, 9, 0, 0, 0]
            + [24, 0, 18, 0, 8, 0, 1, 0, 0x76, 0x6c, 0x61, 0x6e, 12, 0, 2, 0, 6, 0, 1, 0, 5, 0, 0, 0]
        let link = try #require(RouteMessages.link(NetlinkMessage(kind: 16, flags: 0, body: body)))
        #expect(link.name == "x.5" && link.index == 7 && link.isUp && link.isRunning)
        #expect(link.kind == "vlan" && link.vlan == 5 && link.parentIndex == 1 && link.masterIndex == 9)
    }

    @Test func anEthernetAddressIsReadAsItIsWritten() {
        #expect(HardwareAddress(hardware.description) == hardware)
        for bad in ["", "02:00:5e:00:53", "02:00:5e:00:53:1", "02:00:5e:00:53:0g", "02-00-5e-00-53-01"] {
            #expect(HardwareAddress(bad) == nil)
        }
    }

    @Test func aMessageThatIsCutOffIsNotRead() {
        let whole = RouteMessages.getLinks.bytes(sequence: 7)
        #expect(whole.withUnsafeBytes { NetlinkMessage.messages(in: $0) }.first?.sequence == 7)
        for count in 0..<whole.count {
            #expect(whole[..<count].withUnsafeBytes { NetlinkMessage.messages(in: $0) }.isEmpty)
        }
    }
}

/// The kernel's answers, on a pair of links that the tests make.
@Suite(.serialized, .enabled(if: NamespaceLinks.isPossible, Comment(rawValue: NamespaceLinks.reason)))
struct LinuxHostNetworkTests {
    private let network = LinuxHostNetwork()

    private func address(_ text: String) throws -> HostAddress { try #require(HostAddress(text)) }

    @Test func linksAreTold() throws {
        let links = try NamespaceLinks()
        let found = try #require(try network.links().first { $0.name == links.near })
        #expect(found.kind == "veth" && found.isUp && !found.isLoopback && found.mtuBytes == 1500)
        let hardware = try #require(found.hardwareAddress)
        #expect(NamespaceLinks.output("ip", ["link", "show", links.near]).contains(hardware.description))
        #expect(found.parentIndex == nil)
        #expect(try network.links().contains { $0.isLoopback && $0.name == "lo" })
    }

    @Test func addressesComeAndGoAndOthersStay() throws {
        let links = try NamespaceLinks()
        let (first, second) = (try address("10.91.0.1"), try address("10.91.0.2"))
        try network.add(first, prefixLength: 24, to: links.near)
        try NamespaceLinks.require("ip", ["address", "add", "10.91.0.2/24", "dev", links.near])
        let shown = NamespaceLinks.output("ip", ["-4", "address", "show", "dev", links.near])
        #expect(shown.contains("10.91.0.1/24"))
        #expect(try network.addresses().contains { $0.address == second && $0.isSecondary })
        let twice = #expect(throws: HostNetworkError.self) {
            try network.add(first, prefixLength: 24, to: links.near)
        }
        #expect(twice?.isPresent == true)
        // The kernel would take the second one away with the first.
        try network.remove(first, prefixLength: 24, from: links.near)
        #expect(try network.addresses().contains { $0.address == second })
        #expect(try !network.addresses().contains { $0.address == first })
        let gone = #expect(throws: HostNetworkError.self) {
            try network.remove(first, prefixLength: 24, from: links.near)
        }
        #expect(gone?.isAbsent == true)
        let nowhere = #expect(throws: HostNetworkError.self) {
            try network.add(first, prefixLength: 24, to: "gwnolink")
        }
        #expect(nowhere?.isAbsent == true)
    }

    @Test func whoHasAnAddressIsFound() throws {
        let links = try NamespaceLinks()
        try links.inside("ip", "address", "add", "10.92.0.2/24", "dev", links.far)
        let held = try address("10.92.0.2")
        let holder = try #require(
            try network.holder(of: held, on: links.near, asking: .none, withinMilliseconds: 900)
        )
        #expect(links.output("ip", "link", "show", links.far).contains(holder.description))
        let began = ContinuousClock.now
        let nobody = try network.holder(
            of: try address("10.92.0.3"),
            on: links.near,
            asking: .none,
            withinMilliseconds: 300
        )
        #expect(nobody == nil)
        #expect(ContinuousClock.now - began >= .milliseconds(290))
        // The probe has taught nobody anything.
        #expect(!links.output("ip", "neighbour", "show").contains("10.92.0.3"))
    }

    @Test func anAnnouncementChangesWhatNeighboursKnow() throws {
        let links = try NamespaceLinks()
        try links.inside("ip", "address", "add", "10.93.0.2/24", "dev", links.far)
        let moved = try address("10.93.0.1")
        try links.inside(
            "ip",
            "neighbour",
            "add",
            "10.93.0.1",
            "lladdr",
            "02:00:00:00:00:99",
            "nud",
            "reachable",
            "dev",
            links.far
        )
        try network.announce(moved, on: links.near)
        usleep(100_000)
        let own = try #require(try network.links().first { $0.name == links.near }?.hardwareAddress)
        #expect(links.output("ip", "neighbour", "show").contains(own.description))
    }

    /// A client whose server has gone without a word, and whose address is at another host now, learns of it by the tickle.
    @Test func aTickleEndsAConnectionThatNobodyKnows() throws {
        let links = try NamespaceLinks()
        try links.inside("ip", "address", "add", "10.94.0.2/24", "dev", links.far)
        let own = try address("10.94.0.1")
        try network.add(own, prefixLength: 24, to: links.near)
        let server = try links.server(at: "10.94.0.1")
        defer { server.close() }
        let client = try links.start(
            "python3",
            "-c",
            """
            import socket
            client = socket.create_connection(("10.94.0.1", \(server.port)), 5)
            client.settimeout(5)
            try:
                client.recv(1)
                print("closed")
            except ConnectionResetError:
                exit(17)
            """
        )
        let peer = try #require(server.accept())
        // The address goes, the socket after it, and nobody is told.
        try network.remove(own, prefixLength: 24, from: links.near)
        server.closeSilently()
        try network.destroySockets(of: own)
        try network.add(own, prefixLength: 24, to: links.near)
        try network.announce(own, on: links.near)
        usleep(200_000)
        #expect(client.isRunning)
        try network.tickle([
            TransportConnection(
                local: own,
                localPort: UInt16(server.port),
                remote: try address("10.94.0.2"),
                remotePort: peer
            )
        ])
        client.waitUntilExit()
        #expect(client.terminationStatus == 17)
    }

    @Test func everybodyWhoAnswersIsTold() throws {
        let links = try NamespaceLinks()
        try links.inside("ip", "address", "add", "10.96.0.2/24", "dev", links.far)
        try links.inside("ip", "address", "add", "10.96.0.3/24", "dev", links.far)
        let (two, three, nobody) = (try address("10.96.0.2"), try address("10.96.0.3"), try address("10.96.0.9"))
        let found = try network.holders(of: [two, three, nobody], on: links.near, withinMilliseconds: 300)
        let far = try #require(found[two]?.first)
        #expect(links.output("ip", "link", "show", links.far).contains(far.description))
        #expect(found == [two: [far], three: [far]])
        // The probe has taught nobody anything.
        #expect(!links.output("ip", "neighbour", "show").contains("10.96.0"))
    }

    @Test func aVLANIsALinkLikeOthers() throws {
        let links = try NamespaceLinks()
        let name = links.near + ".5"
        do {
            try NamespaceLinks.require(
                "ip",
                ["link", "add", "link", links.near, "name", name, "type", "vlan", "id", "5"]
            )
        } catch {
            // This kernel has no VLANs; how one is told is tested with the messages.
            return
        }
        let found = try #require(try network.links().first { $0.name == name })
        let parent = try #require(try network.links().first { $0.name == links.near })
        #expect(found.vlan == 5 && found.kind == "vlan" && found.parentIndex == parent.index)
    }

    @Test func whoAnswersInAVLANIsNotHeardOnThePortThatItIsOn() throws {
        let links = try NamespaceLinks()
        let (near, far) = (links.near + ".5", links.far + ".5")
        do {
            try NamespaceLinks.require(
                "ip",
                ["link", "add", "link", links.near, "name", near, "type", "vlan", "id", "5"]
            )
        } catch {
            // This kernel has no VLANs.
            return
        }
        try NamespaceLinks.require("ip", ["link", "set", near, "up"])
        // A host that answers only on the link that has the address.
        try links.inside("sysctl", "-q", "-w", "net.ipv4.conf.all.arp_ignore=1")
        try links.inside("ip", "link", "add", "link", links.far, "name", far, "type", "vlan", "id", "5")
        try links.inside("ip", "address", "add", "10.96.5.2/24", "dev", far)
        try links.inside("ip", "link", "set", far, "up")
        let holder = try address("10.96.5.2")
        let network = network
        // It answers this one while the other listens.
        Thread.detachNewThread { _ = try? network.holders(of: [holder], on: near, withinMilliseconds: 1_200) }
        #expect(try network.holders(of: [holder], on: links.near, withinMilliseconds: 900) == [:])
        #expect(try network.holders(of: [holder], on: near, withinMilliseconds: 300)[holder]?.count == 1)
    }
}
