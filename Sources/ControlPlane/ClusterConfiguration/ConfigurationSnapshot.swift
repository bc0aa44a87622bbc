package import Identity
package import ReplicatedDatabase

/// The whole configuration at one revision. A value: whatever is decided on it is decided on one consistent state.
package struct ConfigurationSnapshot: Equatable, Sendable {
    /// The revision that it is the state of.
    package internal(set) var revision: Int64 = 0
    /// The revision that last wrote the guard; 0 when there is none yet.
    package internal(set) var guardRevision: Int64 = 0
    /// The cluster; nil before the first start.
    package internal(set) var cluster: ClusterRecord?
    /// Nodes by name.
    package internal(set) var nodes: [NodeRecord] = []
    /// Aggregates by name.
    package internal(set) var aggregates: [AggregateRecord] = []
    /// SVMs by name.
    package internal(set) var svms: [SVMRecord] = []
    /// Volumes by SVM and name.
    package internal(set) var volumes: [VolumeRecord] = []
    /// Export policies by SVM and name.
    package internal(set) var exportPolicies: [ExportPolicyRecord] = []
    /// LIFs by SVM and name.
    package internal(set) var lifs: [LIFRecord] = []
    /// Cluster peers by name.
    package internal(set) var peers: [ClusterPeerRecord] = []
    /// IP spaces by name, without the standard one.
    package internal(set) var ipSpaces: [IPSpaceRecord] = []
    /// Broadcast domains by name.
    package internal(set) var broadcastDomains: [BroadcastDomainRecord] = []
    /// Subnets by name.
    package internal(set) var subnets: [SubnetRecord] = []

    /// An empty configuration.
    package init() {}

    /// Reads the records of a range over `ConfigurationKeys.all`.
    package init(records: [DatabaseRecord], revision: Int64) throws(ManagementError) {
        var reader = RecordReader()
        try self.init(records: records, revision: revision, reader: &reader)
    }

    /// The same with what was decoded before.
    init(records: [DatabaseRecord], revision: Int64, reader: inout RecordReader) throws(ManagementError) {
        self.revision = revision
        for record in records { try insert(record, &reader) }
        reader.forgetAbsent()
        sort()
    }

    /// The SVM of an identifier.
    package func svm(_ uuid: ObjectUUID) -> SVMRecord? { svms.first { $0.uuid == uuid } }
    /// The SVM of a name.
    package func svm(named name: String) -> SVMRecord? { svms.first { $0.name == name } }
    /// The aggregate of an identifier.
    package func aggregate(_ uuid: ObjectUUID) -> AggregateRecord? { aggregates.first { $0.uuid == uuid } }
    /// The aggregate of a name.
    package func aggregate(named name: String) -> AggregateRecord? { aggregates.first { $0.name == name } }
    /// The node of an identifier.
    package func node(_ uuid: ObjectUUID) -> NodeRecord? { nodes.first { $0.uuid == uuid } }
    /// The node of a name.
    package func node(named name: String) -> NodeRecord? { nodes.first { $0.name == name } }
    /// The node whose aggregate holds a volume.
    package func node(holding volume: VolumeRecord) -> NodeRecord? {
        aggregate(volume.aggregate).flatMap { node($0.node) }
    }
    /// The node that a LIF is on. One that names none was made when there was one node only, which came first.
    package func node(serving lif: LIFRecord) -> NodeRecord? {
        guard let current = lif.currentNode else { return nodes.count == 1 ? nodes[0] : nil }
        return node(current)
    }
    /// The volume of an identifier.
    package func volume(_ uuid: ObjectUUID) -> VolumeRecord? { volumes.first { $0.uuid == uuid } }
    /// The LIF of an identifier.
    package func lif(_ uuid: ObjectUUID) -> LIFRecord? { lifs.first { $0.uuid == uuid } }
    /// The cluster peer of an identifier.
    package func peer(_ uuid: ObjectUUID) -> ClusterPeerRecord? { peers.first { $0.uuid == uuid } }
    /// The cluster peer of a name.
    package func peer(named name: String) -> ClusterPeerRecord? { peers.first { $0.name == name } }
    /// The export policy of a number.
    package func exportPolicy(_ identifier: UInt64) -> ExportPolicyRecord? {
        exportPolicies.first { $0.identifier == identifier }
    }
    /// The volumes of an SVM, by name.
    package func volumes(of svm: ObjectUUID) -> [VolumeRecord] { volumes.filter { $0.svm == svm } }
    /// The LIFs of an SVM, by name.
    package func lifs(of svm: ObjectUUID) -> [LIFRecord] { lifs.filter { $0.svm == svm } }
    /// The export policies of an SVM, by name.
    package func exportPolicies(of svm: ObjectUUID) -> [ExportPolicyRecord] { exportPolicies.filter { $0.svm == svm } }

    private mutating func insert(_ record: DatabaseRecord, _ reader: inout RecordReader) throws(ManagementError) {
        let parts = record.key.split(separator: "/").map(String.init)
        switch (parts.count, parts.dropFirst().first, parts.dropFirst(3).first) {
        case (2, "guard", _): guardRevision = record.modifyRevision
        case (2, "cluster", _): cluster = try reader.read(record)
        case (3, "node", _): nodes.append(try reader.read(record))
        case (3, "aggregate", _): aggregates.append(try reader.read(record))
        case (3, "peer", _): peers.append(try reader.read(record))
        case (3, "ipspace", _): ipSpaces.append(try reader.read(record))
        case (3, "broadcast-domain", _): broadcastDomains.append(try reader.read(record))
        case (3, "subnet", _): subnets.append(try reader.read(record))
        case (3, "svm", _): svms.append(try reader.read(record))
        case (5, "svm", "volume"): volumes.append(try reader.read(record))
        case (5, "svm", "export-policy"): exportPolicies.append(try reader.read(record))
        case (5, "svm", "lif"): lifs.append(try reader.read(record))
        default:
            throw ManagementError(
                .failed,
                "record_unknown",
                "'\(record.key)' is not a kind of record that this version knows",
                remedy: "use the version of the software that wrote it",
                target: record.key
            )
        }
    }

    mutating func sort() {
        nodes.sort { $0.name < $1.name }
        aggregates.sort { $0.name < $1.name }
        peers.sort { $0.name < $1.name }
        ipSpaces.sort { $0.name < $1.name }
        broadcastDomains.sort { ($0.name, $0.uuid) < ($1.name, $1.uuid) }
        subnets.sort { ($0.name, $0.uuid) < ($1.name, $1.uuid) }
        svms.sort { $0.name < $1.name }
        volumes.sort { ($0.svm, $0.name) < ($1.svm, $1.name) }
        exportPolicies.sort { ($0.svm, $0.name) < ($1.svm, $1.name) }
        lifs.sort { ($0.svm, $0.name) < ($1.svm, $1.name) }
    }
}
