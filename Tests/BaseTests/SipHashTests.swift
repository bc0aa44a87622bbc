import Bytes
import Testing

/// SipHash-2-4 against the vectors of Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012): the key is the
/// bytes 00 to 0f, the input of length n is the bytes 00 to n - 1.
struct SipHashTests {
    private static let key = SipHashKey(first: 0x0706_0504_0302_0100, second: 0x0f0e_0d0c_0b0a_0908)

    private static func hash(countOfBytes: Int) -> UInt64 {
        let input = (0..<countOfBytes).map { UInt8($0) }
        return input.withUnsafeBytes { SipHash.hash($0, key: key) }
    }

    @Test(arguments: [
        (0, 0x726f_db47_dd0e_0e31 as UInt64),
        (1, 0x74f8_39c5_93dc_67fd),
        (15, 0xa129_ca61_49be_45e5),
    ])
    func agreesWithThePaper(countOfBytes: Int, expected: UInt64) {
        #expect(Self.hash(countOfBytes: countOfBytes) == expected)
    }

    /// The form for whole words and the form for bytes are one function, so that keys made by either agree.
    @Test func wordsAndBytesAgree() {
        let words: InlineArray<3, UInt64> = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908, 0x1716_1514_1312_1110]
        #expect(SipHash.hash(words, key: Self.key) == Self.hash(countOfBytes: 24))
    }

    /// No two of the 64 inputs may collide, and another key gives another hash.
    @Test func lengthsAndKeysMatter() {
        let hashes = Set((0..<64).map(Self.hash(countOfBytes:)))
        #expect(hashes.count == 64)
        let other = SipHashKey(first: Self.key.second, second: Self.key.first)
        let empty: [UInt8] = []
        #expect(empty.withUnsafeBytes { SipHash.hash($0, key: other) } != Self.hash(countOfBytes: 0))
    }
}
