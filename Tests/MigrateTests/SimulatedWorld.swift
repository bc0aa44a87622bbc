import ClusterConfiguration
import ConfigurationReplication
import Environment
import Identity
import MigrateOperation
import MigrateSource
import Orchestrator
import Replication
import ReplicatedDatabase
import Saga
import Synchronization

/// Two clusters reduced to what the saga must get right: who serves, what every volume holds, what was acknowledged.
///
/// A client writes at every deed of either side; a write is one step of a counter. What is volatile dies with its side.
struct WorldState {
    // Durable on the source.
    var sourceExists = true
    var sourceIsRecordedRunning = true
    var sourceLock: ObjectUUID?
    var sourceSnapshots: [ObjectUUID: Int] = [:]
    var sourceContent = 0
    // Volatile on the source.
    var sourceGateIsOpen = true
    /// The nodes of the source cluster refuse the node that is asked: another one owns the operation by now.
    var sourceOwnerIsSuperseded = false
    /// The node that has the volume does not have it open.
    var sourceVolumeIsClosed = false
    var sourceIsBound = true
    /// How often the source has given its addresses away.
    var surrenderCount = 0
    // Durable on the destination.
    var destinationExists = false
    var destinationVolumesExist = false
    var destinationInterfacesExist = false
    var destinationPosition: ConfigurationPosition?
    /// The only tier on which there is room for its volume; nil for any.
    var destinationTier: AggregateTier?
    /// Every update of the configuration that was applied, in order.
    var destinationUpdates: [ConfigurationUpdate] = []
    var destinationSnapshots: [ObjectUUID: Int] = [:]
    var destinationContent = 0
    var destinationIsReplica = true
    var destinationIsRecordedServing = false
    // Volatile on the destination.
    var mirrorIsInSync = false
    var destinationIsPrepared = false
    var destinationGateIsOpen = false
    var destinationIsBound = false

    var acknowledged = 0
    var violations: [String] = []

    /// A client tries to write.
    mutating func write() {
        let sourceServes = sourceExists && sourceGateIsOpen && sourceIsBound
        let destinationServes = destinationExists && destinationGateIsOpen && destinationIsBound
        if sourceServes && destinationServes { violations.append("both sides serve") }
        if sourceServes {
            if sourceContent != acknowledged { violations.append("the source lost a write") }
            sourceContent += 1
            acknowledged += 1
            if mirrorIsInSync { destinationContent = sourceContent }
        } else if destinationServes {
            if destinationIsReplica { violations.append("the destination serves a replica") }
            if destinationContent != acknowledged { violations.append("the destination lost a write") }
            destinationContent += 1
            acknowledged += 1
        }
    }

    /// The source's daemon dies.
    mutating func crashSource() {
        mirrorIsInSync = false
        sourceGateIsOpen = false
        sourceIsBound = false
    }

    /// The destination's daemon starts: it serves what is recorded as running.
    mutating func startDestination() {
        destinationIsPrepared = destinationIsRecordedServing
        destinationGateIsOpen = destinationIsRecordedServing
        destinationIsBound = destinationIsRecordedServing
    }

    /// The destination's daemon dies.
    mutating func crashDestination() {
        mirrorIsInSync = false
        destinationIsPrepared = false
        destinationGateIsOpen = false
        destinationIsBound = false
    }
}

/// The world, a virtual clock, and the failure that a test wants.
final class World: Sendable {
    let state = Mutex(WorldState())
    private let nanoseconds = Mutex<UInt64>(1_000_000_000)
    private let random = Mutex<UInt64>(1)
    /// Deeds so far, by name.
    let deeds = Mutex<[String]>([])
    /// The number of the deed that fails once; negative for none.
    let failingDeed: Int
    /// How long the source takes to drain, in milliseconds of the virtual clock.
    let drainMilliseconds: UInt64

    init(failingDeed: Int = -1, drainMilliseconds: UInt64 = 0) {
        self.failingDeed = failingDeed
        self.drainMilliseconds = drainMilliseconds
    }

    var environment: Environment {
        Environment(
            monotonicNanoseconds: { self.nanoseconds.withLock { $0 } },
            wallClockNanoseconds: { Int64(self.nanoseconds.withLock { $0 }) },
            randomBits: {
                self.random.withLock { state in
                    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                    return state ^ state >> 29
                }
            }
        )
    }

    /// Waiting lets the virtual clock go on; a dead process does not wait.
    func waiting(_ process: Process) -> Waiting {
        Waiting { count in
            let end = self.nanoseconds.withLock { $0 } + count
            while self.nanoseconds.withLock({ $0 }) < end {
                if process.isDead { throw CancellationError() }
                try Task.checkCancellation()
                self.nanoseconds.withLock { $0 += 100_000 }
                await Task.yield()
            }
        }
    }

    /// A deed of one side: refused when its process is dead, failed when the test wants it, and seen by the client.
    func deed<Result: Sendable>(
        _ name: String,
        _ process: Process,
        _ body: (inout WorldState) throws -> Result
    ) throws -> Result {
        if process.isDead { throw CancellationError() }
        let number = deeds.withLock { deeds in
            deeds.append(name)
            return deeds.count - 1
        }
        if number == failingDeed { throw SimulatedFailure(deed: name) }
        return try state.withLock { state in
            state.write()
            defer { state.write() }
            return try body(&state)
        }
    }
}

struct SimulatedFailure: Error { var deed: String }

/// A daemon that can be killed at a crash point; the database does not answer a dead one.
final class Process: Sendable {
    private let dead = Mutex(false)
    private let crashAt: CrashPoint?
    let seen = Mutex<[CrashPoint]>([])

    init(crashAt: CrashPoint?) { self.crashAt = crashAt }

    var isDead: Bool { dead.withLock { $0 } }

    var crashPoints: CrashPoints {
        CrashPoints { name, moment in
            let point = CrashPoint(name: name, moment: moment.rawValue)
            self.seen.withLock { $0.append(point) }
            if point == self.crashAt { self.dead.withLock { $0 = true } }
            if self.isDead { throw CancellationError() }
        }
    }
}

struct CrashPoint: Hashable, Sendable, CustomStringConvertible {
    var name: String
    var moment: String
    var description: String { "\(name):\(moment)" }
}

/// The write of a database that fails once.
final class FailingWrite: Sendable {
    private let number: Int
    private let count = Mutex(0)

    /// Makes one that fails at the write of this number; negative for none.
    init(number: Int) { self.number = number }

    /// Writes so far.
    var writes: Int { count.withLock { $0 } }

    /// Counts a write.
    /// - Returns: Whether it is the one that fails.
    func fails() -> Bool {
        count.withLock { count in
            defer { count += 1 }
            return count == number
        }
    }
}

/// The database of one side as one of its processes sees it.
struct ProcessDatabase: ReplicatedDatabase {
    let database: InMemoryDatabase
    let process: Process
    var failingWrite = FailingWrite(number: -1)

    private func requireAlive() throws(DatabaseError) {
        if process.isDead { throw DatabaseError(.unavailable, "the process is dead") }
    }

    func get(_ key: String) async throws(DatabaseError) -> DatabaseRecord? {
        try requireAlive()
        return try await database.get(key)
    }

    func range(prefix: String) async throws(DatabaseError) -> (records: [DatabaseRecord], revision: Int64) {
        try requireAlive()
        return try await database.range(prefix: prefix)
    }

    func transact(
        when conditions: [DatabaseCondition],
        _ changes: [DatabaseChange]
    ) async throws(DatabaseError) -> TransactionOutcome {
        try requireAlive()
        if failingWrite.fails() { throw DatabaseError(.unavailable, "the write fails, as the test wants") }
        return try await database.transact(when: conditions, changes)
    }

    func watch(prefix: String, after revision: Int64) -> AsyncThrowingStream<WatchEvent, any Error> {
        database.watch(prefix: prefix, after: revision)
    }
}
