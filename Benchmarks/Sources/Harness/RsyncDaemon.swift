import Foundation

/// An rsync daemon on loopback, the peer of the transfers.
public final class RsyncDaemon {
    private let port: Int
    private let directory: String
    private let daemon: ChildProcess

    /// Starts a daemon whose module `target` is `directory/target`.
    public init(directory: String, port: Int = 20873) throws {
        self.port = port
        self.directory = directory
        try FileManager.default.createDirectory(atPath: "\(directory)/target", withIntermediateDirectories: true)
        let text = """
            use chroot = no
            address = 127.0.0.1
            port = \(port)
            uid = 0
            gid = 0
            pid file = \(directory)/rsyncd.pid
            [target]
                path = \(directory)/target
                read only = no

            """
        try text.write(toFile: "\(directory)/rsyncd.conf", atomically: true, encoding: .utf8)
        daemon = try ChildProcess(
            "rsync",
            ["--daemon", "--no-detach", "--config", "\(directory)/rsyncd.conf"],
            logPath: "\(directory)/rsyncd.log"
        )
        try waitUntilListening(daemon, address: "127.0.0.1", port: port, seconds: 10)
    }

    /// Brings `name` on the target to the state of a local tree and returns the seconds it took.
    public func synchronize(_ tree: String, to name: String) throws -> Double {
        let started = monotonicSeconds()
        try runChecked(
            "rsync",
            ["-a", "\(tree)/", "rsync://127.0.0.1:\(port)/target/\(name)/"],
            timeoutSeconds: 900
        )
        return monotonicSeconds() - started
    }

    /// Waits until the file system has on its disk what was brought, and returns the seconds it took.
    public func settle() throws -> Double {
        let started = monotonicSeconds()
        try runChecked("sync", ["--file-system", directory], timeoutSeconds: 900)
        return monotonicSeconds() - started
    }

    /// Ends the daemon.
    public func stop() { daemon.stop() }
}
