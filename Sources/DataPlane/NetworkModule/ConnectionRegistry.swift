import Identity
import Synchronization

/// What the connections of a listener share.
final class ConnectionRegistry: Sendable {
    private struct State {
        var connections: [ObjectIdentifier: NFSConnection] = [:]
        var isFrozen = false
        var term: LIFTerm?
    }

    let counters = RequestCounters()
    private let state: Mutex<State>

    /// - Parameter term: the LIF's; nil for connections that come from several.
    init(term: LIFTerm? = nil) { state = Mutex(State(term: term)) }

    /// The LIF's term.
    var term: LIFTerm? { state.withLock { $0.term } }

    /// Begins another term; returns the connections of the last one.
    func begin(_ term: LIFTerm) -> [NFSConnection] {
        state.withLock { state in
            guard state.term != term else { return [] }
            state.term = term
            return Array(state.connections.values)
        }
    }

    /// Takes a connection in; returns whether it must be frozen, and whether its term has ended since it was made.
    func add(_ connection: NFSConnection) -> (isFrozen: Bool, isOver: Bool) {
        state.withLock { state in
            state.connections[ObjectIdentifier(connection)] = connection
            return (state.isFrozen, state.term.map { $0 != connection.term } ?? false)
        }
    }

    func remove(_ connection: NFSConnection) {
        state.withLock { $0.connections[ObjectIdentifier(connection)] = nil }
    }

    var count: Int { state.withLock { $0.connections.count } }

    /// The open connections. Their order does not matter: each is told the same.
    var all: [NFSConnection] { state.withLock { Array($0.connections.values) } }

    /// Freezes connections that come; returns those that are open.
    func freeze() -> [NFSConnection] { setFrozen(true) }

    /// The reverse.
    func thaw() -> [NFSConnection] { setFrozen(false) }

    private func setFrozen(_ isFrozen: Bool) -> [NFSConnection] {
        state.withLock { state in
            state.isFrozen = isFrozen
            return Array(state.connections.values)
        }
    }
}

/// Counts requests of a listener.
package final class RequestCounters: Sendable {
    private let requestCount = Atomic<UInt64>(0)
    private let malformedCount = Atomic<UInt64>(0)

    func countRequest() { requestCount.wrappingAdd(1, ordering: .relaxed) }
    func countMalformed() { malformedCount.wrappingAdd(1, ordering: .relaxed) }

    /// Requests so far.
    package var requests: UInt64 { requestCount.load(ordering: .relaxed) }
    /// Streams and records that were no RPC.
    package var malformed: UInt64 { malformedCount.load(ordering: .relaxed) }
}
