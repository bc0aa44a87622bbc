/// A seeded source of chance (SplitMix64): the same seed gives the same numbers on every machine.
struct Generator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    /// 64 random bits.
    mutating func bits() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
        return value ^ value >> 31
    }

    /// A number below `bound`, which is at least 1.
    mutating func below(_ bound: Int) -> Int { Int(bits().multipliedFullWidth(by: UInt64(bound)).high) }

    /// A number of a closed range.
    mutating func within(_ range: ClosedRange<UInt64>) -> UInt64 {
        let width = range.upperBound - range.lowerBound
        return width == .max ? bits() : range.lowerBound + bits().multipliedFullWidth(by: width + 1).high
    }

    /// True once in `count` times on average.
    mutating func oneIn(_ count: Int) -> Bool { below(count) == 0 }

    /// A time of which short ones are as likely as long ones, decade by decade.
    mutating func spread(_ range: ClosedRange<UInt64>) -> UInt64 {
        let low = max(1, range.lowerBound)
        let doublings = UInt64(63 - (range.upperBound / low).leadingZeroBitCount)
        let base = low << within(0...doublings)
        return min(range.upperBound, base + within(0...base))
    }

    /// Another generator whose numbers have nothing to do with those of this one.
    mutating func split() -> Generator { Generator(seed: bits()) }
}
