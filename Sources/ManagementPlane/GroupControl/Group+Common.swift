import ClusterConfiguration
package import Identity
import MigrateOperation
import StorageControl

// What both masters let the nodes do.
extension Group {
    /// The hash over a full walk of a snapshot of a volume, as sixteen hexadecimal digits.
    package func contentHash(
        of volume: VolumeMSID,
        in svm: ObjectUUID,
        snapshot: ObjectUUID
    ) async throws -> String {
        guard let node = try await members(of: svm).node(holding: volume) else {
            throw MigrateError(
                .refused,
                code: MigrateCode.integrity,
                "this cluster has no volume \(volume)",
                remedy: "look at the aggregates of the cluster"
            )
        }
        let step = GroupStep.contentHash(snapshot: snapshot)
        let reply = try await ask(Part(node: node, volumes: [volume], step: step), of: svm)
        guard case .contentHash(let hash) = reply.answer else { throw Self.strangeAnswer(step) }
        return hash
    }

    /// Deletes an SVM with all that belongs to it, on every node; absent is no error.
    /// - Throws: when something of it is left.
    package func deleteSVM(_ svm: ObjectUUID, for operation: ObjectUUID) async throws {
        let members = try await members(of: svm)
        let volumes = try await controller.store.snapshot().volumes(of: svm)
        try await controller.deleteSVM(svm, for: operation)
        let others = members.nodes.filter { $0 != controller.node.uuid }
        if !others.isEmpty {
            try await ask(others.map { Part(node: $0, step: .release) }, of: svm)
            try await ask(others.map { Part(node: $0, step: .reconcile(objects: volumes.map(\.uuid))) }, of: svm)
        }
        // The last node that was done has removed the SVM, unless two were done at once.
        await controller.reconcile()
        guard try await controller.store.snapshot().svm(svm) != nil else { return }
        throw MigrateError(
            .failed,
            "a part of SVM \(svm) is not deleted yet",
            remedy: "nothing: it is tried again"
        )
    }
}
