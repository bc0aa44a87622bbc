package import ClusterConfiguration
package import Identity
import Performance
import ReplicatedDatabase
import Synchronization

extension StorageController {
    /// The names of the nodes that are up: this one, and those whose session lives in a database that they share.
    package func namesOfNodesUp() async throws(ManagementError) -> Set<String> {
        try await namesOfSessions().union([node.name])
    }

    /// The names of the nodes whose session lives.
    func namesOfSessions() async throws(ManagementError) -> Set<String> {
        do {
            let (records, _) = try await store.database.range(prefix: ConfigurationKeys.sessions)
            return Set(records.map { String($0.key.dropFirst(ConfigurationKeys.sessions.count)) })
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
        try await PerformanceStore(store.database).remove(node.uuid)
    }
}

// What group control asks of the runtime of a node.
extension StorageController {
    /// The configuration that was made so last: what this node knows without the database.
    package var reconciledConfiguration: ConfigurationSnapshot { state.withLock { $0.reconciled } }

    /// Whether the face of an SVM is an operation's.
    package func isOperated(_ svm: ObjectUUID) -> Bool { state.withLock { $0.services[svm]?.isOperated ?? false } }

    /// Gives the face of an SVM the newest configuration, whoever has it.
    package func configureService(of svm: ObjectUUID) async throws {
        await reconcileLock.acquire()
        do {
            let snapshot = try await store.snapshot()
            if let record = snapshot.svm(svm), let service = service(of: svm) {
                service.configure(configuration(of: record, openVolumes(of: record, snapshot), snapshot))
            }
        } catch {
            await reconcileLock.release()
            throw error
        }
        await reconcileLock.release()
    }
}
