import Synchronization

/// The gate that every request of an SVM passes: the one word of migration that the protocol layer knows.
package final class RequestGate: Sendable {
    /// The positions of the gate.
    package enum Position: UInt8, Sendable {
        /// Requests are executed.
        case open = 0
        /// Requests wait in their connections, which stay.
        case held = 1
        /// Requests are dropped with their connections.
        case closed = 2
    }

    private let position = Atomic<UInt8>(Position.open.rawValue)
    private let inFlight = Atomic<Int>(0)

    /// An open gate.
    package init() {}

    /// Where the gate stands.
    package var current: Position { Position(rawValue: position.load(ordering: .sequentiallyConsistent))! }

    /// Lets one request in, which must `leave` when its answer has been handed to the connection; false when the gate is
    /// not open.
    package func enter() -> Bool {
        // Counted before the gate is looked at: whoever closes it and then sees zero knows that nobody is inside.
        inFlight.wrappingAdd(1, ordering: .sequentiallyConsistent)
        if position.load(ordering: .sequentiallyConsistent) == Position.open.rawValue { return true }
        inFlight.wrappingSubtract(1, ordering: .sequentiallyConsistent)
        return false
    }

    /// Counts an answer that comes for a request which has left already; `leave` when it has been handed over.
    package func rejoin() { inFlight.wrappingAdd(1, ordering: .sequentiallyConsistent) }

    /// One request is answered.
    package func leave() { inFlight.wrappingSubtract(1, ordering: .sequentiallyConsistent) }

    /// Requests that are being executed.
    package var inside: Int { inFlight.load(ordering: .sequentiallyConsistent) }

    /// Moves the gate.
    package func move(to position: Position) {
        self.position.store(position.rawValue, ordering: .sequentiallyConsistent)
    }
}
