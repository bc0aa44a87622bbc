internal import Bytes

/// One message of netlink, and what it carries: header 16, a fixed part, attributes (rtnetlink(7)).
///
/// Netlink speaks the byte order of the machine; this code is for little-endian machines, as all of it.
package struct NetlinkMessage: Equatable, Sendable {
    /// The kinds that are used here.
    package enum Kind {
        static let error: UInt16 = 2
        static let done: UInt16 = 3
        static let newLink: UInt16 = 16
        static let getLink: UInt16 = 18
        static let newAddress: UInt16 = 20
        static let deleteAddress: UInt16 = 21
        static let getAddress: UInt16 = 22
        static let socketsOfFamily: UInt16 = 20
        static let destroySocket: UInt16 = 21
    }

    /// What is wanted.
    package enum Flags {
        static let request: UInt16 = 1
        static let acknowledge: UInt16 = 4
        static let exclusive: UInt16 = 0x200
        static let dump: UInt16 = 0x300
        static let create: UInt16 = 0x400
    }

    package var kind: UInt16
    package var flags: UInt16
    package var body: [UInt8]

    /// A message out of its parts.
    package init(kind: UInt16, flags: UInt16, body: [UInt8]) {
        self.kind = kind
        self.flags = flags
        self.body = body
    }

    /// The bytes that go to the kernel.
    package func bytes(sequence: UInt32) -> [UInt8] {
        var writer = ByteWriter(capacity: 16 + body.count)
        writer.append(UInt32(16 + body.count))
        writer.append(kind)
        writer.append(flags)
        writer.append(sequence)
        writer.append(UInt32(0))
        writer.append(raw: body)
        return writer.bytes
    }

    /// The messages of one answer of the kernel, as far as they are whole.
    package static func messages(in memory: UnsafeRawBufferPointer) -> [(message: NetlinkMessage, sequence: UInt32)] {
        var found: [(message: NetlinkMessage, sequence: UInt32)] = []
        var reader = ByteReader(memory)
        do throws(ByteFormatError) {
            while reader.remaining >= 16 {
                let count = Int(try reader.read(UInt32.self))
                let kind: UInt16 = try reader.read()
                let flags: UInt16 = try reader.read()
                let sequence: UInt32 = try reader.read()
                _ = try reader.read(UInt32.self)
                let body = try reader.readBytes(count - 16)
                found.append((NetlinkMessage(kind: kind, flags: flags, body: body), sequence))
                _ = try reader.readMemory(min(reader.remaining, padding(count)))
            }
        } catch {
            // What is cut off ends the list.
        }
        return found
    }

    static func padding(_ count: Int) -> Int { (4 - count % 4) % 4 }

    /// The error number of an answer of kind `error`: 0 is the acknowledgement.
    var errorNumber: Int32 {
        body.withUnsafeBytes { memory in
            var reader = ByteReader(memory)
            return -((try? reader.read(Int32.self)) ?? 0)
        }
    }
}

/// Attributes of netlink: length 2, kind 2, value, padded to four bytes.
struct NetlinkAttributes {
    private(set) var values: [UInt16: [UInt8]] = [:]

    /// Reads what is behind the fixed part of a message.
    init(_ body: [UInt8], after fixedBytes: Int) {
        guard body.count > fixedBytes else { return }
        body[fixedBytes...].withUnsafeBytes { memory in
            var reader = ByteReader(memory)
            do throws(ByteFormatError) {
                while reader.remaining >= 4 {
                    let count = Int(try reader.read(UInt16.self))
                    // The highest bit tells that the value has attributes itself.
                    let kind = try reader.read(UInt16.self) & 0x7fff
                    values[kind] = try reader.readBytes(count - 4)
                    _ = try reader.readMemory(min(reader.remaining, NetlinkMessage.padding(count)))
                }
            } catch {
                // What is cut off ends the list.
            }
        }
    }

    func integer(_ kind: UInt16) -> UInt32? {
        guard let value = values[kind], value.count >= 4 else { return nil }
        return value.withUnsafeBytes { UInt32(littleEndian: $0.loadUnaligned(as: UInt32.self)) }
    }

    func text(_ kind: UInt16) -> String? {
        values[kind].map { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }

    func address(_ kind: UInt16) -> HostAddress? {
        guard let value = values[kind], value.count == 4 else { return nil }
        return HostAddress(bits: value.reduce(0) { $0 << 8 | UInt32($1) })
    }
}

extension ByteWriter {
    /// Appends an attribute.
    mutating func append(attribute kind: UInt16, _ value: [UInt8]) {
        append(UInt16(4 + value.count))
        append(kind)
        append(raw: value)
        append(raw: [UInt8](repeating: 0, count: NetlinkMessage.padding(value.count)))
    }
}

/// What is said about links and addresses.
package enum RouteMessages {
    private static let internet: UInt8 = 2
    private static let linkHeaderBytes = 16
    private static let addressHeaderBytes = 8
    private static let ethernet: UInt16 = 1
    private static let isUp: UInt32 = 0x1
    private static let isLoopback: UInt32 = 0x8
    private static let isRunning: UInt32 = 0x40

    private enum LinkAttribute {
        static let hardwareAddress: UInt16 = 1
        static let name: UInt16 = 3
        static let mtu: UInt16 = 4
        static let parent: UInt16 = 5
        static let master: UInt16 = 10
        static let information: UInt16 = 18
        static let namespaceOfParent: UInt16 = 37
        static let kind: UInt16 = 1
        static let data: UInt16 = 2
        static let vlan: UInt16 = 1
    }

    private enum AddressAttribute {
        static let address: UInt16 = 1
        static let local: UInt16 = 2
    }

    /// Asks for all links.
    package static var getLinks: NetlinkMessage {
        NetlinkMessage(
            kind: NetlinkMessage.Kind.getLink,
            flags: NetlinkMessage.Flags.request | NetlinkMessage.Flags.dump,
            body: [UInt8](repeating: 0, count: linkHeaderBytes)
        )
    }

    /// Asks for all IPv4 addresses.
    package static var getAddresses: NetlinkMessage {
        var body = [UInt8](repeating: 0, count: addressHeaderBytes)
        body[0] = internet
        return NetlinkMessage(
            kind: NetlinkMessage.Kind.getAddress,
            flags: NetlinkMessage.Flags.request | NetlinkMessage.Flags.dump,
            body: body
        )
    }

    /// Adds or removes an address.
    package static func change(
        _ address: HostAddress,
        prefixLength: Int,
        linkIndex: Int,
        isAdded: Bool
    ) -> NetlinkMessage {
        var writer = ByteWriter()
        writer.append(raw: [internet, UInt8(truncatingIfNeeded: prefixLength), 0, 0])
        writer.append(UInt32(linkIndex))
        let octets = (0..<4).map { UInt8(address.bits >> (24 - 8 * UInt32($0)) & 0xff) }
        writer.append(attribute: AddressAttribute.local, octets)
        writer.append(attribute: AddressAttribute.address, octets)
        let flags = NetlinkMessage.Flags.request | NetlinkMessage.Flags.acknowledge
        return NetlinkMessage(
            kind: isAdded ? NetlinkMessage.Kind.newAddress : NetlinkMessage.Kind.deleteAddress,
            flags: isAdded ? flags | NetlinkMessage.Flags.create | NetlinkMessage.Flags.exclusive : flags,
            body: writer.bytes
        )
    }

    /// The link that a message tells; nil when it tells none.
    package static func link(_ message: NetlinkMessage) -> HostLink? {
        guard message.kind == NetlinkMessage.Kind.newLink, message.body.count >= linkHeaderBytes else { return nil }
        let (type, index, flags) = message.body.withUnsafeBytes { memory in
            (
                UInt16(littleEndian: memory.loadUnaligned(fromByteOffset: 2, as: UInt16.self)),
                Int32(littleEndian: memory.loadUnaligned(fromByteOffset: 4, as: Int32.self)),
                UInt32(littleEndian: memory.loadUnaligned(fromByteOffset: 8, as: UInt32.self))
            )
        }
        let attributes = NetlinkAttributes(message.body, after: linkHeaderBytes)
        guard let name = attributes.text(LinkAttribute.name) else { return nil }
        let information = attributes.values[LinkAttribute.information].map { NetlinkAttributes($0, after: 0) }
        let kind = information?.text(LinkAttribute.kind)
        let data = information?.values[LinkAttribute.data].map { NetlinkAttributes($0, after: 0) }
        let vlan = kind == "vlan" ? data?.values[LinkAttribute.vlan] : nil
        let parent = attributes.integer(LinkAttribute.parent).map { Int($0) }
        return HostLink(
            index: Int(index),
            name: name,
            hardwareAddress: type == ethernet
                ? attributes.values[LinkAttribute.hardwareAddress].flatMap { HardwareAddress($0) } : nil,
            mtuBytes: Int(attributes.integer(LinkAttribute.mtu) ?? 0),
            isUp: flags & isUp != 0,
            isRunning: flags & isRunning != 0,
            isLoopback: flags & isLoopback != 0,
            kind: kind,
            vlan: vlan.flatMap { $0.count >= 2 ? Int($0[0]) | Int($0[1]) << 8 : nil },
            parentIndex: attributes.values[LinkAttribute.namespaceOfParent] == nil && parent != Int(index)
                ? parent : nil,
            masterIndex: attributes.integer(LinkAttribute.master).map { Int($0) }
        )
    }

    /// The IPv4 address that a message tells; nil when it tells none.
    package static func address(_ message: NetlinkMessage) -> HostLinkAddress? {
        guard message.kind == NetlinkMessage.Kind.newAddress, message.body.count >= addressHeaderBytes,
            message.body[0] == internet
        else { return nil }
        let attributes = NetlinkAttributes(message.body, after: addressHeaderBytes)
        let found = attributes.address(AddressAttribute.local) ?? attributes.address(AddressAttribute.address)
        guard let found else { return nil }
        let index = message.body.withUnsafeBytes { memory in
            UInt32(littleEndian: memory.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
        }
        return HostLinkAddress(
            linkIndex: Int(index),
            address: found,
            prefixLength: Int(message.body[1]),
            isSecondary: message.body[2] & 1 != 0
        )
    }
}

/// What is said about TCP sockets (sock_diag(7)).
package enum SocketMessages {
    private static let internet: UInt8 = 2
    private static let tcp: UInt8 = 6
    private static let identityBytes = 48

    private static func request(states: UInt32, identity: [UInt8]) -> [UInt8] {
        var writer = ByteWriter()
        writer.append(raw: [internet, tcp, 0, 0])
        writer.append(states)
        writer.append(raw: identity)
        return writer.bytes
    }

    /// Asks for all TCP sockets over IPv4.
    package static var getSockets: NetlinkMessage {
        NetlinkMessage(
            kind: NetlinkMessage.Kind.socketsOfFamily,
            flags: NetlinkMessage.Flags.request | NetlinkMessage.Flags.dump,
            body: request(states: .max, identity: [UInt8](repeating: 0, count: identityBytes))
        )
    }

    /// Ends a socket.
    package static func destroy(identity: [UInt8]) -> NetlinkMessage {
        NetlinkMessage(
            kind: NetlinkMessage.Kind.destroySocket,
            flags: NetlinkMessage.Flags.request | NetlinkMessage.Flags.acknowledge,
            body: request(states: .max, identity: identity)
        )
    }

    /// The own address and the identity of the socket that a message tells; nil when it tells none.
    package static func socket(_ message: NetlinkMessage) -> (local: HostAddress, identity: [UInt8])? {
        // Family, state, timer and retransmissions come first; the identity is ports 4, source 16, destination 16,
        // interface 4, cookie 8.
        guard message.kind == NetlinkMessage.Kind.socketsOfFamily, message.body.count >= 4 + identityBytes,
            message.body[0] == internet
        else { return nil }
        let identity = Array(message.body[4..<4 + identityBytes])
        return (HostAddress(bits: identity[4..<8].reduce(0) { $0 << 8 | UInt32($1) }), identity)
    }
}
