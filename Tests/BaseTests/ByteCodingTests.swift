import Bytes
import Testing

/// The writer and the reader of bytes: byte order, and every bound.
struct ByteCodingTests {
    @Test func integersHaveTheirByteOrder() {
        var writer = ByteWriter()
        writer.append(0x0102_0304 as UInt32)
        writer.appendBigEndian(0x0102_0304 as UInt32)
        #expect(writer.bytes == [4, 3, 2, 1, 1, 2, 3, 4])
    }

    @Test func readsWhatWasWritten() throws {
        var writer = ByteWriter()
        writer.append(UInt64.max - 1)
        writer.appendBigEndian(0xbeef as UInt16)
        writer.append(counted: [7, 8, 9])
        writer.append(raw: [1, 2])
        try writer.bytes.withUnsafeBytes { memory in
            var reader = ByteReader(memory)
            let first = try reader.read(UInt64.self)
            let second = try reader.readBigEndian(UInt16.self)
            let third = try reader.readCounted(limit: 3)
            let fourth = try reader.readBytes(2)
            #expect(first == UInt64.max - 1)
            #expect(second == 0xbeef)
            #expect(third == [7, 8, 9])
            #expect(fourth == [1, 2])
            #expect(reader.remaining == 0)
        }
    }

    @Test func refusesToReadPastTheEnd() {
        let bytes: [UInt8] = [1, 2, 3]
        bytes.withUnsafeBytes { memory in
            var reader = ByteReader(memory)
            #expect(throws: ByteFormatError.self) { try reader.read(UInt32.self) }
            #expect(throws: ByteFormatError.self) { try reader.readMemory(4) }
            #expect(throws: ByteFormatError.self) { try reader.readMemory(-1) }
            // A refused read moves nothing: what is there can still be had.
            #expect(reader.offset == 0)
            #expect((try? reader.readBytes(3)) == [1, 2, 3])
        }
    }

    @Test func refusesCountsThatLie() {
        var writer = ByteWriter()
        writer.append(counted: [1, 2, 3, 4])
        writer.bytes.withUnsafeBytes { memory in
            var reader = ByteReader(memory)
            #expect(throws: ByteFormatError.self) { try reader.readCounted(limit: 3) }
        }
        let short: [UInt8] = [200, 0, 0, 0, 1]
        short.withUnsafeBytes { memory in
            var reader = ByteReader(memory)
            #expect(throws: ByteFormatError.self) { try reader.readCounted(limit: 1000) }
        }
    }

    @Test func checksumsSeeOneBit() {
        var block = [UInt8](repeating: 0, count: 8192)
        let clean = checksums(of: block)
        #expect(clean[0] == clean[1])
        block[5000] ^= 1
        let changed = checksums(of: block)
        #expect(changed[0] == clean[0])
        #expect(changed[1] != clean[1])
        #expect(changed[1] == block.withUnsafeBytes { Checksum.block(UnsafeRawBufferPointer(rebasing: $0[4096...])) })
    }

    private func checksums(of bytes: [UInt8]) -> [UInt32] {
        var sums = [UInt32](repeating: 0, count: 2)
        bytes.withUnsafeBytes { memory in
            sums.withUnsafeMutableBufferPointer { Checksum.blocks(memory, blockSize: 4096, into: $0) }
        }
        return sums
    }
}
