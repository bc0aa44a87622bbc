package import ClusterConfiguration
package import Identity
import ReplicatedDatabase
import Synchronization

extension StorageController {
    /// The names of the nodes that are up: this one, and those whose session lives in a database that they share.
    package func namesOfNodesUp() async throws(ManagementError) -> Set<String> {
        do {
            let (records, _) = try await store.database.range(prefix: ConfigurationKeys.sessions)
            return Set(records.map { String($0.key.dropFirst(ConfigurationKeys.sessions.count)) } + [node.name])
        } catch {
            throw ManagementError(database: error)
        }
    }

    /// Takes a node out of the cluster: one that is down, and whose aggregates hold nothing any more.
    package func removeNode(_ node: NodeRecord) async throws {
        guard try await !namesOfNodesUp().contains(node.name) else {
            throw ManagementError(
                .conflict,
                "node_is_running",
                "node '\(node.name)' is up",
                remedy: "end its godwitd first; a start of it joins the cluster again",
                target: "node"
            )
        }
        try await change(as: .user) { draft throws(ManagementError) in
            for aggregate in draft.snapshot.aggregates where aggregate.node == node.uuid {
                try draft.deleteAggregate(aggregate.uuid)
            }
            try draft.deleteNode(node.uuid)
        }
    }
}

// What this node alone can do for an SVM.
extension StorageController {
    /// Whether no other node holds volumes of an SVM. Asked in the window of a cutover: the configuration that was made so
    /// last says it, without the database.
    package func isHere(_ svm: ObjectUUID) async throws(ManagementError) -> Bool {
        var snapshot = state.withLock { $0.reconciled }
        if snapshot.guardRevision == 0 { snapshot = try await store.snapshot() }
        guard snapshot.nodes.count > 1 else { return true }
        return snapshot.volumes(of: svm).allSatisfy { isHere($0, snapshot) }
    }

    /// Why this node alone cannot move an SVM: volumes and LIFs of it on other nodes.
    package func obstaclesToMoving(_ svm: SVMRecord, _ snapshot: ConfigurationSnapshot) -> [ManagementError] {
        let volumes = snapshot.volumes(of: svm.uuid).filter { !isHere($0, snapshot) }.map { record in
            ("volume '\(record.name)'", snapshot.node(holding: record)?.name ?? "?")
        }
        let lifs = snapshot.lifs(of: svm.uuid).filter { snapshot.node(serving: $0)?.uuid != node.uuid }.map { lif in
            ("LIF '\(lif.name)'", snapshot.node(serving: lif)?.name ?? "?")
        }
        return (volumes + lifs).map { what, place in
            ManagementError(
                .unsupported,
                "svm_spans_nodes",
                "\(what) of SVM '\(svm.name)' is on node '\(place)', and this request came to node '\(node.name)': moving an "
                    + "SVM that is on several nodes is not in this version",
                remedy: "give the peer the address of the node that holds the SVM's volumes, and move its LIFs there "
                    + "(godwit lif modify --home-node)"
            )
        }
    }
}
