import Bytes
import Testing

/// Checksums of many blocks go through other instructions than that of one block, and must be the same.
struct ChecksumTests {
    @Test(arguments: [1, 2, 3, 64, 257])
    func blocksHaveTheChecksumOfOneBlock(count: Int) {
        let blockSize = 4096
        var state: UInt64 = UInt64(count)
        let bytes = (0..<count * blockSize).map { _ -> UInt8 in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return UInt8(state >> 56)
        }
        let together = [UInt32](unsafeUninitializedCapacity: count) { buffer, initialized in
            bytes.withUnsafeBytes { Checksum.blocks($0, blockSize: blockSize, into: buffer) }
            initialized = count
        }
        let alone = bytes.withUnsafeBytes { bytes in
            (0..<count).map { index in
                Checksum.block(UnsafeRawBufferPointer(rebasing: bytes[index * blockSize..<(index + 1) * blockSize]))
            }
        }
        #expect(together == alone)
        #expect(Set(alone).count == count)
    }

    /// XXH3 of nothing, as the specification gives it.
    @Test func knownValue() { #expect(Checksum.xxh3([]) == 0x2d06_8005_38d3_94c2) }
}
