package import Environment

/// Growing waits with jitter, so that many that wait for the same thing do not all come at once.
package struct BackOff: Equatable, Sendable {
    private let minMilliseconds: UInt64
    private let maxMilliseconds: UInt64
    private var nextMilliseconds: UInt64

    /// Begins with the shortest wait.
    package init(minMilliseconds: UInt64, maxMilliseconds: UInt64) {
        self.minMilliseconds = minMilliseconds
        self.maxMilliseconds = maxMilliseconds
        nextMilliseconds = minMilliseconds
    }

    /// The next wait: between half and the whole of a time that doubles up to the longest.
    package mutating func next(_ environment: Environment) -> UInt64 {
        let whole = max(1, nextMilliseconds)
        nextMilliseconds = min(maxMilliseconds, nextMilliseconds * 2)
        return whole / 2 + environment.randomBits() % (whole - whole / 2 + 1)
    }

    /// Begins anew: the last try succeeded.
    package mutating func reset() { nextMilliseconds = minMilliseconds }
}
