import Bytes
import FileService
import Identity
import NFSServer
import NFSTypes
import NIOCore
import ONCRPC
import TestKit
import Testing
import VolumeEngine
import XDR

@Suite struct ProtocolTests {
    @Test func filesAreMadeWrittenAndReadBack() throws {
        let server = try TestServer()
        let root = server.mount("/vol")
        #expect(root.status == 0)
        let file = server.create("a", in: root.handle)
        #expect(file.status == 0)
        let data = [UInt8]((0..<10_001).map { UInt8(truncatingIfNeeded: $0) })
        let written = server.nfs(.write) {
            $0.writeXDROpaque(file.handle)
            $0.writeXDR(3 as UInt64)
            $0.writeXDR(UInt32(data.count))
            $0.writeXDR(2 as UInt32)
            $0.writeXDROpaque(data)
        }
        #expect(written.status == 0)
        var read = server.nfs(.read) {
            $0.writeXDROpaque(file.handle)
            $0.writeXDR(0 as UInt64)
            $0.writeXDR(65_536 as UInt32)
        }
        #expect(read.status == 0)
        read.rest.moveReaderIndex(forwardBy: 88)
        #expect(read.rest.readInteger(as: UInt32.self) == 10_004)
        #expect(read.rest.readInteger(as: UInt32.self) == 1)
        #expect(read.rest.readInteger(as: UInt32.self) == 10_004)
        #expect(read.rest.readBytes(length: 10_004) == [0, 0, 0] + data)
        server.remove()
    }

    @Test func aForgedHandleIsRefused() throws {
        let server = try TestServer()
        let root = server.mount("/vol").handle
        for byte in 0..<32 {
            var forged = root
            forged[byte] ^= 0x40
            #expect(server.nfs(.getAttributes) { $0.writeXDROpaque(forged) }.status == NFSStatus.badHandle.rawValue)
        }
        #expect(server.nfs(.getAttributes) { $0.writeXDROpaque([1, 2, 3]) }.status == NFSStatus.badHandle.rawValue)
        // Well made, and of an inode that does not exist.
        let reference = FileReference(inode: .init(rawValue: 999_999), generation: 1)
        let handle = FileHandle(msid: server.volume.volume.msid, reference: reference)
        let words = handle.sealed(SipHashKey(first: 1, second: 2))
        var bytes = ByteBuffer()
        bytes.writeMultipleIntegers(words.0, words.1, words.2, words.3)
        let stale = server.nfs(.getAttributes) { $0.writeXDROpaque(bytes.readableBytesView) }
        #expect(stale.status == NFSStatus.stale.rawValue)
        server.remove()
    }

    @Test func theSameCallTwiceIsExecutedOnce() throws {
        let server = try TestServer()
        let root = server.mount("/vol").handle
        let first = server.create("once", in: root, xid: 7)
        let second = server.create("once", in: root, xid: 7)
        #expect(first.status == 0)
        #expect(second == first)
        // Another number is another call.
        #expect(server.create("once", in: root, xid: 8).status == NFSStatus.exists.rawValue)
        // The answers move with the SVM: first those that are there, later only what has come since.
        let other = try TestServer()
        let (early, addedCount) = server.service.duplicateRequests.export()
        try other.service.duplicateRequests.import(early)
        #expect(server.create("later", in: root, xid: 9).status == 0)
        let (late, _) = server.service.duplicateRequests.export(since: addedCount)
        #expect(late.count < early.count)
        try other.service.duplicateRequests.import(late)
        #expect(other.create("later", in: root, xid: 9) == server.create("later", in: root, xid: 9))
        let (state, all) = server.service.duplicateRequests.export(since: 0)
        #expect(all == addedCount + 1)
        // A mark beyond what is there finds nothing new.
        #expect(server.service.duplicateRequests.export(since: all + 7).state.count == 16)
        let moved = other.nfs(.create, xid: 7) {
            $0.writeXDROpaque(root)
            $0.writeXDROpaque("once".utf8)
            $0.writeXDR(1 as UInt32)
            $0.writeXDRZeros(words: 6)
        }
        #expect(moved.status == 0)
        var damaged = state
        damaged[10] ^= 1
        #expect(throws: ByteFormatError.self) { try other.service.duplicateRequests.import(damaged) }
        server.remove()
        other.remove()
    }

    @Test func exportRulesDecideWhoMayDoWhat() throws {
        let rules = [
            ExportRule(
                clients: [ClientMatch("127.0.0.9")!],
                allowsRead: true,
                allowsWrite: false,
                allowsSuperuser: false
            ),
            ExportRule(
                clients: [ClientMatch("127.0.0.0/8")!],
                allowsRead: true,
                allowsWrite: true,
                allowsSuperuser: true
            ),
        ]
        let server = try TestServer(policy: ExportPolicy(rules: rules))
        let root = server.mount("/vol").handle
        #expect(server.create("x", in: root).status == NFSStatus.readOnly.rawValue)
        server.client = ClientContext(service: server.service, client: ClientAddress("127.9.9.9")!)
        #expect(server.create("x", in: root).status == 0)
        #expect(server.create("y", in: root, user: 1000).status == NFSStatus.accessDenied.rawValue)
        server.client = ClientContext(service: server.service, client: ClientAddress("10.0.0.1")!)
        #expect(server.mount("/vol").status == NFSStatus.accessDenied.rawValue)
        server.remove()
    }

    @Test func aSquashedSuperuserIsNobody() throws {
        let rule = ExportRule(
            clients: [ClientMatch("0.0.0.0/0")!],
            allowsRead: true,
            allowsWrite: true,
            allowsSuperuser: false
        )
        let server = try TestServer(policy: ExportPolicy(rules: [rule]))
        #expect(server.create("x", in: server.mount("/vol").handle).status == NFSStatus.accessDenied.rawValue)
        server.remove()
    }

    @Test func theNamespaceLeadsToVolumes() throws {
        let server = try TestServer(path: "/a/b")
        #expect(server.mount("/nothing").status == NFSStatus.noEntry.rawValue)
        let top = server.mount("/")
        #expect(top.status == 0)
        func lookup(_ name: String, _ directory: [UInt8]) -> [UInt8] {
            var (status, rest) = server.nfs(.lookup) {
                $0.writeXDROpaque(directory)
                $0.writeXDROpaque(name.utf8)
            }
            guard status == 0 else { return [] }
            rest.moveReaderIndex(forwardBy: 4)
            return rest.readBytes(length: 32)!
        }
        let middle = lookup("a", top.handle)
        let volume = lookup("b", middle)
        #expect(volume == server.mount("/a/b").handle)
        #expect(lookup("..", volume) == middle)
        #expect(lookup("..", middle) == top.handle)
        #expect(server.create("x", in: middle).status == NFSStatus.readOnly.rawValue)
        server.remove()
    }

    @Test func otherProgramsAndVersionsAreRefusedAsTheStandardSays() throws {
        let server = try TestServer()
        func status(_ record: ByteBuffer) -> UInt32? { server.execute(record)?.getInteger(at: 4 + 20) }
        #expect(status(TestServer.call(100_000, 0, xid: 1) { _ in }) == AcceptStatus.programUnavailable.rawValue)
        #expect(
            status(TestServer.call(NFS3.program, 0, xid: 2, version: 4) { _ in })
                == AcceptStatus.programMismatch.rawValue
        )
        #expect(
            status(TestServer.call(NFS3.program, 22, xid: 3) { _ in }) == AcceptStatus.procedureUnavailable.rawValue
        )
        #expect(status(TestServer.call(NFS3.program, 1, xid: 4) { _ in }) == AcceptStatus.garbageArguments.rawValue)
        #expect(status(TestServer.call(NFS3.program, 0, xid: 5) { _ in }) == AcceptStatus.success.rawValue)
        server.remove()
    }

    @Test func theGateLetsNobodyInWhoWasNotCounted() async {
        let gate = RequestGate()
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<4 {
                group.addTask {
                    for _ in 0..<20_000 where gate.enter() { gate.leave() }
                }
            }
            group.addTask {
                for _ in 0..<200 {
                    gate.move(to: .held)
                    while gate.inside > 0 {}
                    // Held and drained: whoever still comes is turned away.
                    #expect(!gate.enter())
                    gate.move(to: .open)
                }
            }
        }
        #expect(gate.inside == 0)
    }
}

@Suite struct FuzzTests {
    /// Real records of every procedure, to be mutated.
    private func seeds(_ server: TestServer) -> [ByteBuffer] {
        let root = server.mount("/vol").handle
        let file = server.create("seed", in: root).handle
        return (0...21 as ClosedRange<UInt32>).flatMap { procedure in
            [root, file].map { handle in
                TestServer.call(NFS3.program, procedure, xid: procedure) {
                    $0.writeXDROpaque(handle)
                    $0.writeXDROpaque("name".utf8)
                    $0.writeXDRZeros(words: 6)
                    $0.writeXDROpaque(handle)
                    $0.writeXDROpaque("other".utf8)
                }
            }
        }
            + (0...5 as ClosedRange<UInt32>).map { procedure in
                TestServer.call(Mount3.program, procedure, xid: procedure) { $0.writeXDROpaque("/vol/x".utf8) }
            }
    }

    @Test func tenThousandMalformedRecordsHarmNobody() throws {
        let server = try TestServer()
        let seeds = seeds(server)
        var generator = SeededGenerator(state: 2026)
        for round in 0..<10_000 {
            var record: ByteBuffer
            if round % 4 == 0 {
                record = ByteBuffer(
                    bytes: (0..<Int.random(in: 0...300, using: &generator)).map { _ in
                        UInt8.random(in: 0...255, using: &generator)
                    }
                )
            } else {
                record = seeds.randomElement(using: &generator)!
                for _ in 0...Int.random(in: 0...4, using: &generator) where record.readableBytes > 0 {
                    let place = Int.random(in: 0..<record.readableBytes, using: &generator)
                    switch Int.random(in: 0...3, using: &generator) {
                    case 0: record.setInteger(UInt8.random(in: 0...255, using: &generator), at: place)
                    case 1: record.moveWriterIndex(to: place)
                    case 2: record.writeBytes([UInt8](repeating: 0xff, count: place % 64))
                    default:
                        if place + 4 <= record.readableBytes {
                            record.setInteger(UInt32.random(in: 0...UInt32.max, using: &generator), at: place & ~3)
                        }
                    }
                }
            }
            _ = server.execute(record)
        }
        #expect(server.execute(TestServer.call(NFS3.program, 0, xid: 1) { _ in }) != nil)
        #expect(try server.volume.volume.checkConsistency() == [])
        server.remove()
    }
}

/// A generator with a seed (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
        return mixed ^ mixed >> 31
    }
}
