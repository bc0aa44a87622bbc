package import Environment
import FileIO

/// A token bucket: lets a number of bytes a second through, and no more than a tenth of a second's worth at once.
package struct Throttle {
    private let bytesPerSecond: UInt64
    private let environment: Environment
    /// When the bytes that were let through so far will have been paid for.
    private var paidUntilNanoseconds: UInt64

    /// Lets `bytesPerSecond` through; 0 is unlimited.
    package init(bytesPerSecond: UInt64, environment: Environment) {
        self.bytesPerSecond = bytesPerSecond
        self.environment = environment
        paidUntilNanoseconds = environment.monotonicNanoseconds()
    }

    /// Notes `bytes` and returns the nanoseconds to wait before sending them.
    package mutating func delayNanoseconds(for bytes: Int) -> UInt64 {
        guard bytesPerSecond > 0 else { return 0 }
        let now = environment.monotonicNanoseconds()
        let burst: UInt64 = 100_000_000
        paidUntilNanoseconds = max(paidUntilNanoseconds, now > burst ? now - burst : 0)
        let delay = paidUntilNanoseconds > now ? paidUntilNanoseconds - now : 0
        paidUntilNanoseconds += UInt64(Double(bytes) / Double(bytesPerSecond) * 1e9)
        return delay
    }

    /// Waits until `bytes` may be sent, or `isEnded` says that nobody wants them any more.
    package mutating func wait(for bytes: Int, isEnded: () -> Bool) {
        var milliseconds = delayNanoseconds(for: bytes) / 1_000_000
        while milliseconds > 0 && !isEnded() {
            let step = min(milliseconds, 50)
            SystemThread.pause(milliseconds: UInt32(step))
            milliseconds -= step
        }
    }
}
