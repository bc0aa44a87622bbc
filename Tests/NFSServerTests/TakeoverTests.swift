import FileService
import Foundation
import HostNetwork
import NetworkModule
import NFSTypes
import Testing

/// What a listener does with its connections when their address leaves.
@Suite struct TakeoverTests {
    private let null = TestServer.call(NFS3.program, 0, xid: 78) { _ in }

    /// Nothing is answered while connections are frozen, and everything when they are thawed: TCP sends it again.
    @Test func whatArrivesAtAFrozenConnectionIsSentAgain() async throws {
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
        let known = listener.connections
        #expect(known.count == 1 && known[0].local == HostAddress("127.0.0.1"))
        #expect(Int(known[0].localPort) == listener.port)
        await listener.freeze()
        client.send(record: null)
        #expect(!client.arrived(withinMilliseconds: 300))
        listener.thaw()
        #expect(client.receive().count == 28)
        await listener.close()
        await threads.stop()
        server.remove()
    }

    /// A client of a listener that was abandoned is told nothing: neither an end nor a reset.
    @Test(.enabled(if: getuid() == 0, "only root may close a socket without a packet"))
    func anAbandonedConnectionEndsWithoutAWord() async throws {
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
        await listener.freeze()
        await listener.abandon()
        #expect(listener.connectionCount == 0)
        #expect(!client.arrived(withinMilliseconds: 300))
        await threads.stop()
        server.remove()
    }

    /// An address that is not there yet can be listened on, so that nobody is refused when it comes.
    @Test func anAwaitedAddressCanBeListenedOn() async throws {
        let server = try TestServer()
        let threads = NetworkThreads()
        await #expect(throws: (any Error).self) {
            _ = try await NFSListener.bind(
                address: "192.0.2.1",
                port: 20_490,
                service: server.service,
                term: TestServer.term,
                threads: threads,
                isShared: false
            )
        }
        let listener = try await NFSListener.bind(
            address: "192.0.2.1",
            port: 20_490,
            service: server.service,
            term: TestServer.term,
            threads: threads,
            isShared: false,
            isAddressAwaited: true
        )
        #expect(listener.port == 20_490)
        await listener.close()
        await threads.stop()
        server.remove()
    }

    @Test func protocolStateCarriesConnectionsAndReadsTheOlderFormat() throws {
        let connection = TransportConnection(
            local: HostAddress("10.0.0.1")!,
            localPort: 2049,
            remote: HostAddress("10.0.0.9")!,
            remotePort: 1_000
        )
        let server = try TestServer()
        let replies = server.service.duplicateRequests.export().state
        let state = ProtocolState(replies: replies, connections: [connection])
        #expect(try ProtocolState(state.bytes) == state)
        #expect(try ProtocolState(replies) == ProtocolState(replies: replies, connections: []))
        var damaged = state.bytes
        damaged[10] ^= 1
        #expect(throws: (any Error).self) { try ProtocolState(damaged) }
        server.remove()
    }
}
