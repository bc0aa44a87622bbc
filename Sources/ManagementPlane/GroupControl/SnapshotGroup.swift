import ClusterConfiguration
package import Identity
import MigrateOperation
import StorageControl

/// Snapshots of all volumes of an SVM at one moment, on whichever nodes they are, for users.
package struct SnapshotGroup: Sendable {
    private let group: Group

    /// Makes it over the nodes of a cluster.
    package init(_ group: Group) { self.group = group }

    /// Takes a snapshot of that name of every volume. When one cannot be taken, none is.
    package func create(ofSVM svm: ObjectUUID, named name: String) async throws -> [TakenSnapshot] {
        let step = GroupStep.createSnapshots(named: name)
        let members = try await group.members(of: svm)
        let parts = members.holdings.map { Group.Part(node: $0.node, volumes: $0.volumes, step: step) }
        let results = await withTaskGroup(of: Result<GroupReply, any Error>.self) { tasks in
            for part in parts {
                tasks.addTask {
                    do { return .success(try await group.ask(part, of: svm)) } catch { return .failure(error) }
                }
            }
            var results: [Result<GroupReply, any Error>] = []
            for await result in tasks { results.append(result) }
            return results
        }
        var taken: [TakenSnapshot] = []
        var failure: (any Error)?
        for result in results {
            switch result {
            case .success(let reply):
                guard case .snapshots(let snapshots) = reply.answer else { throw Group.strangeAnswer(step) }
                taken += snapshots
            case .failure(let error): failure = error
            }
        }
        guard let failure else { return taken }
        // Those of a node that does not answer may be there; a user finds them under the name that he gave.
        let undo = members.holdings.compactMap { holding -> Group.Part? in
            let own = taken.filter { holding.volumes.contains($0.msid) }.map(\.uuid)
            return own.isEmpty
                ? nil : Group.Part(node: holding.node, volumes: holding.volumes, step: .deleteSnapshots(own))
        }
        try await group.ask(undo, of: svm)
        throw failure
    }
}
