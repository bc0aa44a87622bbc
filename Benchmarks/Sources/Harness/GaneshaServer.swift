public import Foundation

/// Debian's nfs-ganesha with its VFS back end, as the peer to measure against.
public final class GaneshaServer {
    /// The directory it exports.
    public let exportPath: String
    /// The port of NFS; MOUNT is on the next one.
    public let port: Int
    private let directory: String
    private var daemon: ChildProcess?
    private var portMapper: ChildProcess?

    /// Process id of the daemon.
    public var pid: pid_t { daemon?.pid ?? 0 }
    /// The URL that clients use.
    public var url: String { "nfs://127.0.0.1\(exportPath)" }

    /// Writes its configuration; starts nothing.
    public init(directory: String, port: Int = 20590) throws {
        self.directory = directory
        self.port = port
        exportPath = "\(directory)/export"
        try FileManager.default.createDirectory(atPath: exportPath, withIntermediateDirectories: true)
        let text = """
            NFS_CORE_PARAM {
                Protocols = 3; NFS_Port = \(port); MNT_Port = \(port + 1); Bind_addr = 127.0.0.1;
                Enable_NLM = false; Enable_RQUOTA = false; mount_path_pseudo = false;
            }
            NFSV4 { Graceless = true; RecoveryRoot = \(directory)/recovery; }
            EXPORT {
                Export_Id = 1; Path = \(exportPath); Pseudo = /export; Protocols = 3; Access_Type = RW;
                Squash = No_Root_Squash; Transports = TCP; SecType = sys;
                FSAL { Name = VFS; }
            }
            LOG { Default_Log_Level = EVENT; }

            """
        try text.write(toFile: "\(directory)/ganesha.conf", atomically: true, encoding: .utf8)
    }

    /// Starts the port mapper, which it needs for NFSv3, unless one runs, and then the server.
    public func start() throws {
        if !isListening(address: "127.0.0.1", port: 111) {
            let mapper = try ChildProcess("rpcbind", ["-f", "-w"], logPath: "\(directory)/rpcbind.log")
            portMapper = mapper
            try waitUntilListening(mapper, address: "127.0.0.1", port: 111, seconds: 10)
        }
        try FileManager.default.createDirectory(atPath: "/var/run/ganesha", withIntermediateDirectories: true)
        let child = try ChildProcess(
            "ganesha.nfsd",
            [
                "-F", "-f", "\(directory)/ganesha.conf", "-L", "\(directory)/ganesha.log", "-p",
                "\(directory)/ganesha.pid",
            ],
            logPath: "\(directory)/ganesha.out"
        )
        daemon = child
        try waitUntilListening(child, address: "127.0.0.1", port: port + 1, seconds: 30)
    }

    /// Ends the server as a crash would; the port mapper stays.
    public func crash() { daemon?.crash() }

    /// Ends what `start` started.
    public func stop() {
        daemon?.stop()
        portMapper?.stop()
    }
}
