import ClusterConfiguration
import Glibc

/// The lock on a data directory: held as long as the process lives.
struct DirectoryLock: ~Copyable {
    private let descriptor: CInt

    /// Makes the directory when it is missing, and locks it.
    ///
    /// - Throws: `data_directory_locked` when another process has it.
    init(directory: String) throws {
        try Self.makeDirectory(directory)
        let path = directory + "/godwitd.lock"
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw Self.failure("cannot open \(path)") }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let code = errno
            close(descriptor)
            guard code == EWOULDBLOCK else { throw Self.failure("cannot lock \(path)") }
            throw ManagementError(
                .conflict,
                "data_directory_locked",
                "the data directory \(directory) is in use by another godwitd",
                remedy: "stop that process, or use another data_directory"
            )
        }
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    private static func makeDirectory(_ directory: String) throws {
        var path = ""
        for component in directory.split(separator: "/") {
            path += "/" + component
            guard mkdir(path, 0o700) != 0, errno != EEXIST else { continue }
            throw failure("cannot make the directory \(path)")
        }
    }

    private static func failure(_ what: String) -> ManagementError {
        ManagementError(
            .failed,
            "data_directory_unusable",
            "\(what): \(String(cString: strerror(errno)))",
            remedy: "check data_directory, its owner and its rights"
        )
    }
}

/// Checks that an address can be listened on, so that nothing is opened in vain when it cannot.
///
/// - Throws: `port_in_use`, naming the key of the configuration file.
func requireFree(_ endpoint: NetworkEndpoint, key: String) throws {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    var isOn: CInt = 1
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &isOn, socklen_t(MemoryLayout<CInt>.size))
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(UInt16(endpoint.port)).bigEndian
    address.sin_addr.s_addr = (IPv4Address(endpoint.address)?.bits ?? 0).bigEndian
    let result = withUnsafePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
            bind(descriptor, generic, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
    }
    guard result != 0 || listen(descriptor, 1) != 0 else { return }
    let reason = String(cString: strerror(errno))
    throw ManagementError(
        .conflict,
        "port_in_use",
        "\(key): cannot listen on \(endpoint): \(reason)",
        remedy:
            "stop the process that listens there (ss -ltnp shows it), or change \(key).port in the configuration file"
    )
}
