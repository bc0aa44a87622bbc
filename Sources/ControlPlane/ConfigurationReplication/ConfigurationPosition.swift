import ClusterConfiguration
package import Identity

/// How far a destination is with the configuration of an SVM. It is written in the transaction that writes the objects, so
/// that each change of the source is applied exactly once, whoever dies in between.
package struct ConfigurationPosition: Codable, Equatable, Sendable {
    /// The operation whose stream it is.
    package var operation: ObjectUUID
    /// The last revision of the source's database that is applied.
    package var revision: Int64

    /// Makes a position.
    package init(operation: ObjectUUID, revision: Int64) {
        self.operation = operation
        self.revision = revision
    }

    /// Where the position of an SVM's stream is, outside of the configuration.
    package static func key(of svm: ObjectUUID) -> String { "configuration-stream/\(svm)" }

    /// What of an answer is not applied yet. Pure.
    ///
    /// - Parameters:
    ///   - answer: what the source said.
    ///   - asked: the position that the source was asked with.
    ///   - current: the position now.
    /// - Returns: The updates that are to be applied; nil when there is nothing to do. A baseline that is older than what was
    ///   applied meanwhile is nothing; one that is older than the position that it was asked with comes from a database
    ///   that was set back, and counts.
    package static func pending(
        _ answer: ConfigurationAnswer,
        asked: ConfigurationPosition?,
        current: ConfigurationPosition?
    ) -> [ConfigurationUpdate]? {
        switch answer {
        case .baseline(let updates, let revision):
            if let current, current != asked, current.revision > revision { return nil }
            return updates
        case .updates(let updates, _):
            // Without a position only a baseline is a beginning.
            guard let current else { return nil }
            let new = updates.filter { $0.revision > current.revision }
            return new.isEmpty ? nil : new
        }
    }
}

/// Where objects go that the destination does not have yet.
package struct ConfigurationPlaces: Equatable, Sendable {
    /// Where an interface goes.
    package struct Interface: Equatable, Sendable {
        /// The node.
        package var node: ObjectUUID
        /// The link of that node; nil for an address in 127.0.0.0/8.
        package var port: String?

        /// Makes a place.
        package init(node: ObjectUUID, port: String?) {
            self.node = node
            self.port = port
        }
    }

    /// The aggregates of volumes.
    package var volumes: [ObjectUUID: ObjectUUID]
    /// The places of interfaces.
    package var interfaces: [ObjectUUID: Interface]

    /// Makes places.
    package init(volumes: [ObjectUUID: ObjectUUID] = [:], interfaces: [ObjectUUID: Interface] = [:]) {
        self.volumes = volumes
        self.interfaces = interfaces
    }
}
