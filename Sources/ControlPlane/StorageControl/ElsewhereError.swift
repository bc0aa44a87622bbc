package import ClusterConfiguration
import Identity

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
