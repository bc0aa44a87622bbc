public import Foundation
import Glibc

/// Processor time that programs have used, kernel threads not counted: those work for whoever is measured.
public struct UserTime: Sendable {
    /// Of all programs, in seconds.
    let all: Double
    /// Of the measured server and of the clients that have ended.
    let own: Double
    let moment: Double

    /// Reads the clocks; `server` is the process that is being measured, 0 for none.
    public init(server: pid_t) {
        let ticksPerSecond = Double(sysconf(Int32(_SC_CLK_TCK)))
        let total = (try? String(contentsOfFile: "/proc/stat", encoding: .utf8)) ?? ""
        // cpu user nice system ...
        let fields = total.prefix { $0 != "\n" }.split(separator: " ").dropFirst().prefix(2)
        all = fields.compactMap { Double($0) }.reduce(0, +) / ticksPerSecond
        var ownSeconds = 0.0
        if server != 0, let text = try? String(contentsOfFile: "/proc/\(server)/stat", encoding: .utf8) {
            // The name in parentheses may hold spaces; utime is the 12th field after it.
            let rest = text[(text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
            if rest.count > 12 { ownSeconds += (Double(rest[12]) ?? 0) / ticksPerSecond }
        }
        var usage = rusage()
        getrusage(RUSAGE_CHILDREN.rawValue, &usage)
        ownSeconds += Double(usage.ru_utime.tv_sec) + Double(usage.ru_utime.tv_usec) / 1e6
        own = ownSeconds
        moment = monotonicSeconds()
    }

    /// Processors that other programs have used since an earlier reading.
    public func foreignProcessors(since earlier: UserTime) -> Double {
        let elapsed = max(moment - earlier.moment, 0.001)
        return max(0, (all - earlier.all) - (own - earlier.own)) / elapsed
    }
}

/// What is measured while others use the processors says more about them: a fifth of a processor is the limit.
public let foreignProcessorsMax = 0.2

/// Waits until other programs leave the processors alone; false when they do not within the time.
@discardableResult
public func waitUntilQuiet(seconds: Double) -> Bool {
    let deadline = monotonicSeconds() + seconds
    while true {
        let before = UserTime(server: 0)
        usleep(250_000)
        if UserTime(server: 0).foreignProcessors(since: before) <= foreignProcessorsMax { return true }
        if monotonicSeconds() >= deadline { return false }
    }
}
