import ArgumentParser
import ClusterConfiguration
import Environment
import Foundation
import HostNetwork
import Logging
import RESTAPI
import ReplicatedDatabase
import ReplicatedDatabaseSQLite
import ServiceLifecycle
import StorageControl

/// Exit statuses, those of sysexits(3) where there is one.
private enum ExitStatus {
    static let configuration: Int32 = 78
    static let failure: Int32 = 1
}

/// The daemon of a node.
@main
struct DaemonCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "godwitd",
        abstract: "The daemon of a Godwit node.",
        discussion: "Runs in the foreground, logs to standard error, ends gracefully on SIGTERM and SIGINT.",
        version: ProductVersion.full
    )

    @Option(help: "The configuration file (YAML); config/godwitd.sample.yaml explains it.")
    var config: String

    @Flag(help: "Check the configuration file, say what is wrong, and end.")
    var checkConfig = false

    @Flag(
        help: """
            Take the addresses of LIFs that a daemon which was killed has left off their ports, and end. For ExecStopPost= of \
            a systemd unit: while they are there, the host answers for them.
            """
    )
    var releaseAddresses = false

    @Option(help: "A file that is written when the daemon serves, and removed when it ends.")
    var readyFile: String?

    func run() async throws {
        let settings: DaemonConfiguration
        do {
            settings = try Self.read(config)
        } catch {
            throw Self.exit("\(config): \(error)", ExitStatus.configuration)
        }
        guard !checkConfig else {
            print("godwitd: \(config) is good: cluster \(settings.clusterName), node \(settings.nodeName)")
            return
        }
        LoggingSystem.bootstrap { label in
            var handler = StreamLogHandler.standardError(label: label)
            handler.logLevel = Logger.Level(rawValue: settings.logLevel) ?? .info
            return handler
        }
        do {
            if releaseAddresses { return try await Self.releaseAddresses(settings) }
            try await Daemon(settings: settings, readyFile: readyFile).run()
        } catch {
            throw Self.exit(ManagementError.from(error).description, ExitStatus.failure)
        }
    }

    private static func releaseAddresses(_ settings: DaemonConfiguration) async throws {
        let lock = try DirectoryLock(directory: settings.dataDirectory)
        let released = try await HostAddresses.of(settings, LinuxHostNetwork(), BlockingPool()).sweep(keeping: [:])
        print(
            "godwitd: released \(released.isEmpty ? "no address" : released.map(\.description).joined(separator: ", "))"
        )
        _ = consume lock
    }

    private static func read(_ path: String) throws -> DaemonConfiguration {
        guard let bytes = FileManager.default.contents(atPath: path) else {
            throw ConfigurationFileError(
                message: "the file cannot be read",
                remedy: "give the path of a readable file with --config"
            )
        }
        guard let text = String(data: bytes, encoding: .utf8) else {
            throw ConfigurationFileError(message: "the file is not UTF-8 text", remedy: "save it as UTF-8")
        }
        return try DaemonConfiguration(yaml: text)
    }

    private static func exit(_ message: String, _ status: Int32) -> ExitCode {
        FileHandle.standardError.write(Data("godwitd: \(message)\n".utf8))
        return ExitCode(status)
    }
}
