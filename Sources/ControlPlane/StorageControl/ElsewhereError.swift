package import ClusterConfiguration
package import Identity
import Synchronization

/// What was asked for is another node's to do.
package struct ElsewhereError: Error, Equatable, Sendable {
    /// The node.
    package let node: NodeRecord
}

extension StorageController {
    /// Refuses what only another node can do.
    ///
    /// - Throws: `ElsewhereError`, naming the node.
    package func requireHere(_ other: NodeRecord?) throws {
        if let other, other.uuid != node.uuid { throw ElsewhereError(node: other) }
    }

    /// Refuses what only the node that holds a volume can do.
    ///
    /// - Throws: `ElsewhereError`, naming the node.
    package func requireHere(_ volume: VolumeRecord, _ snapshot: ConfigurationSnapshot) throws {
        try requireHere(snapshot.node(holding: volume))
    }
}

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
    package func placement(of svm: SVMRecord, _ snapshot: ConfigurationSnapshot) -> [ManagementError] {
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
