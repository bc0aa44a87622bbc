import Bytes
import FileIO
import Identity
import RocksStore

/// Makes small commits durable, before the metadata database has them.
///
/// A file of fixed size that was written with zeros when it was made, so that a commit writes its bytes and nothing else:
/// the log of the database grows, and waits for its inode as well. The database gets the commit afterwards, without
/// waiting, while the clients have their answers already; after a crash it gets again what it has lost (decision 0023).
///
///     journal    half | half
///     half       entry | entry | ... | what is left of an earlier turn
///     entry      magic 4 | bytes of the changes 4 | number 8 | durable 8 | checksum 8 | changes
///
/// Numbers go up by one, and each commit writes its own into the database: what the database has lost begins after that.
/// `durable` is the last number known to be durable when the entry was written. The halves are filled in turn; before one
/// is written over, the log of the database has durably what is in it.
final class CommitJournal: @unchecked Sendable {
    // Proof of Sendable: the variables are touched under `monitor` only, `buffer` by the one that writes an entry.

    private let file: File
    private let database: RocksDatabase
    private let halfBytes: Int
    /// A larger commit goes to the log of the database: there it is written once less, and its size hides the inode.
    private let entryBytesMax: Int
    private let monitor = Monitor()
    private let buffer: UnsafeMutableRawBufferPointer

    private var half = 0
    private var offset = 0
    /// The number of the last commit.
    private var last: UInt64
    /// What is durable here, in the database, and durable in the log of the database.
    private var durable: UInt64
    private var applied: UInt64
    private var logged: UInt64
    /// The last number in each half.
    private var lastOfHalf: [UInt64] = [0, 0]
    private var isSynchronizing = false
    /// Whether a commit is being written. A large one lets nobody begin before it is durable, so that no number is missing
    /// before one that is here.
    private var isClaimed = false
    /// The half whose commits the log of the database is to have durably.
    private var halfToLog: Int?
    private var isStopped = false
    private var isRunning = false
    /// Threads that wait for something to change: mostly none, and a commit takes half a dozen steps.
    private var waiting = 0
    /// Where the thread of the log waits for a half: nothing else wakes it.
    private let parking = Parking()

    static let sizeBytes = 4 << 20
    static let headerBytes = 32
    static let magic: UInt32 = 0x4757_4A31
    private static let largeCommitBytes = 64 << 10

    /// - Parameter last: the number of the last commit in the database, which is durable there.
    init(file: File, sizeBytes: Int, database: RocksDatabase, last: UInt64) {
        self.file = file
        self.database = database
        halfBytes = sizeBytes / 2
        entryBytesMax = min(Self.largeCommitBytes, halfBytes / 4)
        buffer = .allocate(byteCount: entryBytesMax, alignment: 16)
        (self.last, durable, applied, logged) = (last, last, last, last)
    }

    deinit { buffer.deallocate() }

    /// Starts the thread that makes the log of the database durable behind the commits.
    func start() {
        monitor.locked { isRunning = true }
        SystemThread.start(name: "godwit-journal") { [self] in
            while true {
                parking.stay()
                if let number = nextToLog() {
                    do throws(RocksError) { try database.synchronizeLog() } catch { Self.fail(error) }
                    change {
                        logged = max(logged, number)
                        halfToLog = nil
                    }
                }
                if monitor.locked({ isStopped }) { break }
            }
            change { isRunning = false }
        }
    }

    /// Stops the thread; nobody commits any more.
    func stop() {
        monitor.locked { isStopped = true }
        parking.leave()
        monitor.locked { while isRunning { waitForChange() } }
    }

    /// The last number in the half that is to be in the log, once the database has it.
    private func nextToLog() -> UInt64? {
        monitor.locked {
            guard let halfToLog else { return nil }
            while applied < lastOfHalf[halfToLog] { waitForChange() }
            return lastOfHalf[halfToLog]
        }
    }

    /// Waits, under the monitor, until another thread has changed something.
    private func waitForChange() {
        waiting += 1
        monitor.wait()
        waiting -= 1
    }

    private func change(_ body: () -> Void) {
        monitor.locked {
            body()
            if waiting > 0 { monitor.broadcast() }
        }
    }

    /// Makes a commit durable, calls `whenDurable`, and then brings it into the database. The commits of several threads
    /// share a synchronisation of the disk, and come into the database in the order of their numbers.
    func commit(_ batch: borrowing RocksBatch, whenDurable: () -> Void) throws {
        let number = begin()
        var value = ByteWriter(capacity: 8)
        value.appendBigEndian(number)
        batch.put(DatabaseKey.lastCommit, value.bytes)
        if batch.data.count + Self.headerBytes > entryBytesMax {
            try bypass(number, batch)
            whenDurable()
            return
        }
        try write(number, batch.data)
        try synchronize(through: number)
        whenDurable()
        try apply(number, batch, isSynced: false)
    }
}

// MARK: Steps of a commit

extension CommitJournal {
    /// Gives the commit its number, and the calling thread the right to write it.
    private func begin() -> UInt64 {
        monitor.locked {
            while isClaimed { waitForChange() }
            isClaimed = true
            last += 1
            return last
        }
    }

    /// Writes the entry, into the other half when this one has no room for it, and lets the next commit begin.
    private func write(_ number: UInt64, _ changes: UnsafeRawBufferPointer) throws {
        let count = Self.headerBytes + changes.count
        if offset + count > halfBytes { turnOver() }
        let entry = UnsafeMutableRawBufferPointer(rebasing: buffer[..<count])
        CommitJournalEntry(number: number, durable: monitor.locked { durable }, changes: changes).encode(into: entry)
        try file.write(UnsafeRawBufferPointer(entry), at: half * halfBytes + offset)
        offset += count
        change {
            lastOfHalf[half] = number
            isClaimed = false
        }
    }

    /// Goes on in the other half, once the log of the database has what is in it.
    private func turnOver() {
        monitor.locked {
            while halfToLog != nil { waitForChange() }
            precondition(logged >= lastOfHalf[1 - half], "the journal would lose what the log does not have")
            halfToLog = half
            half = 1 - half
            offset = 0
        }
        parking.leave()
    }

    private func synchronize(through number: UInt64) throws {
        while true {
            let target = monitor.locked { () -> UInt64? in
                while durable < number && isSynchronizing { waitForChange() }
                if durable >= number { return nil }
                isSynchronizing = true
                return max(lastOfHalf[0], lastOfHalf[1])
            }
            guard let target else { return }
            try file.synchronizeData()
            change {
                isSynchronizing = false
                durable = max(durable, target)
            }
        }
    }

    /// A large commit: durable in the log of the database, with all that came before it.
    private func bypass(_ number: UInt64, _ batch: borrowing RocksBatch) throws {
        try apply(number, batch, isSynced: true)
        change {
            durable = max(durable, number)
            logged = max(logged, number)
            isClaimed = false
        }
    }

    private func apply(_ number: UInt64, _ batch: borrowing RocksBatch, isSynced: Bool) throws {
        monitor.locked { while applied != number - 1 { waitForChange() } }
        try database.write(batch, isSynced: isSynced)
        change { applied = number }
    }

    private static func fail(_ error: RocksError) -> Never {
        fatalError("the log of the metadata could not be made durable: \(error)")
    }
}
