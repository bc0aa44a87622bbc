#if canImport(Glibc)
    import Glibc
#endif

/// Everything that a decision may want from the world outside: the time and chance.
///
/// Production code takes an `Environment` and never reads a clock or a random source itself, so that the
/// simulator can run the same code on virtual time with seeded randomness.
package struct Environment: Sendable {
    /// Nanoseconds of a clock that never jumps; only differences have a meaning.
    package let monotonicNanoseconds: @Sendable () -> UInt64
    /// Nanoseconds since 1970-01-01 00:00:00 UTC; may jump.
    package let wallClockNanoseconds: @Sendable () -> Int64
    /// 64 random bits.
    package let randomBits: @Sendable () -> UInt64

    /// Makes an environment out of its three sources.
    package init(
        monotonicNanoseconds: @escaping @Sendable () -> UInt64,
        wallClockNanoseconds: @escaping @Sendable () -> Int64,
        randomBits: @escaping @Sendable () -> UInt64
    ) {
        self.monotonicNanoseconds = monotonicNanoseconds
        self.wallClockNanoseconds = wallClockNanoseconds
        self.randomBits = randomBits
    }

    /// The machine's own clocks and its random generator.
    package static let system = Environment(
        monotonicNanoseconds: {
            var time = timespec()
            clock_gettime(CLOCK_MONOTONIC, &time)
            return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
        },
        wallClockNanoseconds: {
            var time = timespec()
            clock_gettime(CLOCK_REALTIME, &time)
            return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
        },
        randomBits: {
            var generator = SystemRandomNumberGenerator()
            return generator.next()
        }
    )
}
