import Foundation
import Harness

/// A server that can be killed and started again on the same data.
protocol CrashServer: AnyObject {
    /// The URL that clients use.
    var url: String { get }
    /// The port of NFS.
    var nfsPort: Int { get }
    /// The port of MOUNT.
    var mountPort: Int { get }
    /// Starts and waits until clients are served.
    func start() throws
    /// SIGKILL.
    func crash()
    /// Starts, and kills again so many seconds later, in the middle of recovery or not.
    func startAndCrash(afterSeconds: Double) throws
    /// Ends in good order.
    func stop()
    /// Whether a call that was executed before the crash and is sent again gets the answer that it was given.
    var remembersAnswers: Bool { get }
    /// Whether `setSnapshot` may be called.
    var hasSnapshots: Bool { get }
    /// Takes a snapshot or deletes it.
    func setSnapshot(_ name: String, isThere: Bool) throws
    /// Nil when the metadata is consistent, else what is not.
    func check() throws -> String?
}

/// Godwit with the volume of the harness.
final class GodwitCrashServer: CrashServer {
    private let server: GodwitServer
    private var isProvisioned = false

    init(_ layout: GodwitServer.Layout) throws { server = try GodwitServer(layout) }

    var url: String { server.url }
    var nfsPort: Int { server.layout.port }
    var mountPort: Int { server.layout.port }

    func start() throws {
        try server.start()
        if !isProvisioned {
            try server.provision()
            isProvisioned = true
        }
    }

    func startAndCrash(afterSeconds: Double) throws {
        try server.launch()
        usleep(UInt32(afterSeconds * 1e6))
        server.crash()
    }

    func crash() { server.crash() }
    func stop() { server.stop() }
    var remembersAnswers: Bool { true }
    var hasSnapshots: Bool { true }
    func setSnapshot(_ name: String, isThere: Bool) throws { try server.setSnapshot(name, isThere: isThere) }
    func check() throws -> String? { try server.checkVolume() }
}

/// nfs-ganesha, to try the harness itself: its process may be killed, because the kernel keeps what it wrote.
final class GaneshaCrashServer: CrashServer {
    private let server: GaneshaServer

    init(directory: String) throws { server = try GaneshaServer(directory: directory) }

    var url: String { server.url }
    var nfsPort: Int { server.port }
    var mountPort: Int { server.port + 1 }

    func start() throws { try server.start() }
    func startAndCrash(afterSeconds: Double) throws {
        try server.start()
        server.crash()
    }
    func crash() { server.crash() }
    func stop() { server.stop() }
    var remembersAnswers: Bool { false }
    var hasSnapshots: Bool { false }
    func setSnapshot(_ name: String, isThere: Bool) throws { preconditionFailure("ganesha takes no snapshots") }
    func check() throws -> String? { nil }
}

/// Takes snapshots and deletes them beside the clients of a round, so that the daemon dies in the middle of both.
final class SnapshotChurn: @unchecked Sendable {
    private static let keptMax = 3
    // Proof of Sendable: `isStopped` is touched under `lock` only; `taken`, `count` and `failure` are the thread's until
    // `ended` is signalled, and whoever called `stop` reads them afterwards.
    private let target: any CrashServer
    private let prefix: String
    private let lock = NSLock()
    private let ended = DispatchSemaphore(value: 0)
    private var isStopped = false
    private var taken = 0
    /// How many were taken for sure.
    private(set) var count = 0
    /// What went wrong before the daemon was to die.
    private(set) var failure: (any Error)?

    /// Begins.
    init(_ target: any CrashServer, prefix: String) {
        self.target = target
        self.prefix = prefix
        let thread = Thread { [self] in
            while self.target.hasSnapshots, failure == nil, !lock.withLock({ isStopped }) { turn() }
            ended.signal()
        }
        thread.start()
    }

    /// One snapshot more, and the oldest one gone. Only a daemon that is to die may fail.
    private func turn() {
        do {
            try target.setSnapshot("\(prefix)-\(taken)", isThere: true)
            count += 1
            if taken >= Self.keptMax { try target.setSnapshot("\(prefix)-\(taken - Self.keptMax)", isThere: false) }
        } catch {
            if !lock.withLock({ isStopped }) { failure = error }
        }
        taken += 1
    }

    /// Ends, and lets `crash` kill the daemon in what is being done.
    func stop(crash: () -> Void) {
        lock.withLock { isStopped = true }
        crash()
        ended.wait()
    }

    /// Deletes what is left, on a daemon that serves.
    func clean() throws { for index in 0..<taken { try target.setSnapshot("\(prefix)-\(index)", isThere: false) } }
}
