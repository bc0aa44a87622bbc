package import Identity

/// A way to prove who one is, in a rule of an export policy.
package enum ExportSecurity: String, Codable, Sendable {
    /// Every way.
    case any
    /// UNIX credentials (AUTH_SYS).
    case sys
    /// No credentials (AUTH_NONE).
    case none
    /// Nobody.
    case never
}

/// A rule of an export policy; the first rule whose clients match decides.
package struct ExportRule: Codable, Equatable, Sendable {
    /// Its place; lower ones are asked first.
    package var index: Int
    /// Addresses (`192.0.2.1`) and networks (`192.0.2.0/24`, `0.0.0.0/0`).
    package var clients: [String]
    /// Who may read.
    package var readOnlyRule: [ExportSecurity]
    /// Who may write.
    package var readWriteRule: [ExportSecurity]
    /// Who keeps user 0.
    package var superuser: [ExportSecurity]
    /// Who user 0 becomes when it is not kept.
    package var anonymousUser: UInt32

    /// Makes a rule.
    package init(
        index: Int,
        clients: [String],
        readOnlyRule: [ExportSecurity] = [.any],
        readWriteRule: [ExportSecurity] = [.any],
        superuser: [ExportSecurity] = [.none],
        anonymousUser: UInt32 = 65_534
    ) {
        self.index = index
        self.clients = clients
        self.readOnlyRule = readOnlyRule
        self.readWriteRule = readWriteRule
        self.superuser = superuser
        self.anonymousUser = anonymousUser
    }
}

/// Who may use volumes.
package struct ExportPolicyRecord: ConfigurationRecord {
    /// The format of the record.
    package var formatVersion = 1
    /// Its number, unique within the cluster.
    package var identifier: UInt64
    /// Its name, unique within the SVM.
    package var name: String
    /// The SVM that it belongs to.
    package var svm: ObjectUUID
    /// Its rules, by index.
    package var rules: [ExportRule]

    /// Makes a record.
    package init(identifier: UInt64, name: String, svm: ObjectUUID, rules: [ExportRule] = []) {
        self.identifier = identifier
        self.name = name
        self.svm = svm
        self.rules = rules
    }

    /// Where it lives.
    package var key: String { ConfigurationKeys.exportPolicy(identifier, of: svm) }
}

/// Another cluster that this one works with.
package struct ClusterPeerRecord: ConfigurationRecord {
    /// The format of the record.
    package var formatVersion = 1
    /// The identifier of the relationship here.
    package var uuid: ObjectUUID
    /// The name by which the other cluster is known here.
    package var name: String
    /// Where the cluster service of the other cluster listens.
    package var service: NetworkEndpoint
    /// Where it listens on other nodes, as the user knows; nil for nowhere.
    package var otherServices: [NetworkEndpoint]?
    /// Where it listens on other nodes, as the other cluster has told; nil until then.
    package var learnedServices: [NetworkEndpoint]?
    /// Where the other cluster serves replication; nil until it has told.
    package var replication: NetworkEndpoint?
    /// The passphrase that both clusters were given. It proves who they are to each other and never leaves the
    /// database through REST.
    package var passphrase: String

    /// Makes a record.
    package init(
        uuid: ObjectUUID,
        name: String,
        service: NetworkEndpoint,
        otherServices: [NetworkEndpoint]? = nil,
        replication: NetworkEndpoint? = nil,
        passphrase: String
    ) {
        self.uuid = uuid
        self.name = name
        self.service = service
        self.otherServices = otherServices
        self.replication = replication
        self.passphrase = passphrase
    }

    /// All addresses of its cluster service, each once, those first that the user gave.
    package var services: [NetworkEndpoint] {
        var found: [NetworkEndpoint] = []
        for endpoint in [service] + (otherServices ?? []) + (learnedServices ?? []) where !found.contains(endpoint) {
            found.append(endpoint)
        }
        return found
    }

    /// Where it lives.
    package var key: String { ConfigurationKeys.peer(uuid) }
}
