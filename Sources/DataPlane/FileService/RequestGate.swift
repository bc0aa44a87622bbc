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
    /// Of those that are inside, the ones that other nodes execute.
    private let forwarded = Atomic<Int>(0)

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

    /// A request that is inside goes to another node.
    package func beginForwarding() { forwarded.wrappingAdd(1, ordering: .sequentiallyConsistent) }

    /// It is answered, or lost; called before it leaves.
    package func endForwarding() { forwarded.wrappingSubtract(1, ordering: .sequentiallyConsistent) }

    /// Requests that this node executes itself, or more: while the gate is held, zero means that there is none. What is
    /// inside is read first: one that goes to another node in between is executed here no more, and one that comes back
    /// is counted twice at worst.
    package var executing: Int {
        let inside = inside
        return inside - forwarded.load(ordering: .sequentiallyConsistent)
    }

    /// Requests that are being executed, here or elsewhere.
    package var inside: Int { inFlight.load(ordering: .sequentiallyConsistent) }

    /// Moves the gate.
    package func move(to position: Position) {
        self.position.store(position.rawValue, ordering: .sequentiallyConsistent)
    }
}
