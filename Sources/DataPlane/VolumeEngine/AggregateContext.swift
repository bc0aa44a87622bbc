import Environment
import FileIO
import Identity
import RocksStore
import Synchronization

/// What the volumes of one aggregate share.
final class AggregateContext: Sendable {
    let directory: String
    let database: RocksDatabase
    let journal: CommitJournal
    let environment: Environment
    let options: AggregateOptions
    let scheduler = CommitScheduler()
    /// Bytes in use by all volumes, as of their last transactions.
    let usedBytes = Atomic<UInt64>(0)
    /// Bytes that guaranteed volumes have reserved beyond what they use.
    let guaranteedBytes = Atomic<UInt64>(0)
    /// Whether the file system under the aggregate is about to be full.
    let isHostFull = Atomic<Bool>(false)

    init(
        directory: String,
        database: RocksDatabase,
        journal: CommitJournal,
        environment: Environment,
        options: AggregateOptions
    ) {
        self.directory = directory
        self.database = database
        self.journal = journal
        self.environment = environment
        self.options = options
    }

    /// Bytes that stay free on the file system under the aggregate, so that logs and deletions always find room.
    static let hostReserveBytes: UInt64 = 256 << 20

    func segmentDirectory(_ msid: VolumeMSID) -> String {
        let digits = String(msid.rawValue, radix: 16)
        return directory + "/segments/" + String(repeating: "0", count: 16 - digits.count) + digits
    }

    var availableBytes: UInt64 {
        let used = usedBytes.load(ordering: .relaxed)
        return options.capacityBytes > used && !isHostFull.load(ordering: .relaxed) ? options.capacityBytes - used : 0
    }
}

/// Threads that make the commits of an aggregate's volumes durable, one volume on one thread at a time.
final class CommitScheduler: @unchecked Sendable {
    // Proof of Sendable: `queue`, `parked`, `isStopped` and `running` are touched under `monitor` only.
    private let monitor = Monitor()
    private var queue: [Volume] = []
    /// Threads without work. The last to park is the first to go on, since its stack is still in the cache.
    private var parked: [Parking] = []
    private var isStopped = false
    private var running = 0
    static let threadCount = 4

    func start() {
        monitor.locked { running = Self.threadCount }
        for _ in 0..<Self.threadCount {
            SystemThread.start(name: "godwit-commit") { [self] in run() }
        }
    }

    /// Puts a volume into the queue; the volume sees to it that it is there once at most.
    func schedule(_ volume: Volume) {
        let thread = monitor.locked { () -> Parking? in
            queue.append(volume)
            return parked.popLast()
        }
        thread?.leave()
    }

    private func run() {
        let parking = Parking()
        RocksDatabase.disableCountersOfThread()
        while true {
            let (volumes, isOver) = next(parking)
            if isOver { break }
            if volumes.isEmpty { parking.stay() } else { CommitRound.run(volumes) }
        }
        monitor.locked {
            running -= 1
            monitor.broadcast()
        }
    }

    /// The volumes whose commits a thread makes durable together: its share of those that wait, so that the snapshots of
    /// a tenant's many volumes cost a few synchronous writes and not one each. With none, the thread parks or ends.
    private func next(_ parking: Parking) -> (volumes: [Volume], isOver: Bool) {
        monitor.locked {
            if queue.isEmpty {
                if !isStopped { parked.append(parking) }
                return ([], isStopped)
            }
            let share = (queue.count + Self.threadCount - 1) / Self.threadCount
            defer { queue.removeFirst(share) }
            return (Array(queue.prefix(share)), false)
        }
    }

    /// Stops the threads once the queue is empty, and waits for them.
    func stop() {
        let threads = monitor.locked {
            isStopped = true
            defer { parked = [] }
            return parked
        }
        for thread in threads { thread.leave() }
        monitor.locked {
            while running > 0 { monitor.wait() }
        }
    }
}
