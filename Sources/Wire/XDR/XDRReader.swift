/// Bytes that are not the XDR (RFC 4506) that was expected.
package enum XDRError: Error, Equatable, Sendable {
    /// Fewer bytes than the type has.
    case truncated
    /// A count above its limit.
    case tooLong
    /// A value outside its type.
    case invalid
}

/// Reads XDR from memory that outlives it; every read checks the bounds.
package struct XDRReader {
    private let memory: UnsafeRawBufferPointer
    /// Bytes already read.
    package private(set) var offset = 0

    /// Reads from the first byte.
    package init(_ memory: UnsafeRawBufferPointer) { self.memory = memory }

    /// Bytes not yet read.
    package var remaining: Int { memory.count - offset }

    /// An unsigned 32-bit integer (section 4.2).
    package mutating func uint32() throws(XDRError) -> UInt32 {
        guard remaining >= 4 else { throw .truncated }
        let value = memory.loadUnaligned(fromByteOffset: offset, as: UInt32.self)
        offset += 4
        return UInt32(bigEndian: value)
    }

    /// An unsigned hyper integer (section 4.5).
    package mutating func uint64() throws(XDRError) -> UInt64 {
        guard remaining >= 8 else { throw .truncated }
        let value = memory.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
        offset += 8
        return UInt64(bigEndian: value)
    }

    /// A boolean (section 4.4).
    package mutating func bool() throws(XDRError) -> Bool {
        switch try uint32() {
        case 0: return false
        case 1: return true
        default: throw .invalid
        }
    }

    /// Opaque bytes of a fixed count, with their padding (section 4.9).
    package mutating func opaque(count: Int) throws(XDRError) -> UnsafeRawBufferPointer {
        let padded = (count + 3) & ~3
        guard count >= 0, remaining >= padded else { throw .truncated }
        let bytes = UnsafeRawBufferPointer(rebasing: memory[offset..<offset + count])
        offset += padded
        return bytes
    }

    /// Opaque bytes with their count before them (section 4.10); more than `limit` is an error.
    package mutating func opaque(limit: Int) throws(XDRError) -> UnsafeRawBufferPointer {
        let count = try uint32()
        guard count <= UInt32(limit) else { throw .tooLong }
        return try opaque(count: Int(count))
    }

    /// Everything from a place that was read already up to here.
    package func bytes(from start: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: memory[start..<offset])
    }

    /// Everything that has not been read.
    package var rest: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: memory[offset...]) }
}
