import FileService
import Identity
import NFSServer
import NFSTypes
import NIOCore
import NetworkModule
import TestKit
import Testing
import VolumeEngine
import XDR

/// What a volume counts of requests that come over real connections.
@Suite struct CounterTests {
    /// A server that is reached over a socket.
    private final class Reached {
        let server: TestServer
        let threads = NetworkThreads()
        let listener: NFSListener
        let client: RawClient
        private var nextXID: UInt32 = 5_000

        init() async throws {
            server = try TestServer()
            listener = try await NFSListener.bind(
                address: "127.0.0.1",
                port: 0,
                service: server.service,
                term: TestServer.term,
                threads: threads,
                isShared: false
            )
            client = try RawClient(port: listener.port)
        }

        func call(
            _ procedure: NFS3.Procedure,
            xid: UInt32? = nil,
            _ arguments: (inout ByteBuffer) -> Void
        ) throws -> UInt32 {
            nextXID += 1
            client.send(
                record: TestServer.call(NFS3.program, procedure.rawValue, xid: xid ?? nextXID, arguments)
            )
            var answer = try #require(client.receiveRecord())
            answer.moveReaderIndex(forwardBy: 24)
            let status = answer.readInteger(as: UInt32.self)
            return try #require(status)
        }

        func end() async {
            await listener.close()
            await threads.stop()
            server.remove()
        }
    }

    private func write(_ bytes: Int, stable: UInt32, to file: [UInt8], _ reached: Reached) throws -> UInt32 {
        try reached.call(.write) {
            $0.writeXDROpaque(file)
            $0.writeXDR(0 as UInt64)
            $0.writeXDR(UInt32(bytes))
            $0.writeXDR(stable)
            $0.writeXDROpaque([UInt8](repeating: 7, count: bytes))
        }
    }

    private func read(_ bytes: Int, from file: [UInt8], _ reached: Reached) throws -> UInt32 {
        try reached.call(.read) {
            $0.writeXDROpaque(file)
            $0.writeXDR(0 as UInt64)
            $0.writeXDR(UInt32(bytes))
        }
    }

    @Test func requestsAreCountedByKindBytesAndLatency() async throws {
        let reached = try await Reached()
        let root = reached.server.mount("/vol").handle
        // Made without a connection, and so not counted.
        let file = reached.server.create("file", in: root).handle
        let volume = reached.server.volume.volume
        #expect(volume.counters.totals.operations == 0)
        // Stable and unstable, on the event loop and by a worker.
        #expect(try write(10_000, stable: 2, to: file, reached) == 0)
        #expect(try write(5_000, stable: 0, to: file, reached) == 0)
        #expect(try write(300_000, stable: 2, to: file, reached) == 0)
        #expect(try read(4_096, from: file, reached) == 0)
        #expect(try read(1 << 20, from: file, reached) == 0)
        #expect(try reached.call(.getAttributes) { $0.writeXDROpaque(file) } == 0)
        let totals = volume.counters.totals
        #expect(totals.writes == 3 && totals.writtenBytes == 315_000)
        #expect(totals.reads == 2 && totals.readBytes == 304_096)
        #expect(totals.others == 1)
        #expect(totals.latencyCounts.reduce(0, +) == 6)
        // A stable write waits for the disk; the whole may not take longer than the test.
        #expect((1_000...60_000_000_000).contains(totals.latencyNanoseconds))
        await reached.end()
    }

    @Test func whatNoVolumeDidIsNotCounted() async throws {
        let reached = try await Reached()
        let root = reached.server.mount("/vol").handle
        let top = reached.server.service.namespace
        let counters = reached.server.volume.volume.counters
        reached.client.send(record: TestServer.call(NFS3.program, 0, xid: 1) { _ in })
        #expect(reached.client.receiveRecord()?.readableBytes == 24)
        // The root of the SVM is in no volume.
        guard case .synthetic(let directory)? = top.object(at: "/") else {
            Issue.record("the root is not a directory of its own")
            return
        }
        let words = FileHandle(
            msid: .init(rawValue: 0),
            reference: .init(inode: .init(rawValue: directory.number), generation: 0)
        ).sealed(top.handleKey)
        var handle = ByteBuffer()
        handle.writeMultipleIntegers(words.0, words.1, words.2, words.3)
        _ = try reached.call(.getAttributes) { $0.writeXDROpaque(handle.readableBytesView) }
        #expect(counters.totals.operations == 0)
        // The answer that was kept is given again without the volume.
        for _ in 0..<2 {
            let status = try reached.call(.create, xid: 42) {
                $0.writeXDROpaque(root)
                $0.writeXDROpaque("once".utf8)
                $0.writeXDR(1 as UInt32)
                $0.writeXDRZeros(words: 6)
            }
            #expect(status == 0)
        }
        #expect(counters.totals.operations == 1)
        // What fails is executed, too.
        #expect(
            try reached.call(.lookup) {
                $0.writeXDROpaque(root)
                $0.writeXDROpaque("absent".utf8)
            } == NFSStatus.noEntry.rawValue
        )
        #expect(counters.totals.others == 2)
        await reached.end()
    }
}
