package import Identity
package import ReplicatedDatabase

/// On whose behalf the configuration changes; decides what a configuration lock allows.
package enum ConfigurationActor: Equatable, Sendable {
    /// A user, through REST.
    case user
    /// A migrate, which may change what it has locked.
    case operation(ObjectUUID)
    /// The runtime itself.
    case system
}

/// A change of the configuration in the making: a snapshot, the changes to it, and the rules that they must keep.
///
/// Pure: `ConfigurationStore.change` makes a draft of the newest state, lets the caller work on it, and commits it with
/// a compare-and-set; when somebody else was faster the caller's work is done again on the newer state.
package struct ConfigurationDraft {
    /// The configuration with the changes so far.
    package private(set) var snapshot: ConfigurationSnapshot
    /// On whose behalf.
    package let actor: ConfigurationActor
    /// What the transaction will write.
    package private(set) var changes: [DatabaseChange] = []
    /// What must hold beside the guard.
    package internal(set) var conditions: [DatabaseCondition] = []

    /// A draft without changes.
    package init(_ snapshot: ConfigurationSnapshot, actor: ConfigurationActor) {
        self.snapshot = snapshot
        self.actor = actor
    }

    /// Adds a record that is not of the configuration (such as that of a migrate) to the same transaction.
    package mutating func also(_ change: DatabaseChange, when condition: DatabaseCondition? = nil) {
        changes.append(change)
        if let condition { conditions.append(condition) }
    }

    /// Lets the transaction happen only if something else holds, too.
    package mutating func require(_ condition: DatabaseCondition) { conditions.append(condition) }

    /// The SVM, when the actor may change it and what belongs to it.
    @discardableResult
    package func changeableSVM(_ uuid: ObjectUUID) throws(ManagementError) -> SVMRecord {
        guard let svm = snapshot.svm(uuid) else { throw .notFound("SVM", uuid.description, target: "svm.uuid") }
        guard let lock = svm.configurationLock, actor != .system, actor != .operation(lock) else { return svm }
        throw ManagementError(
            .conflict,
            "svm_locked",
            "SVM '\(svm.name)' is locked by the operation \(lock)",
            remedy: "wait until it has ended (godwit svm migrate show) and try again",
            target: "svm"
        )
    }

    // MARK: - Cluster, nodes, aggregates, peers

    /// Writes the record of the cluster.
    package mutating func putCluster(_ record: ClusterRecord) throws(ManagementError) {
        try ConfigurationChecks.name(record.name, of: "cluster")
        if let old = snapshot.cluster, old.uuid != record.uuid {
            throw ManagementError(
                .conflict,
                "cluster_differs",
                "the database belongs to cluster '\(old.name)' (\(old.uuid))",
                remedy: "use another data directory"
            )
        }
        snapshot.cluster = record
        try put(record)
    }

    /// Writes the record of a node.
    package mutating func putNode(_ record: NodeRecord) throws(ManagementError) {
        try ConfigurationChecks.name(record.name, of: "node")
        try unique(record.name, "node", snapshot.nodes.contains { $0.name == record.name && $0.uuid != record.uuid })
        for other in snapshot.nodes where other.uuid != record.uuid {
            for node in [record, other] where node.interconnect == nil {
                throw ManagementError(
                    .invalid,
                    "interconnect_missing",
                    "node '\(node.name)' has no address for the other nodes of the cluster, and the cluster has more "
                        + "than one ('\(record.name)', '\(other.name)')",
                    remedy: "give that node an 'interconnect' in its configuration file and start it again",
                    target: "interconnect"
                )
            }
        }
        edit { snapshot in
            snapshot.nodes.removeAll { $0.uuid == record.uuid }
            snapshot.nodes.append(record)
        }
        try put(record)
        try settleInterfaces(beside: record.uuid)
    }

    /// Gives LIFs from the time of one node that node, before there is a second one.
    private mutating func settleInterfaces(beside new: ObjectUUID) throws(ManagementError) {
        guard let first = snapshot.nodes.first(where: { $0.uuid != new })?.uuid else { return }
        for var lif in snapshot.lifs where lif.currentNode == nil {
            lif.homeNode = first
            lif.currentNode = first
            try replace(lif)
        }
    }

    /// Deletes the record of a node that has left the cluster.
    package mutating func deleteNode(_ uuid: ObjectUUID) throws(ManagementError) {
        guard let node = snapshot.node(uuid) else { throw .notFound("node", uuid.description) }
        let aggregates = snapshot.aggregates.filter { $0.node == uuid || $0.home == uuid }
            .map { "aggregate '\($0.name)'" }
        let lifs = snapshot.lifs.filter { $0.homeNode == uuid || $0.currentNode == uuid }.map { "LIF '\($0.name)'" }
        guard aggregates.isEmpty && lifs.isEmpty else {
            throw ManagementError(
                .conflict,
                "node_in_use",
                "node '\(node.name)' still has \((aggregates + lifs).joined(separator: ", "))",
                remedy: "move its LIFs (godwit lif modify --home-node), and delete or move away its volumes",
                target: "node"
            )
        }
        for domain in snapshot.broadcastDomains where domain.ports.contains(where: { $0.node == uuid }) {
            var left = domain
            left.ports.removeAll { $0.node == uuid }
            try putBroadcastDomain(left)
        }
        snapshot.nodes.removeAll { $0.uuid == uuid }
        changes.append(.delete(key: node.key))
        changes.append(.delete(key: ConfigurationKeys.ports(of: uuid)))
    }

    /// Deletes the record of an aggregate that holds nothing.
    package mutating func deleteAggregate(_ uuid: ObjectUUID) throws(ManagementError) {
        guard let aggregate = snapshot.aggregate(uuid) else { throw .notFound("aggregate", uuid.description) }
        if let volume = snapshot.volumes.first(where: { $0.aggregate == uuid }) {
            throw ManagementError(
                .conflict,
                "aggregate_in_use",
                "aggregate '\(aggregate.name)' still holds volume '\(volume.name)'",
                remedy: "delete the volume, or move its SVM away",
                target: "aggregate"
            )
        }
        snapshot.aggregates.removeAll { $0.uuid == uuid }
        changes.append(.delete(key: aggregate.key))
    }

    /// Writes the record of an aggregate.
    package mutating func putAggregate(_ record: AggregateRecord) throws(ManagementError) {
        try ConfigurationChecks.name(record.name, of: "aggregate")
        try unique(
            record.name,
            "aggregate",
            snapshot.aggregates.contains { $0.name == record.name && $0.uuid != record.uuid }
        )
        guard record.directory.hasPrefix("/") else {
            throw ManagementError(
                .invalid,
                "directory_not_absolute",
                "'\(record.directory)' is not an absolute path",
                remedy: "give a path that begins with /",
                target: "directory"
            )
        }
        snapshot.aggregates.removeAll { $0.uuid == record.uuid }
        snapshot.aggregates.append(record)
        try put(record)
    }

    /// Writes the record of a cluster peer.
    package mutating func putPeer(_ record: ClusterPeerRecord) throws(ManagementError) {
        try ConfigurationChecks.name(record.name, of: "cluster peer")
        try unique(
            record.name,
            "cluster peer",
            snapshot.peers.contains { $0.name == record.name && $0.uuid != record.uuid }
        )
        for service in record.services {
            try ConfigurationChecks.port(service.port, target: "remote.ip_addresses")
        }
        guard record.passphrase.count >= ConfigurationLimits.passphraseLengthMin else {
            throw ManagementError(
                .invalid,
                "passphrase_too_short",
                "the passphrase has fewer than \(ConfigurationLimits.passphraseLengthMin) characters",
                remedy: "give a longer one, the same on both clusters",
                target: "authentication.passphrase"
            )
        }
        snapshot.peers.removeAll { $0.uuid == record.uuid }
        snapshot.peers.append(record)
        try put(record)
    }

    /// Deletes a cluster peer.
    package mutating func deletePeer(_ uuid: ObjectUUID) throws(ManagementError) {
        guard let peer = snapshot.peer(uuid) else { throw .notFound("cluster peer", uuid.description) }
        snapshot.peers.removeAll { $0.uuid == uuid }
        changes.append(.delete(key: peer.key))
    }

    // MARK: - Shared

    mutating func put(_ record: some ConfigurationRecord) throws(ManagementError) {
        changes.append(.put(key: record.key, value: try ConfigurationCoding.encode(record)))
    }

    mutating func delete(key: String) { changes.append(.delete(key: key)) }

    mutating func edit(_ body: (inout ConfigurationSnapshot) -> Void) {
        body(&snapshot)
        snapshot.sort()
    }

    func unique(_ name: String, _ kind: String, _ isTaken: Bool) throws(ManagementError) {
        guard isTaken else { return }
        throw ManagementError(
            .exists,
            "\(kind.lowercased().replacing(" ", with: "_"))_exists",
            "there is already a \(kind) named '\(name)'",
            remedy: "use another name, or change the one that is there",
            target: "name"
        )
    }
}
