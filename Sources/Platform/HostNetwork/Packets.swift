internal import Bytes

/// An ARP packet for IPv4 over Ethernet (RFC 826), with its frame.
package struct ARPPacket: Equatable, Sendable {
    /// What it is.
    package enum Operation: UInt16, Sendable {
        case request = 1
        case reply = 2
    }

    /// The EtherType.
    package static let etherType: UInt16 = 0x0806

    package var operation: Operation
    package var senderHardware: HardwareAddress
    package var sender: HostAddress
    package var targetHardware: HardwareAddress
    package var target: HostAddress

    /// A packet out of its fields.
    package init(
        _ operation: Operation,
        senderHardware: HardwareAddress,
        sender: HostAddress,
        targetHardware: HardwareAddress = .unknown,
        target: HostAddress
    ) {
        self.operation = operation
        self.senderHardware = senderHardware
        self.sender = sender
        self.targetHardware = targetHardware
        self.target = target
    }

    /// The announcement of an address (RFC 5227, section 3): a request for what the sender has itself.
    package static func announcement(of address: HostAddress, at hardware: HardwareAddress) -> ARPPacket {
        ARPPacket(.request, senderHardware: hardware, sender: address, target: address)
    }

    /// The Ethernet frame that carries it, to everybody on the link.
    package var frame: [UInt8] {
        var writer = ByteWriter(capacity: 42)
        writer.append(raw: HardwareAddress.broadcast.bytes)
        writer.append(raw: senderHardware.bytes)
        writer.appendBigEndian(Self.etherType)
        // Ethernet, IPv4, and the lengths of their addresses.
        writer.appendBigEndian(UInt16(1))
        writer.appendBigEndian(UInt16(0x0800))
        writer.append(raw: [6, 4])
        writer.appendBigEndian(operation.rawValue)
        writer.append(raw: senderHardware.bytes)
        writer.appendBigEndian(sender.bits)
        writer.append(raw: targetHardware.bytes)
        writer.appendBigEndian(target.bits)
        return writer.bytes
    }

    /// Reads a frame; nil when it is no ARP packet for IPv4 over Ethernet.
    package init?(frame: UnsafeRawBufferPointer) {
        var reader = ByteReader(frame)
        do throws(ByteFormatError) {
            _ = try reader.readMemory(12)
            guard try reader.readBigEndian(UInt16.self) == Self.etherType,
                try reader.readBytes(6) == [0, 1, 8, 0, 6, 4],
                let operation = Operation(rawValue: try reader.readBigEndian()),
                let senderHardware = HardwareAddress(try reader.readBytes(6))
            else { return nil }
            self.operation = operation
            self.senderHardware = senderHardware
            sender = HostAddress(bits: try reader.readBigEndian())
            guard let targetHardware = HardwareAddress(try reader.readBytes(6)) else { return nil }
            self.targetHardware = targetHardware
            target = HostAddress(bits: try reader.readBigEndian())
        } catch {
            return nil
        }
    }
}

/// An IPv4 packet with a TCP segment without data: an ACK whose numbers fit no connection.
package enum TicklePacket {
    private static let headerBytes = 20
    private static let acknowledge: UInt8 = 0x10

    /// The packet from the LIF to the client of a connection.
    package static func bytes(for connection: TransportConnection) -> [UInt8] {
        var segment = ByteWriter(capacity: headerBytes)
        segment.appendBigEndian(connection.localPort)
        segment.appendBigEndian(connection.remotePort)
        // Neither number is known here. A client answers an ACK that is outside of its window with the right ones.
        segment.appendBigEndian(UInt32(0))
        segment.appendBigEndian(UInt32(0))
        segment.append(raw: [UInt8(headerBytes / 4) << 4, acknowledge])
        segment.appendBigEndian(UInt16(1024))
        segment.append(raw: [0, 0, 0, 0])
        var pseudo = ByteWriter(capacity: 32)
        pseudo.appendBigEndian(connection.local.bits)
        pseudo.appendBigEndian(connection.remote.bits)
        pseudo.append(raw: [0, 6])
        pseudo.appendBigEndian(UInt16(segment.bytes.count))
        let sum = checksum(pseudo.bytes + segment.bytes)
        segment.bytes[16] = UInt8(sum >> 8)
        segment.bytes[17] = UInt8(sum & 0xff)

        var packet = ByteWriter(capacity: 2 * headerBytes)
        packet.append(raw: [0x45, 0])
        packet.appendBigEndian(UInt16(headerBytes + segment.bytes.count))
        // Identification 0, don't fragment, 64 hops, TCP, and the place of the checksum.
        packet.append(raw: [0, 0, 0x40, 0, 64, 6, 0, 0])
        packet.appendBigEndian(connection.local.bits)
        packet.appendBigEndian(connection.remote.bits)
        let headerSum = checksum(packet.bytes)
        packet.bytes[10] = UInt8(headerSum >> 8)
        packet.bytes[11] = UInt8(headerSum & 0xff)
        return packet.bytes + segment.bytes
    }

    /// The checksum of the Internet (RFC 1071) of an even number of bytes.
    package static func checksum(_ bytes: [UInt8]) -> UInt16 {
        var sum: UInt32 = 0
        for index in stride(from: 0, to: bytes.count - 1, by: 2) {
            sum += UInt32(bytes[index]) << 8 | UInt32(bytes[index + 1])
        }
        while sum > 0xffff { sum = sum & 0xffff + sum >> 16 }
        return ~UInt16(sum)
    }
}
