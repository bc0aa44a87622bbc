#if canImport(Glibc)
    import Glibc
#endif

/// Finds out whether an address and port can be listened on, without listening.
package enum AddressProbe {
    /// SO_REUSEPORT of Linux: on one machine the source's listener shares the port with ours during the cutover.
    private static let reusePort: Int32 = 15

    /// Why the address cannot be used; nil when it can.
    @Sendable package static func obstacle(address: String, port: Int) -> String? {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard descriptor >= 0 else { return "no socket can be made: \(String(cString: strerror(errno)))" }
        defer { close(descriptor) }
        var one: Int32 = 1
        let size = socklen_t(MemoryLayout<Int32>.size)
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, size)
        setsockopt(descriptor, SOL_SOCKET, reusePort, &one, size)
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_port = UInt16(truncatingIfNeeded: port).bigEndian
        guard inet_pton(AF_INET, address, &name.sin_addr) == 1 else { return "it is not an IPv4 address" }
        let result = withUnsafePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard result != 0 else { return nil }
        switch errno {
        case EADDRNOTAVAIL: return "no interface of this node has it"
        case EADDRINUSE: return "another process uses it"
        default: return String(cString: strerror(errno))
        }
    }
}
