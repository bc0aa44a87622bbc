import Saga
import Synchronization
import Testing

/// A world of four switches that steps turn on and undo turns off.
private final class Switches: Sendable {
    let on = Mutex<Set<String>>([])
    let failing: String?
    let failingUndo: String?

    init(failing: String? = nil, failingUndo: String? = nil) {
        self.failing = failing
        self.failingUndo = failingUndo
    }

    var names: Set<String> { on.withLock { $0 } }
}

private struct Refusal: Error {}

private let names = ["one", "two", "three", "four"]

private func steps() -> [SagaStep<Switches>] {
    names.map { name in
        SagaStep(
            name,
            perform: { world in
                // A step that fails has done half of its work already.
                _ = world.on.withLock { $0.insert(name) }
                if world.failing == name { throw Refusal() }
            },
            undo: { world in
                if world.failingUndo == name { throw Refusal() }
                _ = world.on.withLock { $0.remove(name) }
            }
        )
    }
}

@Suite struct SagaTests {
    @Test func performsEveryStepInOrder() async throws {
        let world = Switches()
        var log = SagaLog()
        let outcome = try await SagaRunner(steps(), direction: .reversible).run(world, log: &log, persist: { _ in })
        #expect(outcome == .finished)
        #expect(world.names == Set(names))
        #expect(log.events.map(\.kind) == Array(repeating: [.started, .succeeded], count: 4).flatMap { $0 })
    }

    @Test(arguments: names) func failureOfAnyStepLeavesTheWorldClean(name: String) async throws {
        let world = Switches(failing: name)
        var log = SagaLog()
        let outcome = try await SagaRunner(steps(), direction: .reversible).run(world, log: &log, persist: { _ in })
        #expect(outcome == .undone(step: name, reason: "Refusal()"))
        #expect(world.names.isEmpty)
    }

    @Test func failedUndoIsStuckAndStaysStuck() async throws {
        let world = Switches(failing: "three", failingUndo: "two")
        var log = SagaLog()
        let runner = SagaRunner(steps(), direction: .reversible)
        #expect(try await runner.run(world, log: &log, persist: { _ in }) == .stuck(step: "two", reason: "Refusal()"))
        #expect(try await runner.run(world, log: &log, persist: { _ in }) == .stuck(step: "two", reason: "Refusal()"))
        #expect(world.names == ["one", "two"])
    }

    @Test func forwardOnlyStepsAreTriedAgainAndTheLogStaysBounded() async throws {
        var log = SagaLog()
        let runner = SagaRunner(steps(), direction: .forwardOnly)
        for _ in 0..<10 {
            let outcome = try await runner.run(Switches(failing: "two"), log: &log, persist: { _ in })
            #expect(outcome == .failed(step: "two", reason: "Refusal()"))
        }
        #expect(log.events.count == 4)
        #expect(try await runner.run(Switches(), log: &log, persist: { _ in }) == .finished)
    }

    /// The run ends after each persisted event in turn, and another one goes on from what was persisted.
    @Test(arguments: [nil, "one", "two", "three", "four"] as [String?])
    func crashAtEveryEventIsResumed(failing: String?) async throws {
        struct Crash: Error {}
        let runner = SagaRunner(steps(), direction: .reversible)
        for crashAfter in 0..<20 {
            let world = Switches(failing: failing)
            var durable = SagaLog()
            var log = SagaLog()
            var count = 0
            do {
                _ = try await runner.run(
                    world,
                    log: &log,
                    persist: {
                        guard count < crashAfter else { throw Crash() }
                        count += 1
                        durable = $0
                    }
                )
            } catch is Crash {
                log = durable
                _ = try await runner.run(world, log: &log, persist: { durable = $0 })
            }
            #expect(world.names == (failing == nil ? Set(names) : []))
        }
    }

    @Test func illegalEventsAreRefused() throws {
        let plan = SagaPlan(steps: names, direction: .reversible)
        var log = SagaLog()
        #expect(throws: SagaLogError.self) { try log.append(SagaEvent(step: "two", kind: .started), in: plan) }
        #expect(throws: SagaLogError.self) { try log.append(SagaEvent(step: "one", kind: .succeeded), in: plan) }
        #expect(throws: SagaLogError.self) { try log.append(SagaEvent(step: "one", kind: .undoStarted), in: plan) }
        try log.append(SagaEvent(step: "one", kind: .started), in: plan)
        try log.append(SagaEvent(step: "one", kind: .succeeded), in: plan)
        #expect(throws: SagaLogError.self) { try log.append(SagaEvent(step: "one", kind: .started), in: plan) }
        #expect(log.events.count == 2)
    }
}
