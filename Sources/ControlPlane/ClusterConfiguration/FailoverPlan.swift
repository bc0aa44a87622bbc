package import Identity

/// What one node takes over from nodes that are down. Every node that is up plans the same, so that for each object one of
/// them feels called; the transaction that does it lets only the first one through.
package struct FailoverPlan: Equatable, Sendable {
    /// The aggregates that it becomes the owner of.
    package var aggregates: [AggregateRecord] = []
    /// The LIFs that come to it.
    package var lifs: [LIFRecord] = []
    /// The nodes that are down and for which it stands in.
    package var nodes: Set<ObjectUUID> = []

    /// Plans for a node.
    ///
    /// - Parameters:
    ///   - node: who plans; not one of `down`.
    ///   - down: the nodes that are down.
    package init(for node: ObjectUUID, down: Set<ObjectUUID>, in snapshot: ConfigurationSnapshot) {
        for aggregate in snapshot.aggregates where down.contains(aggregate.node) {
            if Self.heir(of: aggregate, down: down, snapshot)?.uuid == node { aggregates.append(aggregate) }
        }
        for lif in snapshot.lifs {
            guard let current = lif.currentNode, down.contains(current) else { continue }
            if Self.heir(of: lif, down: down, snapshot)?.uuid == node { lifs.append(lif) }
        }
        for other in snapshot.nodes where down.contains(other.uuid) {
            if Self.deputy(of: other, down: down, snapshot)?.uuid == node { nodes.insert(other.uuid) }
        }
    }

    /// The node that takes over an aggregate: its home, which has come back, or else the first that reaches the directories
    /// of its home.
    private static func heir(
        of aggregate: AggregateRecord,
        down: Set<ObjectUUID>,
        _ snapshot: ConfigurationSnapshot
    ) -> NodeRecord? {
        guard let home = snapshot.node(aggregate.home) else { return nil }
        if !down.contains(home.uuid) { return home }
        return partners(of: home, snapshot).first { !down.contains($0.uuid) }
    }

    /// The node that takes over a LIF: its home, or else who stands in for the node that it was on; where the LIF's port is in
    /// a broadcast domain, the first who could that has a port in it. None when nobody has.
    private static func heir(
        of lif: LIFRecord,
        down: Set<ObjectUUID>,
        _ snapshot: ConfigurationSnapshot
    ) -> NodeRecord? {
        if let home = lif.homeNode.flatMap({ snapshot.node($0) }), !down.contains(home.uuid) { return home }
        guard let current = lif.currentNode.flatMap({ snapshot.node($0) }) else { return nil }
        return deputies(of: current, down: down, snapshot).first { snapshot.refuge(of: lif, on: $0.uuid) != .none }
    }

    /// The node that stands in for another one.
    private static func deputy(
        of node: NodeRecord,
        down: Set<ObjectUUID>,
        _ snapshot: ConfigurationSnapshot
    ) -> NodeRecord? { deputies(of: node, down: down, snapshot).first }

    /// The nodes that can stand in for another one: partners first, since they have its aggregates, then whoever is up.
    private static func deputies(
        of node: NodeRecord,
        down: Set<ObjectUUID>,
        _ snapshot: ConfigurationSnapshot
    ) -> [NodeRecord] {
        (partners(of: node, snapshot) + snapshot.nodes).filter { !down.contains($0.uuid) }
    }

    /// The nodes that take over the aggregates of a node, in the order of their names.
    package static func partners(of node: NodeRecord, _ snapshot: ConfigurationSnapshot) -> [NodeRecord] {
        snapshot.nodes.filter { $0.uuid != node.uuid && $0.partners?.contains(node.name) == true }
    }

    /// Whether there is nothing to take over.
    package var isEmpty: Bool { aggregates.isEmpty && lifs.isEmpty }
}

/// Decides which nodes are down, out of what is seen of them now and then.
package struct FailureDetector: Sendable {
    /// How long a node must not have been seen. Its session outlives it by the lease anyway; this is for one that loses its
    /// session for a moment.
    package static let absenceNanosecondsMin: UInt64 = 1_000_000_000
    /// How long after a start nobody is down who has not been seen yet: the nodes of a cluster start one after another.
    ///
    /// One that was seen is not waited for: others may hold the node that has just started for the heir, and do nothing
    /// themselves.
    package static let startNanoseconds: UInt64 = 15_000_000_000

    /// Longer than this without a look, and sessions may have ended unseen: the database was away, or this node was.
    package static let lookGapNanosecondsMax: UInt64 = 3_000_000_000
    /// How long nobody is down after such a gap. A database that was away for longer than the lease may have ended the
    /// sessions of all nodes, and each of them needs some seconds to find that out and begin its own again.
    package static let graceNanoseconds: UInt64 = 6_000_000_000

    private var seen: Set<ObjectUUID> = []
    private var absentSince: [ObjectUUID: UInt64] = [:]
    private let startedNanoseconds: UInt64
    private var lastLookNanoseconds: UInt64?
    private var graceEndsNanoseconds: UInt64 = 0

    /// Begins to watch at a time of the monotonic clock.
    package init(nowNanoseconds: UInt64) { startedNanoseconds = nowNanoseconds }

    /// The nodes that are down.
    ///
    /// - Parameters:
    ///   - isUp: whether a node is seen now.
    ///   - nowNanoseconds: the time of the monotonic clock.
    package mutating func down(
        among nodes: [NodeRecord],
        nowNanoseconds: UInt64,
        isUp: (NodeRecord) -> Bool
    ) -> Set<ObjectUUID> {
        if let last = lastLookNanoseconds, nowNanoseconds > last + Self.lookGapNanosecondsMax {
            beginGrace(nowNanoseconds: nowNanoseconds)
        }
        lastLookNanoseconds = nowNanoseconds
        let present = nodes.filter(isUp).map(\.uuid)
        seen.formUnion(present)
        let absent = nodes.map(\.uuid).filter { !present.contains($0) }
        absentSince = absentSince.filter { absent.contains($0.key) }
        for node in absent where absentSince[node] == nil { absentSince[node] = nowNanoseconds }
        guard nowNanoseconds >= graceEndsNanoseconds else { return [] }
        let isStarted = nowNanoseconds >= startedNanoseconds + Self.startNanoseconds
        return Set(
            absent.filter { node in
                (isStarted || seen.contains(node)) && nowNanoseconds >= absentSince[node]! + Self.absenceNanosecondsMin
            }
        )
    }

    /// A turn has ended: what it took, such as the opening of an aggregate, is no gap.
    package mutating func endTurn(nowNanoseconds: UInt64) { lastLookNanoseconds = nowNanoseconds }

    /// Nobody is down for a while: what is seen now says little. Also for a node that has lost its own session.
    package mutating func beginGrace(nowNanoseconds: UInt64) {
        graceEndsNanoseconds = nowNanoseconds + Self.graceNanoseconds
    }
}
