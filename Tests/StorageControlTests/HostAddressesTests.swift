import ClusterConfiguration
import Foundation
import HostNetwork
import StorageControl
import Testing

/// The addresses that a node puts on links of its host, on a pair of links that the tests make.
@Suite(
    .serialized,
    .enabled(if: HostAddressesTests.isPossible, "network links can only be made by root (and with iproute2)")
)
struct HostAddressesTests {
    static var isPossible: Bool { getuid() == 0 && run("link", "show") }

    private let link = "gwh\(ProcessInfo.processInfo.processIdentifier % 10_000)"
    private let own = HostAddress("10.95.0.1")!
    private let foreign = HostAddress("10.95.0.2")!
    private var place: AddressPlace { AddressPlace(link: link, prefixLength: 24) }

    @discardableResult
    private static func run(_ arguments: String...) -> Bool {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["ip"] + arguments
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        guard (try? process.run()) != nil else { return false }
        process.waitUntilExit()
        return process.terminationStatus == 0
    }

    private func withLink(_ body: (_ noteFile: String) async throws -> Void) async throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "godwit-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer {
            Self.run("link", "del", link)
            try? FileManager.default.removeItem(atPath: directory)
        }
        #expect(Self.run("link", "add", link, "type", "veth", "peer", "name", link + "p"))
        #expect(Self.run("link", "set", link, "up") && Self.run("link", "set", link + "p", "up"))
        try await body(directory + "/addresses")
    }

    private func addresses(_ noteFile: String) throws -> HostAddresses {
        try HostAddresses(network: LinuxHostNetwork(), noteFile: noteFile, pool: BlockingPool())
    }

    private func isOnLink(_ address: HostAddress) throws -> Bool {
        try LinuxHostNetwork().addresses().contains { $0.address == address }
    }

    @Test func aNewProcessTakesOverWhatItServesAndRemovesTheRest() async throws {
        try await withLink { noteFile in
            let first = try addresses(noteFile)
            try await first.bringUp(own, at: place, isTakenOver: false)
            #expect(first.isPresent(own, at: place))
            #expect(try isOnLink(own))
            // The process dies here, and another one begins.
            let second = try addresses(noteFile)
            #expect(!second.isPresent(own, at: place))
            #expect(try await second.sweep(keeping: [own: place]).isEmpty)
            try await second.bringUp(own, at: place, isTakenOver: false)
            #expect(second.isPresent(own, at: place))
            let third = try addresses(noteFile)
            #expect(try await third.sweep(keeping: [:]) == [own])
            #expect(try !isOnLink(own))
            #expect(try addresses(noteFile).places.isEmpty)
        }
    }

    @Test func anAddressOfTheHostIsRefusedAndStays() async throws {
        try await withLink { noteFile in
            #expect(Self.run("address", "add", "10.95.0.2/24", "dev", link))
            let addresses = try addresses(noteFile)
            let refused = await #expect(throws: ManagementError.self) {
                try await addresses.bringUp(foreign, at: place, isTakenOver: true)
            }
            #expect(refused?.code == "lif_address_on_host")
            try await addresses.takeDown(foreign)
            _ = try await addresses.sweep(keeping: [:])
            #expect(try isOnLink(foreign))
        }
    }

    @Test func portsThatAreNotThereOrDownAreRefused() async throws {
        try await withLink { noteFile in
            let addresses = try addresses(noteFile)
            let absent = await #expect(throws: ManagementError.self) {
                try await addresses.bringUp(
                    own,
                    at: AddressPlace(link: "gwnolink", prefixLength: 24),
                    isTakenOver: false
                )
            }
            #expect(absent?.code == "port_not_found")
            #expect(Self.run("link", "set", link, "down"))
            let down = await #expect(throws: ManagementError.self) {
                try await addresses.bringUp(own, at: place, isTakenOver: false)
            }
            #expect(down?.code == "port_down")
            #expect(addresses.places.isEmpty)
        }
    }

    @Test func anAddressThatWasReservedComesToItsPlace() async throws {
        try await withLink { noteFile in
            let addresses = try addresses(noteFile)
            try await addresses.reserve(own, at: place)
            #expect(!addresses.isPresent(own, at: place))
            #expect(try !isOnLink(own))
            try await addresses.bringUp(own, at: place, isTakenOver: true)
            #expect(try isOnLink(own))
            // To another prefix: off, and on again.
            let wider = AddressPlace(link: link, prefixLength: 16)
            try await addresses.bringUp(own, at: wider, isTakenOver: true)
            #expect(addresses.isPresent(own, at: wider))
            #expect(try LinuxHostNetwork().addresses().filter { $0.address == own }.map(\.prefixLength) == [16])
        }
    }

    @Test func aNoteThatCannotBeReadStopsTheStart() async throws {
        try await withLink { noteFile in
            try Data("something else\n".utf8).write(to: URL(fileURLWithPath: noteFile))
            let refused = #expect(throws: ManagementError.self) { try addresses(noteFile) }
            #expect(refused?.code == "address_note_unreadable")
        }
    }
}
