import Identity
import Logging
import MigrateOperation
import MigrateSource
import ReplicatedDatabase
import Saga
import Synchronization
import Testing

/// Requests that were on their way, or waiting inside the source, while the cutover that they belong to was given up.
/// Each was found by the model of the point of no return.
@Suite struct LateRequestTests {
    /// What happens while a request stands at a crash point.
    private final class Meanwhile: Sendable {
        let deed = Mutex<(@Sendable () async throws -> Void)?>(nil)

        func points(_ name: String) -> CrashPoints {
            CrashPoints { reached, moment in
                guard reached == name, moment == .before else { return }
                let deed = self.deed.withLock { deed in
                    defer { deed = nil }
                    return deed
                }
                try await deed?()
            }
        }
    }

    private let operation = ObjectUUID(high: 1, low: 1)
    private let world = World()
    private let meanwhile = Meanwhile()

    private func source(interruptedAt point: String) -> MigrateSource {
        let process = Process(crashAt: nil)
        return MigrateSource(
            database: InMemoryDatabase(),
            storage: SimulatedSource(world: world, process: process),
            node: ObjectUUID(high: 6, low: 6),
            environment: world.environment,
            waiting: world.waiting(process),
            crashPoints: meanwhile.points(point),
            log: Logger(label: "late", factory: { _ in SwiftLogNoOpLogHandler() })
        )
    }

    private func send(_ requests: [SourceRequest], to source: MigrateSource) async throws {
        for request in requests {
            _ = try await source.send(
                SourceCall(operation: operation, epoch: 1, operationState: nil, request: request)
            )
        }
    }

    private func lockAndArm(_ attempt: UInt64) -> [SourceRequest] {
        [.lock(attempt: attempt, budgetMilliseconds: 1_000), .arm(attempt: attempt, budgetMilliseconds: 1_000)]
    }

    private func giveUp(_ attempt: UInt64) -> [SourceRequest] {
        [.recover(attempt: attempt, reason: "undone"), .unlock(attempt: attempt)]
    }

    private func hold(_ attempt: UInt64) -> SourceRequest {
        let snapshot = OperationSnapshot(uuid: ObjectUUID(high: 7, low: attempt), name: "final")
        return .hold(attempt: attempt, snapshot: snapshot, drainMilliseconds: 0, since: [])
    }

    /// Its former node hangs and holds the lock, or its partner opens it at this moment: left out, it would be taken for a
    /// volume that was deleted, and its replica would go.
    @Test func aVolumeThatIsNotOpenIsNotLeftOutOfADescription() async throws {
        let source = source(interruptedAt: "")
        try await send([.register(svm: svmUUID, destinationCluster: "beta"), .refresh], to: source)
        world.state.withLock { $0.sourceVolumeIsClosed = true }
        await #expect { try await send([.refresh], to: source) } throws: { ($0 as? MigrateError)?.kind == .nodeAway }
        world.state.withLock { $0.sourceVolumeIsClosed = false }
        try await send([.refresh], to: source)
    }

    @Test func aHoldThatComesAfterItsUndoLeavesTheGateOpen() async throws {
        let source = source(interruptedAt: "source-hold")
        try await send([.register(svm: svmUUID, destinationCluster: "beta")] + lockAndArm(1), to: source)
        world.state.withLock { $0.mirrorIsInSync = true }
        meanwhile.deed.withLock { $0 = { try await send(giveUp(1), to: source) } }
        await #expect(throws: MigrateError.self) { try await send([hold(1)], to: source) }
        #expect(world.state.withLock { $0.sourceGateIsOpen })
        #expect(world.state.withLock { $0.violations.isEmpty })
    }

    /// Only another orchestrator may end one. A seed of the simulator met a former owner of the source's record whose nodes
    /// refused it: the operation stood still, with nobody to drive it.
    @Test func aFormerOwnerOfTheSourceEndsNoOrchestrator() async throws {
        let source = source(interruptedAt: "nowhere")
        try await send([.register(svm: svmUUID, destinationCluster: "beta")], to: source)
        world.state.withLock { $0.sourceOwnerIsSuperseded = true }
        let snapshot = SourceRequest.takeSnapshot(OperationSnapshot(uuid: ObjectUUID(high: 7, low: 1), name: "base"))
        let failure = await #expect(throws: MigrateError.self) { try await send([snapshot], to: source) }
        #expect(failure?.kind == .nodeAway)
        // The caller's own fence is told as before.
        _ = try await source.send(SourceCall(operation: operation, epoch: 2, operationState: nil, request: .status))
        let superseded = await #expect(throws: MigrateError.self) { try await send([.status], to: source) }
        #expect(superseded?.kind == .fenced)
    }

    @Test func aHoldOfAnOlderAttemptDoesNotTouchTheGate() async throws {
        let source = source(interruptedAt: "source-hold")
        try await send([.register(svm: svmUUID, destinationCluster: "beta")] + lockAndArm(1), to: source)
        world.state.withLock { $0.mirrorIsInSync = true }
        meanwhile.deed.withLock {
            $0 = { try await send(giveUp(1) + lockAndArm(2) + [hold(2)], to: source) }
        }
        await #expect(throws: MigrateError.self) { try await send([hold(1)], to: source) }
        #expect(world.state.withLock { !$0.sourceGateIsOpen })
        try await send([.pointOfNoReturn(attempt: 2)], to: source)
    }

    /// The operation is over, and the SVM may have come back by another one: its interfaces are not this one's any more.
    @Test func aReleaseThatComesAfterTheSourceIsDeletedClosesNothing() async throws {
        let source = source(interruptedAt: "nothing")
        try await send([.register(svm: svmUUID, destinationCluster: "beta")] + lockAndArm(1), to: source)
        world.state.withLock { $0.mirrorIsInSync = true }
        try await send([hold(1), .pointOfNoReturn(attempt: 1), .releaseInterfaces], to: source)
        #expect(world.state.withLock { !$0.sourceIsBound && $0.surrenderCount == 1 })
        try await send([.stop, .deleteSVM], to: source)
        world.state.withLock { $0.sourceIsBound = true }
        try await send([.pointOfNoReturn(attempt: 1), .releaseInterfaces], to: source)
        #expect(world.state.withLock { $0.sourceIsBound && $0.surrenderCount == 1 })
    }

    @Test func anUnlockOfAnOlderAttemptLeavesTheNewLockAlone() async throws {
        let source = source(interruptedAt: "nothing")
        try await send([.register(svm: svmUUID, destinationCluster: "beta")] + lockAndArm(1) + giveUp(1), to: source)
        try await send(lockAndArm(2), to: source)
        await #expect(throws: MigrateError.self) { try await send([.unlock(attempt: 1)], to: source) }
        #expect(world.state.withLock { $0.sourceLock } == operation)
    }
}
