import Foundation
import Glibc
import TestKit
import Testing

/// IP spaces, broadcast domains, subnets and ports through the real command and the real daemon.
@Suite("Network commands", .serialized)
struct NetworkCommandTests {
    private static func program(_ name: String) -> URL {
        URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent().appending(path: name)
    }

    /// Runs a body beside a daemon, with what runs a command against it.
    private func withDaemon(_ body: ((String...) throws -> CommandRun) throws -> Void) async throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "godwit-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let port = FreePorts.take(2)
        let configuration = """
            cluster: {name: alpha}
            node: {name: alpha-01}
            data_directory: \(directory)/data
            management: {address: 127.0.0.1, port: \(port)}
            replication: {address: 127.0.0.1, port: \(port + 1)}
            aggregates:
              - {name: aggr1, directory: \(directory)/aggr1, capacity: 1G}
            """
        try Data(configuration.utf8).write(to: URL(filePath: directory + "/godwitd.yaml"))
        let process = Process()
        process.executableURL = Self.program("godwitd")
        process.arguments = ["--config", directory + "/godwitd.yaml", "--ready-file", directory + "/ready"]
        process.standardError = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        defer {
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
        }
        let deadline = Date() + 30
        while !FileManager.default.fileExists(atPath: directory + "/ready") {
            try #require(process.isRunning && Date() < deadline, "the daemon does not come to serve")
            try await Task.sleep(for: .milliseconds(20))
        }
        try body { (arguments: String...) in
            try CommandRun(Self.program("godwit"), arguments + ["--server", "http://127.0.0.1:\(port)"])
        }
    }

    @Test func objectsAreMadeShownChangedAndDeleted() async throws {
        try await withDaemon { godwit in
            #expect(try godwit("ipspace", "show").output.contains("Default"))
            #expect(try godwit("ipspace", "create", "--name", "blue").status == 0)
            #expect(try godwit("ipspace", "create", "--name", "blue").status != 0)
            #expect(try godwit("ipspace", "create", "--name", "blue", "--ok-if-exists").status == 0)
            let made = try godwit(
                "broadcast-domain",
                "create",
                "--name",
                "lan",
                "--ipspace",
                "blue",
                "--mtu",
                "9000",
                "--ports",
                "alpha-01:eth7,alpha-01:eth8"
            )
            #expect(made.status == 0, "\(made.output)")
            let changed = try godwit(
                "broadcast-domain",
                "modify",
                "--name",
                "lan",
                "--remove-ports",
                "alpha-01:eth8",
                "--add-ports",
                "alpha-01:eth9"
            )
            #expect(changed.status == 0, "\(changed.output)")
            let shown = try godwit("broadcast-domain", "show").output
            #expect(shown.contains("alpha-01:eth7,alpha-01:eth9") && shown.contains("9000") && shown.contains("blue"))
            #expect(try godwit("ipspace", "delete", "--name", "blue").output.contains("broadcast domain 'lan'"))
            #expect(try godwit("svm", "create", "--name", "tenant", "--ipspace", "blue").status == 0)
            #expect(try godwit("svm", "show").output.contains("blue"))
        }
    }

    @Test func subnetsAreCheckedAndTellTheirAddresses() async throws {
        try await withDaemon { godwit in
            #expect(try godwit("broadcast-domain", "create", "--name", "lan").status == 0)
            let made = try godwit(
                "subnet",
                "create",
                "--name",
                "one",
                "--broadcast-domain",
                "lan",
                "--subnet",
                "10.0.1.0/24",
                "--gateway",
                "10.0.1.1",
                "--ip-ranges",
                "10.0.1.10-10.0.1.19,10.0.1.30"
            )
            #expect(made.status == 0, "\(made.output)")
            let shown = try godwit("subnet", "show").output
            #expect(shown.contains("10.0.1.0/24") && shown.contains("10.0.1.10-10.0.1.19,10.0.1.30-10.0.1.30"))
            #expect(try godwit("subnet", "show", "--json").output.contains(#""available_count":11"#))
            let overlapping = try godwit(
                "subnet",
                "create",
                "--name",
                "two",
                "--broadcast-domain",
                "lan",
                "--subnet",
                "10.0.0.0/16"
            )
            #expect(overlapping.status != 0 && overlapping.output.contains("subnet 'one'"))
            #expect(try godwit("subnet", "modify", "--name", "one", "--gateway", "", "--ip-ranges", "").status == 0)
            #expect(try godwit("subnet", "show", "--json").output.contains(#""available_count":0"#))
            #expect(try godwit("broadcast-domain", "delete", "--name", "lan").output.contains("subnet 'one'"))
            #expect(try godwit("subnet", "delete", "--name", "one").status == 0)
            #expect(try godwit("subnet", "delete", "--name", "one", "--ok-if-absent").status == 0)
            #expect(try godwit("broadcast-domain", "delete", "--name", "lan").status == 0)
        }
    }

    @Test func portsOfTheHostAreShown() async throws {
        try await withDaemon { godwit in
            let shown = try godwit("port", "show", "--json")
            #expect(shown.status == 0 && shown.output.contains("\"records\""))
            // The loopback is no port.
            #expect(!shown.output.contains(#""name":"lo""#))
        }
    }
}
