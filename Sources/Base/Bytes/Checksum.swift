internal import CLinux

/// Checksums and hashes over bytes (XXH3, see https://xxhash.com).
package enum Checksum {
    /// The 64-bit XXH3 of a range of memory.
    package static func xxh3(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
        godwit_xxh3_64(bytes.baseAddress, bytes.count)
    }

    /// The 64-bit XXH3 of a range of memory under a seed.
    package static func xxh3(_ bytes: UnsafeRawBufferPointer, seed: UInt64) -> UInt64 {
        godwit_xxh3_64_seeded(bytes.baseAddress, bytes.count, seed)
    }

    /// The 64-bit XXH3 of an array.
    package static func xxh3(_ bytes: [UInt8], seed: UInt64 = 0) -> UInt64 {
        bytes.withUnsafeBytes { xxh3($0, seed: seed) }
    }

    /// The checksum of one block of a file: the low half of its XXH3.
    package static func block(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
        UInt32(truncatingIfNeeded: godwit_xxh3_64(bytes.baseAddress, bytes.count))
    }

    /// One checksum for each `blockSize` bytes of `bytes`, written to `checksums`.
    ///
    /// `bytes.count` is a multiple of `blockSize`, and `checksums` has room for every block.
    package static func blocks(
        _ bytes: UnsafeRawBufferPointer,
        blockSize: Int,
        into checksums: UnsafeMutableBufferPointer<UInt32>
    ) {
        precondition(bytes.count % blockSize == 0 && checksums.count >= bytes.count / blockSize)
        godwit_block_checksums(bytes.baseAddress, blockSize, bytes.count / blockSize, checksums.baseAddress)
    }
}
