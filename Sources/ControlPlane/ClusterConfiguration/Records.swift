package import Identity

/// A typed record of the configuration.
package protocol ConfigurationRecord: Codable, Equatable, Sendable {
    /// The newest format that this version can read.
    static var formatVersionMax: Int { get }
    /// The format that the record was written in.
    var formatVersion: Int { get }
    /// Where it lives in the replicated database.
    var key: String { get }
}

extension ConfigurationRecord {
    /// All records have one format so far.
    package static var formatVersionMax: Int { 1 }
}

/// An IPv4 address and a TCP port.
package struct NetworkEndpoint: Codable, Hashable, Sendable, CustomStringConvertible {
    /// The address, dotted.
    package var address: String
    /// The port.
    package var port: Int

    /// Makes an endpoint.
    package init(address: String, port: Int) {
        self.address = address
        self.port = port
    }

    /// Reads `address:port`; nil when it is not one.
    package init?(_ text: String) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, let address = IPv4Address(String(parts[0])), let port = Int(parts[1]),
            (1...65_535).contains(port)
        else { return nil }
        self.init(address: address.description, port: port)
    }

    /// `address:port`.
    package var description: String { "\(address):\(port)" }
}

/// The cluster itself.
package struct ClusterRecord: ConfigurationRecord {
    /// The format of the record.
    package var formatVersion = 1
    /// Its identifier.
    package var uuid: ObjectUUID
    /// Its name.
    package var name: String

    /// Makes a record.
    package init(uuid: ObjectUUID, name: String) {
        self.uuid = uuid
        self.name = name
    }

    /// Where it lives.
    package var key: String { ConfigurationKeys.cluster }
}

/// A node of the cluster.
package struct NodeRecord: ConfigurationRecord {
    /// The format of the record.
    package var formatVersion = 1
    /// Its identifier.
    package var uuid: ObjectUUID
    /// Its name.
    package var name: String
    /// Where its management interface listens.
    package var management: NetworkEndpoint
    /// Where it serves replication to other clusters.
    package var replication: NetworkEndpoint
    /// What another cluster must know to be served replication: 32 random hexadecimal digits. Told only to peers that
    /// have proved who they are, never through REST.
    package var replicationSecret: String
    /// Where it executes what other nodes of the cluster forward; nil when it listens for nobody.
    package var interconnect: NetworkEndpoint?
    /// What another node must know to forward: 32 random hexadecimal digits. Never told outside of the cluster.
    package var interconnectSecret: String?
    /// The names of the nodes whose aggregates this one takes over when they are down: it reaches their directories. Nil
    /// for none.
    package var partners: [String]?

    /// Makes a record.
    package init(
        uuid: ObjectUUID,
        name: String,
        management: NetworkEndpoint,
        replication: NetworkEndpoint,
        replicationSecret: String,
        interconnect: NetworkEndpoint? = nil,
        interconnectSecret: String? = nil,
        partners: [String]? = nil
    ) {
        self.uuid = uuid
        self.name = name
        self.management = management
        self.replication = replication
        self.replicationSecret = replicationSecret
        self.interconnect = interconnect
        self.interconnectSecret = interconnectSecret
        self.partners = partners
    }

    /// Where it lives.
    package var key: String { ConfigurationKeys.node(uuid) }
}

/// What an aggregate is for.
package enum AggregateTier: String, Codable, Sendable, CaseIterable {
    /// Volumes that are much used.
    case performance
    /// Volumes that are large and little used.
    case capacity
}

/// An aggregate: a directory of a node that holds volumes.
package struct AggregateRecord: ConfigurationRecord {
    /// The format of the record.
    package var formatVersion = 1
    /// Its identifier, the one that is written in the directory.
    package var uuid: ObjectUUID
    /// Its name.
    package var name: String
    /// The node that owns it.
    package var node: ObjectUUID
    /// The directory, absolute.
    package var directory: String
    /// Bytes that all its volumes together may use.
    package var capacityBytes: UInt64
    /// The node in whose configuration file it is; nil while that is the owner and always was.
    package var homeNode: ObjectUUID?
    /// Counts the changes of the owner, also in the directory; nil before the first.
    package var ownershipEpoch: UInt64?
    /// What it is for; nil when the configuration file does not say.
    package var tier: AggregateTier?

    /// The node in whose configuration file it is, and to which it is given back.
    package var home: ObjectUUID { homeNode ?? node }

    /// Makes a record.
    package init(uuid: ObjectUUID, name: String, node: ObjectUUID, directory: String, capacityBytes: UInt64) {
        self.uuid = uuid
        self.name = name
        self.node = node
        self.directory = directory
        self.capacityBytes = capacityBytes
    }

    /// Where it lives.
    package var key: String { ConfigurationKeys.aggregate(uuid) }
}

/// The state of an SVM, with the names of REST.
package enum SVMState: String, Codable, Sendable {
    /// Clients are served.
    case running
    /// Clients are not served.
    case stopped
    /// On the way to running.
    case starting
    /// On the way to stopped.
    case stopping
    /// On the way out.
    case deleting
    /// Being made.
    case initializing
}

/// The part that an SVM plays in a migrate.
package enum MigrateRole: String, Codable, Sendable {
    /// None.
    case none
    /// It leaves this cluster.
    case source
    /// It comes to this cluster.
    case destination
}

/// The key of the checksums in file handles. It moves with the SVM, so that handles stay the same.
package struct HandleKey: Codable, Hashable, Sendable {
    /// The first eight bytes.
    package var first: UInt64
    /// The last eight bytes.
    package var second: UInt64

    /// Makes a key out of its halves.
    package init(first: UInt64, second: UInt64) {
        self.first = first
        self.second = second
    }
}

/// A storage virtual machine.
package struct SVMRecord: ConfigurationRecord {
    /// The format of the record.
    package var formatVersion = 1
    /// Its identifier, the same wherever it moves.
    package var uuid: ObjectUUID
    /// Its name.
    package var name: String
    /// What it should be; the runtime makes it so.
    package var state: SVMState
    /// Its part in a migrate.
    package var migrateRole: MigrateRole
    /// The key of its file handles.
    package var handleKey: HandleKey
    /// The operation that forbids everybody else to change the SVM or anything that belongs to it.
    package var configurationLock: ObjectUUID?
    /// Free text.
    package var comment: String
    /// The IP space of its addresses, whose identifier means nothing in another cluster; nil is `Default`.
    package var ipSpace: ObjectUUID?

    /// Makes a record.
    package init(
        uuid: ObjectUUID,
        name: String,
        state: SVMState,
        migrateRole: MigrateRole = .none,
        handleKey: HandleKey,
        configurationLock: ObjectUUID? = nil,
        comment: String = "",
        ipSpace: ObjectUUID? = nil
    ) {
        self.ipSpace = ipSpace
        self.uuid = uuid
        self.name = name
        self.state = state
        self.migrateRole = migrateRole
        self.handleKey = handleKey
        self.configurationLock = configurationLock
        self.comment = comment
    }

    /// Where it lives.
    package var key: String { ConfigurationKeys.svm(uuid) }
}

/// Whether the space of a volume is set aside.
package enum SpaceGuarantee: String, Codable, Sendable {
    /// Thin: space is taken as it is written.
    case none
    /// The whole size is set aside.
    case volume
}

/// Whether clients reach a volume.
package enum VolumeState: String, Codable, Sendable {
    /// They do.
    case online
    /// They do not.
    case offline
    /// On the way out: its data is being deleted, then its record goes.
    case deleting
}

/// A volume.
package struct VolumeRecord: ConfigurationRecord {
    /// The format of the record.
    package var formatVersion = 1
    /// Its identifier in management; the same wherever it moves.
    package var uuid: ObjectUUID
    /// Its name, unique within the SVM.
    package var name: String
    /// Its identity in the data plane and in file handles; the same wherever it moves.
    package var msid: VolumeMSID
    /// The SVM that it belongs to.
    package var svm: ObjectUUID
    /// The aggregate that holds it.
    package var aggregate: ObjectUUID
    /// Its size.
    package var sizeBytes: UInt64
    /// Whether its space is set aside.
    package var guarantee: SpaceGuarantee
    /// Where it is joined into the namespace of the SVM; nil when it is not.
    package var junctionPath: String?
    /// The name of the export policy that says who may use it.
    package var exportPolicy: String
    /// The snapshot policy; `none` is the only one of this version.
    package var snapshotPolicy: String
    /// Whether clients reach it.
    package var state: VolumeState
    /// Whether only replication writes it.
    package var isReplica: Bool
    /// Nanoseconds since 1970 when it was made.
    package var createTimeNanoseconds: Int64
    /// Free text.
    package var comment: String

    /// Makes a record.
    package init(
        uuid: ObjectUUID,
        name: String,
        msid: VolumeMSID,
        svm: ObjectUUID,
        aggregate: ObjectUUID,
        sizeBytes: UInt64,
        guarantee: SpaceGuarantee = .none,
        junctionPath: String? = nil,
        exportPolicy: String = "default",
        snapshotPolicy: String = "none",
        state: VolumeState = .online,
        isReplica: Bool = false,
        createTimeNanoseconds: Int64 = 0,
        comment: String = ""
    ) {
        self.uuid = uuid
        self.name = name
        self.msid = msid
        self.svm = svm
        self.aggregate = aggregate
        self.sizeBytes = sizeBytes
        self.guarantee = guarantee
        self.junctionPath = junctionPath
        self.exportPolicy = exportPolicy
        self.snapshotPolicy = snapshotPolicy
        self.state = state
        self.isReplica = isReplica
        self.createTimeNanoseconds = createTimeNanoseconds
        self.comment = comment
    }

    /// Where it lives.
    package var key: String { ConfigurationKeys.volume(uuid, of: svm) }
}

/// An address at which an SVM is reached: a logical interface.
package struct LIFRecord: ConfigurationRecord {
    /// The format of the record.
    package var formatVersion = 1
    /// Its identifier.
    package var uuid: ObjectUUID
    /// Its name, unique within the SVM.
    package var name: String
    /// The SVM that it belongs to.
    package var svm: ObjectUUID
    /// The IPv4 address.
    package var address: String
    /// The port on which NFS and MOUNT answer.
    package var port: Int
    /// Whether it should be bound when the SVM runs.
    package var isEnabled: Bool
    /// The node that it should be on; nil in a cluster that had one node when it was made.
    package var homeNode: ObjectUUID?
    /// The node that it is on; nil as above.
    package var currentNode: ObjectUUID?
    /// How many leading bits of the address are its subnet's; nil for an address in 127.0.0.0/8.
    package var prefixLength: Int?
    /// The name of the link of `homeNode` that the address should be on; nil for an address in 127.0.0.0/8.
    package var homePort: String?
    /// The name of the link of `currentNode` that the address is on; nil as above.
    package var currentPort: String?
    /// The node that had it before the current one; nil when none had this address. That node gives it up, so that an answer
    /// for the address is no conflict.
    package var formerNode: ObjectUUID?
    /// Counts its moves between nodes, and between clusters; nil before the first. Never less than it was: nodes that execute
    /// requests refuse what comes from before the last one (`LIFTerm`).
    package var moveCount: UInt64?

    /// Makes a record.
    package init(
        uuid: ObjectUUID,
        name: String,
        svm: ObjectUUID,
        address: String,
        port: Int,
        isEnabled: Bool = true,
        node: ObjectUUID? = nil,
        prefixLength: Int? = nil,
        homePort: String? = nil
    ) {
        self.uuid = uuid
        self.name = name
        self.svm = svm
        self.address = address
        self.port = port
        self.isEnabled = isEnabled
        homeNode = node
        currentNode = node
        self.prefixLength = prefixLength
        self.homePort = homePort
        currentPort = homePort
    }

    /// Puts it on a node, on the link of a name; nil for the loopback.
    package mutating func move(to node: ObjectUUID, port: String?) {
        if let currentNode, currentNode != node {
            formerNode = currentNode
            moveCount = (moveCount ?? 0) + 1
        }
        currentNode = node
        currentPort = port
    }

    /// Makes this older state of a LIF its next one: a move that is taken back is another move.
    package mutating func moveBack(after now: LIFRecord) {
        guard now.moveCount != moveCount else { return }
        moveCount = (now.moveCount ?? 0) + 1
        formerNode = now.currentNode
    }

    /// Where it lives.
    package var key: String { ConfigurationKeys.lif(uuid, of: svm) }
}
