import Glibc
import Synchronization

/// Ports of 127.0.0.1 that nothing listens on, for programs that must be told theirs before they start.
///
/// Below the ports that the kernel gives to whoever asks for any: one of those may be a connection's or another test's
/// by the time the program binds it.
package enum FreePorts {
    private static let first = 25_100
    private static let count = 7_000
    // Another run of the tests beside this one begins elsewhere.
    private static let taken = Atomic<Int>(Int(getpid()) * 64)

    /// Takes ports in a row, none of which is given out again soon.
    package static func take(_ wanted: Int) -> Int {
        while true {
            let offset = taken.wrappingAdd(wanted, ordering: .relaxed).oldValue % (count - wanted)
            let ports = (first + offset)..<(first + offset + wanted)
            if ports.allSatisfy(isFree) { return ports.lowerBound }
        }
    }

    private static func isFree(_ port: Int) -> Bool {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
                bind(descriptor, generic, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
    }
}
