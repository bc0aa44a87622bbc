/// One step of a saga: idempotent deeds over a shared context.
package struct SagaStep<Context: Sendable>: Sendable {
    /// The name in the log: unique within the saga and never changed once released.
    package let name: String
    /// Does the work; called again after a crash, so it must find out what is there already.
    package let perform: @Sendable (Context) async throws -> Void
    /// Takes back whatever `perform` may have done, wholly or in part; no error when there is nothing.
    package let undo: @Sendable (Context) async throws -> Void
    /// Whether the work is known to be done, so that a resumed saga need not repeat it.
    package let isDone: @Sendable (Context) async throws -> Bool

    /// Makes a step. A step without an undo leaves nothing behind, or belongs to a saga that only goes forward.
    package init(
        _ name: String,
        perform: @escaping @Sendable (Context) async throws -> Void,
        undo: @escaping @Sendable (Context) async throws -> Void = { _ in },
        isDone: @escaping @Sendable (Context) async throws -> Bool = { _ in false }
    ) {
        self.name = name
        self.perform = perform
        self.undo = undo
        self.isDone = isDone
    }
}

/// How a run ended.
package enum SagaOutcome: Equatable, Sendable {
    /// Every step succeeded.
    case finished
    /// A step failed and everything was undone.
    case undone(step: String, reason: String)
    /// A step of a saga that only goes forward failed: run again, later.
    case failed(step: String, reason: String)
    /// An undo failed: an operator is needed, nothing goes on by itself.
    case stuck(step: String, reason: String)
}

/// A moment at which a test may end the process.
package enum SagaMoment: String, Sendable {
    /// The step is recorded as started and has done nothing yet.
    case before
    /// The step has done its work and it is not recorded yet.
    case after
}

/// Drives the steps of a saga: asks the log what is next, does it, persists what came of it.
package struct SagaRunner<Context: Sendable>: Sendable {
    /// Makes a log durable. When it throws, the run ends with its error and is resumed later from what was persisted.
    package typealias Persist = (SagaLog) async throws -> Void
    /// Told of each moment at which a crash is interesting; undo steps are named `undo-<step>`.
    package typealias Reached = (String, SagaMoment) async throws -> Void

    /// The steps in their order.
    package let steps: [SagaStep<Context>]
    /// Their names and the direction.
    package let plan: SagaPlan

    /// Makes a runner.
    package init(_ steps: [SagaStep<Context>], direction: SagaPlan.Direction) {
        self.steps = steps
        plan = SagaPlan(steps: steps.map(\.name), direction: direction)
    }

    /// Runs from where `log` stands to an end.
    ///
    /// `persist` is called after each event, before the next deed; what it throws, and what `reached` throws, ends the
    /// run without being taken for a failure of the step. `CancellationError` of a step does the same: a daemon that
    /// is being stopped resumes its saga, the step did not fail.
    package func run(
        _ context: Context,
        log: inout SagaLog,
        persist: Persist,
        reached: Reached = { _, _ in }
    ) async throws -> SagaOutcome {
        while true {
            switch log.next(in: plan) {
            case .finished: return .finished
            case .undone(let step, let reason): return .undone(step: step, reason: reason)
            case .stuck(let step, let reason): return .stuck(step: step, reason: reason)
            case .perform(let index):
                let failure = try await perform(steps[index], context, &log, persist, reached)
                if let failure, plan.direction == .forwardOnly {
                    return .failed(step: steps[index].name, reason: failure)
                }
            case .undo(let index):
                try await undo(steps[index], context, &log, persist, reached)
            }
        }
    }

    private func perform(
        _ step: SagaStep<Context>,
        _ context: Context,
        _ log: inout SagaLog,
        _ persist: Persist,
        _ reached: Reached
    ) async throws -> String? {
        let isResumed = log.state(of: step.name) == .started
        try log.append(SagaEvent(step: step.name, kind: .started), in: plan)
        if !isResumed { try await persist(log) }
        try await reached(step.name, .before)
        var failure: String?
        do {
            if try await !step.isDone(context) { try await step.perform(context) }
        } catch is CancellationError {
            throw CancellationError()
        } catch {
            failure = "\(error)"
        }
        if failure == nil { try await reached(step.name, .after) }
        let kind: SagaEventKind = failure == nil ? .succeeded : .failed
        try log.append(SagaEvent(step: step.name, kind: kind, reason: failure), in: plan)
        try await persist(log)
        return failure
    }

    private func undo(
        _ step: SagaStep<Context>,
        _ context: Context,
        _ log: inout SagaLog,
        _ persist: Persist,
        _ reached: Reached
    ) async throws {
        try log.append(SagaEvent(step: step.name, kind: .undoStarted), in: plan)
        try await persist(log)
        try await reached("undo-" + step.name, .before)
        var failure: String?
        do {
            try await step.undo(context)
        } catch is CancellationError {
            throw CancellationError()
        } catch {
            failure = "\(error)"
        }
        if failure == nil { try await reached("undo-" + step.name, .after) }
        let kind: SagaEventKind = failure == nil ? .undoFinished : .undoFailed
        try log.append(SagaEvent(step: step.name, kind: kind, reason: failure), in: plan)
        try await persist(log)
    }
}
