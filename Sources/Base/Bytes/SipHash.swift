/// A 128-bit key for `SipHash`.
package struct SipHashKey: Hashable, Sendable {
    /// The first eight bytes of the key, little-endian.
    package let first: UInt64
    /// The last eight bytes of the key, little-endian.
    package let second: UInt64

    /// Makes a key out of its halves.
    package init(first: UInt64, second: UInt64) {
        self.first = first
        self.second = second
    }
}

/// SipHash-2-4 (Aumasson and Bernstein, 2012): a keyed hash for short inputs that an attacker may choose.
package enum SipHash {
    /// The hash of whole 64-bit words, as if they were written little-endian one after another.
    @inlinable
    package static func hash(_ words: InlineArray<3, UInt64>, key: SipHashKey) -> UInt64 {
        var state = State(key: key)
        for index in 0..<3 { state.compress(words[index]) }
        return state.finish(byteCount: 24)
    }

    /// The hash of bytes.
    package static func hash(_ bytes: UnsafeRawBufferPointer, key: SipHashKey) -> UInt64 {
        var state = State(key: key)
        let wordCount = bytes.count / 8
        for index in 0..<wordCount {
            state.compress(UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self)))
        }
        var tail: UInt64 = 0
        for index in (wordCount * 8)..<bytes.count { tail |= UInt64(bytes[index]) << UInt64((index & 7) * 8) }
        return state.finish(byteCount: bytes.count, tail: tail)
    }

    @usableFromInline
    struct State {
        @usableFromInline var v0: UInt64
        @usableFromInline var v1: UInt64
        @usableFromInline var v2: UInt64
        @usableFromInline var v3: UInt64

        @inlinable
        init(key: SipHashKey) {
            v0 = 0x736f_6d65_7073_6575 ^ key.first
            v1 = 0x646f_7261_6e64_6f6d ^ key.second
            v2 = 0x6c79_6765_6e65_7261 ^ key.first
            v3 = 0x7465_6462_7974_6573 ^ key.second
        }

        @inlinable
        mutating func round() {
            v0 &+= v1
            v1 = (v1 << 13 | v1 >> 51) ^ v0
            v0 = v0 << 32 | v0 >> 32
            v2 &+= v3
            v3 = (v3 << 16 | v3 >> 48) ^ v2
            v0 &+= v3
            v3 = (v3 << 21 | v3 >> 43) ^ v0
            v2 &+= v1
            v1 = (v1 << 17 | v1 >> 47) ^ v2
            v2 = v2 << 32 | v2 >> 32
        }

        @inlinable
        mutating func compress(_ word: UInt64) {
            v3 ^= word
            round()
            round()
            v0 ^= word
        }

        @inlinable
        mutating func finish(byteCount: Int, tail: UInt64 = 0) -> UInt64 {
            compress(UInt64(byteCount & 0xff) << 56 | tail)
            v2 ^= 0xff
            for _ in 0..<4 { round() }
            return v0 ^ v1 ^ v2 ^ v3
        }
    }
}
