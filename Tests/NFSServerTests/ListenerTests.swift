import Environment
import FileService
import Foundation
import NFSTypes
import NIOCore
import NIOPosix
import ONCRPC
import NetworkModule
import Testing

/// A client on a real socket that sends bytes and waits for bytes.
private final class RawClient {
    private let descriptor: Int32

    init(port: Int) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
        var timeout = timeval(tv_sec: 5, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
        let status = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        try #require(status == 0)
    }

    deinit { close(descriptor) }

    func send(_ bytes: [UInt8]) { _ = Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) }

    func send(record: ByteBuffer) {
        var framed = ByteBuffer(integer: UInt32(record.readableBytes) | 0x8000_0000)
        framed.writeImmutableBuffer(record)
        send(Array(framed.readableBytesView))
    }

    /// Bytes that have arrived within the time limit of the socket; empty at the end of the stream.
    func receive() -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: 65_536)
        let count = recv(descriptor, &buffer, buffer.count, 0)
        return Array(buffer.prefix(max(0, count)))
    }

    func arrived(withinMilliseconds: Int32) -> Bool {
        var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return Glibc.poll(&poll, 1, withinMilliseconds) == 1
    }
}

@Suite struct ListenerTests {
    private let null = TestServer.call(NFS3.program, 0, xid: 77) { _ in }

    @Test func malformedStreamsCloseTheirConnectionAndNoOther() async throws {
        let server = try TestServer()
        let threads = NetworkThreads()
        let listener = try await NFSListener.bind(
            address: "127.0.0.1",
            port: 0,
            service: server.service,
            threads: threads,
            isShared: false
        )
        let good = try RawClient(port: listener.port)
        var generator = SeededGenerator(state: 11)
        for round in 0..<200 {
            let bad = try RawClient(port: listener.port)
            bad.send(
                (0..<Int.random(in: 4...200, using: &generator)).map { _ in UInt8.random(in: 0...255, using: &generator)
                }
            )
            if round % 20 == 0 {
                good.send(record: null)
                #expect(good.receive().count == 28)
            }
        }
        #expect(server.service.gate.inside == 0)
        await listener.close()
        await threads.stop()
        server.remove()
    }

    @Test func fragmentsAreJoined() async throws {
        let server = try TestServer()
        let threads = NetworkThreads()
        let listener = try await NFSListener.bind(
            address: "127.0.0.1",
            port: 0,
            service: server.service,
            threads: threads,
            isShared: false
        )
        let client = try RawClient(port: listener.port)
        let bytes = Array(null.readableBytesView)
        client.send([0, 0, 0, 8] + bytes[0..<8] + [0, 0, 0, 0])
        client.send([0x80, 0, 0, UInt8(bytes.count - 8)] + bytes[8...])
        #expect(client.receive().count == 28)
        await listener.close()
        await threads.stop()
        server.remove()
    }

    @Test func aHeldGateKeepsRequestsAndConnections() async throws {
        let server = try TestServer()
        let threads = NetworkThreads()
        let listener = try await NFSListener.bind(
            address: "127.0.0.1",
            port: 0,
            service: server.service,
            threads: threads,
            isShared: false
        )
        let client = try RawClient(port: listener.port)
        client.send(record: null)
        #expect(client.receive().count == 28)
        server.service.gate.move(to: .held)
        client.send(record: null)
        #expect(!client.arrived(withinMilliseconds: 100))
        let deadline = Environment.system.monotonicNanoseconds() + 1_000_000_000
        #expect(await listener.flushed(deadline: deadline, environment: .system))
        #expect(server.service.gate.inside == 0)
        server.service.gate.move(to: .open)
        listener.runHeld()
        #expect(client.receive().count == 28)
        await listener.close()
        await threads.stop()
        server.remove()
    }
}
