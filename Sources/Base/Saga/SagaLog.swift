/// What happened to one step of a saga.
package enum SagaEventKind: String, Codable, Equatable, Sendable {
    /// The step is about to act; from here on it may have left something behind.
    case started
    /// The step has done its work.
    case succeeded
    /// The step gave up; what it did so far is undone next.
    case failed
    /// The undo of the step is about to act.
    case undoStarted
    /// Nothing of the step is left.
    case undoFinished
    /// The undo gave up: the saga is stuck until somebody looks at it.
    case undoFailed
}

/// One line of the log of a saga.
package struct SagaEvent: Codable, Equatable, Sendable {
    /// The name of the step.
    package var step: String
    /// What happened.
    package var kind: SagaEventKind
    /// Why, for the two kinds of failure.
    package var reason: String?

    /// Makes an event.
    package init(step: String, kind: SagaEventKind, reason: String? = nil) {
        self.step = step
        self.kind = kind
        self.reason = reason
    }
}

/// Where a step stands after the events of a log.
package enum SagaStepState: Equatable, Sendable {
    /// Nothing was tried.
    case pending
    /// Under way, or cut off by a crash.
    case started
    /// Done.
    case succeeded
    /// Given up.
    case failed
    /// Its undo is under way, or cut off by a crash.
    case undoStarted
    /// Its undo is done.
    case undone
    /// Its undo failed.
    case stuck
}

/// The names of the steps in their order and what a failure means: all that the pure part needs to know of a saga.
package struct SagaPlan: Equatable, Sendable {
    /// What happens after a step failed.
    package enum Direction: Equatable, Sendable {
        /// Everything done so far is undone, last step first.
        case reversible
        /// The step is tried again, for ever: there is no way back.
        case forwardOnly
    }

    /// The steps in the order in which they are performed; the names are unique.
    package var steps: [String]
    /// What happens after a step failed.
    package var direction: Direction

    /// Makes a plan.
    package init(steps: [String], direction: Direction) {
        precondition(Set(steps).count == steps.count, "two steps of a saga have the same name")
        self.steps = steps
        self.direction = direction
    }
}

/// What is to be done next.
package enum SagaDirective: Equatable, Sendable {
    /// Perform the step at this index.
    case perform(Int)
    /// Undo the step at this index.
    case undo(Int)
    /// Every step has succeeded.
    case finished
    /// Every step that had been tried is undone; the step that failed and its reason.
    case undone(step: String, reason: String)
    /// An undo failed; the step and the reason.
    case stuck(step: String, reason: String)
}

/// An event that may not follow those of the log.
package struct SagaLogError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The event.
    package var event: SagaEvent
    /// Where its step stood.
    package var state: SagaStepState

    /// The error in words.
    package var description: String {
        "the saga step '\(event.step)' cannot be \(event.kind.rawValue) when it is \(state)"
    }
}

/// The history of a saga. It is a value: persist it after each event, and a crash costs at most a repetition of one step.
package struct SagaLog: Codable, Equatable, Sendable {
    /// Every event, oldest first. A failure that is tried again (see `SagaPlan.Direction.forwardOnly`) replaces the
    /// events of its step, so that the log stays bounded by the number of steps.
    package private(set) var events: [SagaEvent]

    /// A log without events.
    package init() { events = [] }

    /// Where a step stands.
    package func state(of step: String) -> SagaStepState {
        guard let last = events.last(where: { $0.step == step }) else { return .pending }
        switch last.kind {
        case .started: return .started
        case .succeeded: return .succeeded
        case .failed: return .failed
        case .undoStarted: return .undoStarted
        case .undoFinished: return .undone
        case .undoFailed: return .stuck
        }
    }

    /// The only legal next deed.
    package func next(in plan: SagaPlan) -> SagaDirective {
        let states = plan.steps.map { state(of: $0) }
        if let index = states.firstIndex(of: .stuck) {
            let reason = events.last { $0.step == plan.steps[index] }?.reason
            return .stuck(step: plan.steps[index], reason: reason ?? "unknown")
        }
        let isUndoing = states.contains { $0 == .undoStarted || $0 == .undone || $0 == .failed }
        guard isUndoing && plan.direction == .reversible else {
            guard let index = states.firstIndex(where: { $0 != .succeeded }) else { return .finished }
            return .perform(index)
        }
        // A step that failed or was cut off may have left something behind: it is undone like those that succeeded.
        if let index = states.lastIndex(where: { $0 != .pending && $0 != .undone }) { return .undo(index) }
        let failure = events.last { $0.kind == .failed }
        return .undone(step: failure?.step ?? "", reason: failure?.reason ?? "undone on request")
    }

    /// Adds an event.
    /// - Throws: `SagaLogError` when the event is not a legal successor; the log is then unchanged.
    package mutating func append(_ event: SagaEvent, in plan: SagaPlan) throws(SagaLogError) {
        let before = state(of: event.step)
        guard isLegal(event, after: before, in: plan) else { throw SagaLogError(event: event, state: before) }
        // Repetitions after a crash do not make the log grow.
        if before == .started && event.kind == .started { return }
        if before == .undoStarted && event.kind == .undoStarted { return }
        if before == .failed && event.kind == .started { events.removeAll { $0.step == event.step } }
        events.append(event)
    }

    private func isLegal(_ event: SagaEvent, after state: SagaStepState, in plan: SagaPlan) -> Bool {
        switch event.kind {
        case .started:
            guard case .perform(let index) = next(in: plan) else { return false }
            return plan.steps[index] == event.step
        case .succeeded, .failed:
            return state == .started
        case .undoStarted:
            guard case .undo(let index) = next(in: plan) else { return false }
            return plan.steps[index] == event.step
        case .undoFinished, .undoFailed:
            return state == .undoStarted
        }
    }
}
