import ClusterConfiguration
import Environment
import GroupControl
import Identity
import Logging
import MigrateOperation
import ReplicatedDatabase
import StorageControl
import Synchronization

/// The nodes of a cluster as a master sees them: each answers as it is told to and keeps what it was asked; some may be away.
final class MemoryNodes: GroupNodeDirectory {
    private struct Node: GroupNode {
        let uuid: ObjectUUID
        let nodes: MemoryNodes

        func send(_ call: GroupCall) async throws -> GroupReply { try nodes.execute(call, on: uuid) }
    }

    /// What nodes were asked that are not away, in order.
    let calls = Mutex<[(node: ObjectUUID, call: GroupCall)]>([])
    /// Nodes that do not answer.
    let away = Mutex<Set<ObjectUUID>>([])
    private let answer: @Sendable (GroupCall, ObjectUUID) throws -> GroupReply

    /// Nodes that answer a call in some way; without one they do everything and say nothing of it.
    init(_ answer: @escaping @Sendable (GroupCall, ObjectUUID) throws -> GroupReply = { _, _ in GroupReply() }) {
        self.answer = answer
    }

    var steps: [GroupStep] { calls.withLock { $0.map(\.call.step) } }

    func node(_ uuid: ObjectUUID) async throws -> any GroupNode { Node(uuid: uuid, nodes: self) }

    func execute(_ call: GroupCall, on node: ObjectUUID) throws -> GroupReply {
        guard !away.withLock({ $0.contains(node) }) else {
            throw MigrateError(.nodeAway, "away", remedy: "")
        }
        calls.withLock { $0.append((node, call)) }
        return try answer(call, node)
    }
}

/// The configuration of a cluster in memory.
enum MemoryCluster {
    /// Writes a cluster of some nodes, each of which has an aggregate, and what else is wanted.
    ///
    /// - Parameters:
    ///   - nodes: the nodes, by their numbers in the order of their names.
    ///   - areUp: whether they have sessions.
    /// - Returns: the controller of the first node.
    static func make(
        _ name: String,
        of nodes: [ObjectUUID],
        areUp: Bool = false,
        in database: any ReplicatedDatabase,
        and more: (inout ConfigurationDraft) throws(ManagementError) -> Void = { _ in }
    ) async throws -> StorageController {
        let store = ConfigurationStore(database)
        _ = try await store.change(as: .system) { draft throws(ManagementError) in
            try draft.putCluster(ClusterRecord(uuid: ObjectUUID(high: 4, low: 4), name: name))
            for (index, uuid) in nodes.enumerated() {
                try draft.putNode(node("\(name)-0\(index + 1)", uuid, index))
                try draft.putAggregate(
                    AggregateRecord(
                        uuid: aggregate(of: uuid),
                        name: "aggr\(index + 1)",
                        node: uuid,
                        directory: "/aggregates/\(index)",
                        capacityBytes: 1 << 40
                    )
                )
                if areUp {
                    draft.also(.put(key: ConfigurationKeys.session(ofNodeNamed: "\(name)-0\(index + 1)"), value: [1]))
                }
            }
            try more(&draft)
        }
        return StorageController(
            store: store,
            node: try await store.snapshot().nodes[0],
            environment: .system,
            logger: Logger(label: "group", factory: { _ in SwiftLogNoOpLogHandler() }),
            makeService: { _ in preconditionFailure("nothing is served here") }
        )
    }

    /// The aggregate of a node.
    static func aggregate(of node: ObjectUUID) -> ObjectUUID { ObjectUUID(high: 5, low: node.low) }

    private static func node(_ name: String, _ uuid: ObjectUUID, _ index: Int) -> NodeRecord {
        let endpoint = { (port: Int) in NetworkEndpoint(address: "127.0.0.1", port: port) }
        return NodeRecord(
            uuid: uuid,
            name: name,
            management: endpoint(8_000 + index),
            replication: endpoint(8_100 + index),
            replicationSecret: "secret-\(index)",
            interconnect: endpoint(8_200 + index),
            interconnectSecret: "other-\(index)"
        )
    }

    /// An SVM without volumes and interfaces, as a source describes it.
    static func description(of svm: SVMRecord) -> SVMDescription {
        SVMDescription(
            uuid: svm.uuid,
            name: svm.name,
            clusterName: "alpha",
            clusterUUID: ObjectUUID(high: 4, low: 5),
            protocolVersion: migrateProtocolVersion,
            services: [],
            volumes: [],
            interfaces: [],
            configuration: SVMConfiguration(svm: svm, exportPolicies: [], volumes: [], interfaces: [])
        )
    }
}
