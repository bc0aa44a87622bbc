import Environment
import FileIO
import VolumeEngine

/// The commits of a volume on their way to its mirror, bounded; the volume delivers, the source's session takes.
final class CommitQueue: CommitMirror, @unchecked Sendable {
    // Proof of Sendable: every variable is touched inside `monitor` only.

    private let monitor = Monitor()
    private let environment: Environment
    private var commits: [(number: UInt64, records: [UInt8])] = []
    private var first = 0
    private var queuedBytes = 0
    private var failure: StorageError?
    private var deliveredNumber: UInt64 = 0
    private var confirmedNumber: UInt64 = 0
    /// When the confirmations last moved on, or the first commit came that waits for one.
    private var progressNanoseconds: UInt64 = 0

    init(environment: Environment) { self.environment = environment }

    func deliver(commit: UInt64, records: [UInt8]) {
        monitor.locked {
            guard failure == nil else { return }
            if confirmedNumber == deliveredNumber { progressNanoseconds = environment.monotonicNanoseconds() }
            deliveredNumber = commit
            commits.append((commit, records))
            queuedBytes += records.count
            if queuedBytes > FrameLimits.commitBacklogBytesMax {
                end(
                    StorageError(
                        .conflict,
                        "the mirror fell \(queuedBytes >> 20) MiB behind the clients' writes",
                        remedy:
                            "transfer the volume once more and start the synchronous stream again, or lower the load"
                    )
                )
            }
            monitor.signal()
        }
    }

    func fail(_ error: StorageError) { monitor.locked { end(error) } }

    private func end(_ error: StorageError) {
        guard failure == nil else { return }
        failure = error
        commits = []
        first = 0
        queuedBytes = 0
        monitor.broadcast()
    }

    /// Throws what ended the queue, if something did.
    func check() throws(StorageError) {
        if let failure = monitor.locked({ failure }) { throw failure }
    }

    /// Whether something has ended the queue.
    var isEnded: Bool { monitor.locked { failure != nil } }

    /// The next commit, or nil when none came for `milliseconds`.
    func take(milliseconds: Int) throws(StorageError) -> (number: UInt64, records: [UInt8])? {
        try monitor.locked { () throws(StorageError) in
            if first == commits.count && failure == nil { monitor.wait(milliseconds: milliseconds) }
            if let failure { throw failure }
            guard first < commits.count else { return nil }
            let commit = commits[first]
            commits[first].records = []
            first += 1
            if first == commits.count {
                commits.removeAll(keepingCapacity: true)
                first = 0
            }
            queuedBytes -= commit.records.count
            return commit
        }
    }

    /// The last commit that was delivered.
    var delivered: UInt64 { monitor.locked { deliveredNumber } }

    /// The last commit that is confirmed.
    var confirmed: UInt64 { monitor.locked { confirmedNumber } }

    /// Notes a confirmation.
    func confirm(_ number: UInt64) {
        monitor.locked {
            confirmedNumber = max(confirmedNumber, number)
            progressNanoseconds = environment.monotonicNanoseconds()
            monitor.signal()
        }
    }

    /// Counts the time without confirmations from now on.
    func restartPatience() { monitor.locked { progressNanoseconds = environment.monotonicNanoseconds() } }

    /// Nanoseconds for which confirmations have been outstanding without any progress.
    var stalledNanoseconds: UInt64 {
        monitor.locked {
            guard confirmedNumber < deliveredNumber else { return 0 }
            let now = environment.monotonicNanoseconds()
            return now > progressNanoseconds ? now - progressNanoseconds : 0
        }
    }
}
