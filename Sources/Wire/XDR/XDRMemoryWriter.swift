/// Writes XDR (RFC 4506) into memory of a known size, for results of very many small fields. Going beyond the memory is a
/// mistake of the program and stops it.
package struct XDRMemoryWriter {
    @usableFromInline let memory: UnsafeMutableRawBufferPointer
    @usableFromInline var position = 0

    /// Writes from the first byte.
    @inlinable
    package init(_ memory: UnsafeMutableRawBufferPointer) { self.memory = memory }

    /// Bytes that were written.
    @inlinable package var count: Int { position }

    /// Begins again with the first byte.
    @inlinable
    package mutating func clear() { position = 0 }

    @inlinable @inline(__always)
    mutating func take(_ count: Int) -> Int {
        precondition(memory.count - position >= count, "\(count) bytes beyond the memory of a result")
        defer { position += count }
        return position
    }

    /// An unsigned 32-bit integer (section 4.2).
    @inlinable @inline(__always)
    package mutating func write(_ value: UInt32) {
        memory.storeBytes(of: value.bigEndian, toByteOffset: take(4), as: UInt32.self)
    }

    /// An unsigned hyper integer (section 4.5).
    @inlinable @inline(__always)
    package mutating func write(_ value: UInt64) {
        memory.storeBytes(of: value.bigEndian, toByteOffset: take(8), as: UInt64.self)
    }

    /// Bytes that are XDR already.
    @inlinable @inline(__always)
    package mutating func write(raw bytes: UnsafeRawBufferPointer) {
        let start = take(bytes.count)
        UnsafeMutableRawBufferPointer(rebasing: memory[start..<start + bytes.count]).copyMemory(from: bytes)
    }

    /// Opaque bytes with their count before them and their padding after them (section 4.10).
    @inlinable @inline(__always)
    package mutating func write(opaque bytes: UnsafeRawBufferPointer) {
        write(UInt32(bytes.count))
        write(raw: bytes)
        for _ in 0..<(-bytes.count & 3) { memory[take(1)] = 0 }
    }
}
