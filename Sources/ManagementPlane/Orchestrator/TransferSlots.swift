import Environment
package import Identity
import MigrateOperation
import Synchronization

/// Who may transfer next when several operations share the link: pure.
package struct FairShare: Equatable, Sendable {
    /// Transfers that may run at the same time.
    package let slotCount: Int
    /// Transfers that run, by operation.
    package private(set) var running: [ObjectUUID: Int] = [:]
    /// Operations that want to transfer more, with how many transfers of each wait.
    package private(set) var waiting: [ObjectUUID: Int] = [:]

    /// Nothing runs.
    package init(slotCount: Int) { self.slotCount = slotCount }

    private var operations: Set<ObjectUUID> { Set(running.keys).union(waiting.keys) }

    /// One transfer of an operation wants to run, and waits.
    package mutating func join(_ operation: ObjectUUID) { waiting[operation, default: 0] += 1 }

    /// It does not want to any more.
    package mutating func leave(_ operation: ObjectUUID) { Self.decrease(&waiting, operation) }

    /// Lets a waiting transfer run when its operation has less than its share, or nobody else wants the slot.
    package mutating func enter(_ operation: ObjectUUID) -> Bool {
        let total = running.values.reduce(0, +)
        guard total < slotCount, waiting[operation] != nil else { return false }
        let share = (slotCount + operations.count - 1) / operations.count
        let isAlone = waiting.keys.allSatisfy { $0 == operation }
        guard running[operation, default: 0] < share || isAlone else { return false }
        Self.decrease(&waiting, operation)
        running[operation, default: 0] += 1
        return true
    }

    /// A running transfer has ended.
    package mutating func exit(_ operation: ObjectUUID) { Self.decrease(&running, operation) }

    private static func decrease(_ counts: inout [ObjectUUID: Int], _ operation: ObjectUUID) {
        guard let count = counts[operation] else { return }
        counts[operation] = count > 1 ? count - 1 : nil
    }
}

/// Slots for transfers, shared fairly by the operations of a node.
package final class TransferSlots: Sendable {
    /// Transfers that run at the same time on one node.
    package static let slotCount = 16
    private static let pollMilliseconds: UInt64 = 20
    private let share: Mutex<FairShare>

    /// Makes the slots of a node.
    package init(slotCount: Int = TransferSlots.slotCount) { share = Mutex(FairShare(slotCount: slotCount)) }

    /// Runs a transfer as soon as its operation may.
    func run<Value: Sendable>(_ migration: Migration, _ body: () async throws -> Value) async throws -> Value {
        let operation = migration.operation
        share.withLock { $0.join(operation) }
        while !share.withLock({ $0.enter(operation) }) {
            do {
                try migration.record.requireNotInterrupted()
                try await migration.waiting.milliseconds(Self.pollMilliseconds)
            } catch {
                share.withLock { $0.leave(operation) }
                throw error
            }
        }
        defer { share.withLock { $0.exit(operation) } }
        return try await body()
    }
}
