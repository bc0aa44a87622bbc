import Environment
import FileIO
import Identity
import PeerTransport
import Replication
import Synchronization
import TestKit
import Testing
import VolumeEngine

/// Counts the bytes of records that come through a link and can cut it.
final class CuttingChannel: FrameChannel {
    private let link: any FrameChannel
    private let framesLeft: Mutex<Int>

    init(_ link: any FrameChannel, after frames: Int) {
        self.link = link
        framesLeft = Mutex(frames)
    }

    func send(_ frame: [UInt8]) throws(StorageError) { try link.send(frame) }

    func receive(isWaiting: Bool) throws(StorageError) -> [UInt8]? {
        guard let frame = try link.receive(isWaiting: isWaiting) else { return nil }
        let isOver = framesLeft.withLock { left -> Bool in
            left -= 1
            return left < 0
        }
        guard isOver else { return frame }
        link.close()
        throw StorageError(.inputOutput, "cut by the test", remedy: "none")
    }

    func close() { link.close() }
}

@Suite(.serialized) struct LinkTests {
    private static let secret: [UInt8] = Array("a secret of the test".utf8)
    let source: TestVolume
    let replica: TestVolume
    let listener: ReplicationListener

    init() throws {
        let source = try TestVolume()
        self.source = source
        replica = try TestVolume(isReplica: true)
        let volume = source.volume
        listener = try ReplicationListener.start(
            on: PeerEndpoint(address: "127.0.0.1", port: 0),
            secret: Self.secret,
            environment: .system,
            volume: { $0 == volume.msid ? volume : nil }
        )
    }

    private var volume: Volume { source.volume }

    private func replicator(secret: [UInt8] = secret, cutAfter frames: Int? = nil) -> VolumeReplicator {
        VolumeReplicator(
            volume: replica.volume,
            source: PeerEndpoint(address: "127.0.0.1", port: listener.port),
            secret: secret,
            environment: .system
        ) { link in frames.map { CuttingChannel(link, after: $0) } ?? link }
    }

    private func finish() {
        listener.stop()
        source.remove()
        replica.remove()
    }

    private func change(_ round: Int, bytes: Int = 20_000) throws {
        for index in 0..<30 {
            let name = "f\((round * 7 + index) % 60)"
            let file =
                try (try? volume.find(name, in: volume.rootReference).reference)
                ?? volume.makeFile(name, in: volume.rootReference)
            try volume.put([UInt8](repeating: UInt8(round + 1), count: bytes), at: UInt64(index * 3000), to: file)
        }
    }

    private func snapshot(_ name: String) throws -> Snapshot {
        try volume.createSnapshot(name: name, uuid: .random(.system))
    }

    private func expectEqual(_ snapshot: Snapshot) throws {
        #expect(try volume.contentHash(of: snapshot.uuid) == replica.volume.contentHash(of: snapshot.uuid))
        let problems = try replica.volume.checkConsistency()
        #expect(problems == [])
    }

    /// Waits up to twenty seconds for something that another thread brings about.
    private func eventually(_ condition: () -> Bool) -> Bool {
        for _ in 0..<2000 {
            if condition() { return true }
            SystemThread.pause(milliseconds: 10)
        }
        return false
    }

    @Test func everySnapshotIsTransferredAndDeletedOnesGo() throws {
        let link = replicator()
        var all: [Snapshot] = []
        for round in 0..<3 {
            try change(round)
            all.append(try snapshot("s\(round)"))
        }
        let statistics = try link.transfer(upTo: all[2].uuid, throttleBytesPerSecond: 0)
        #expect(statistics.bytes > 600_000 && statistics.records > 90)
        #expect(statistics.bytesExpected > 0)
        #expect(replica.volume.snapshots() == all)
        for snapshot in all { try expectEqual(snapshot) }
        // Again: nothing moves.
        #expect(try link.transfer(upTo: all[2].uuid, throttleBytesPerSecond: 0).bytes == 0)
        try volume.deleteSnapshot(all[1].uuid)
        try change(3)
        all.append(try snapshot("s3"))
        _ = try link.transfer(upTo: all[3].uuid, throttleBytesPerSecond: 0)
        #expect(replica.volume.snapshots() == [all[0], all[2], all[3]])
        for snapshot in replica.volume.snapshots() { try expectEqual(snapshot) }
        #expect(link.status.state == .idle)
        finish()
    }

    @Test func aCutTransferSendsNothingTwice() throws {
        try change(0, bytes: 400_000)
        let first = try snapshot("s0")
        var bytes: UInt64 = 0
        // Frames: two of the handshake are not seen; answer, interval, then records.
        let cut = replicator(cutAfter: 6)
        #expect(throws: StorageError.self) { try cut.transfer(upTo: first.uuid, throttleBytesPerSecond: 0) }
        bytes += cut.status.current.bytes
        #expect(bytes > 1 << 20)
        try replica.reopen()
        let rest = try replicator().transfer(upTo: first.uuid, throttleBytesPerSecond: 0)
        #expect(rest.bytes > 0)
        bytes += rest.bytes
        try expectEqual(first)
        // The same volume in one go takes as many bytes.
        let other = try TestVolume(isReplica: true)
        let whole = try VolumeReplicator(
            volume: other.volume,
            source: PeerEndpoint(address: "127.0.0.1", port: listener.port),
            secret: Self.secret,
            environment: .system
        ).transfer(upTo: first.uuid, throttleBytesPerSecond: 0)
        #expect(whole.bytes == bytes)
        other.remove()
        finish()
    }

    @Test func anotherSecretIsRefused() throws {
        try change(0)
        let first = try snapshot("s0")
        let link = replicator(secret: Array("another".utf8))
        #expect(throws: StorageError.self) { try link.transfer(upTo: first.uuid, throttleBytesPerSecond: 0) }
        #expect(replica.volume.snapshots() == [])
        finish()
    }

    @Test func whatIsAcknowledgedInSyncIsOnBothSides() throws {
        try change(0)
        let link = replicator()
        _ = try link.transfer(upTo: try snapshot("s0").uuid, throttleBytesPerSecond: 0)
        let volume = volume
        nonisolated(unsafe) let test = source
        let isStopped = Mutex(false)
        let running = Mutex(2)
        for writer in 0..<2 {
            SystemThread.start(name: "writer") {
                let bytes = [UInt8](repeating: 7, count: 5000)
                var round = 0
                while !isStopped.withLock({ $0 }) {
                    if let file = try? volume.makeFile("w\(writer)-\(round)", in: volume.rootReference),
                        let ticket = try? volume.put(bytes, at: 0, to: file, isStable: true)
                    {
                        test.volume.waitUntilDurable(ticket)
                    }
                    round += 1
                }
                running.withLock { $0 -= 1 }
            }
        }
        try link.startSynchronous()
        #expect(eventually { link.status.state == .inSync })
        #expect(listener.mirrorState(of: volume.msid) == .inSync)
        SystemThread.pause(milliseconds: 200)
        isStopped.withLock { $0 = true }
        #expect(eventually { running.withLock { $0 == 0 } })
        let names = try volume.list(volume.rootReference)
        // A snapshot that is taken in sync is on both sides when the call returns.
        let last = try snapshot("final")
        #expect(replica.volume.snapshots().last == last)
        link.stop()
        #expect(eventually { listener.mirrorState(of: volume.msid) == .outOfSync })
        try expectEqual(last)
        try replica.volume.setReplica(false)
        #expect(try replica.volume.list(volume.rootReference) == names)
        finish()
    }

    @Test func clientsGoOnWhenTheLinkIsCut() throws {
        try change(0)
        let link = replicator()
        try link.startSynchronous()
        #expect(eventually { link.status.state == .inSync })
        listener.disconnect(volume.msid)
        #expect(listener.mirrorState(of: volume.msid) == .outOfSync)
        #expect(!volume.isMirrored)
        #expect(eventually { link.status.state == .outOfSync })
        #expect(link.status.failure != nil)
        let file = try volume.makeFile("alone", in: volume.rootReference)
        source.volume.waitUntilDurable(try volume.put([1, 2, 3], at: 0, to: file, isStable: true))
        // A new stream brings the replica back.
        try link.startSynchronous()
        #expect(eventually { link.status.state == .inSync })
        let last = try snapshot("after")
        link.stop()
        try expectEqual(last)
        finish()
    }

    /// Makes a file with an answer that is kept, durably if that is waited for.
    private func makeAnswered(_ number: Int, in test: TestVolume, isWaiting: Bool = true) throws {
        let ticket = try "answered-\(number)".withRawBytes {
            try test.volume.create(
                $0,
                in: .volumeRoot,
                mode: .guarded(AttributeChanges()),
                as: .superuser,
                .blocking
            ) { object, _, keeper in
                let call = CallIdentity(client: 1, xid: UInt32(number), procedure: 8, checksum: 5)
                Array("\(object.reference)".utf8).withUnsafeBytes { keeper.keep($0, of: call) }
            }
        }.ticket
        if isWaiting { test.volume.waitUntilDurable(ticket) }
    }

    /// The replica has the answers of the source, those from before the stream, too, and keeps them in a crash.
    @Test func aStreamCarriesTheAnswersThatAreKept() throws {
        for number in 0..<5000 { try makeAnswered(number, in: source, isWaiting: number % 100 == 99) }
        let link = replicator()
        try link.startSynchronous()
        #expect(eventually { link.status.state == .inSync })
        for number in 5000..<5100 { try makeAnswered(number, in: source) }
        let kept = try volume.keptReplies()
        #expect(kept.map(\.call.xid) == Array(0..<5100))
        let copy = try replica.openCopy()
        #expect(try copy.volume.keptReplies() == kept)
        #expect(try copy.volume.checkConsistency() == [])
        try copy.volume.setReplica(false)
        // Where it serves, it goes on from there.
        try makeAnswered(6000, in: copy)
        #expect(try copy.volume.keptReplies().map(\.call.xid) == Array(0..<5100) + [6000])
        #expect(try copy.volume.keptReplies().dropLast() == kept[...])
        #expect(try copy.volume.checkConsistency() == [])
        link.stop()
        copy.remove()
        finish()
    }

    /// The source crashes and loses what it had not acknowledged, of which the replica has both effect and answer. After the
    /// next stream it has neither.
    @Test func whatTheSourceLostTheReplicaForgets() throws {
        for number in 0..<10 { try makeAnswered(number, in: source) }
        let link = replicator()
        try link.startSynchronous()
        #expect(eventually { link.status.state == .inSync })
        let crashed = try source.openCopy()
        for number in 10..<14 { try makeAnswered(number, in: source) }
        let last = try snapshot("last")
        #expect(replica.volume.snapshots().last == last)
        #expect(try replica.volume.keptReplies().map(\.call.xid) == Array(0..<14))
        link.stop()
        // The source as it was before the last four.
        let volume = crashed.volume
        let other = try ReplicationListener.start(
            on: PeerEndpoint(address: "127.0.0.1", port: 0),
            secret: Self.secret,
            environment: .system,
            volume: { $0 == volume.msid ? volume : nil }
        )
        try makeAnswered(20, in: crashed)
        let again = VolumeReplicator(
            volume: replica.volume,
            source: PeerEndpoint(address: "127.0.0.1", port: other.port),
            secret: Self.secret,
            environment: .system
        )
        try again.startSynchronous()
        #expect(eventually { again.status.state == .inSync })
        try makeAnswered(21, in: crashed)
        #expect(try replica.volume.keptReplies() == volume.keptReplies())
        #expect(try replica.volume.keptReplies().map(\.call.xid) == Array(0..<10) + [20, 21])
        #expect(try replica.volume.checkConsistency() == [])
        again.stop()
        other.stop()
        crashed.remove()
        finish()
    }
}
