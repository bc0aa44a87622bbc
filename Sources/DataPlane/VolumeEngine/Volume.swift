import Bytes
import Environment
import FileIO
package import Identity
import RocksStore
import SegmentStore
import Synchronization

/// One volume: a deterministic state machine fed by one ordered log of transactions.
///
/// Operations are synchronous. They run under the volume's lock on records in memory; what is missing is read from the
/// disk outside the lock (`.blocking`) or refused with `FileError.wouldBlock` (`.cachedOnly`). A change is ordered when
/// the operation returns and durable when its `CommitTicket` is.
package final class Volume: @unchecked Sendable {
    // Proof of Sendable: `core`, `waiters`, `isClosed`, `commitState` and `mirror` are touched inside `lock` only; the rest is
    // immutable or thread-safe itself.

    /// The identity that never changes, wherever the volume moves.
    package let msid: VolumeMSID
    /// Counts what clients ask of it.
    package let counters = VolumeCounters()
    let context: AggregateContext
    let segments: SegmentStore
    let reader: VolumeReader
    let core: VolumeCore
    /// Serialises snapshots, restores, resizes and the work of the reclaimer.
    let management = Monitor()
    private let lock = Mutex<Void>(())
    private var waiters: [Waiter] = []
    private var isScheduled = false
    private var isClosed = false
    /// The last durable commit when `hasBeenQuiet` was asked.
    private var durableWhenAsked: UInt64 = 0
    private var durable: UInt64
    /// The last commit that the database has: it gets a commit when that is durable already.
    private var stored: UInt64
    private var mirror: (any CommitMirror)?
    /// The last commit that the mirror must confirm, and the last that it has confirmed.
    private var mirrorConfirmed: UInt64 = .max
    private var isMirrorInSync = false
    /// Space that is still to be given back; shared with the reclaimer.
    let reclaimQueue = Mutex(ReclaimQueue())

    init(msid: VolumeMSID, context: AggregateContext, segments: SegmentStore, core: VolumeCore, durable: UInt64) {
        self.msid = msid
        self.context = context
        self.segments = segments
        self.core = core
        self.durable = durable
        stored = durable
        reader = VolumeReader(database: context.database, msid: msid)
    }

    // MARK: Running transactions

    /// Runs `body` under the lock.
    func locked<Outcome: Sendable, Failure: Error>(
        _ body: () throws(Failure) -> Outcome
    ) throws(Failure) -> Outcome {
        try lock.withLock { (_) throws(Failure) -> Outcome in try body() }
    }

    /// Runs a deed of management, one at a time.
    ///
    /// - Throws: `.conflict` when the volume is closed.
    func managed<Outcome: Sendable>(
        _ body: () throws(StorageError) -> Outcome
    ) throws(StorageError) -> Outcome {
        try management.locked { () throws(StorageError) -> Outcome in
            guard !locked({ isClosed }) else {
                throw StorageError(
                    .conflict,
                    "volume \(msid) is closed: its aggregate ends, or has another owner now",
                    remedy: "try again; the node that has the aggregate does it (godwit aggregate show)"
                )
            }
            return try body()
        }
    }

    /// Refuses clients and management for good, and makes everything durable that was ordered.
    func close() {
        management.locked {
            locked {
                core.isBusy = true
                core.properties.isClean = true
                core.pending.hasProperties = true
            }
            detachMirror()
            flush()
            locked { isClosed = true }
        }
    }

    /// Runs a transaction; brings what it misses into memory and runs it again.
    ///
    /// `body` must not change anything before it has found everything that it needs.
    func transact<Outcome: Sendable>(
        _ execution: Execution,
        _ body: (VolumeCore) throws(CoreFailure) -> Outcome
    ) throws(FileError) -> Outcome {
        while true {
            var evictions: UInt64 = 0
            let missing: RecordKey
            do throws(CoreFailure) {
                return try locked { () throws(CoreFailure) -> Outcome in
                    evictions = core.evictions
                    if core.isBusy || core.properties.isReplica { throw .file(.busy) }
                    return try body(core)
                }
            } catch {
                switch error {
                case .file(let reason): throw reason
                case .missing(let key): missing = key
                }
            }
            try load(missing, evictions, execution)
        }
    }

    /// Reads one record into memory.
    private func load(_ key: RecordKey, _ evictions: UInt64, _ execution: Execution) throws(FileError) {
        let loaded: LoadedRecord?
        do { loaded = try reader.load(key, cachedOnly: execution == .cachedOnly) } catch {
            report(error)
            throw .inputOutput
        }
        guard let loaded else { throw .wouldBlock }
        // The record is not shared yet: it becomes part of the core's state under the lock.
        nonisolated(unsafe) let record = loaded
        locked { core.insert(record, readAfter: evictions) }
    }

    func report(_ error: StorageError) { context.options.onEvent(.failure(volume: msid, error.description)) }

    // MARK: Durability

    /// Calls `completion` when the ticket's change is durable (here and, while the volume is INSYNC, on its mirror): on
    /// this thread if it is already, otherwise on a committer's. Durable completions run in the order of their tickets.
    package func whenDurable(_ ticket: CommitTicket, _ completion: @escaping DurableCompletion) {
        wait(Waiter(ticket: ticket, isForDatabase: false, completion: completion))
    }

    private func wait(_ waiter: Waiter) {
        let completion = waiter.completion
        let mustSchedule: Bool? = locked {
            if waiter.ticket.rawValue <= settled(inDatabase: waiter.isForDatabase) { return nil }
            waiters.append(waiter)
            return claimSchedule()
        }
        guard let mustSchedule else { return completion(false) }
        if mustSchedule { context.scheduler.schedule(self) }
    }

    /// Waits until everything that was ordered is durable, and in the database for those who read it there. For worker
    /// threads.
    func flush() { waitUntilDurable(orderedTicket) }

    /// The ticket of everything that was ordered.
    var orderedTicket: CommitTicket {
        locked { CommitTicket(rawValue: core.pending.isEmpty ? core.pending.number - 1 : core.pending.number) }
    }

    /// Waits until what a ticket stands for is durable and in the database. For worker threads.
    ///
    /// Returns at once when the volume is closed: whoever comes so late finds the database closed, too.
    package func waitUntilDurable(_ ticket: CommitTicket) {
        if locked({ isClosed }) { return }
        let parking = Parking()
        wait(Waiter(ticket: ticket, isForDatabase: true) { _ in parking.leave() })
        parking.stay()
    }

    /// The last commit that may be answered, or that is in the database, too.
    private func settled(inDatabase: Bool) -> UInt64 {
        let here = inDatabase ? stored : durable
        return isMirrorInSync ? min(here, mirrorConfirmed) : here
    }

    /// Whether nothing was committed since the last call.
    func hasBeenQuiet() -> Bool {
        locked {
            defer { durableWhenAsked = durable }
            return durableWhenAsked == durable
        }
    }

    private func claimSchedule() -> Bool {
        if isScheduled { return false }
        isScheduled = true
        return true
    }

    /// Starts a commit although nobody waits for it (unstable data that has grown large or old).
    func commitSoon() {
        let mustSchedule = locked { core.pending.isEmpty ? false : claimSchedule() }
        if mustSchedule { context.scheduler.schedule(self) }
    }

    /// Begins the next commit and hands it to the mirror; nil when there is nothing to commit.
    func beginCommit(into batch: borrowing RocksBatch) -> CommitWork? {
        let prepared = locked { () -> (work: CommitWork, mirror: (any CommitMirror)?)? in
            defer { account() }
            guard var work = core.beginCommit(into: batch) else { return nil }
            // One that allocation stands in may yet get new blocks.
            work.deadSegments.removeAll { !segments.isSealed($0) }
            return (work, mirror)
        }
        guard let prepared else {
            runWaiters()
            return nil
        }
        if prepared.work.isMirrored, let mirror = prepared.mirror { send(prepared.work, to: mirror) }
        return prepared.work
    }

    /// Notes that a commit is durable, and answers the clients that waited for it.
    func noteDurable(_ number: UInt64) {
        locked { durable = number }
        runWaiters()
    }

    /// Notes that a durable commit is in the database.
    func endCommit(_ work: CommitWork) {
        locked {
            stored = work.number
            core.finishCommit(work.number)
            deferredOutstanding += work.deferred
            deadSegments += work.deadSegments
        }
        if !work.freed.isEmpty { reclaimQueue.withLock { $0.append(work.freed) } }
        runWaiters()
    }

    /// Whether somebody waits for another commit; if not, the volume leaves the scheduler.
    func wantsCommit() -> Bool {
        locked {
            let isWanted = waiters.contains { $0.ticket.rawValue > durable } && !core.pending.isEmpty
            if !isWanted { isScheduled = false }
            return isWanted
        }
    }

    /// Writes that are durable in the log and not yet in their segments.
    var deferredOutstanding: [(sequence: UInt64, segment: UInt32)] = []
    /// Full segments that have durably lost their last living block, for the reclaimer.
    var deadSegments: [UInt32] = []
    /// What this volume has added to the aggregate's count of used bytes.
    private var accountedBytes: UInt64 = 0

    /// Brings the aggregate's count up to date. Under the lock.
    func account() {
        context.usedBytes.wrappingAdd(core.usedBytes &- accountedBytes, ordering: .relaxed)
        accountedBytes = core.usedBytes
    }

    /// Takes a deleted volume out of the aggregate's count.
    func forgetAccounting() {
        locked {
            context.usedBytes.wrappingAdd(0 &- accountedBytes, ordering: .relaxed)
            accountedBytes = 0
        }
    }

    private func runWaiters() {
        let ready = locked { () -> [DurableCompletion] in
            let limits = (answer: settled(inDatabase: false), database: settled(inDatabase: true))
            func isReady(_ waiter: Waiter) -> Bool {
                waiter.ticket.rawValue <= (waiter.isForDatabase ? limits.database : limits.answer)
            }
            guard waiters.contains(where: isReady) else { return [] }
            let ready = waiters.filter(isReady)
            waiters.removeAll(where: isReady)
            return ready.map(\.completion)
        }
        for completion in ready { completion(ready.count == 1) }
    }

    // MARK: Mirror

    private func send(_ work: CommitWork, to mirror: any CommitMirror) {
        var writer = ByteWriter(capacity: 64 << 10)
        do {
            for record in work.mirrored {
                try ReplicaRecordCoding.encode(record, into: &writer, readBlocks: appendBlocks)
            }
            mirror.deliver(commit: work.number, records: writer.bytes)
        } catch {
            report(error)
            mirror.fail(error)
        }
    }

    /// From the next commit on, every commit also goes to `mirror`, and so do the answers that are kept. Returns the
    /// snapshot that the stream follows.
    ///
    /// The snapshot is taken in the same step, so that what lies before it can be transferred while the stream waits.
    package func attach(
        _ mirror: any CommitMirror,
        snapshot uuid: ObjectUUID,
        name: String
    ) throws(StorageError) -> Snapshot {
        let snapshot = try createSnapshot(name: name, uuid: uuid) {
            self.mirror = mirror
            self.isMirrorInSync = false
            self.mirrorConfirmed = 0
            self.core.pending.isMirrored = true
            // Before any answer of this stream: those of earlier streams may be of calls whose effect a crash has undone.
            self.core.pending.mirrored.append(
                ReplicaRecord(repliesUpTo: self.core.nextReply, epoch: self.core.properties.epoch)
            )
        }
        try mirrorReplies()
        return snapshot
    }

    /// From now on clients are answered only when the mirror has confirmed as well.
    package func mirrorCaughtUp() { locked { isMirrorInSync = true } }

    /// The mirror has everything up to and including `commit`.
    package func mirrorConfirmed(_ commit: UInt64) {
        locked { mirrorConfirmed = max(mirrorConfirmed, commit) }
        runWaiters()
    }

    /// Ends mirroring: clients are answered by this side alone from now on.
    package func detachMirror() {
        locked {
            mirror = nil
            isMirrorInSync = false
            core.pending.isMirrored = false
            core.pending.mirrored = []
            core.pending.snapshots = []
            mirrorConfirmed = .max
        }
        runWaiters()
    }

    /// Whether every acknowledged write is on both sides.
    package var isMirrored: Bool { locked { isMirrorInSync } }

    /// Appends the verified bytes of blocks that lie together.
    func appendBlocks(
        _ extent: BlockExtent,
        _ content: ChunkContent,
        _ first: Int,
        _ writer: inout ByteWriter
    ) throws(StorageError) {
        let blockSize = VolumeLimits.blockSizeBytes
        try writer.append(count: extent.count * blockSize) { (buffer) throws(StorageError) in
            do throws(FileIOError) {
                _ = try segments.read(into: buffer, from: extent.start, cachedOnly: false)
            } catch { throw .io(error) }
            for index in 0..<extent.count {
                let block = UnsafeRawBufferPointer(rebasing: buffer[index * blockSize..<(index + 1) * blockSize])
                guard Checksum.block(block) == content.checksums[first + index] else {
                    throw StorageError(
                        .damaged,
                        "block \(extent.start.block + UInt32(index)) of segment \(extent.start.segment) of volume "
                            + "\(msid) has another checksum than was written",
                        remedy: "restore the file from a snapshot or a replica"
                    )
                }
            }
        }
    }
}

/// Somebody who waits for a commit.
private struct Waiter {
    let ticket: CommitTicket
    /// Whether the commit must be in the database as well.
    let isForDatabase: Bool
    let completion: DurableCompletion
}

/// Called when a change is durable. `isAlone` says that a commit has made this one change durable and no other, so that
/// nothing is gained by gathering its answer with others.
package typealias DurableCompletion = @Sendable (_ isAlone: Bool) -> Void

/// Where the commits of a volume go besides its own disk.
package protocol CommitMirror: AnyObject, Sendable {
    /// Takes the records of a commit, in order; must not wait for the network.
    func deliver(commit: UInt64, records: [UInt8])
    /// The stream cannot go on.
    func fail(_ error: StorageError)
}

extension StorageError {
    /// The operating system refused.
    static func io(_ error: FileIOError) -> StorageError {
        StorageError(
            error.isNoSpace ? .noSpace : .inputOutput,
            "\(error)",
            remedy: error.isNoSpace ? "free space on the file system" : "look at the system's log for the disk's errors"
        )
    }
}
