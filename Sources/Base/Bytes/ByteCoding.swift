/// A reader ran out of bytes or met a value that the format does not allow.
package struct ByteFormatError: Error, Equatable, CustomStringConvertible {
    /// What was expected and what was found.
    package let description: String

    /// Makes an error with its explanation.
    package init(_ description: String) { self.description = description }
}

/// Appends fixed-width little- or big-endian integers and byte runs to an array.
///
/// Big-endian integers are for keys (their byte order is their sort order), little-endian ones for values.
package struct ByteWriter: Sendable {
    /// What has been written so far.
    package var bytes: [UInt8]

    /// An empty writer that has room for `capacity` bytes.
    @inlinable
    package init(capacity: Int = 64) {
        bytes = []
        bytes.reserveCapacity(capacity)
    }

    /// Appends an integer, least significant byte first.
    @inlinable
    package mutating func append<Value: FixedWidthInteger>(_ value: Value) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    /// Appends an integer, most significant byte first.
    @inlinable
    package mutating func appendBigEndian<Value: FixedWidthInteger>(_ value: Value) {
        withUnsafeBytes(of: value.bigEndian) { bytes.append(contentsOf: $0) }
    }

    /// Appends bytes as they are.
    @inlinable
    package mutating func append(raw source: some Sequence<UInt8>) { bytes.append(contentsOf: source) }

    /// Appends raw memory as it is.
    @inlinable
    package mutating func append(raw source: UnsafeRawBufferPointer) { bytes.append(contentsOf: source) }

    /// Appends `count` bytes that `fill` writes where they will lie; none when it throws.
    @inlinable
    package mutating func append<Failure: Error>(
        count: Int,
        fill: (UnsafeMutableRawBufferPointer) throws(Failure) -> Void
    ) throws(Failure) {
        try bytes.append(addingCapacity: count) { (span: inout OutputSpan<UInt8>) throws(Failure) in
            try span.withUnsafeMutableBufferPointer { (memory, initializedCount) throws(Failure) in
                try fill(UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(memory)[..<count]))
                initializedCount = count
            }
        }
    }

    /// Appends a 32-bit count (little-endian) and that many bytes.
    @inlinable
    package mutating func append(counted source: [UInt8]) {
        append(UInt32(source.count))
        bytes.append(contentsOf: source)
    }

    /// Forgets what was written and keeps the room.
    package mutating func removeAll() { bytes.removeAll(keepingCapacity: true) }
}

/// Reads what a `ByteWriter` wrote; every read checks the bounds.
///
/// The memory must outlive the reader: use it inside `withUnsafeBytes`.
package struct ByteReader {
    @usableFromInline
    let memory: UnsafeRawBufferPointer
    /// Bytes already read.
    package var offset = 0

    /// Reads `memory` from its first byte.
    @inlinable
    package init(_ memory: UnsafeRawBufferPointer) { self.memory = memory }

    /// Bytes not yet read.
    @inlinable
    package var remaining: Int { memory.count - offset }

    /// Reads an integer, least significant byte first.
    @inlinable
    package mutating func read<Value: FixedWidthInteger>(_ type: Value.Type = Value.self) throws(ByteFormatError)
        -> Value
    {
        Value(littleEndian: try readRaw())
    }

    /// Reads an integer, most significant byte first.
    @inlinable
    package mutating func readBigEndian<Value: FixedWidthInteger>(
        _ type: Value.Type = Value.self
    ) throws(ByteFormatError) -> Value {
        Value(bigEndian: try readRaw())
    }

    /// Reads `count` bytes in place.
    @inlinable
    package mutating func readMemory(_ count: Int) throws(ByteFormatError) -> UnsafeRawBufferPointer {
        guard count >= 0, remaining >= count else { throw shortage(count) }
        let slice = UnsafeRawBufferPointer(rebasing: memory[offset..<offset + count])
        offset += count
        return slice
    }

    /// Reads `count` bytes.
    @inlinable
    package mutating func readBytes(_ count: Int) throws(ByteFormatError) -> [UInt8] { [UInt8](try readMemory(count)) }

    /// Reads a 32-bit count and that many bytes; more than `limit` is an error.
    package mutating func readCounted(limit: Int) throws(ByteFormatError) -> [UInt8] {
        let count = Int(try read(UInt32.self))
        guard count <= limit else { throw ByteFormatError("a count of \(count) is above the limit of \(limit)") }
        return try readBytes(count)
    }

    @inlinable
    mutating func readRaw<Value: FixedWidthInteger>() throws(ByteFormatError) -> Value {
        let width = MemoryLayout<Value>.size
        guard remaining >= width else { throw shortage(width) }
        var value: Value = 0
        withUnsafeMutableBytes(of: &value) {
            $0.copyMemory(from: UnsafeRawBufferPointer(rebasing: memory[offset..<offset + width]))
        }
        offset += width
        return value
    }

    @usableFromInline
    func shortage(_ wanted: Int) -> ByteFormatError {
        ByteFormatError("\(wanted) bytes wanted at offset \(offset), \(remaining) left")
    }
}
