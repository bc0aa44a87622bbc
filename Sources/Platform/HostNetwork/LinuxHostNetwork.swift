internal import CLinux
internal import Glibc

/// The network of a Linux host, over netlink and packet sockets. Changing it needs CAP_NET_ADMIN, packets need CAP_NET_RAW.
package struct LinuxHostNetwork: HostNetwork {
    private static let requestsOfHolder = 3

    /// The network namespace of this process.
    package init() {}

    // MARK: Links and addresses

    /// Every link.
    package func links() throws(HostNetworkError) -> [HostLink] {
        let operation = "ip -details link show"
        let messages = try NetlinkSocket(operation, .route).ask(RouteMessages.getLinks, operation)
        return messages.compactMap { RouteMessages.link($0) }.map { found in
            var link = found
            let speed = godwit_link_speed(found.name)
            if speed > 0 { link.speedMegabitsPerSecond = Int(speed) }
            return link
        }.sorted { $0.index < $1.index }
    }

    /// Every IPv4 address.
    package func addresses() throws(HostNetworkError) -> [HostLinkAddress] {
        let operation = "ip -4 address show"
        return try NetlinkSocket(operation, .route).ask(RouteMessages.getAddresses, operation).compactMap {
            RouteMessages.address($0)
        }
    }

    /// Adds an address.
    package func add(_ address: HostAddress, prefixLength: Int, to link: String) throws(HostNetworkError) {
        let operation = "ip address add \(address)/\(prefixLength) dev \(link)"
        let index = try index(of: link, operation)
        _ = try NetlinkSocket(operation, .route).ask(
            RouteMessages.change(address, prefixLength: prefixLength, linkIndex: index, isAdded: true),
            operation
        )
    }

    /// Removes an address.
    package func remove(_ address: HostAddress, prefixLength: Int, from link: String) throws(HostNetworkError) {
        let operation = "ip address del \(address)/\(prefixLength) dev \(link)"
        let index = try index(of: link, operation)
        let socket = try NetlinkSocket(operation, .route)
        // Where `promote_secondaries` is off, the kernel deletes with the first address of a subnet all others of it.
        let before = try neighbours(of: address, prefixLength, index)
        _ = try socket.ask(
            RouteMessages.change(address, prefixLength: prefixLength, linkIndex: index, isAdded: false),
            operation
        )
        if before.isEmpty { return }
        let after = try neighbours(of: address, prefixLength, index).map(\.address)
        for lost in before where !after.contains(lost.address) {
            do {
                let message = RouteMessages.change(
                    lost.address,
                    prefixLength: lost.prefixLength,
                    linkIndex: index,
                    isAdded: true
                )
                _ = try socket.ask(message, "ip address add \(lost.address)/\(lost.prefixLength) dev \(link)")
            } catch  where error.isPresent {
                // Somebody else was faster.
            }
        }
    }

    /// The other addresses of a link that are in a subnet.
    private func neighbours(
        of address: HostAddress,
        _ prefixLength: Int,
        _ index: Int
    ) throws(HostNetworkError) -> [HostLinkAddress] {
        try addresses().filter { other in
            other.linkIndex == index && other.prefixLength == prefixLength && other.address != address
                && other.address.isNeighbour(of: address, prefixLength: prefixLength)
        }
    }

    private func index(of link: String, _ operation: String) throws(HostNetworkError) -> Int {
        let index = if_nametoindex(link)
        guard index != 0 else { throw HostNetworkError(operation, ENODEV) }
        return Int(index)
    }

    // MARK: Packets

    /// Tells everybody that an address is here.
    package func announce(_ address: HostAddress, on link: String) throws(HostNetworkError) {
        let operation = "arping -A -c 1 -I \(link) \(address)"
        let (socket, hardware) = try packets(on: link, operation)
        try socket.send(ARPPacket.announcement(of: address, at: hardware).frame, operation)
    }

    /// Who answers for an address.
    package func holder(
        of address: HostAddress,
        on link: String,
        asking sender: HostAddress,
        withinMilliseconds milliseconds: Int
    ) throws(HostNetworkError) -> HardwareAddress? {
        let operation = "arping -c \(Self.requestsOfHolder) -f -I \(link) \(address)"
        let (socket, hardware) = try packets(on: link, operation)
        let request = ARPPacket(.request, senderHardware: hardware, sender: sender, target: address).frame
        let share = UInt64(max(1, milliseconds / Self.requestsOfHolder)) * 1_000_000
        for _ in 0..<Self.requestsOfHolder {
            try socket.send(request, operation)
            let deadline = Self.now + share
            while case let now = Self.now, now < deadline {
                let left = Int32(clamping: (deadline - now + 999_999) / 1_000_000)
                guard let packet = try socket.receive(withinMilliseconds: left, operation, ARPPacket.init(frame:))
                else {
                    continue
                }
                // A host that asks for something with this address as its own holds it as well.
                if packet.sender == address, packet.senderHardware != hardware { return packet.senderHardware }
            }
        }
        return nil
    }

    /// Everybody who answers for some addresses.
    package func holders(
        of addresses: Set<HostAddress>,
        on link: String,
        withinMilliseconds milliseconds: Int
    ) throws(HostNetworkError) -> [HostAddress: Set<HardwareAddress>] {
        let operation = "arping -D -c \(Self.requestsOfHolder) -I \(link) \(addresses.sorted().first ?? .none)"
        let (socket, hardware) = try packets(on: link, operation)
        var found: [HostAddress: Set<HardwareAddress>] = [:]
        let share = UInt64(max(1, milliseconds / Self.requestsOfHolder)) * 1_000_000
        for _ in 0..<Self.requestsOfHolder {
            for address in addresses.sorted() {
                try socket.send(
                    ARPPacket(.request, senderHardware: hardware, sender: .none, target: address).frame,
                    operation
                )
            }
            let deadline = Self.now + share
            while case let now = Self.now, now < deadline {
                let left = Int32(clamping: (deadline - now + 999_999) / 1_000_000)
                guard let packet = try socket.receive(withinMilliseconds: left, operation, ARPPacket.init(frame:))
                else {
                    continue
                }
                if addresses.contains(packet.sender), packet.senderHardware != hardware {
                    found[packet.sender, default: []].insert(packet.senderHardware)
                }
            }
        }
        return found
    }

    /// Sends each client an ACK that fits nothing.
    package func tickle(_ connections: [TransportConnection]) throws(HostNetworkError) {
        let operation = "send TCP packets of its own"
        if connections.isEmpty { return }
        let socket = try RawSocket(operation, godwit_raw_open())
        for connection in connections {
            let packet = TicklePacket.bytes(for: connection)
            let count = packet.withUnsafeBytes {
                godwit_raw_send(socket.descriptor, $0.baseAddress, $0.count, connection.remote.bits)
            }
            // One client that has no route any more must not keep the others from being told.
            if count < 0, errno == EPERM { throw HostNetworkError(operation, errno) }
        }
    }

    private func packets(
        on link: String,
        _ operation: String
    ) throws(HostNetworkError) -> (RawSocket, HardwareAddress) {
        guard let found = try links().first(where: { $0.name == link }) else {
            throw HostNetworkError(operation, ENODEV)
        }
        guard let hardware = found.hardwareAddress else { throw HostNetworkError(operation, EOPNOTSUPP) }
        let socket = try RawSocket(operation, godwit_packet_open(Int32(found.index), ARPPacket.etherType))
        return (socket, hardware)
    }

    private static var now: UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    // MARK: Sockets

    /// Ends every TCP socket of an address.
    package func destroySockets(of address: HostAddress) throws(HostNetworkError) {
        let operation = "ss --tcp --kill src \(address)"
        let socket = try NetlinkSocket(operation, .sockets)
        for message in try socket.ask(SocketMessages.getSockets, operation) {
            guard let (local, identity) = SocketMessages.socket(message), local == address else { continue }
            do {
                _ = try socket.ask(SocketMessages.destroy(identity: identity), operation)
            } catch  where error.isAbsent {
                // It has ended meanwhile.
            }
        }
    }
}

/// A descriptor that is closed with its owner.
final class RawSocket {
    let descriptor: Int32

    init(_ operation: String, _ descriptor: Int32) throws(HostNetworkError) {
        guard descriptor >= 0 else { throw HostNetworkError(operation, errno) }
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    func send(_ bytes: [UInt8], _ operation: String) throws(HostNetworkError) {
        let count = bytes.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, 0) }
        guard count == bytes.count else { throw HostNetworkError(operation, count < 0 ? errno : EIO) }
    }

    /// What `decode` makes of what arrives next; nil when it makes nothing of it, or nothing has arrived in time.
    func receive<Value>(
        withinMilliseconds milliseconds: Int32,
        _ operation: String,
        _ decode: (UnsafeRawBufferPointer) -> Value?
    ) throws(HostNetworkError) -> Value? {
        try withBuffer(operation, milliseconds) { memory in memory.flatMap(decode) }
    }

    func withBuffer<Value>(
        _ operation: String,
        _ milliseconds: Int32,
        _ body: (UnsafeRawBufferPointer?) -> Value
    ) throws(HostNetworkError) -> Value {
        let capacity = 64 << 10
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: capacity, alignment: 8)
        defer { buffer.deallocate() }
        let count = godwit_receive_within(descriptor, buffer.baseAddress, capacity, milliseconds)
        if count < 0, errno != EAGAIN, errno != EINTR { throw HostNetworkError(operation, errno) }
        return body(count < 0 ? nil : UnsafeRawBufferPointer(rebasing: buffer[..<count]))
    }
}

/// A conversation with the kernel.
final class NetlinkSocket {
    enum Family {
        case route, sockets
    }

    private let socket: RawSocket
    private var sequence: UInt32 = 0
    private static let patienceMilliseconds: Int32 = 5_000

    init(_ operation: String, _ family: Family) throws(HostNetworkError) {
        socket = try RawSocket(operation, family == .route ? godwit_netlink_open() : godwit_socket_diagnosis_open())
    }

    /// Sends a request and returns what comes before its end or acknowledgement.
    func ask(_ message: NetlinkMessage, _ operation: String) throws(HostNetworkError) -> [NetlinkMessage] {
        sequence += 1
        try socket.send(message.bytes(sequence: sequence), operation)
        var answers: [NetlinkMessage] = []
        while true {
            let part = try socket.withBuffer(operation, Self.patienceMilliseconds) { memory in
                memory.map { NetlinkMessage.messages(in: $0) }
            }
            guard let part else { throw HostNetworkError(operation, ETIMEDOUT) }
            for (answer, number) in part where number == sequence {
                switch answer.kind {
                case NetlinkMessage.Kind.done: return answers
                case NetlinkMessage.Kind.error:
                    guard answer.errorNumber == 0 else { throw HostNetworkError(operation, answer.errorNumber) }
                    return answers
                default: answers.append(answer)
                }
            }
        }
    }
}
