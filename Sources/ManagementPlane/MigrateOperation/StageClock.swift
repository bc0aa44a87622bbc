package import Environment

/// Measures the stages of the window.
package struct StageClock: Sendable {
    private let environment: Environment
    private var beganNanoseconds: UInt64
    /// The stages so far, in order.
    package private(set) var stages: [WindowStage] = []

    /// Starts with the first stage.
    package init(_ environment: Environment) {
        self.environment = environment
        beganNanoseconds = environment.monotonicNanoseconds()
    }

    /// Ends a stage and begins the next.
    package mutating func end(_ name: String) {
        let now = environment.monotonicNanoseconds()
        stages.append(WindowStage(name: name, durationMicroseconds: (now - beganNanoseconds) / 1_000))
        beganNanoseconds = now
    }
}
