package import NIOCore

extension ByteBuffer {
    /// Writes an unsigned 32-bit integer (RFC 4506, section 4.2).
    package mutating func writeXDR(_ value: UInt32) { writeInteger(value) }

    /// Writes an unsigned hyper integer (section 4.5).
    package mutating func writeXDR(_ value: UInt64) { writeInteger(value) }

    /// Writes a boolean (section 4.4).
    package mutating func writeXDR(_ value: Bool) { writeInteger(value ? 1 : 0 as UInt32) }

    /// Writes opaque bytes with their count before them and their padding after them (section 4.10).
    package mutating func writeXDROpaque(_ bytes: some Collection<UInt8>) {
        writeInteger(UInt32(bytes.count))
        writeBytes(bytes)
        writeRepeatingByte(0, count: -bytes.count & 3)
    }

    /// Writes zero words.
    package mutating func writeXDRZeros(words: Int) { writeRepeatingByte(0, count: words * 4) }
}
