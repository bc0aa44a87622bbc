import ClusterConfiguration
import Identity
import Testing

/// Three nodes of a cluster, a, b and c, and an SVM on it.
enum ThreeNodes {
    static let svm = ObjectUUID(high: 2, low: 1)

    /// The nodes.
    ///
    /// - Parameter partners: whose aggregates each takes over.
    static func make(partners: [String: [String]]) -> [NodeRecord] {
        ["a", "b", "c"].enumerated().map { index, name in
            NodeRecord(
                uuid: ObjectUUID(high: 3, low: UInt64(index + 1)),
                name: name,
                management: NetworkEndpoint(address: "127.0.0.1", port: 1000 + index),
                replication: NetworkEndpoint(address: "127.0.0.1", port: 2000 + index),
                replicationSecret: "secret",
                interconnect: NetworkEndpoint(address: "127.0.0.1", port: 3000 + index),
                interconnectSecret: "secret",
                partners: partners[name]
            )
        }
    }

    /// Writes nodes and the SVM.
    static func put(_ nodes: [NodeRecord], in draft: inout ConfigurationDraft) throws(ManagementError) {
        for node in nodes { try draft.putNode(node) }
        try draft.putSVM(
            SVMRecord(uuid: svm, name: "tenant", state: .running, handleKey: HandleKey(first: 1, second: 2)),
            defaultPolicyIdentifier: 7
        )
    }
}

extension ConfigurationStore {
    /// The code with which a user's change is refused, which says how to mend it; nil when it happens.
    func refusal<Result: Sendable>(
        _ body: (inout ConfigurationDraft) throws(ManagementError) -> Result
    ) async -> String? {
        do {
            _ = try await change(as: .user, body)
            return nil
        } catch {
            #expect(!error.remedy.isEmpty)
            return error.code
        }
    }
}
