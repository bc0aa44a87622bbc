package import Identity

/// Where the configuration lives in the replicated database.
///
///     configuration/guard                                        counts validated writes
///     configuration/cluster
///     configuration/node/<uuid>
///     configuration/aggregate/<uuid>
///     configuration/peer/<uuid>
///     configuration/ipspace/<uuid>
///     configuration/broadcast-domain/<uuid>
///     configuration/subnet/<uuid>
///     configuration/svm/<svm>                                    everything of an SVM is under this prefix,
///     configuration/svm/<svm>/volume/<uuid>                      so that a migrate can carry it
///     configuration/svm/<svm>/export-policy/<id>
///     configuration/svm/<svm>/lif/<uuid>
package enum ConfigurationKeys {
    /// What every node writes that is up, outside of the configuration: a key that lives with the node's lease.
    package static let sessions = "session/"
    /// What nodes tell of LIFs that have left them for another node, outside of the configuration, by the LIF.
    package static func departure(of lif: ObjectUUID) -> String { "departure/\(lif)" }
    /// What nodes tell of the ports of their hosts, outside of the configuration.
    package static let ports = "ports/"
    /// Everything.
    package static let all = "configuration/"
    /// Rewritten by every validated write: the one revision that makes validation free of races.
    package static let writeGuard = "configuration/guard"
    /// The cluster.
    package static let cluster = "configuration/cluster"
    /// All nodes.
    package static let nodes = "configuration/node/"
    /// All aggregates.
    package static let aggregates = "configuration/aggregate/"
    /// All cluster peers.
    package static let peers = "configuration/peer/"
    /// All SVMs and what belongs to them.
    package static let svms = "configuration/svm/"

    /// All IP spaces but the standard one.
    package static let ipSpaces = "configuration/ipspace/"
    /// All broadcast domains.
    package static let broadcastDomains = "configuration/broadcast-domain/"
    /// All subnets.
    package static let subnets = "configuration/subnet/"

    /// An IP space.
    package static func ipSpace(_ uuid: ObjectUUID) -> String { "\(ipSpaces)\(uuid)" }
    /// A broadcast domain.
    package static func broadcastDomain(_ uuid: ObjectUUID) -> String { "\(broadcastDomains)\(uuid)" }
    /// A subnet.
    package static func subnet(_ uuid: ObjectUUID) -> String { "\(subnets)\(uuid)" }
    /// What a node tells of its ports.
    package static func ports(of node: ObjectUUID) -> String { "\(ports)\(node)" }
    /// The session of a node, by its name: a daemon needs it before it knows the node's identifier.
    package static func session(ofNodeNamed name: String) -> String { "\(sessions)\(name)" }
    /// A node.
    package static func node(_ uuid: ObjectUUID) -> String { "\(nodes)\(uuid)" }
    /// An aggregate.
    package static func aggregate(_ uuid: ObjectUUID) -> String { "\(aggregates)\(uuid)" }
    /// A cluster peer.
    package static func peer(_ uuid: ObjectUUID) -> String { "\(peers)\(uuid)" }
    /// An SVM; also the prefix of everything that belongs to it.
    package static func svm(_ uuid: ObjectUUID) -> String { "\(svms)\(uuid)" }
    /// A volume of an SVM.
    package static func volume(_ uuid: ObjectUUID, of svm: ObjectUUID) -> String {
        "\(Self.svm(svm))/volume/\(uuid)"
    }
    /// An export policy of an SVM.
    package static func exportPolicy(_ identifier: UInt64, of svm: ObjectUUID) -> String {
        "\(Self.svm(svm))/export-policy/\(identifier)"
    }
    /// A LIF of an SVM.
    package static func lif(_ uuid: ObjectUUID, of svm: ObjectUUID) -> String { "\(Self.svm(svm))/lif/\(uuid)" }
}
