package import ClusterConfiguration
package import Identity
package import MigrateOperation
package import StorageControl

/// A node of the own cluster, as a master sees it. Errors of kind `.nodeAway` say nothing about what happened.
package protocol GroupNode: Sendable {
    /// Makes one call and returns its answer, within the patience of its step.
    func send(_ call: GroupCall) async throws -> GroupReply
}

/// Finds the nodes of the own cluster. The own node is among them and is called without a hop.
package protocol GroupNodeDirectory: Sendable {
    /// A node.
    /// - Throws: `MigrateError` `.nodeAway` when it cannot be asked.
    func node(_ uuid: ObjectUUID) async throws -> any GroupNode
}

/// The directory of a cluster of one node.
package struct SoleNodeDirectory: GroupNodeDirectory {
    private let own: any GroupNode

    /// Makes it out of the one node.
    package init(_ own: any GroupNode) { self.own = own }

    /// The one node.
    package func node(_ uuid: ObjectUUID) async throws -> any GroupNode { own }
}

/// The nodes that have a part of an SVM, for a master: scatters calls and gathers answers, in parallel.
package struct Group: Sendable {
    /// The runtime of the own node.
    package let controller: StorageController
    /// The nodes.
    package let directory: any GroupNodeDirectory
    /// Nil for what changes nothing of an operation.
    package var authority: GroupAuthority?

    /// Makes it.
    package init(_ controller: StorageController, _ directory: any GroupNodeDirectory) {
        self.controller = controller
        self.directory = directory
    }

    /// A step for a node.
    package struct Part: Sendable {
        /// The node.
        package var node: ObjectUUID
        /// The volumes that it is about.
        package var volumes: [VolumeMSID]
        /// What to do.
        package var step: GroupStep

        /// Makes a part.
        package init(node: ObjectUUID, volumes: [VolumeMSID] = [], step: GroupStep) {
            self.node = node
            self.volumes = volumes
            self.step = step
        }
    }

    /// Who has a part of an SVM. While its configuration is locked for the operation, what was made so last says it without
    /// the database: volumes come and go with the configuration only, and one that changes hands is refused where it was.
    package func members(of svm: ObjectUUID) async throws -> GroupMembers {
        GroupMembers(of: svm, in: try await configuration(of: svm), own: controller.node.uuid)
    }

    /// The configuration by which an SVM is found.
    package func configuration(of svm: ObjectUUID) async throws -> ConfigurationSnapshot {
        let last = controller.reconciledConfiguration
        if let authority, let record = last.svm(svm), record.configurationLock == authority.operation { return last }
        return try await controller.store.snapshot()
    }

    /// Asks one node.
    @discardableResult
    package func ask(_ part: Part, of svm: ObjectUUID, attachment: [UInt8] = []) async throws -> GroupReply {
        let call = GroupCall(
            authority: authority,
            svm: svm,
            volumes: part.volumes,
            step: part.step,
            attachment: attachment
        )
        return try await directory.node(part.node).send(call)
    }

    /// Asks several nodes at once. All of them are asked and heard before the failure of one is thrown: a gate is opened
    /// wherever it can be.
    ///
    /// - Returns: the answers, in the order of the parts.
    @discardableResult
    package func ask(_ parts: [Part], of svm: ObjectUUID, attachment: [UInt8] = []) async throws -> [GroupReply] {
        if parts.count == 1 { return [try await ask(parts[0], of: svm, attachment: attachment)] }
        let results = await withTaskGroup(of: (Int, Result<GroupReply, any Error>).self) { group in
            for (index, part) in parts.enumerated() {
                group.addTask {
                    do {
                        return (index, .success(try await ask(part, of: svm, attachment: attachment)))
                    } catch {
                        return (index, .failure(error))
                    }
                }
            }
            var results: [(Int, Result<GroupReply, any Error>)] = []
            for await result in group { results.append(result) }
            return results.sorted { $0.0 < $1.0 }.map(\.1)
        }
        return try results.map { try $0.get() }
    }

    /// Asks every node that has a part of an SVM, for its volumes.
    @discardableResult
    package func askAll(_ step: GroupStep, of svm: ObjectUUID, attachment: [UInt8] = []) async throws -> [GroupReply] {
        let members = try await members(of: svm)
        let parts = members.nodes.map { Part(node: $0, volumes: members.volumes(on: $0), step: step) }
        return try await ask(parts, of: svm, attachment: attachment)
    }

    /// Asks every node that holds volumes of an SVM, for its volumes.
    @discardableResult
    package func askHolders(_ step: GroupStep, of svm: ObjectUUID) async throws -> [GroupReply] {
        let parts = try await members(of: svm).holdings.map { Part(node: $0.node, volumes: $0.volumes, step: step) }
        return try await ask(parts, of: svm)
    }

    /// A node answered something that its step does not lead to.
    package static func strangeAnswer(_ step: GroupStep) -> MigrateError {
        MigrateError(
            .wrongVersion,
            code: MigrateCode.wrongVersion,
            "a node of this cluster answered '\(step)' with something else",
            remedy: "run the same version of the software on all nodes"
        )
    }
}
