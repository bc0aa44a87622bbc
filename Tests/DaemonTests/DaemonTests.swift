import ClusterConfiguration
import ReplicatedDatabaseEtcd
import StorageControl
import Testing
import TransportSecurity

import godwitd

@Suite("Configuration file")
struct ConfigurationFileTests {
    private let good = """
        cluster: {name: alpha}
        node: {name: alpha-01}
        data_directory: /data
        management: {address: 127.0.0.1, port: 8080}
        replication: {address: 127.0.0.1, port: 8081}
        aggregates:
          - {name: aggr1, directory: /aggr1, capacity: 10G}
        """

    private func failure(_ edit: (String) -> String) -> String {
        do {
            _ = try DaemonConfiguration(yaml: edit(good))
            return "none"
        } catch {
            return "\(error)"
        }
    }

    @Test func aGoodFileIsRead() throws {
        let settings = try DaemonConfiguration(yaml: good)
        #expect(settings.management == NetworkEndpoint(address: "127.0.0.1", port: 8080))
        #expect(settings.aggregates.first?.capacityBytes == 10 << 30)
        #expect(settings.nfsPort == 2049)
        #expect(!settings.isTesting)
    }

    @Test(arguments: [
        ("node: {name", "node: {nam", "did you mean 'node.name'"), ("cluster:", "clustre:", "did you mean 'cluster'"),
        ("capacity:", "capacty:", "line 7: unknown key 'aggregates[0].capacty'"), ("10G", "10X", "is not a size"),
        ("/aggr1", "aggr1", "is not an absolute path"), ("8081", "8080", "both listen on"),
        ("8081", "99999", "must be a TCP port"), ("127.0.0.1, port: 8080", "10.0.0.1, port: 8080", "no certificate"),
        ("127.0.0.1, port: 8080", "localhost, port: 8080", "is not an IPv4 address"),
        ("data_directory: /data", "", "the key 'data_directory' is missing"), ("{name: alpha}", "alpha", "mapping"),
        ("cluster: {name: alpha}", "cluster: {name: [", "not YAML"),
    ])
    func badFilesAreExplained(part: String, replacement: String, expected: String) {
        let message = failure { $0.replacing(part, with: replacement) }
        #expect(message.contains(expected), "\(message)")
        #expect(message.contains("("), "no remedy: \(message)")
    }

    @Test func etcdIsReadFromTheFile() throws {
        let etcd = "database: {etcd: {endpoints: [http://10.0.0.1:2379, http://etcd-2:2379]}}\n"
        let settings = try DaemonConfiguration(yaml: etcd + good)
        #expect(settings.etcd?.endpoints == ["http://10.0.0.1:2379", "http://etcd-2:2379"])
        #expect(settings.etcd?.prefix == "godwit/alpha/")
        #expect(try DaemonConfiguration(yaml: good).etcd == nil)
        let cases = [
            ("endpoints", "endpoint", "did you mean 'database.etcd.endpoints'"),
            ("[http://10.0.0.1:2379, http://etcd-2:2379]", "[]", "must be a list"),
            ("http://etcd-2:2379", "etcd-2:2379", "'etcd-2:2379' is not the client address"),
            ("http://etcd-2:2379", "http://etcd-2", "such as http://127.0.0.1:2379"),
            ("http://etcd-2:2379", "http://10.0.0.1:2379", "different texts"),
            ("2379]", "2379], prefix: alpha", "does not end with /"),
            ("2379]", "2379], tls: {authority: /ca.pem}", "such as https://127.0.0.1:2379"),
            ("2379]", "2379], tls: {authority: /ca.pem, key: /key}", "only one of certificate and key"),
        ]
        for (part, replacement, expected) in cases {
            let message = failure { etcd.replacing(part, with: replacement) + $0 }
            #expect(message.contains(expected), "\(message)")
        }
    }

    @Test func anIdentityAllowsOtherAddresses() throws {
        let identity = "tls: {authority: /ca.pem, certificate: /node.pem, key: /node.key}\n"
        let elsewhere = good.replacing("127.0.0.1", with: "10.0.0.1")
        let settings = try DaemonConfiguration(yaml: identity + elsewhere)
        #expect(settings.management.address == "10.0.0.1")
        let files = IdentityFiles(authority: "/ca.pem", certificate: "/node.pem", key: "/node.key")
        #expect(settings.identity == files)
        let interconnect = "interconnect: {address: 10.0.0.1, port: 8082}\n"
        #expect(failure { interconnect + $0 }.contains("'interconnect.address': 10.0.0.1 is not in 127.0.0.0/8"))
        #expect(failure { identity.replacing("key: /node.key", with: "key: node.key") + $0 }.contains("absolute path"))
        #expect(failure { identity.replacing(", key: /node.key", with: "") + $0 }.contains("'tls.key' is missing"))
    }

    @Test func tiersAndSamplesAreConfigured() throws {
        let usual = try DaemonConfiguration(yaml: good)
        #expect(usual.aggregates[0].tier == nil)
        #expect(usual.statisticsIntervalSeconds == 60)
        let other = try DaemonConfiguration(
            yaml: good.replacing("10G}", with: "10G, tier: capacity}") + "\nstatistics: {interval: 5}"
        )
        #expect(other.aggregates[0].tier == .capacity)
        #expect(other.statisticsIntervalSeconds == 5)
        let tier = failure { $0.replacing("10G}", with: "10G, tier: fast}") }
        #expect(tier.contains("'aggregates[0].tier' cannot be 'fast' (give one of performance, capacity)"))
        #expect(failure { $0 + "\nstatistics: {interval: 0}" }.contains("give 1 to 3600"))
    }

    @Test func sharedDirectoriesAreRefused() {
        let message = failure { $0 + "\n  - {name: aggr2, directory: /aggr1, capacity: 1G}" }
        #expect(message.contains("share a name or a directory"))
    }

    @Test func sizesAndDistances() {
        #expect(parseSize("4096") == 4096)
        #expect(parseSize("2t") == 2 << 40)
        #expect(parseSize("") == nil)
        #expect(parseSize("-1G") == nil)
        #expect(parseSize("99999999P") == nil)
        #expect(editDistance("kitten", "sitting") == 3)
    }
}
