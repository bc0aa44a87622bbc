package import Bytes
package import HostNetwork

/// What moves with an SVM beside its volumes, as bytes: version 4 | counted duplicate request cache | count 4 | connections
/// of 12 bytes (address 4, port 2, client's address 4, port 2) | XXH3 8.
package struct ProtocolState: Equatable, Sendable {
    /// The duplicate request cache, in its own format.
    package var replies: [UInt8]
    /// The clients' connections to addresses that move.
    package var connections: [TransportConnection]

    private static let formatVersion: UInt32 = 2
    private static let connectionsMax = 1 << 20

    /// A state out of its parts.
    package init(replies: [UInt8], connections: [TransportConnection]) {
        self.replies = replies
        self.connections = connections
    }

    /// The bytes.
    package var bytes: [UInt8] {
        var writer = ByteWriter(capacity: 32 + replies.count + 12 * connections.count)
        writer.append(Self.formatVersion)
        writer.append(counted: replies)
        writer.append(UInt32(connections.count))
        for connection in connections { connection.write(to: &writer) }
        writer.append(Checksum.xxh3(writer.bytes))
        return writer.bytes
    }

    /// Reads the bytes. Those of version 1, of a cluster that knows no connections, are the cache alone.
    package init(_ bytes: [UInt8]) throws(ByteFormatError) {
        let outcome = bytes.withUnsafeBytes { memory in
            Result { () throws(ByteFormatError) in try Self.decode(memory, bytes) }
        }
        self = try outcome.get()
    }

    private static func decode(
        _ memory: UnsafeRawBufferPointer,
        _ bytes: [UInt8]
    ) throws(ByteFormatError) -> ProtocolState {
        guard memory.count >= 16 else { throw ByteFormatError("protocol state of \(memory.count) bytes") }
        let body = UnsafeRawBufferPointer(rebasing: memory[0..<memory.count - 8])
        let checksum = UInt64(littleEndian: memory.loadUnaligned(fromByteOffset: body.count, as: UInt64.self))
        guard Checksum.xxh3(body) == checksum else { throw ByteFormatError("protocol state with a wrong checksum") }
        var reader = ByteReader(body)
        let version = try reader.read(UInt32.self)
        if version == 1 { return ProtocolState(replies: bytes, connections: []) }
        guard version == formatVersion else { throw ByteFormatError("protocol state of version \(version)") }
        let replies = try reader.readCounted(limit: Int(UInt32.max))
        let count = Int(try reader.read(UInt32.self))
        guard count <= connectionsMax else { throw ByteFormatError("\(count) connections") }
        var connections: [TransportConnection] = []
        for _ in 0..<count { connections.append(try TransportConnection(from: &reader)) }
        return ProtocolState(replies: replies, connections: connections)
    }
}

extension TransportConnection {
    fileprivate func write(to writer: inout ByteWriter) {
        writer.append(local.bits)
        writer.append(localPort)
        writer.append(remote.bits)
        writer.append(remotePort)
    }

    fileprivate init(from reader: inout ByteReader) throws(ByteFormatError) {
        self.init(
            local: HostAddress(bits: try reader.read()),
            localPort: try reader.read(),
            remote: HostAddress(bits: try reader.read()),
            remotePort: try reader.read()
        )
    }
}
