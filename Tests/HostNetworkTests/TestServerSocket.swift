import CLinux
import Glibc

/// A listener with one connection, as plain as can be.
final class TestServerSocket {
    let port: Int
    private let listener: Int32
    private var connection: Int32 = -1

    private init(listener: Int32, port: Int) {
        self.listener = listener
        self.port = port
    }

    /// Listens at an address, at any port; nil when it cannot.
    static func make(address: String) -> TestServerSocket? {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        guard inet_pton(AF_INET, address, &name.sin_addr) == 1 else { return nil }
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafeMutablePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
                bind(listener, generic, size) == 0 && listen(listener, 1) == 0
                    && getsockname(listener, generic, &size) == 0
            }
        }
        guard result else { return nil }
        return TestServerSocket(listener: listener, port: Int(UInt16(bigEndian: name.sin_port)))
    }

    /// Takes a connection in; returns the client's port.
    func accept() -> UInt16? {
        var name = sockaddr_in()
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        connection = withUnsafeMutablePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.accept(listener, $0, &size) }
        }
        return connection < 0 ? nil : UInt16(bigEndian: name.sin_port)
    }

    func closeSilently() {
        _ = godwit_silence(connection)
        Glibc.close(connection)
        connection = -1
    }

    func close() {
        if connection >= 0 { Glibc.close(connection) }
        Glibc.close(listener)
    }
}

extension NamespaceLinks {
    func server(at address: String) throws -> TestServerSocket {
        guard let server = TestServerSocket.make(address: address) else {
            throw CommandFailure(description: "\(address) cannot be listened on")
        }
        return server
    }
}
