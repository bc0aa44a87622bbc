package import Bytes

/// The protocol states of several nodes as one attachment: count 4 | (length 8 | state)*, integers little-endian.
package enum ProtocolStateParts {
    /// Puts states together.
    package static func joined(_ parts: [[UInt8]]) -> [UInt8] {
        var writer = ByteWriter(capacity: parts.reduce(4) { $0 + 8 + $1.count })
        writer.append(UInt32(parts.count))
        for part in parts {
            writer.append(UInt64(part.count))
            writer.append(raw: part)
        }
        return writer.bytes
    }

    /// Takes them apart; none of no bytes.
    package static func parts(of bytes: [UInt8]) throws(ByteFormatError) -> [[UInt8]] {
        if bytes.isEmpty { return [] }
        let outcome = bytes.withUnsafeBytes { memory in
            Result { () throws(ByteFormatError) in try read(memory) }
        }
        return try outcome.get()
    }

    private static func read(_ memory: UnsafeRawBufferPointer) throws(ByteFormatError) -> [[UInt8]] {
        var reader = ByteReader(memory)
        var parts: [[UInt8]] = []
        for _ in 0..<(try reader.read(UInt32.self)) {
            let length = try reader.read(UInt64.self)
            guard length <= UInt64(reader.remaining) else {
                throw ByteFormatError("a protocol state of \(length) bytes in \(reader.remaining)")
            }
            parts.append(try reader.readBytes(Int(length)))
        }
        return parts
    }
}
