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
    func check() throws -> String? { nil }
}
