package import ClusterConfiguration
import FileIO
package import HostNetwork
import Synchronization

/// Where the address of a LIF is on a host.
package struct AddressPlace: Hashable, Sendable {
    /// The name of the link.
    package var link: String
    /// How many leading bits are the subnet's.
    package var prefixLength: Int

    /// Names a place.
    package init(link: String, prefixLength: Int) {
        self.link = link
        self.prefixLength = prefixLength
    }
}

/// The addresses that this node has put on links of its host, and no others.
///
/// Each is noted in a file before it is put on a link, so that a daemon that starts after a `kill -9` knows which addresses
/// are its own: it takes over those that it still serves and removes the others. What is not noted is never touched.
package final class HostAddresses: Sendable {
    /// The network of the host.
    package let network: any HostNetwork
    private let noteFile: String
    private let pool: BlockingPool
    private let state: Mutex<State>
    private let lock = TaskLock()
    private static let heading = "godwit addresses 1"
    /// How long it is waited whether somebody has the address already. RFC 5227 waits seconds; on the links of a server
    /// room an answer comes within one millisecond.
    private static let probeMilliseconds = 300

    private struct State {
        /// What the note says.
        var noted: [HostAddress: AddressPlace]
        /// Which of them are known to be on their link.
        var present: Set<HostAddress> = []
    }

    /// Reads the note of a former process.
    ///
    /// - Parameter noteFile: where it is, in a directory of this daemon only.
    /// - Throws: `address_note_unreadable`.
    package init(network: any HostNetwork, noteFile: String, pool: BlockingPool) throws(ManagementError) {
        self.network = network
        self.noteFile = noteFile
        self.pool = pool
        state = Mutex(State(noted: try Self.read(noteFile)))
    }

    /// The addresses that are, or are about to be, on a link of this host because of this node.
    package var places: [HostAddress: AddressPlace] { state.withLock { $0.noted } }

    /// Whether this process has put an address at a place, or found it there.
    package func isPresent(_ address: HostAddress, at place: AddressPlace) -> Bool {
        state.withLock { $0.noted[address] == place && $0.present.contains(address) }
    }

    /// Notes an address that will be put on a link, so that this costs no time when it comes.
    package func reserve(_ address: HostAddress, at place: AddressPlace) async throws(ManagementError) {
        try await exclusively { () throws(ManagementError) in
            if self.places[address] == nil { try self.note { $0[address] = place } }
        }
    }

    /// Puts an address on a link; one that this node has put there before is left as it is.
    ///
    /// - Parameter isTakenOver: whether another node is giving it up, so that an answer for it is no conflict.
    /// - Throws: `port_not_found`, `port_down`, `lif_address_on_host`, `lif_address_conflict`, `network_not_permitted`.
    package func bringUp(
        _ address: HostAddress,
        at place: AddressPlace,
        isTakenOver: Bool
    ) async throws(ManagementError) {
        try await exclusively { () throws(ManagementError) in
            try await self.bringUpAlone(address, place, isTakenOver: isTakenOver)
        }
    }

    private func bringUpAlone(
        _ address: HostAddress,
        _ place: AddressPlace,
        isTakenOver: Bool
    ) async throws(ManagementError) {
        let network = network
        let former = places[address]
        let (links, present) = try await onHost { () throws(HostNetworkError) in
            let links = try network.links()
            return (links, try network.addresses().filter { $0.address == address })
        }
        let link = try Self.usable(place.link, links)
        if former == place, present.contains(where: { $0.linkIndex == link.index }) {
            state.withLock { _ = $0.present.insert(address) }
            return
        }
        if let former, former != place { try await remove(address, former) }
        let names = Dictionary(links.map { ($0.index, $0.name) }, uniquingKeysWith: { first, _ in first })
        if let other = present.first(where: { names[$0.linkIndex] != former?.link }) {
            let name = names[other.linkIndex] ?? "?"
            throw ManagementError(
                .conflict,
                "lif_address_on_host",
                "\(address) is an address of this host already, on \(name), and was not put there by godwitd",
                remedy:
                    "give the LIF another address, or take it off (ip address del \(address)/\(other.prefixLength) dev "
                    + "\(name))",
                target: "ip.address"
            )
        }
        if !isTakenOver {
            let holder = try await onHost { () throws(HostNetworkError) in
                try network.holder(
                    of: address,
                    on: place.link,
                    asking: .none,
                    withinMilliseconds: Self.probeMilliseconds
                )
            }
            if let holder {
                throw ManagementError(
                    .conflict,
                    "lif_address_conflict",
                    "\(address) is in use on the network of \(place.link): \(holder) answers for it",
                    remedy: "give the LIF another address, or take it away from the host with that Ethernet address",
                    target: "ip.address"
                )
            }
        }
        if places[address] != place { try note { $0[address] = place } }
        do throws(ManagementError) {
            try await onHost { () throws(HostNetworkError) in
                try Self.allowing(\.isPresent) { () throws(HostNetworkError) in
                    try network.add(address, prefixLength: place.prefixLength, to: place.link)
                }
            }
        } catch {
            try? note { $0[address] = nil }
            throw error
        }
        state.withLock { _ = $0.present.insert(address) }
    }

    /// Takes an address off its link, if this node has put it there.
    package func takeDown(_ address: HostAddress) async throws(ManagementError) {
        try await exclusively { () throws(ManagementError) in
            guard let place = self.places[address] else { return }
            try await self.remove(address, place)
        }
    }

    /// Ends the sockets that an address has left behind, those of clients that have gone too: were it to come back, they
    /// would answer for connections that nobody knows. The address is off its link.
    package func endSockets(of address: HostAddress) async throws(ManagementError) {
        let network = network
        try await onHost { () throws(HostNetworkError) in
            // A kernel without it forgets them by itself within minutes.
            try Self.allowing(\.isUnsupported) { () throws(HostNetworkError) in
                try network.destroySockets(of: address)
            }
        }
    }

    /// Takes the addresses off their links that a former process has left and that are not wanted at their place.
    ///
    /// - Returns: those that were taken off, in order.
    @discardableResult
    package func sweep(keeping wanted: [HostAddress: AddressPlace]) async throws(ManagementError) -> [HostAddress] {
        let leftover = places.filter { wanted[$0.key] != $0.value }.keys.sorted()
        for address in leftover { try await takeDown(address) }
        return leftover
    }

    /// The links of this host.
    package func links() async throws(ManagementError) -> [HostLink] {
        let network = network
        return try await onHost { () throws(HostNetworkError) in try network.links() }
    }

    /// The addresses of this host, its own too.
    package func addresses() async throws(ManagementError) -> [HostLinkAddress] {
        let network = network
        return try await onHost { () throws(HostNetworkError) in try network.addresses() }
    }

    /// Who on the network of a link answers for an address; nil when nobody does in time.
    package func holder(
        of address: HostAddress,
        on link: String,
        asking sender: HostAddress = .none,
        withinMilliseconds: Int = 300
    ) async throws(ManagementError) -> HardwareAddress? {
        let network = network
        return try await onHost { () throws(HostNetworkError) in
            try network.holder(of: address, on: link, asking: sender, withinMilliseconds: withinMilliseconds)
        }
    }

    /// Everybody on the network of a link who answers for some addresses, by the address.
    package func holders(
        of addresses: Set<HostAddress>,
        on link: String,
        withinMilliseconds: Int
    ) async throws(ManagementError) -> [HostAddress: Set<HardwareAddress>] {
        let network = network
        return try await onHost { () throws(HostNetworkError) in
            try network.holders(of: addresses, on: link, withinMilliseconds: withinMilliseconds)
        }
    }

    static func usable(_ name: String, _ links: [HostLink]) throws(ManagementError) -> HostLink {
        let ports = links.filter { !$0.isLoopback && $0.hardwareAddress != nil }
        guard let link = ports.first(where: { $0.name == name }) else {
            let names = ports.map(\.name).joined(separator: ", ")
            throw ManagementError(
                .notFound,
                "port_not_found",
                "this node has no port '\(name)'",
                remedy: ports.isEmpty ? "the host has no Ethernet port" : "give one of \(names)",
                target: "location.home_port.name"
            )
        }
        guard link.isUp, link.isRunning else {
            throw ManagementError(
                .conflict,
                "port_down",
                "port '\(name)' is \(link.isUp ? "without a carrier" : "down")",
                remedy: link.isUp ? "plug its cable, or look at the switch" : "set it up (ip link set \(name) up)",
                target: "location.home_port.name"
            )
        }
        return link
    }

    private func remove(_ address: HostAddress, _ place: AddressPlace) async throws(ManagementError) {
        let network = network
        try await onHost { () throws(HostNetworkError) in
            // Absent when somebody has taken it off, or the host was started again.
            try Self.allowing(\.isAbsent) { () throws(HostNetworkError) in
                try network.remove(address, prefixLength: place.prefixLength, from: place.link)
            }
        }
        try note { $0[address] = nil }
    }

    /// Does what may find that it has been done already.
    private static func allowing(
        _ isHarmless: (HostNetworkError) -> Bool,
        _ body: () throws(HostNetworkError) -> Void
    ) throws(HostNetworkError) {
        do throws(HostNetworkError) { try body() } catch { if !isHarmless(error) { throw error } }
    }

    private func onHost<Value: Sendable>(
        _ body: @escaping @Sendable () throws(HostNetworkError) -> Value
    ) async throws(ManagementError) -> Value {
        do { return try await pool.run(body) } catch {
            guard let error = error as? HostNetworkError else { throw .from(error) }
            throw ManagementError(network: error)
        }
    }

    private func exclusively(_ body: () async throws(ManagementError) -> Void) async throws(ManagementError) {
        await lock.acquire()
        do throws(ManagementError) { try await body() } catch {
            await lock.release()
            throw error
        }
        await lock.release()
    }

    // MARK: The note

    private func note(_ edit: (inout [HostAddress: AddressPlace]) -> Void) throws(ManagementError) {
        var places = self.places
        edit(&places)
        let lines = places.sorted { $0.key < $1.key }.map { "\($0.key)/\($0.value.prefixLength) \($0.value.link)" }
        let text = ([Self.heading] + lines).joined(separator: "\n") + "\n"
        do { try FileSystem.writeAtomically(Array(text.utf8), to: noteFile) } catch {
            throw ManagementError(
                .failed,
                "address_note_unwritable",
                "the addresses of this node cannot be noted: \(error)",
                remedy: "check data_directory, its rights and its free space"
            )
        }
        let changed = places
        state.withLock { state in
            state.noted = changed
            state.present = state.present.filter { changed[$0] != nil }
        }
    }

    private static func read(_ path: String) throws(ManagementError) -> [HostAddress: AddressPlace] {
        guard FileSystem.exists(path) else { return [:] }
        let text: String
        do { text = String(decoding: try FileSystem.readAll(path), as: UTF8.self) } catch {
            throw unreadable(path, "\(error)")
        }
        var lines = text.split(separator: "\n").map(String.init)
        guard !lines.isEmpty, lines.removeFirst() == heading else { throw unreadable(path, "it has another format") }
        var places: [HostAddress: AddressPlace] = [:]
        for line in lines {
            let parts = line.split(whereSeparator: { $0 == "/" || $0 == " " }).map(String.init)
            guard parts.count == 3, let address = HostAddress(parts[0]), let length = Int(parts[1]) else {
                throw unreadable(path, "'\(line)' is no address with its prefix and link")
            }
            places[address] = AddressPlace(link: parts[2], prefixLength: length)
        }
        return places
    }

    private static func unreadable(_ path: String, _ reason: String) -> ManagementError {
        ManagementError(
            .failed,
            "address_note_unreadable",
            "\(path), which tells the addresses that this node has put on its links, cannot be read: \(reason)",
            remedy: "take off those that are left (ip address del) and delete the file"
        )
    }
}

extension ManagementError {
    /// What a refusal of the kernel means to an administrator.
    init(network error: HostNetworkError) {
        if error.isNotPermitted {
            self.init(
                .failed,
                "network_not_permitted",
                "godwitd may not change the network of this host (\(error))",
                remedy:
                    "run it as root, or give it CAP_NET_ADMIN and CAP_NET_RAW (AmbientCapabilities= in its systemd unit); "
                    + "LIFs in 127.0.0.0/8 need neither"
            )
        } else {
            self.init(
                .failed,
                "network_failed",
                "the kernel has refused \(error)",
                remedy: "try the command that is named, and look at the links of the host (ip address show)"
            )
        }
    }
}
