import Environment
import FileService
import Foundation
import NFSTypes
import NIOCore
import NIOPosix
import ONCRPC
import NetworkModule
import Testing

@Suite struct ListenerTests {
    private let null = TestServer.call(NFS3.program, 0, xid: 77) { _ in }

    @Test func malformedStreamsCloseTheirConnectionAndNoOther() async throws {
        let server = try TestServer()
        let threads = NetworkThreads()
        let listener = try await NFSListener.bind(
            address: "127.0.0.1",
            port: 0,
            service: server.service,
            term: TestServer.term,
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
            term: TestServer.term,
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
            term: TestServer.term,
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
