package import ClusterConfiguration
package import Environment
import Identity
import Logging
import Synchronization

// Nodes that are down, and nodes that are emptied and filled again.
extension StorageController {
    private static let lookMilliseconds: UInt64 = 250

    /// Stands in for nodes that are down, until the task is cancelled.
    package func watchNodes(_ waiting: Waiting) async {
        var detector = FailureDetector(nowNanoseconds: environment.monotonicNanoseconds())
        var failure: ManagementError?
        while (try? await waiting.milliseconds(Self.lookMilliseconds)) != nil {
            do {
                try await watchNodesOnce(&detector)
                failure = nil
            } catch {
                let newest = ManagementError.from(error)
                // While the database does not answer nobody can take over anything, and this comes four times a second.
                if failure != newest { logger.warning("standing in for nodes that are down: \(newest)") }
                failure = newest
            }
        }
    }

    /// One turn of `watchNodes`.
    package func watchNodesOnce(_ detector: inout FailureDetector) async throws {
        let up = try await namesOfSessions()
        let snapshot = try await store.snapshot()
        let now = environment.monotonicNanoseconds()
        guard up.contains(node.name) else { return detector.beginGrace(nowNanoseconds: now) }
        defer { detector.endTurn(nowNanoseconds: environment.monotonicNanoseconds()) }
        let down = detector.down(among: snapshot.nodes, nowNanoseconds: now) { up.contains($0.name) }
        guard !down.isEmpty else { return }
        let plan = FailoverPlan(for: node.uuid, down: down, in: snapshot)
        if !plan.isEmpty {
            let own = node.uuid
            try await change(as: .system) { draft throws(ManagementError) in try draft.takeOver(plan, as: own) }
            let objects =
                plan.aggregates.map { "aggregate '\($0.name)'" } + plan.lifs.map { "LIF '\($0.name)'" }
            events.record(
                name: "node.takenOver",
                severity: "alert",
                "node '\(node.name)' takes over \(objects.joined(separator: ", ")) of a node that is down"
            )
            await keepAggregatesOnce()
        }
        if !plan.nodes.isEmpty { try await state.withLock { $0.ownershipObserver }?.standIn(for: plan.nodes) }
    }

    /// Moves the aggregates and LIFs of a node that is up to a partner.
    ///
    /// - Returns: how many.
    package func vacate(_ node: NodeRecord, for partner: NodeRecord) async throws -> Int {
        try await requireUp(partner, "take over what node '\(node.name)' has")
        return try await change(as: .user) { draft throws(ManagementError) in try draft.vacate(node, for: partner) }
    }

    /// Gives a node back what others have taken over.
    ///
    /// - Returns: how many aggregates and LIFs.
    package func giveBack(to node: NodeRecord) async throws -> Int {
        try await requireUp(node, "take back its aggregates and LIFs")
        return try await change(as: .user) { draft throws(ManagementError) in try draft.giveBack(to: node) }
    }

    private func requireUp(_ node: NodeRecord, _ what: String) async throws {
        guard try await !namesOfNodesUp().contains(node.name) else { return }
        throw ManagementError(
            .conflict,
            "node_is_down",
            "node '\(node.name)' is down and cannot \(what)",
            remedy: "start its godwitd first",
            target: "node"
        )
    }
}
