public import Foundation
// HTTP lives here on Linux.
import FoundationNetworking

/// A real `godwitd` with one SVM, configured through the real `godwit`. Everything that a harness must know about the
/// configuration file and the command line of Godwit is in this file.
public final class GodwitServer {
    /// Where things are and which ports are used.
    public struct Layout: Sendable {
        /// The cluster, which also names its directories and node.
        public var cluster = "alpha"
        /// The directory under which data, aggregate and logs are put.
        public var directory: String
        /// Path of `godwitd`.
        public var daemonPath: String
        /// Path of `godwit`.
        public var commandPath: String
        /// Ports on 127.0.0.1 for REST and replication.
        public var managementPort = 18080
        /// See `managementPort`.
        public var replicationPort = 18081
        /// The address of the LIF.
        public var address = "127.0.0.21"
        /// The port of NFS and MOUNT.
        public var port = 20490
        /// Bytes of the aggregate, in the notation of the configuration file.
        public var capacity = "40G"

        /// Makes a layout with the defaults.
        public init(directory: String, daemonPath: String, commandPath: String) {
            self.directory = directory
            self.daemonPath = daemonPath
            self.commandPath = commandPath
        }
    }

    /// The name of the SVM and of its volume.
    public static let svm = "bench"
    /// See `svm`.
    public static let volume = "data"

    /// See `Layout`.
    public let layout: Layout
    private var daemon: ChildProcess?
    private let session = URLSession(configuration: .ephemeral)

    /// Process id of the daemon, 0 when it does not run.
    public var pid: pid_t { daemon?.pid ?? 0 }
    /// Whether the daemon runs.
    public var isRunning: Bool { daemon?.isRunning ?? false }
    /// The URL that clients use.
    public var url: String { "nfs://\(layout.address)/\(Self.volume)" }
    /// The log of the daemon.
    public var logPath: String { "\(layout.directory)/\(layout.cluster).log" }

    private var configurationPath: String { "\(layout.directory)/\(layout.cluster).yaml" }
    private var readyPath: String { "\(layout.directory)/\(layout.cluster).ready" }

    /// Makes the directories and the configuration file; starts nothing.
    public init(_ layout: Layout) throws {
        self.layout = layout
        try FileManager.default.createDirectory(atPath: layout.directory, withIntermediateDirectories: true)
        let root = "\(layout.directory)/\(layout.cluster)"
        let text = """
            cluster:
              name: \(layout.cluster)
            node:
              name: \(layout.cluster)-01
            data_directory: \(root)/data
            management:
              address: 127.0.0.1
              port: \(layout.managementPort)
            replication:
              address: 127.0.0.1
              port: \(layout.replicationPort)
            nfs:
              port: \(layout.port)
            aggregates:
              - name: aggr1
                directory: \(root)/aggr1
                capacity: \(layout.capacity)
            log:
              level: notice

            """
        try text.write(toFile: configurationPath, atomically: true, encoding: .utf8)
    }

    /// Starts the daemon and waits for nothing.
    @discardableResult
    public func launch() throws -> ChildProcess {
        try? FileManager.default.removeItem(atPath: readyPath)
        let child = try ChildProcess(
            layout.daemonPath,
            ["--config", configurationPath, "--ready-file", readyPath],
            logPath: logPath
        )
        daemon = child
        return child
    }

    /// Starts the daemon and waits until it serves.
    public func start(seconds: Double = 60) throws {
        let child = try launch()
        let deadline = monotonicSeconds() + seconds
        while !FileManager.default.fileExists(atPath: readyPath) {
            guard child.isRunning, monotonicSeconds() < deadline else {
                let tail = child.logTail
                child.crash()
                throw HarnessError("godwitd does not serve; its log says:\n\(tail)", remedy: "see \(logPath)")
            }
            usleep(2_000)
        }
    }

    /// Ends the daemon in good order.
    public func stop() { daemon?.stop() }

    /// Ends the daemon as a crash would.
    public func crash() { daemon?.crash() }

    /// Runs `godwit` against this cluster and returns what it printed.
    @discardableResult
    public func command(_ arguments: [String], timeoutSeconds: Double = 300) throws -> String {
        try runChecked(layout.commandPath, arguments, environment: environment, timeoutSeconds: timeoutSeconds)
    }

    private var environment: [String: String] { ["GODWIT_SERVER": "http://127.0.0.1:\(layout.managementPort)"] }

    /// Makes the SVM, its volume and its LIF, where they are not there yet.
    public func provision() throws {
        let shown = try runCommand(layout.commandPath, ["svm", "show", "--json"], environment: environment)
        guard !shown.output.contains("\"\(Self.svm)\"") else { return }
        try command(["svm", "create", "--name", Self.svm])
        try command([
            "export-policy", "rule", "add", "--svm", Self.svm, "--policy", "default", "--clients", "127.0.0.0/8",
            "--ro", "any", "--rw", "any", "--superuser", "any",
        ])
        try makeVolume(Self.volume, size: "30G")
        try command([
            "lif", "create", "--svm", Self.svm, "--name", "lif1", "--address", layout.address, "--port",
            "\(layout.port)",
        ])
    }

    /// Makes a volume and joins it into the namespace under its name.
    public func makeVolume(_ name: String, size: String) throws {
        try command([
            "volume", "create", "--svm", Self.svm, "--name", name, "--size", size, "--junction-path", "/\(name)",
        ])
    }

    /// Walks all metadata of the volume. Nil when it is clean, else what was found.
    public func checkVolume() throws -> String? {
        let result = try runCommand(
            layout.commandPath,
            ["volume", "check", "--svm", Self.svm, "--volume", Self.volume],
            environment: environment,
            timeoutSeconds: 600
        )
        return result.status == 0 ? nil : result.output + result.error
    }

    /// Takes a snapshot of the volume, or deletes it; what is so already is no error.
    public func setSnapshot(_ name: String, isThere: Bool) throws {
        try command(
            isThere
                ? [
                    "snapshot", "create", "--svm", Self.svm, "--volume", Self.volume, "--name", name,
                    "--ok-if-exists",
                ]
                : [
                    "snapshot", "delete", "--svm", Self.svm, "--volume", Self.volume, "--name", name,
                    "--ok-if-absent",
                ]
        )
    }

    /// Takes a snapshot of a volume and returns the seconds it took, from a request of REST on an open connection to its
    /// answer.
    public func snapshotSeconds(volume: String, name: String) throws -> Double {
        let found = try rest("GET", "/api/storage/volumes?name=\(volume)&fields=uuid")
        guard let record = (found["records"] as? [[String: Any]])?.first, let uuid = record["uuid"] as? String else {
            throw HarnessError("there is no volume '\(volume)'", remedy: "see \(logPath)")
        }
        let started = monotonicSeconds()
        _ = try rest("POST", "/api/storage/volumes/\(uuid)/snapshots", body: ["name": name])
        return monotonicSeconds() - started
    }

    /// One request of REST; connections stay open between requests.
    private func rest(_ method: String, _ path: String, body: [String: String]? = nil) throws -> [String: Any] {
        let text = "http://127.0.0.1:\(layout.managementPort)\(path)"
        guard let url = URL(string: text) else {
            throw HarnessError("\(text) is not a URL", remedy: "give a port that is a number")
        }
        var request = URLRequest(url: url)
        request.httpMethod = method
        if let body {
            request.httpBody = try JSONSerialization.data(withJSONObject: body)
            request.setValue("application/json", forHTTPHeaderField: "Content-Type")
        }
        let answer = Answer()
        let done = DispatchSemaphore(value: 0)
        session.dataTask(with: request) { data, response, error in
            answer.data = data
            answer.status = (response as? HTTPURLResponse)?.statusCode ?? 0
            answer.problem = error.map { "\($0)" }
            done.signal()
        }.resume()
        done.wait()
        let data = answer.data ?? Data()
        guard (200..<300).contains(answer.status),
            let fields = try JSONSerialization.jsonObject(with: data) as? [String: Any]
        else {
            throw HarnessError(
                "\(method) \(text) answered \(answer.status): \(answer.problem ?? String(decoding: data, as: UTF8.self))",
                remedy: "see \(logPath)"
            )
        }
        return fields
    }

    /// What a request brought. The semaphore orders the two threads that touch it.
    private final class Answer: @unchecked Sendable {
        var data: Data?
        var status = 0
        var problem: String?
    }

    /// Makes this cluster and another each other's peers.
    public func peer(with other: GodwitServer) throws {
        for (one, two) in [(self, other), (other, self)] {
            try one.command([
                "cluster", "peer", "create", "--name", two.layout.cluster, "--address",
                "127.0.0.1:\(two.layout.managementPort)", "--replication", "127.0.0.1:\(two.layout.replicationPort)",
                "--passphrase", "only-for-this-machine",
            ])
        }
    }

    /// On the destination: starts to move the SVM here, never cutting over, so that its transfers can be measured.
    public func startMigrate(from source: GodwitServer) throws {
        try command([
            "svm", "migrate", "start", "--svm", Self.svm, "--source-cluster", source.layout.cluster, "--auto-cutover",
            "false", "--ready-transfers", "1000000",
        ])
    }

    /// On the destination: halts the transfers and waits until they stand still, or lets them go on.
    public func setMigratePaused(_ isPaused: Bool) throws {
        try command(["svm", "migrate", isPaused ? "pause" : "resume", "--svm", Self.svm])
        let deadline = monotonicSeconds() + 60
        while isPaused, try transferProgress().state != "migrate_paused" {
            guard monotonicSeconds() < deadline else {
                throw HarnessError("the migrate operation does not pause", remedy: "see \(logPath)")
            }
            usleep(5_000)
        }
    }

    /// How far the transfers of the one volume of the one migrate operation are.
    public struct TransferProgress: Sendable {
        /// The state of the operation.
        public let state: String
        /// Transfers that are complete.
        public let transfers: Int
        /// Milliseconds and bytes of all of them.
        public let milliseconds: Int
        /// See `milliseconds`.
        public let bytes: Int
        /// Milliseconds from the start of the first transfer to its end, 0 until then.
        public let baselineMilliseconds: Int
    }

    /// On the destination: reads the progress.
    public func transferProgress() throws -> TransferProgress {
        let answer = try rest("GET", "/api/svm/migrations?fields=*")
        guard let record = (answer["records"] as? [[String: Any]])?.first else {
            throw HarnessError("there is no migrate operation: \(answer)", remedy: "see \(logPath)")
        }
        // The volumes are known only once the setup has asked the source for them.
        let details = record["godwit"] as? [String: Any] ?? [:]
        let volume = (details["volumes"] as? [[String: Any]])?.first ?? [:]
        return TransferProgress(
            state: record["state"] as? String ?? "",
            transfers: volume["transfers"] as? Int ?? 0,
            milliseconds: volume["transfer_milliseconds"] as? Int ?? 0,
            bytes: volume["bytes_transferred"] as? Int ?? 0,
            baselineMilliseconds: volume["baseline_milliseconds"] as? Int ?? 0
        )
    }

    /// On the destination: polls until so many transfers are complete.
    public func waitForTransfers(
        _ count: Int,
        seconds: Double,
        everyMilliseconds: UInt32
    ) throws -> TransferProgress {
        let deadline = monotonicSeconds() + seconds
        while true {
            let progress = try transferProgress()
            if progress.transfers >= count { return progress }
            guard !progress.state.hasSuffix("failed"), monotonicSeconds() < deadline else {
                throw HarnessError(
                    "the transfers stand still: state \(progress.state), \(progress.transfers) of \(count)",
                    remedy: "see \(logPath)"
                )
            }
            usleep(everyMilliseconds * 1000)
        }
    }
}
