import Foundation
import Glibc

/// A real etcd cluster of one or more members on loopback, in a directory of its own.
package final class EtcdCluster {
    /// Something of the cluster does not work.
    package struct Failure: Error, CustomStringConvertible {
        /// What.
        package var description: String

        /// Makes a failure.
        package init(description: String) { self.description = description }
    }

    private struct Member {
        var clientPort: Int
        var peerPort: Int
        var process: Process?
    }

    /// The files of a TLS connection, made anew for each cluster.
    package struct Certificates {
        /// Who signed the certificate.
        package var authority: String
        /// Of the members and of clients.
        package var certificate: String
        /// The private key of the certificate.
        package var key: String
    }

    private let directory: String
    /// Nil when the connections are in the clear.
    package let certificates: Certificates?
    private var members: [Member] = []

    /// Starts `count` members and waits until they answer.
    package init(members count: Int, isEncrypted: Bool = false) async throws {
        directory = FileManager.default.temporaryDirectory.appending(path: "godwit-etcd-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        certificates = isEncrypted ? try Self.makeCertificates(directory) : nil
        let port = FreePorts.take(2 * count)
        for index in 0..<count {
            members.append(Member(clientPort: port + 2 * index, peerPort: port + 2 * index + 1))
        }
        for index in members.indices { try start(index) }
        for index in members.indices { try await waitUntilHealthy(index) }
    }

    deinit {
        for member in members where member.process?.isRunning == true {
            kill(member.process!.processIdentifier, SIGKILL)
            member.process!.waitUntilExit()
        }
        try? FileManager.default.removeItem(atPath: directory)
    }

    private var scheme: String { certificates == nil ? "http" : "https" }

    /// What a client of the whole cluster is told.
    package var endpoints: [String] { members.map { "\(scheme)://127.0.0.1:\($0.clientPort)" } }

    /// Starts a member that does not run, on the data that it has.
    package func start(_ index: Int) throws {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/etcd")
        let client = endpoints[index]
        let peer = "http://127.0.0.1:\(members[index].peerPort)"
        let all = members.enumerated().map { "m\($0.offset)=http://127.0.0.1:\($0.element.peerPort)" }
        var arguments = [
            "--name", "m\(index)", "--data-dir", "\(directory)/m\(index)", "--listen-client-urls", client,
            "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", all.joined(separator: ","), "--heartbeat-interval", "50", "--election-timeout", "250",
            "--logger", "zap", "--log-level", "error", "--max-txn-ops", "1000",
        ]
        if let certificates {
            arguments += [
                "--cert-file", certificates.certificate, "--key-file", certificates.key, "--client-cert-auth",
                "--trusted-ca-file", certificates.authority,
            ]
        }
        process.arguments = arguments
        let log = "\(directory)/m\(index).log"
        if !FileManager.default.fileExists(atPath: log) {
            _ = FileManager.default.createFile(atPath: log, contents: nil)
        }
        let output = try FileHandle(forWritingTo: URL(filePath: log))
        try output.seekToEnd()
        process.standardOutput = output
        process.standardError = output
        try process.run()
        members[index].process = process
    }

    /// Ends a member with SIGKILL.
    package func crash(_ index: Int) {
        guard let process = members[index].process else { return }
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        members[index].process = nil
    }

    /// Stops a member, which keeps its connections, or lets it go on.
    package func setFrozen(_ index: Int, _ isFrozen: Bool) {
        if let process = members[index].process { kill(process.processIdentifier, isFrozen ? SIGSTOP : SIGCONT) }
    }

    /// Waits until the client port is there and the member knows a leader.
    package func waitUntilHealthy(_ index: Int) async throws {
        let deadline = Date() + 30
        while Date() < deadline {
            if try curl(["\(endpoints[index])/health"]).contains("true") { return }
            try await Task.sleep(for: .milliseconds(50))
        }
        let log = (try? String(contentsOfFile: "\(directory)/m\(index).log", encoding: .utf8)) ?? ""
        throw Failure(description: "etcd member \(index) is not healthy after 30 s: \(log.suffix(2000))")
    }

    /// Posts JSON to a member and returns what it says.
    package func post(_ index: Int, _ path: String, _ json: String) throws -> String {
        try curl(["-d", json, endpoints[index] + path])
    }

    /// Revokes every lease, with the keys that live by them.
    package func revokeLeases(_ index: Int) throws {
        struct Answer: Decodable {
            struct Lease: Decodable {
                private enum CodingKeys: String, CodingKey { case identifier = "ID" }

                var identifier: String
            }
            var leases: [Lease]
        }
        let answer = try JSONDecoder().decode(Answer.self, from: Data(try post(index, "/v3/lease/leases", "{}").utf8))
        for lease in answer.leases { _ = try post(index, "/v3/lease/revoke", #"{"ID":"\#(lease.identifier)"}"#) }
    }

    private func curl(_ arguments: [String]) throws -> String {
        var all = ["-s", "-m", "5"]
        if let certificates {
            all += ["--cacert", certificates.authority, "--cert", certificates.certificate, "--key", certificates.key]
        }
        return try CommandRun(URL(filePath: "/usr/bin/curl"), all + arguments).output
    }

    /// The member that leads, nil when there is none that says so.
    package func leader() throws -> Int? {
        struct Status: Decodable {
            struct Header: Decodable {
                private enum CodingKeys: String, CodingKey { case member = "member_id" }

                var member: String
            }
            var header: Header
            var leader: String?
        }
        for index in members.indices where members[index].process != nil {
            guard
                let status = try? JSONDecoder().decode(
                    Status.self,
                    from: Data(try post(index, "/v3/maintenance/status", "{}").utf8)
                )
            else { continue }
            if status.leader == status.header.member { return index }
        }
        return nil
    }

    // MARK: Preparations

    private static func makeCertificates(_ directory: String) throws -> Certificates {
        func openssl(_ arguments: String...) throws {
            let outcome = try CommandRun(URL(filePath: "/usr/bin/openssl"), arguments)
            guard outcome.status == 0 else { throw Failure(description: "openssl \(arguments): \(outcome.output)") }
        }
        let (authority, key) = ("\(directory)/ca.pem", "\(directory)/ca.key")
        try openssl(
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=godwit test authority",
            "-keyout",
            key,
            "-out",
            authority
        )
        try openssl(
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=godwit",
            "-keyout",
            "\(directory)/node.key",
            "-out",
            "\(directory)/node.csr"
        )
        try Data("subjectAltName=IP:127.0.0.1\n".utf8).write(to: URL(filePath: "\(directory)/node.ext"))
        try openssl(
            "x509",
            "-req",
            "-in",
            "\(directory)/node.csr",
            "-CA",
            authority,
            "-CAkey",
            key,
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "\(directory)/node.ext",
            "-out",
            "\(directory)/node.pem"
        )
        return Certificates(
            authority: authority,
            certificate: "\(directory)/node.pem",
            key: "\(directory)/node.key"
        )
    }
}
