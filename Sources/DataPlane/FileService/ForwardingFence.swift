package import Identity

/// Keeps what a node forwarded for a LIF from being executed after a later node of that LIF has begun to send its clients'
/// requests.
///
/// A client sends a request again where its address has gone, and goes on. What the former node of the address still holds
/// of that client, in its memory or in a connection that is cut, is old by then: a WRITE of it would undo a later one. So
/// the node that executes lets the terms of a LIF follow each other: once it has executed for one, earlier ones are over.
/// Whether the former node knows that it has lost the address does not matter, nor what the database says.
package struct ForwardingFence: Sendable {
    /// What becomes of a connection that brings requests.
    package enum Admission: Equatable, Sendable {
        /// Its term is over.
        case refused
        /// Its requests are executed.
        case admitted
        /// The same, and the connections of earlier terms of its LIF end before its first request.
        case admittedAsFirst
    }

    /// The latest terms that are known to have begun, by LIF.
    private var known: [ObjectUUID: UInt64] = [:]
    /// The latest terms that were admitted.
    private var admitted: [ObjectUUID: UInt64] = [:]

    /// A fence that has seen nothing.
    package init() {}

    /// Notes terms that have begun. Earlier ones are refused from now on; what was admitted goes on, since an ordered move of
    /// a LIF waits for its answers.
    package mutating func learn(_ terms: some Sequence<LIFTerm>) {
        for term in terms { known[term.lif] = max(known[term.lif] ?? 0, term.number) }
    }

    /// Decides about a connection, or about the node's own listener at the LIF.
    package mutating func admit(_ term: LIFTerm) -> Admission {
        guard term.number >= known[term.lif] ?? 0 else { return .refused }
        known[term.lif] = term.number
        let isFirst = admitted[term.lif].map { $0 < term.number } ?? true
        admitted[term.lif] = term.number
        return isFirst ? .admittedAsFirst : .admitted
    }

    /// Whether a later term than this one was admitted.
    package func isOver(_ term: LIFTerm) -> Bool { term.number < admitted[term.lif] ?? 0 }
}
