package import ClusterConfiguration
import ConfigurationReplication
package import Identity
package import Replication

/// The node that a volume is fetched from: each volume flows between the node that holds it and the one that will.
package struct VolumeSource: Codable, Equatable, Sendable {
    /// The node of the source cluster.
    package var nodeName: String
    /// Where its replication listener is.
    package var endpoint: PeerEndpoint
    /// What proves to that listener who calls; never shown to users.
    package var secret: String

    /// Makes a source.
    package init(nodeName: String, endpoint: PeerEndpoint, secret: String) {
        self.nodeName = nodeName
        self.endpoint = endpoint
        self.secret = secret
    }
}

/// One volume of the SVM that moves.
package struct VolumeDescription: Codable, Equatable, Sendable {
    /// Identity of the configuration object, the same on both sides.
    package var uuid: ObjectUUID
    /// Name.
    package var name: String
    /// Identity in the data plane, the same on both sides [124].
    package var msid: VolumeMSID
    /// Size limit.
    package var sizeBytes: UInt64
    /// Whether all of it is reserved.
    package var isSpaceGuaranteed: Bool
    /// Bytes in use at the time of the description.
    package var usedBytes: UInt64
    /// Requests per second of its busiest interval lately; nil when the source has not measured it.
    package var busiestOperationsPerSecond: Double?
    /// Where it is fetched from. It changes when another node takes the volume over.
    package var source: VolumeSource
    /// Aggregate chosen on the destination; empty until placed.
    package var destinationAggregate: ObjectUUID?

    /// Makes a description.
    package init(
        uuid: ObjectUUID,
        name: String,
        msid: VolumeMSID,
        sizeBytes: UInt64,
        isSpaceGuaranteed: Bool,
        usedBytes: UInt64,
        busiestOperationsPerSecond: Double? = nil,
        source: VolumeSource,
        destinationAggregate: ObjectUUID? = nil
    ) {
        self.uuid = uuid
        self.name = name
        self.msid = msid
        self.sizeBytes = sizeBytes
        self.isSpaceGuaranteed = isSpaceGuaranteed
        self.usedBytes = usedBytes
        self.busiestOperationsPerSecond = busiestOperationsPerSecond
        self.source = source
        self.destinationAggregate = destinationAggregate
    }
}

/// One client address of the SVM that moves.
package struct InterfaceDescription: Codable, Equatable, Sendable {
    /// Name.
    package var name: String
    /// Address, in text.
    package var address: String
    /// TCP port.
    package var port: Int
    /// Who holds the address now; nil when the source does not say, as older versions and for addresses in 127.0.0.0/8.
    package var holder: InterfaceHolder?
    /// Where it goes on the destination; nil until placed.
    package var destination: InterfacePlace?

    /// Makes a description.
    package init(name: String, address: String, port: Int, holder: InterfaceHolder? = nil) {
        self.holder = holder
        self.name = name
        self.address = address
        self.port = port
    }
}

/// The configuration objects of an SVM as the source's database holds them; the orchestrator carries them unread.
package struct SVMConfiguration: Codable, Equatable, Sendable {
    /// The SVM.
    package var svm: SVMRecord
    /// Its export policies, by number.
    package var exportPolicies: [ExportPolicyRecord]
    /// Its volumes, by name.
    package var volumes: [VolumeRecord]
    /// Its interfaces, by name.
    package var interfaces: [LIFRecord]

    /// Makes a configuration.
    package init(
        svm: SVMRecord,
        exportPolicies: [ExportPolicyRecord],
        volumes: [VolumeRecord],
        interfaces: [LIFRecord]
    ) {
        self.svm = svm
        self.exportPolicies = exportPolicies
        self.volumes = volumes
        self.interfaces = interfaces
    }
}

/// Everything that the destination must know of a source SVM.
package struct SVMDescription: Codable, Equatable, Sendable {
    /// Identity, the same on both sides.
    package var uuid: ObjectUUID
    /// Name, the same on both sides.
    package var name: String
    /// Name of the source cluster.
    package var clusterName: String
    /// Identity of the source cluster.
    package var clusterUUID: ObjectUUID
    /// Version of the protocol between clusters that the source speaks.
    package var protocolVersion: Int
    /// Where the nodes of the source cluster can be called, each of which answers for all of them.
    package var services: [NetworkEndpoint]
    /// The volumes, by name.
    package var volumes: [VolumeDescription]
    /// The client addresses, by name.
    package var interfaces: [InterfaceDescription]
    /// The configuration objects.
    package var configuration: SVMConfiguration
    /// Kinds of configuration and features that the SVM uses, by name; a destination that does not know one refuses.
    package var features: [String]
    /// Connections of clients at the time of the description.
    package var connectionCount: UInt64
    /// The name of the SVM's IP space on the source; nil is `Default`.
    package var ipSpaceName: String?
    /// Its IP space on the destination, found by the pre-checks; nil is `Default`.
    package var destinationIPSpace: ObjectUUID?

    /// The kinds and features that this version moves.
    package static let knownFeatures: Set<String> = Set(ConfigurationKinds.names + ["snapshot"])

    /// Makes a description.
    package init(
        uuid: ObjectUUID,
        name: String,
        clusterName: String,
        clusterUUID: ObjectUUID,
        protocolVersion: Int,
        services: [NetworkEndpoint],
        volumes: [VolumeDescription],
        interfaces: [InterfaceDescription],
        configuration: SVMConfiguration,
        features: [String] = [],
        connectionCount: UInt64 = 0,
        ipSpaceName: String? = nil
    ) {
        self.ipSpaceName = ipSpaceName
        self.features = features
        self.connectionCount = connectionCount
        self.uuid = uuid
        self.name = name
        self.clusterName = clusterName
        self.clusterUUID = clusterUUID
        self.protocolVersion = protocolVersion
        self.services = services
        self.volumes = volumes
        self.interfaces = interfaces
        self.configuration = configuration
    }
}

/// The version of the protocol between clusters; both sides must speak the same.
package let migrateProtocolVersion = 4

/// What the source saw of its client-visible outage while it was held, in the order of the window.
package struct WindowStage: Codable, Equatable, Sendable {
    /// Name: hold, final_snapshot, exchange, promote, ponr-source, ponr-destination, bind, release, serve.
    package var name: String
    /// How long it took.
    package var durationMicroseconds: UInt64

    /// Makes a stage.
    package init(name: String, durationMicroseconds: UInt64) {
        self.name = name
        self.durationMicroseconds = durationMicroseconds
    }
}
