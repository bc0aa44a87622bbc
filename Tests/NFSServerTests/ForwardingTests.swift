import Bytes
import Environment
import FileService
import Identity
import NFSTypes
import NIOCore
import NetworkModule
import TestKit
import Testing
import VolumeEngine
import XDR

@Suite struct ForwardingTests {
    /// In the window of a cutover both gates are held. What the node that executes holds is executed nowhere, and must not
    /// keep the node that has the client from draining.
    @Test func aRequestThatTheOtherNodeHoldsDoesNotKeepThisOneFromDraining() async throws {
        let nodes = try await TwoNodes()
        let b = try nodes.mount("/b")
        nodes.second.gate.move(to: .held)
        nodes.send(.create, TwoNodes.create("held", in: b))
        let deadline = Environment.system.monotonicNanoseconds() + 5_000_000_000
        while nodes.first.gate.inside == 0 || nodes.first.gate.executing > 0 {
            try #require(Environment.system.monotonicNanoseconds() < deadline, "the request was not forwarded")
            try await Task.sleep(for: .milliseconds(1))
        }
        nodes.first.gate.move(to: .held)
        nodes.listener.acknowledgeAnswers()
        #expect(nodes.second.gate.executing == 0)
        #expect(await nodes.forwarded.flushed(deadline: deadline, environment: .system))
        #expect(await nodes.listener.tookAnswers(deadline: deadline, environment: .system))
        #expect(await nodes.listener.flushed(deadline: deadline, environment: .system))
        #expect(nodes.first.gate.inside == 1)
        // The cutover is given up.
        for service in [nodes.first, nodes.second] { service.gate.move(to: .open) }
        nodes.listener.runHeld()
        nodes.forwarded.runHeld()
        #expect(try nodes.answer().status == 0)
        await nodes.close()
    }

    @Test func everyVolumeIsServedThroughAnyNode() async throws {
        let nodes = try await TwoNodes()
        let root = try nodes.mount("/")
        let b = try nodes.mount("/b")
        let found = try nodes.lookup("b", in: root)
        #expect(found.handle == b)
        // The attributes of a root that another node holds are asked for with the handle.
        #expect(!found.hasAttributes)
        #expect(try nodes.nfs(.getAttributes) { $0.writeXDROpaque(b) }.status == 0)

        let file = try nodes.createdHandle(try nodes.nfs(.create, TwoNodes.create("file", in: b)))
        let data = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let written = try nodes.nfs(.write) {
            $0.writeXDROpaque(file)
            $0.writeXDR(0 as UInt64)
            $0.writeXDR(UInt32(data.count))
            $0.writeXDR(2 as UInt32)
            $0.writeXDROpaque(data)
        }
        #expect(written.status == 0)
        var (status, rest) = try nodes.nfs(.read) {
            $0.writeXDROpaque(file)
            $0.writeXDR(0 as UInt64)
            $0.writeXDR(UInt32(data.count))
        }
        #expect(status == 0)
        rest.moveReaderIndex(forwardBy: 88 + 12)
        #expect(rest.readBytes(length: data.count) == data)
        // It is the second node's volume that has it.
        #expect(nodes.b.volume.space().usedInodes == nodes.a.volume.space().usedInodes + 1)

        // A junction in a volume of the first node to one of the second.
        let deep = try nodes.lookup("deep", in: try nodes.mount("/a"))
        #expect(deep.handle == (try nodes.mount("/a/deep")))
        #expect(try nodes.nfs(.create, TwoNodes.create("file", in: deep.handle)).status == 0)

        // From one volume to another there is no renaming, whoever holds them.
        for (from, to) in [(b, deep.handle), (deep.handle, try nodes.mount("/a")), (try nodes.mount("/a"), b)] {
            let outcome = try nodes.nfs(.rename) {
                $0.writeXDROpaque(from)
                $0.writeXDROpaque("file".utf8)
                $0.writeXDROpaque(to)
                $0.writeXDROpaque("moved".utf8)
            }
            #expect(outcome.status == NFSStatus.crossDevice.rawValue)
        }
        // An answer may be here before the thread that sent it has counted it.
        let deadline = Environment.system.monotonicNanoseconds() + 5_000_000_000
        while nodes.first.gate.inside + nodes.second.gate.inside > 0 {
            try #require(Environment.system.monotonicNanoseconds() < deadline, "a request never left its gate")
            await Task.yield()
        }
        await nodes.close()
    }

    @Test func aRequestWaitsForANodeThatIsAwayAndIsExecutedOnce() async throws {
        let nodes = try await TwoNodes()
        let b = try nodes.mount("/b")
        // It arrives at the second node, which goes before it executes it.
        nodes.second.gate.move(to: .held)
        nodes.send(.create, TwoNodes.create("held", in: b))
        #expect(!nodes.client.arrived(withinMilliseconds: 200))
        await nodes.stopSecond()
        nodes.second.gate.move(to: .open)
        #expect(!nodes.client.arrived(withinMilliseconds: 300))
        // What waits is not being executed: a gate can be held and drained meanwhile.
        #expect(nodes.first.gate.inside == 0)
        try await nodes.startSecond()
        #expect(try nodes.answer().status == 0)

        // The same request again, as a client sends it that got no answer: not executed twice.
        let create = NFS3.Procedure.create.rawValue
        let again = TestServer.call(NFS3.program, create, xid: 77, TwoNodes.create("twice", in: b))
        for _ in 0..<2 {
            nodes.client.send(record: again)
            var answer = try #require(nodes.client.receiveRecord())
            answer.moveReaderIndex(forwardBy: 24)
            #expect(answer.readInteger(as: UInt32.self) == 0)
        }
        await nodes.close()
    }

    @Test func aRequestFollowsItsVolume() async throws {
        let nodes = try await TwoNodes()
        let b = try nodes.mount("/b")
        // The first node believes that the second holds /b, which does not: no answer that a client would remember.
        nodes.configureSecond(withoutB: true)
        nodes.send(.create, TwoNodes.create("lost", in: b))
        #expect(!nodes.client.arrived(withinMilliseconds: 500))
        nodes.configureSecond()
        #expect(try nodes.answer().status == 0)
        await nodes.close()
    }

    @Test func theAnswerOfAFormerHolderStillComes() async throws {
        let nodes = try await TwoNodes()
        let (a, b) = (try nodes.mount("/a"), try nodes.mount("/b"))
        nodes.second.gate.move(to: .held)
        nodes.send(.create, TwoNodes.create("late", in: b))
        #expect(!nodes.client.arrived(withinMilliseconds: 200))
        // The volumes leave the second node, and the first learns of it with the next request, while the second is about to
        // execute this one: nobody else would know that it did.
        nodes.configureFirst(isSecondGone: true)
        let stranger = TestServer.call(NFS3.program, NFS3.Procedure.getAttributes.rawValue, xid: 5) {
            $0.writeXDROpaque(a)
        }
        nodes.client.send(record: stranger)
        var other = try #require(nodes.client.receiveRecord())
        #expect(other.readInteger(as: UInt32.self) == 5)
        nodes.second.gate.move(to: .open)
        nodes.forwarded.runHeld()
        #expect(nodes.client.arrived(withinMilliseconds: 5000))
        #expect(try nodes.answer().status == 0)
        await nodes.close()
    }

    @Test func nodesThatDoNotKnowTheSecretGetNothing() async throws {
        let nodes = try await TwoNodes(secret: Array("a guess".utf8))
        nodes.send(.getAttributes) { $0.writeXDROpaque(Self.rootOfB()) }
        #expect(!nodes.client.arrived(withinMilliseconds: 500))
        var generator = SeededGenerator(state: 5)
        for _ in 0..<50 {
            let stranger = try RawClient(port: nodes.interconnect.port)
            stranger.send((0..<200).map { _ in UInt8.random(in: 0...255, using: &generator) })
            #expect(stranger.receive().isEmpty)
        }
        // Somebody who knows the form of a hello and not the secret.
        let pretender = try RawClient(port: nodes.interconnect.port)
        pretender.send(Array("GODWITFW".utf8) + [2] + [UInt8](repeating: 9, count: 32 + 16 + 4 + 16 + 8))
        #expect(pretender.receive().count == 64)
        pretender.send([UInt8](repeating: 0, count: 32))
        #expect(pretender.receive().isEmpty)

        nodes.configureFirst()
        #expect(try nodes.answer().status == 0)
        await nodes.close()
    }

    private static func rootOfB() -> [UInt8] {
        var buffer = ByteBuffer()
        let words = FileHandle(msid: VolumeMSID(rawValue: 8), reference: .volumeRoot).sealed(TwoNodes.key)
        buffer.writeMultipleIntegers(words.0, words.1, words.2, words.3)
        return Array(buffer.readableBytesView)
    }
}
