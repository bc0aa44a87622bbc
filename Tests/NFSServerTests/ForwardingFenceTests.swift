import Environment
import FileService
import Identity
import NFSTypes
import NIOCore
import NetworkModule
import Synchronization
import TestKit
import Testing
import VolumeEngine
import XDR

/// What a node still holds of a client that has gone on by way of another node.
@Suite struct ForwardingFenceTests {
    private static let lif = ObjectUUID(high: 1, low: 2)
    private static func term(_ number: UInt64) -> LIFTerm { LIFTerm(lif: lif, number: number) }

    @Test func termsOfALIFFollowEachOther() {
        var fence = ForwardingFence()
        #expect(fence.admit(Self.term(3)) == .admittedAsFirst)
        #expect(fence.admit(Self.term(3)) == .admitted)
        #expect(fence.admit(Self.term(2)) == .refused)
        #expect(!fence.isOver(Self.term(3)))
        #expect(fence.admit(Self.term(5)) == .admittedAsFirst)
        #expect(fence.isOver(Self.term(3)))
        #expect(fence.admit(Self.term(3)) == .refused)
        #expect(fence.admit(LIFTerm(lif: ObjectUUID(high: 9, low: 9), number: 0)) == .admittedAsFirst)
    }

    /// The former node of a LIF that moves in order still waits for its answers.
    @Test func whatIsKnownOfATermEndsNothingYet() {
        var fence = ForwardingFence()
        #expect(fence.admit(Self.term(0)) == .admittedAsFirst)
        fence.learn([Self.term(1)])
        #expect(!fence.isOver(Self.term(0)))
        #expect(fence.admit(Self.term(0)) == .refused)
        fence.learn([Self.term(0)])
        #expect(fence.admit(Self.term(0)) == .refused)
        #expect(fence.admit(Self.term(1)) == .admittedAsFirst)
        #expect(fence.isOver(Self.term(0)))
    }

    /// A listener of a third node at the LIF of `nodes`, after it has moved there.
    private func third(_ nodes: TwoNodes, term number: UInt64) async throws -> (NFSListener, RawClient) {
        let service = SVMFileService(svm: nodes.first.svm, handleKey: TwoNodes.key)
        service.configure(handleKey: TwoNodes.key, volumes: [], remotes: nodes.remotes())
        let listener = try await NFSListener.bind(
            address: "127.0.0.1",
            port: 0,
            service: service,
            term: Self.term(number),
            threads: nodes.threads,
            isShared: false
        )
        return (listener, try RawClient(port: listener.port))
    }

    private func create(_ name: String, xid: UInt32, in directory: [UInt8], over client: RawClient) throws -> UInt32? {
        let create = NFS3.Procedure.create.rawValue
        client.send(record: TestServer.call(NFS3.program, create, xid: xid, TwoNodes.create(name, in: directory)))
        guard client.arrived(withinMilliseconds: 700) else { return nil }
        var answer = try #require(client.receiveRecord())
        answer.moveReaderIndex(forwardBy: 24)
        return answer.readInteger(as: UInt32.self)
    }

    @Test func aFormerNodeOfALIFForwardsNothingAfterTheNext() async throws {
        let nodes = try await TwoNodes()
        let b = try nodes.mount("/b")
        #expect(try create("before", xid: 1, in: b, over: nodes.client) == 0)
        let (listener, client) = try await third(nodes, term: 1)
        let inodes = nodes.b.volume.space().usedInodes
        #expect(try create("after", xid: 2, in: b, over: client) == 0)
        // Over the link that the first node has, and then over new ones: it tries ten times a second.
        #expect(try create("old", xid: 3, in: b, over: nodes.client) == nil)
        #expect(nodes.b.volume.space().usedInodes == inodes + 1)

        // The LIF comes back. What clients sent before is over with its connection.
        nodes.listener.begin(Self.term(2))
        #expect(nodes.client.receiveRecord() == nil)
        let again = try RawClient(port: nodes.listener.port)
        #expect(try create("back", xid: 4, in: b, over: again) == 0)
        #expect(try create("late", xid: 5, in: b, over: client) == nil)
        #expect(nodes.b.volume.space().usedInodes == inodes + 2)
        await listener.close()
        await nodes.close()
    }

    /// What waited at the gate of the node that executes came before as well.
    @Test func heldRequestsOfAFormerNodeAreDropped() async throws {
        let nodes = try await TwoNodes()
        let b = try nodes.mount("/b")
        nodes.second.gate.move(to: .held)
        nodes.send(.create, TwoNodes.create("old", in: b))
        #expect(!nodes.client.arrived(withinMilliseconds: 200))
        // As the node itself does when the LIF comes to it.
        #expect(nodes.forwarded.admit(Self.term(1)))
        let inodes = nodes.b.volume.space().usedInodes
        nodes.second.gate.move(to: .open)
        nodes.forwarded.runHeld()
        #expect(!nodes.client.arrived(withinMilliseconds: 500))
        #expect(nodes.b.volume.space().usedInodes == inodes)
        await nodes.close()
    }

    /// A node that starts knows from the configuration which terms are over.
    @Test func aNodeThatHasJustStartedRefusesTermsThatAreOver() async throws {
        let nodes = try await TwoNodes()
        let b = try nodes.mount("/b")
        await nodes.stopSecond()
        nodes.forwarded.learn([Self.term(1)])
        try await nodes.startSecond()
        #expect(try create("old", xid: 1, in: b, over: nodes.client) == nil)
        let (listener, client) = try await third(nodes, term: 1)
        #expect(try create("new", xid: 2, in: b, over: client) == 0)
        await listener.close()
        await nodes.close()
    }

    @Test func aNodeThatStoodStillForwardsNothingThatCameBefore() async throws {
        let jump = JumpingClock()
        let nodes = try await TwoNodes(environment: jump.environment)
        let (a, b) = (try nodes.mount("/a"), try nodes.mount("/b"))
        jump.forward(seconds: 10)
        // What it executes itself its lock protects.
        #expect(try nodes.nfs(.getAttributes) { $0.writeXDROpaque(a) }.status == 0)
        let inodes = nodes.b.volume.space().usedInodes
        nodes.send(.create, TwoNodes.create("old", in: b))
        #expect(nodes.client.receiveRecord() == nil)
        #expect(nodes.b.volume.space().usedInodes == inodes)
        // The client comes again.
        #expect(try create("new", xid: 1, in: b, over: try RawClient(port: nodes.listener.port)) == 0)
        await nodes.close()
    }
}

/// A clock that can be put forward, as it is for a process that stood still.
private final class JumpingClock: Sendable {
    private let offset = Atomic<UInt64>(0)

    func forward(seconds: UInt64) { offset.wrappingAdd(seconds * 1_000_000_000, ordering: .relaxed) }

    var environment: Environment {
        let system = Environment.system
        return Environment(
            monotonicNanoseconds: { [self] in system.monotonicNanoseconds() + offset.load(ordering: .relaxed) },
            wallClockNanoseconds: system.wallClockNanoseconds,
            randomBits: system.randomBits
        )
    }
}
