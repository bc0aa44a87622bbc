package import ClusterConfiguration
import Performance
package import ReplicatedDatabaseEtcd
package import StorageControl
package import TransportSecurity
import Yams

/// What is wrong in the configuration file, where, and how to mend it.
package struct ConfigurationFileError: Error, Equatable, CustomStringConvertible {
    /// What is wrong.
    var message: String
    /// How to mend it.
    var remedy: String

    /// Both, in one line.
    package var description: String { "\(message) (\(remedy))" }
}

/// The configuration of a node, read from a YAML file. `config/godwitd.sample.yaml` explains every key.
package struct DaemonConfiguration: Equatable, Sendable {
    /// The name of the cluster.
    package var clusterName: String
    /// The name of this node.
    package var nodeName: String
    /// Where the replicated database and the lock file live.
    package var dataDirectory: String
    /// The etcd that holds the replicated database; nil for a file in the data directory.
    package var etcd: EtcdConfiguration?
    /// Where REST listens.
    package var management: NetworkEndpoint
    /// Where replication for other clusters listens.
    package var replication: NetworkEndpoint
    /// Where requests of clients listen that other nodes of the cluster forward; nil for a cluster of one node.
    package var interconnect: NetworkEndpoint?
    /// The files of the identity that this node shows to others; nil on loopback only.
    package var identity: IdentityFiles?
    /// The names of the nodes whose aggregates this node takes over when they are down.
    package var partners: [String]
    /// The port of a LIF that is made without one.
    package var nfsPort: Int
    /// The directories that hold volumes.
    package var aggregates: [AggregateSetting]
    /// Seconds between two samples of what volumes and aggregates do.
    package var statisticsIntervalSeconds: Int
    /// The least severe messages of the log: trace, debug, info, notice, warning, error.
    package var logLevel: String
    /// Whether hooks for tests (crash points) may be used.
    package var isTesting: Bool

    /// Reads the text of a file.
    ///
    /// - Throws: `ConfigurationFileError`, naming key and line.
    package init(yaml: String) throws {
        let root: Node?
        do {
            root = try Yams.compose(yaml: yaml)
        } catch {
            throw ConfigurationFileError(message: "the file is not YAML: \(error)", remedy: "correct it at that place")
        }
        guard let root else {
            throw ConfigurationFileError(
                message: "the file is empty",
                remedy: "begin with a copy of config/godwitd.sample.yaml"
            )
        }
        var top = try Section(
            root,
            path: "",
            keys: [
                "cluster", "node", "data_directory", "database", "management", "replication", "interconnect", "tls",
                "nfs",
                "aggregates", "partners", "statistics", "log", "testing",
            ]
        )
        let cluster = try top.section("cluster", keys: ["name"])
        let node = try top.section("node", keys: ["name"])
        let nfs = try top.optionalSection("nfs", keys: ["port"])
        let log = try top.optionalSection("log", keys: ["level"])
        let statistics = try top.optionalSection("statistics", keys: ["interval"])
        clusterName = try cluster.text("name")
        nodeName = try node.text("name")
        dataDirectory = try top.absolutePath("data_directory")
        etcd = try top.optionalSection("database", keys: ["etcd"])?.section("etcd", keys: Section.etcdKeys)
            .etcd(cluster: clusterName)
        management = try top.section("management", keys: ["address", "port"]).endpoint()
        replication = try top.section("replication", keys: ["address", "port"]).endpoint()
        interconnect = try top.optionalSection("interconnect", keys: ["address", "port"])?.endpoint()
        identity = try top.optionalSection("tls", keys: ["authority", "certificate", "key"])?.identity()
        if identity == nil {
            for key in ["management", "replication", "interconnect"] {
                try top.optionalSection(key, keys: ["address", "port"])?.requireLoopback()
            }
        }
        partners = try top.optionalTexts("partners")
        if partners.contains(nodeName) || (etcd == nil && !partners.isEmpty) {
            throw top.failure(
                "partners",
                partners.contains(nodeName)
                    ? "'partners' names this node itself"
                    : "'partners' names other nodes, and the database is a file of this node",
                "name the nodes whose aggregates this node takes over, and give the cluster a database.etcd"
            )
        }
        nfsPort = try nfs?.optionalPort("port") ?? 2049
        aggregates = try Self.aggregates(&top)
        statisticsIntervalSeconds =
            try statistics?.optionalSeconds("interval", in: 1...3_600) ?? PerformanceLimits.intervalSecondsDefault
        isTesting = try top.optionalBool("testing") ?? false
        logLevel = try log?.choice("level", ["trace", "debug", "info", "notice", "warning", "error"]) ?? "info"
        var endpoints = [("management", management), ("replication", replication)]
        if let interconnect { endpoints.append(("interconnect", interconnect)) }
        for (index, first) in endpoints.enumerated() {
            for second in endpoints[(index + 1)...] where first.1 == second.1 {
                throw ConfigurationFileError(
                    message: "\(first.0) and \(second.0) both listen on \(first.1)",
                    remedy: "give one of them another port"
                )
            }
        }
    }

    private static func aggregates(_ top: inout Section) throws -> [AggregateSetting] {
        var settings: [AggregateSetting] = []
        for section in try top.list("aggregates", keys: ["name", "directory", "capacity", "tier"]) {
            let setting = AggregateSetting(
                name: try section.text("name"),
                directory: try section.absolutePath("directory"),
                capacityBytes: try section.size("capacity"),
                tier: try section.choice("tier", AggregateTier.allCases.map(\.rawValue)).flatMap(AggregateTier.init)
            )
            for other in settings where other.name == setting.name || other.directory == setting.directory {
                throw section.failure(
                    "directory",
                    "aggregates '\(other.name)' and '\(setting.name)' share a name or a directory",
                    "give each aggregate a name and a directory of its own"
                )
            }
            settings.append(setting)
        }
        guard !settings.isEmpty else {
            throw ConfigurationFileError(
                message: "'aggregates' is empty",
                remedy: "name at least one directory that holds volumes"
            )
        }
        return settings
    }
}

/// A mapping of the file whose keys are known.
private struct Section {
    private let mapping: Node.Mapping
    private let path: String
    private let line: Int

    init(_ node: Node, path: String, keys: [String]) throws {
        line = node.mark?.line ?? 1
        self.path = path
        guard let mapping = node.mapping else {
            throw ConfigurationFileError(
                message: "line \(line): '\(path)' must be a mapping of keys to values",
                remedy: "give it some of the keys: \(keys.joined(separator: ", "))"
            )
        }
        self.mapping = mapping
        for (key, _) in mapping {
            let name = key.string ?? ""
            guard !keys.contains(name) else { continue }
            let nearest = keys.min { editDistance(name, $0) < editDistance(name, $1) } ?? ""
            throw ConfigurationFileError(
                message: "line \(key.mark?.line ?? line): unknown key '\(full(name))'",
                remedy: "did you mean '\(full(nearest))'? known here: \(keys.joined(separator: ", "))"
            )
        }
    }

    private func full(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

    func failure(_ key: String, _ message: String, _ remedy: String) -> ConfigurationFileError {
        ConfigurationFileError(message: "line \(mapping[key]?.mark?.line ?? line): \(message)", remedy: remedy)
    }

    private func required(_ key: String) throws -> Node {
        guard let node = mapping[key] else {
            throw failure(key, "the key '\(full(key))' is missing", "add it; config/godwitd.sample.yaml shows how")
        }
        return node
    }

    func text(_ key: String) throws -> String {
        guard let text = try required(key).string, !text.isEmpty else {
            throw failure(key, "'\(full(key))' must be text", "give it a value")
        }
        return text
    }

    func absolutePath(_ key: String) throws -> String {
        let path = try text(key)
        guard path.hasPrefix("/") else {
            throw failure(key, "'\(full(key))': '\(path)' is not an absolute path", "give a path that begins with /")
        }
        return path
    }

    func size(_ key: String) throws -> UInt64 {
        let text = try text(key)
        guard let bytes = parseSize(text), bytes >= 64 << 20 else {
            throw failure(
                key,
                "'\(full(key))': '\(text)' is not a size of at least 64M",
                "give a size such as 10G or 500M"
            )
        }
        return bytes
    }

    func optionalPort(_ key: String) throws -> Int? {
        guard mapping[key] != nil else { return nil }
        return try port(key)
    }

    func optionalSeconds(_ key: String, in range: ClosedRange<Int>) throws -> Int? {
        guard mapping[key] != nil else { return nil }
        guard let seconds = try required(key).int, range.contains(seconds) else {
            throw failure(
                key,
                "'\(full(key))' must be a number of seconds",
                "give \(range.lowerBound) to \(range.upperBound)"
            )
        }
        return seconds
    }

    private func port(_ key: String) throws -> Int {
        guard let port = try required(key).int, (1...65_535).contains(port) else {
            throw failure(key, "'\(full(key))' must be a TCP port", "give a number from 1 to 65535")
        }
        return port
    }

    func endpoint() throws -> NetworkEndpoint {
        let text = try text("address")
        guard IPv4Address(text) != nil else {
            throw failure(
                "address",
                "'\(full("address"))': '\(text)' is not an IPv4 address",
                "give one such as 127.0.0.1"
            )
        }
        return NetworkEndpoint(address: text, port: try port("port"))
    }

    /// Nobody is served at an address that others reach without showing who he is.
    func requireLoopback() throws {
        let text = try text("address")
        guard IPv4Address(text)?.isLoopback != true else { return }
        throw failure(
            "address",
            "'\(full("address"))': \(text) is not in 127.0.0.0/8, and this node has no certificate to show there",
            "give it one in the section 'tls' (scripts/certificates makes them for trials), or an address such as 127.0.0.1"
        )
    }

    /// The section of a node's identity.
    func identity() throws -> IdentityFiles {
        IdentityFiles(
            authority: try absolutePath("authority"),
            certificate: try absolutePath("certificate"),
            key: try absolutePath("key")
        )
    }

    func optionalBool(_ key: String) throws -> Bool? {
        guard let node = mapping[key] else { return nil }
        guard let value = node.bool else {
            throw failure(key, "'\(full(key))' must be true or false", "give one of them")
        }
        return value
    }

    func choice(_ key: String, _ choices: [String]) throws -> String? {
        guard let node = mapping[key] else { return nil }
        guard let value = node.string, choices.contains(value) else {
            throw failure(
                key,
                "'\(full(key))' cannot be '\(node.string ?? "")'",
                "give one of \(choices.joined(separator: ", "))"
            )
        }
        return value
    }

    static let etcdKeys = ["endpoints", "prefix", "tls"]

    /// The section of an etcd cluster.
    func etcd(cluster: String) throws -> EtcdConfiguration {
        let tls = try optionalSection("tls", keys: ["authority", "certificate", "key"])?.etcdTLS()
        let endpoints = try texts("endpoints")
        let scheme = tls == nil ? "http://" : "https://"
        for endpoint in endpoints {
            let rest = endpoint.dropFirst(scheme.count)
            let parts = rest.split(separator: ":", omittingEmptySubsequences: false)
            let isWhole = parts.count == 2 && !parts[0].isEmpty && (1...65_535).contains(Int(parts[1]) ?? 0)
            guard endpoint.hasPrefix(scheme), isWhole else {
                throw failure(
                    "endpoints",
                    "'\(full("endpoints"))': '\(endpoint)' is not the client address of an etcd member"
                        + (tls == nil ? "" : " with TLS"),
                    "give one such as \(scheme)127.0.0.1:2379"
                )
            }
        }
        let prefix = mapping["prefix"] == nil ? "\(EtcdConfiguration.prefixDefault)\(cluster)/" : try text("prefix")
        guard prefix.hasSuffix("/") else {
            throw failure("prefix", "'\(full("prefix"))': '\(prefix)' does not end with /", "end it with /")
        }
        return EtcdConfiguration(endpoints: endpoints, prefix: prefix, tls: tls)
    }

    private func etcdTLS() throws -> EtcdConfiguration.TLS {
        let hasCertificate = mapping["certificate"] != nil
        guard hasCertificate == (mapping["key"] != nil) else {
            throw failure(
                hasCertificate ? "certificate" : "key",
                "'\(path)' has only one of certificate and key",
                "give both, or neither when etcd asks its clients for none"
            )
        }
        return EtcdConfiguration.TLS(
            authorityFile: try absolutePath("authority"),
            certificateFile: hasCertificate ? try absolutePath("certificate") : nil,
            keyFile: hasCertificate ? try absolutePath("key") : nil
        )
    }

    func optionalTexts(_ key: String) throws -> [String] { mapping[key] == nil ? [] : try texts(key) }

    private func texts(_ key: String) throws -> [String] {
        let texts = try required(key).sequence?.compactMap(\.string) ?? []
        guard !texts.isEmpty, texts.count == (try required(key).sequence?.count), Set(texts).count == texts.count else {
            throw failure(key, "'\(full(key))' must be a list of different texts", "write it as [one, two, three]")
        }
        return texts
    }

    func section(_ key: String, keys: [String]) throws -> Section {
        try Section(try required(key), path: full(key), keys: keys)
    }

    func optionalSection(_ key: String, keys: [String]) throws -> Section? {
        guard mapping[key] != nil else { return nil }
        return try section(key, keys: keys)
    }

    func list(_ key: String, keys: [String]) throws -> [Section] {
        guard let sequence = try required(key).sequence else {
            throw failure(key, "'\(full(key))' must be a list", "begin each element with '- '")
        }
        return try sequence.enumerated().map { try Section($1, path: "\(full(key))[\($0)]", keys: keys) }
    }
}

/// Bytes of a size such as `10G`, `500M` or `4096`; the units are powers of 1024. Nil when it is none.
package func parseSize(_ text: String) -> UInt64? {
    let units: [Character: UInt64] = ["K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50]
    guard let last = text.last else { return nil }
    let unit = units[Character(last.uppercased())]
    let digits = unit == nil ? text[...] : text.dropLast()
    guard digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let count = UInt64(digits) else { return nil }
    let (bytes, isOverflow) = count.multipliedReportingOverflow(by: unit ?? 1)
    return isOverflow ? nil : bytes
}

/// How many insertions, deletions and replacements lead from one word to the other (Levenshtein).
package func editDistance(_ left: String, _ right: String) -> Int {
    let target = Array(right.utf8)
    var row = Array(0...target.count)
    for (index, byte) in left.utf8.enumerated() {
        var diagonal = row[0]
        row[0] = index + 1
        for column in target.indices {
            let next = min(row[column] + 1, row[column + 1] + 1, diagonal + (target[column] == byte ? 0 : 1))
            diagonal = row[column + 1]
            row[column + 1] = next
        }
    }
    return row[target.count]
}
