import Foundation
import Glibc
import TestKit
import Testing

/// The real daemon of a cluster of one node, without etcd, for a test.
final class LocalDaemon {
    let directory: String
    let server: String
    let managementPort: Int
    private let process: Process

    /// Starts it and waits until it serves.
    ///
    /// - Parameter rest: what is below `aggregates` in its configuration; `DIR` stands for its directory.
    init(_ cluster: String, aggregates: [String], rest: String = "") async throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "godwit-\(UUID().uuidString)").path
        self.directory = directory
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        managementPort = FreePorts.take(2)
        server = "http://127.0.0.1:\(managementPort)"
        let list = aggregates.map { "  - {" + $0.replacing("DIR", with: directory) + "}" }.joined(separator: "\n")
        let configuration = """
            cluster: {name: \(cluster)}
            node: {name: \(cluster)-01}
            data_directory: \(directory)/data
            management: {address: 127.0.0.1, port: \(managementPort)}
            replication: {address: 127.0.0.1, port: \(managementPort + 1)}
            aggregates:
            \(list)
            \(rest)
            """
        try Data(configuration.utf8).write(to: URL(filePath: "\(directory)/godwitd.yaml"))
        process = Process()
        process.executableURL = Self.program("godwitd")
        process.arguments = ["--config", "\(directory)/godwitd.yaml", "--ready-file", "\(directory)/ready"]
        let log = "\(directory)/log"
        _ = FileManager.default.createFile(atPath: log, contents: nil)
        process.standardError = try FileHandle(forWritingTo: URL(filePath: log))
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        let deadline = Date() + 30
        while !FileManager.default.fileExists(atPath: "\(directory)/ready") {
            let said = try String(contentsOfFile: log, encoding: .utf8)
            try #require(process.isRunning && Date() < deadline, "the daemon does not serve: \(said)")
            try await Task.sleep(for: .milliseconds(20))
        }
    }

    deinit {
        if process.isRunning {
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
        }
        try? FileManager.default.removeItem(atPath: directory)
    }

    /// Runs a command against it.
    func godwit(_ arguments: String...) throws -> CommandRun { try run(arguments) }

    /// The same with the arguments in a list.
    func run(_ arguments: [String]) throws -> CommandRun {
        try CommandRun(Self.program("godwit"), arguments + ["--server", server])
    }

    private static func program(_ name: String) -> URL {
        URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent().appending(path: name)
    }
}
