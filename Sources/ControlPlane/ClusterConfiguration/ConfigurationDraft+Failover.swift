package import Identity
import ReplicatedDatabase

// Changes of the owner: of aggregates, and of LIFs with them.
extension ConfigurationDraft {
    /// Gives a node what it has planned to take over. The transaction fails when one of the former owners is seen again, or the
    /// node itself has no session: others hold it for dead, and would take over from it in turn.
    package mutating func takeOver(_ plan: FailoverPlan, as node: ObjectUUID) throws(ManagementError) {
        if let record = snapshot.node(node) { try requireUp(record) }
        for planned in plan.aggregates {
            guard let aggregate = snapshot.aggregate(planned.uuid), aggregate.node == planned.node else { continue }
            try requireDown(aggregate.node)
            try give(aggregate, to: node)
        }
        for planned in plan.lifs {
            guard let lif = snapshot.lif(planned.uuid), let current = lif.currentNode, current == planned.currentNode
            else { continue }
            try requireDown(current)
            try give(lif, to: node)
        }
    }

    /// Gives the aggregates and LIFs of a node that is up to a partner, so that the node can be stopped.
    ///
    /// - Returns: how many aggregates and LIFs change hands; none when it has none.
    @discardableResult
    package mutating func vacate(_ node: NodeRecord, for partner: NodeRecord) throws(ManagementError) -> Int {
        guard FailoverPlan.partners(of: node, snapshot).contains(partner) else {
            let others = FailoverPlan.partners(of: node, snapshot).map { "'\($0.name)'" }
            throw ManagementError(
                .conflict,
                "node_is_no_partner",
                "node '\(partner.name)' does not take over the aggregates of node '\(node.name)'",
                remedy:
                    others.isEmpty
                    ? "name '\(node.name)' among the 'partners' in the configuration file of another node"
                    : "name a node that does: \(others.joined(separator: ", "))",
                target: "partner"
            )
        }
        let aggregates = snapshot.aggregates.filter { $0.node == node.uuid && $0.home == node.uuid }
        let lifs = snapshot.lifs.filter { $0.currentNode == node.uuid }
        // At a port of another network nobody would reach it, and here it would go with the node.
        if let lif = lifs.first(where: { snapshot.refuge(of: $0, on: partner.uuid) == .none }) {
            throw ManagementError(
                .conflict,
                "lif_without_port",
                "node '\(partner.name)' has no port in the broadcast domain of LIF '\(lif.name)'",
                remedy: "add one (godwit broadcast-domain modify --add-ports), or move the LIF first",
                target: "partner"
            )
        }
        try requireUp(partner)
        // A commit that is under way would be given up, and a replica's transfer begun again: what is ordered can wait.
        try requireSettled(aggregates, lifs, [.source, .destination])
        return try give(aggregates, lifs, to: partner.uuid)
    }

    /// Gives a node that is up again what others have taken over.
    ///
    /// - Returns: how many aggregates and LIFs change hands; none when nothing was taken over.
    @discardableResult
    package mutating func giveBack(to node: NodeRecord) throws(ManagementError) -> Int {
        let aggregates = snapshot.aggregates.filter { $0.home == node.uuid && $0.node != node.uuid }
        let lifs = snapshot.lifs.filter { $0.homeNode == node.uuid && $0.currentNode != node.uuid }
        try requireUp(node)
        // A source that comes home costs a migrate an attempt, and may be what it waits for.
        try requireSettled(aggregates, lifs, [.destination])
        return try give(aggregates, lifs, to: node.uuid)
    }

    private mutating func give(
        _ aggregates: [AggregateRecord],
        _ lifs: [LIFRecord],
        to node: ObjectUUID
    ) throws(ManagementError) -> Int {
        for aggregate in aggregates { try give(aggregate, to: node) }
        for lif in lifs { try give(lif, to: node) }
        return aggregates.count + lifs.count
    }

    private mutating func give(_ aggregate: AggregateRecord, to node: ObjectUUID) throws(ManagementError) {
        var changed = aggregate
        changed.homeNode = aggregate.home
        changed.node = node
        changed.ownershipEpoch = (aggregate.ownershipEpoch ?? 0) + 1
        try putAggregate(changed)
    }

    private mutating func give(_ lif: LIFRecord, to node: ObjectUUID) throws(ManagementError) {
        var changed = lif
        changed.move(to: node, port: snapshot.port(for: lif, on: node))
        try replace(changed)
    }

    /// What a user orders waits for migrates: an operation that loses its volumes begins a part of its work again.
    private func requireSettled(
        _ aggregates: [AggregateRecord],
        _ lifs: [LIFRecord],
        _ roles: [MigrateRole]
    ) throws(ManagementError) {
        let volumes = snapshot.volumes.filter { volume in aggregates.contains { $0.uuid == volume.aggregate } }
        let svms = Set(volumes.map(\.svm) + lifs.map(\.svm))
        // One that is being deleted is deleted wherever its volumes are.
        let found = snapshot.svms.first {
            svms.contains($0.uuid) && roles.contains($0.migrateRole) && $0.state != .deleting
        }
        guard let svm = found else { return }
        throw ManagementError(
            .conflict,
            "svm_in_migrate",
            "SVM '\(svm.name)' takes part in a migrate",
            remedy: "wait until it has ended, or abort it (godwit svm migrate show)",
            target: "svm"
        )
    }

    private mutating func requireDown(_ node: ObjectUUID) throws(ManagementError) {
        guard let record = snapshot.node(node) else { return }
        conditions.append(.absent(key: ConfigurationKeys.session(ofNodeNamed: record.name)))
    }

    private mutating func requireUp(_ node: NodeRecord) throws(ManagementError) {
        conditions.append(.present(key: ConfigurationKeys.session(ofNodeNamed: node.name)))
    }
}
