import Foundation
import Glibc
import TestKit
import Testing

/// The real daemon and the real command on a real etcd.
@Suite("Daemon on etcd", .serialized)
struct EtcdDaemonTests {
    private final class Node {
        let directory: String
        let server: String
        private let file: String
        private var log: String { "\(directory)/log" }
        private var process: Process?

        /// Two nodes of one name share an etcd and nothing else.
        init(_ cluster: EtcdCluster, port: Int) throws {
            directory = FileManager.default.temporaryDirectory.appending(path: "godwit-\(UUID().uuidString)").path
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
            server = "http://127.0.0.1:\(port)"
            file = "\(directory)/godwitd.yaml"
            let configuration = """
                cluster: {name: alpha}
                node: {name: alpha-01}
                data_directory: \(directory)/data
                database: {etcd: {endpoints: [\(cluster.endpoints.joined(separator: ", "))]}}
                management: {address: 127.0.0.1, port: \(port)}
                replication: {address: 127.0.0.1, port: \(port + 1)}
                aggregates:
                  - {name: aggr1, directory: \(directory)/aggr1, capacity: 1G}
                """
            try Data(configuration.utf8).write(to: URL(filePath: file))
        }

        deinit {
            crash()
            try? FileManager.default.removeItem(atPath: directory)
        }

        /// Starts the daemon; returns what it says on standard error when it does not come to serve.
        func start() async throws -> String? {
            let ready = "\(directory)/ready"
            try? FileManager.default.removeItem(atPath: ready)
            let process = Process()
            process.executableURL = program("godwitd")
            process.arguments = ["--config", file, "--ready-file", ready]
            _ = FileManager.default.createFile(atPath: log, contents: nil)
            process.standardError = try FileHandle(forWritingTo: URL(filePath: log))
            process.standardOutput = FileHandle.nullDevice
            try process.run()
            self.process = process
            let deadline = Date() + 30
            while process.isRunning, Date() < deadline {
                if FileManager.default.fileExists(atPath: ready) { return nil }
                try await Task.sleep(for: .milliseconds(20))
            }
            return try String(contentsOfFile: log, encoding: .utf8)
        }

        /// Ends it with a signal.
        func end(_ signal: Int32) {
            guard let process else { return }
            kill(process.processIdentifier, signal)
            process.waitUntilExit()
            self.process = nil
        }

        func crash() { end(SIGKILL) }

        /// Runs a command; returns its status and what it says.
        func godwit(_ arguments: String...) throws -> CommandRun {
            try CommandRun(program("godwit"), arguments + ["--server", server])
        }

        /// What it has logged.
        var said: String { (try? String(contentsOfFile: log, encoding: .utf8)) ?? "" }

        /// Waits for words in what it logs.
        func waitForLog(_ words: String) async throws {
            let deadline = Date() + 30
            while !(try String(contentsOfFile: log, encoding: .utf8)).contains(words) {
                try #require(Date() < deadline, "the daemon never said '\(words)'")
                try await Task.sleep(for: .milliseconds(20))
            }
        }

        private func program(_ name: String) -> URL {
            URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent().appending(path: name)
        }
    }

    @Test func aNodeLivesOnEtcdAndComesBackAtOnce() async throws {
        let cluster = try await EtcdCluster(members: 1)
        let node = try Node(cluster, port: FreePorts.take(2))
        #expect(try await node.start() == nil)
        #expect(try node.godwit("svm", "create", "--name", "tenant").status == 0)
        // After a crash its own session is no obstacle, though the lease lives on for seconds.
        node.crash()
        let begun = ContinuousClock.now
        #expect(try await node.start() == nil)
        #expect(ContinuousClock.now - begun < .seconds(4))
        #expect(try node.godwit("svm", "show").output.contains("tenant"))
        // A second daemon of the same name is refused while this one lives.
        let second = try Node(cluster, port: FreePorts.take(2))
        let refusal = try #require(try await second.start())
        #expect(refusal.contains("another godwitd runs as node 'alpha-01'"))
        #expect(refusal.contains("database.etcd.prefix"))
        node.end(SIGTERM)
        #expect(try await node.start() == nil)
    }

    @Test func withoutEtcdCommandsFailWithARemedyAndTheNodeGoesOn() async throws {
        let cluster = try await EtcdCluster(members: 1)
        let node = try Node(cluster, port: FreePorts.take(2))
        #expect(try await node.start() == nil)
        cluster.crash(0)
        let failed = try node.godwit("svm", "create", "--name", "tenant")
        #expect(failed.status != 0)
        #expect(failed.output.contains("majority") && failed.output.contains("remedy"), "\(failed.output)\(node.said)")
        try await node.waitForLog("was not renewed")
        try cluster.start(0)
        try await cluster.waitUntilHealthy(0)
        #expect(try node.godwit("svm", "create", "--name", "tenant").status == 0)
        // What an outage longer than the lease does: the session is begun again.
        try cluster.revokeLeases(0)
        try await node.waitForLog("was begun again")
        let refusal = try await Node(cluster, port: FreePorts.take(2)).start()
        #expect(refusal?.contains("another godwitd runs") == true)
        node.end(SIGTERM)
        #expect(try await node.start() == nil)
    }

    @Test func anEtcdThatIsNotThereIsNamed() async throws {
        let cluster = try await EtcdCluster(members: 1)
        cluster.crash(0)
        let refusal = try await Node(cluster, port: FreePorts.take(2)).start()
        #expect(refusal?.contains(cluster.endpoints[0]) == true)
        #expect(refusal?.contains("Connection refused") == true)
    }
}
