import Environment
import FileService
import NFSServer
import NFSTypes
import NIOCore
import TestKit
import Testing
import VolumeEngine
import XDR

/// Calls that are sent again to a server that was killed after it had executed them.
@Suite struct RepeatedCallTests {
    /// A directory with what the calls need.
    private struct Place {
        let root: [UInt8]
        let file: [UInt8]
        let changeTime: (UInt32, UInt32)
    }

    private func prepare(_ server: TestServer) throws -> Place {
        let root = server.mount("/vol").handle
        let file = server.create("file", in: root)
        #expect(server.create("gone", in: root).status == 0)
        #expect(server.nfs(.makeDirectory) { put(&$0, root, "empty", sattr: true) }.status == 0)
        var attributes = server.nfs(.getAttributes) { $0.writeXDROpaque(file.handle) }.rest
        attributes.moveReaderIndex(forwardBy: 76)
        let (seconds, nanoseconds) = (attributes.readInteger() ?? 0 as UInt32, attributes.readInteger() ?? 0 as UInt32)
        return Place(root: root, file: file.handle, changeTime: (seconds, nanoseconds))
    }

    private func put(_ buffer: inout ByteBuffer, _ directory: [UInt8], _ name: String, sattr: Bool = false) {
        buffer.writeXDROpaque(directory)
        buffer.writeXDROpaque(name.utf8)
        if sattr { buffer.writeXDRZeros(words: 6) }
    }

    /// One call of each kind that must not be executed twice, each of which succeeds once.
    private func calls(_ place: Place) -> [ByteBuffer] {
        var calls: [ByteBuffer] = []
        func add(_ procedure: NFS3.Procedure, _ arguments: (inout ByteBuffer) -> Void) {
            calls.append(
                TestServer.call(NFS3.program, procedure.rawValue, xid: 5000 + UInt32(calls.count), arguments)
            )
        }
        let root = place.root
        for how in 0..<3 as Range<UInt32> {
            add(.create) {
                put(&$0, root, "made-\(how)")
                $0.writeXDR(how)
                if how == 2 { $0.writeXDR(4711 as UInt64) } else { $0.writeXDRZeros(words: 6) }
            }
        }
        add(.makeDirectory) { put(&$0, root, "directory", sattr: true) }
        add(.symbolicLink) {
            put(&$0, root, "symbolic", sattr: true)
            $0.writeXDROpaque("somewhere".utf8)
        }
        add(.makeNode) {
            put(&$0, root, "pipe")
            $0.writeXDR(7 as UInt32)
            $0.writeXDRZeros(words: 6)
        }
        add(.link) {
            $0.writeXDROpaque(place.file)
            put(&$0, root, "second")
        }
        add(.rename) {
            put(&$0, root, "second")
            put(&$0, root, "third")
        }
        add(.remove) { put(&$0, root, "gone") }
        add(.removeDirectory) { put(&$0, root, "empty") }
        add(.setAttributes) {
            $0.writeXDROpaque(place.file)
            $0.writeXDRZeros(words: 3)
            $0.writeXDR(true)
            $0.writeXDR(12_345 as UInt64)
            $0.writeXDRZeros(words: 3)
        }
        return calls
    }

    /// A server on what a crash leaves of another one's volume.
    private func revived(_ server: TestServer) throws -> TestServer {
        let copy = try server.volume.openCopy()
        return TestServer(volume: copy)
    }

    @Test func theyGetTheAnswerOfTheFirstExecution() throws {
        let server = try TestServer()
        let place = try prepare(server)
        // SETATTR with a guard: made first, since the calls after it change the file, too.
        let guarded = TestServer.call(NFS3.program, NFS3.Procedure.setAttributes.rawValue, xid: 4999) {
            $0.writeXDROpaque(place.file)
            $0.writeXDR(true)
            $0.writeXDR(0o600 as UInt32)
            $0.writeXDRZeros(words: 5)
            $0.writeXDR(true)
            $0.writeXDR(place.changeTime.0)
            $0.writeXDR(place.changeTime.1)
        }
        let calls = [guarded] + calls(place)
        var answers: [ByteBuffer] = []
        for call in calls {
            let answer = try #require(server.execute(call))
            #expect(answer.getInteger(at: answer.readerIndex + 24, as: UInt32.self) == 0)
            answers.append(answer)
        }
        let names = try server.volume.volume.list(.volumeRoot)
        var next = try revived(server)
        for _ in 0..<2 {
            for (call, answer) in zip(calls, answers) { #expect(next.execute(call) == answer) }
            #expect(try next.volume.volume.list(.volumeRoot) == names)
            #expect(try next.volume.volume.checkConsistency() == [])
            // And once more, from what that one has left behind.
            let after = try revived(next)
            next.remove()
            next = after
        }
        // Other clients and other numbers are other calls: they find what the first ones have done.
        let exists = NFSStatus.exists.rawValue
        #expect(next.create("made-1", in: place.root, xid: 5999).status == exists)
        next.client = ClientContext(service: next.service, client: ClientAddress("127.0.0.10")!)
        var other = try #require(next.execute(calls[2]))
        other.moveReaderIndex(forwardBy: 24)
        #expect(other.readInteger(as: UInt32.self) == exists)
        server.remove()
        next.remove()
    }

    @Test func aFailureIsJudgedAgain() throws {
        let server = try TestServer()
        let root = server.mount("/vol").handle
        #expect(server.create("name", in: root).status == 0)
        #expect(server.create("name", in: root, xid: 70).status == NFSStatus.exists.rawValue)
        #expect(server.nfs(.remove, xid: 71) { put(&$0, root, "name") }.status == 0)
        #expect(server.nfs(.remove, xid: 72) { put(&$0, root, "name") }.status != 0)
        // As long as it lives the server says again what it said; later nothing had happened.
        #expect(server.create("name", in: root, xid: 70).status == NFSStatus.exists.rawValue)
        let next = try revived(server)
        #expect(try next.volume.volume.keptReplies().map(\.call.xid).suffix(1) == [71])
        #expect(next.create("name", in: root, xid: 70).status == 0)
        server.remove()
        next.remove()
    }

    /// A face that is made anew, and one that gets the volumes of another node, know what these have answered.
    @Test func everyFaceThatMeetsAVolumeLearnsItsAnswers() throws {
        let server = try TestServer()
        let root = server.mount("/vol").handle
        let first = server.create("name", in: root, xid: 80)
        #expect(first.status == 0)
        let second = TestServer(volume: server.volume)
        #expect(second.create("name", in: root, xid: 80) == first)
        // A replica is not asked: its clients are answered elsewhere.
        #expect(second.service.duplicateRequests.export().addedCount == 1)
        let replica = TestServer(volume: try TestVolume(isReplica: true))
        #expect(replica.service.duplicateRequests.export().addedCount == 0)
        server.remove()
        replica.remove()
    }

    @Test func ofMoreThanThereIsRoomForTheNewestAreKnown() throws {
        let cache = DuplicateRequestCache()
        func replies(_ client: UInt32) -> [KeptReply] {
            (1...4000).map { (xid: UInt32) in
                KeptReply(call: CallIdentity(client: client, xid: xid, procedure: 8, checksum: 1), bytes: [1])
            }
        }
        // 32 volumes with 4,000 answers each: 2,048 of each have room.
        cache.load((1...32).map { replies($0) })
        func isKnown(_ client: UInt32, _ xid: UInt32) -> Bool {
            let address = ClientAddress(rawValue: client)
            let key = RequestKey(client: address, xid: xid, procedure: 8, checksum: 1)
            if case .answered = cache.claim(key, waiter: { _ in }) { return true }
            return false
        }
        for client in [1, 17, 32] as [UInt32] {
            #expect(isKnown(client, 4000) && isKnown(client, 1953))
            #expect(!isKnown(client, 1952))
        }
    }
}
