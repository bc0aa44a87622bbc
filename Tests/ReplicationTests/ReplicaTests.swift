import Bytes
import Environment
import Identity
import TestKit
import Testing
import VolumeEngine

@Suite struct ReplicaTests {
    let source: TestVolume
    let replica: TestVolume

    init() throws {
        source = try TestVolume()
        replica = try TestVolume(isReplica: true)
    }

    private var volume: Volume { source.volume }

    private func change(_ round: Int) throws {
        for index in 0..<30 {
            let name = "f\((round * 7 + index) % 60)"
            let file =
                try (try? volume.find(name, in: volume.rootReference).reference)
                ?? volume.makeFile(name, in: volume.rootReference)
            try volume.put(
                (0..<5000 * (index % 4 + 1)).map { UInt8(truncatingIfNeeded: $0 &* round) },
                at: UInt64(index * 3000),
                to: file
            )
        }
        for index in 0..<5 where round > 0 {
            let name = "f\((round * 11 + index) % 60)"
            _ = try? name.withRawBytes {
                try volume.remove($0, from: volume.rootReference, as: .superuser, .blocking)
            }
        }
    }

    /// Transfers from one snapshot to the next; stops after `frames` frames, if given, and says where.
    private func transfer(
        from base: Snapshot?,
        to target: Snapshot,
        resume: TransferPosition? = nil,
        frames: Int = .max
    ) throws -> TransferPosition? {
        let reader = TransferReader(volume: volume, base: base, target: target, resume: resume)
        let writer = try ReplicaWriter(volume: replica.volume, isBaseline: base == nil)
        var position = resume
        for _ in 0..<frames {
            var frame = ByteWriter()
            let next = try reader.next(into: &frame, bytes: 20_000)
            _ = try frame.bytes.withUnsafeBytes { try writer.apply($0) }
            position = next
            if next == nil { break }
        }
        try writer.checkpoint(Array("checkpoint".utf8))
        return position
    }

    private func expectEqual(_ snapshot: Snapshot) throws {
        #expect(try volume.contentHash(of: snapshot.uuid) == replica.volume.contentHash(of: snapshot.uuid))
        #expect(try replica.volume.checkConsistency() == [])
    }

    @Test func baselineAndIncrementsMakeEqualReplicas() throws {
        var previous: Snapshot?
        for round in 0..<6 {
            try change(round)
            let target = try volume.createSnapshot(name: "s\(round)", uuid: .random(.system))
            #expect(try transfer(from: previous, to: target) == nil)
            try expectEqual(target)
            previous = target
        }
        for snapshot in volume.snapshots() { try expectEqual(snapshot) }
        // A snapshot that goes on both sides leaves both whole.
        let middle = volume.snapshots()[2]
        try volume.deleteSnapshot(middle.uuid)
        try replica.volume.deleteSnapshot(middle.uuid)
        for snapshot in volume.snapshots() { try expectEqual(snapshot) }
        source.remove()
        replica.remove()
    }

    @Test func anInterruptedTransferGoesOnWhereItStopped() throws {
        try change(0)
        let first = try volume.createSnapshot(name: "s0", uuid: .random(.system))
        var position = try transfer(from: nil, to: first, frames: 3)
        #expect(position != nil)
        try replica.reopen()
        #expect(try replica.volume.replicaCheckpoint() == Array("checkpoint".utf8))
        position = try transfer(from: nil, to: first, resume: position)
        #expect(position == nil)
        try expectEqual(first)

        try change(1)
        let second = try volume.createSnapshot(name: "s1", uuid: .random(.system))
        position = try transfer(from: first, to: second, frames: 2)
        // The same records once more do no harm.
        _ = try transfer(from: first, to: second, frames: 2)
        _ = try transfer(from: first, to: second, resume: position)
        try expectEqual(second)
        source.remove()
        replica.remove()
    }

    @Test func aReplicaThatWasCutGoesBackToItsSnapshot() throws {
        try change(0)
        let first = try volume.createSnapshot(name: "s0", uuid: .random(.system))
        _ = try transfer(from: nil, to: first)
        try change(1)
        let lost = try volume.createSnapshot(name: "lost", uuid: .random(.system))
        _ = try transfer(from: first, to: lost, frames: 2)
        try volume.deleteSnapshot(lost.uuid)
        try change(2)
        try replica.volume.revertToNewestSnapshot()
        try expectEqual(first)
        let second = try volume.createSnapshot(name: "s1", uuid: .random(.system))
        _ = try transfer(from: first, to: second)
        try expectEqual(second)
        source.remove()
        replica.remove()
    }

    @Test func aPromotedReplicaIsAVolumeLikeAnyOther() throws {
        try change(0)
        let first = try volume.createSnapshot(name: "s0", uuid: .random(.system))
        _ = try transfer(from: nil, to: first)
        let reference = try volume.find("f0", in: volume.rootReference).reference
        #expect(throws: FileError.busy) { try replica.volume.attributes(of: reference, .blocking) }
        try replica.volume.setReplica(false)
        // Handles, attributes and cookies are those of the source.
        #expect(
            try replica.volume.attributes(of: reference, .blocking) == volume.attributes(of: reference, .blocking)
        )
        #expect(try replica.volume.list(volume.rootReference) == volume.list(volume.rootReference))
        try replica.volume.put([1, 2, 3], at: 0, to: reference, isStable: true)
        _ = try replica.volume.makeFile("new", in: volume.rootReference)
        #expect(try replica.volume.checkConsistency() == [])
        source.remove()
        replica.remove()
    }

    @Test func anIncrementSendsOnlyTheBlocksThatDiffer() throws {
        let file = try volume.makeFile("big", in: volume.rootReference)
        try volume.put([UInt8](repeating: 1, count: 1 << 20), at: 0, to: file)
        let first = try volume.createSnapshot(name: "s0", uuid: .random(.system))
        _ = try transfer(from: nil, to: first)
        try volume.put([2], at: 100_000, to: file)
        let second = try volume.createSnapshot(name: "s1", uuid: .random(.system))
        let reader = TransferReader(volume: volume, base: first, target: second, resume: nil)
        var frame = ByteWriter()
        #expect(try reader.next(into: &frame, bytes: 1 << 20) == nil)
        #expect(reader.blocksSent == 1)
        #expect(frame.bytes.count < 6000)
        source.remove()
        replica.remove()
    }

    /// Somebody else commits while a transfer has applied records whose data is still in memory: nothing of them may
    /// become durable, or a crash leaves records without data, and a baseline that begins again counts blocks twice.
    @Test func aCommitBetweenCheckpointsHoldsNothingOfTheTransfer() throws {
        try change(1)
        let target = try volume.createSnapshot(name: "s0", uuid: .random(.system))
        let used = replica.volume.space().usedBytes
        do {
            let writer = try ReplicaWriter(volume: replica.volume, isBaseline: true)
            let reader = TransferReader(volume: volume, base: nil, target: target, resume: nil)
            var frame = ByteWriter()
            #expect(try reader.next(into: &frame, bytes: 100_000) != nil)
            _ = try frame.bytes.withUnsafeBytes { try writer.apply($0) }
            // Commits: the volume is a replica already.
            try replica.volume.setReplica(true)
            let crashed = try replica.openCopy()
            #expect(try crashed.volume.checkConsistency() == [])
            #expect(crashed.volume.space().usedBytes == used)
            crashed.remove()
        }
        // The writer has gone without a checkpoint: its blocks are given back, and the baseline may begin again.
        try replica.volume.setReplica(true)
        #expect(replica.volume.space().usedBytes == used)
        #expect(try transfer(from: nil, to: target) == nil)
        try expectEqual(target)
        #expect(replica.volume.space().usedBytes == volume.space().usedBytes)
        try replica.reopen()
        try expectEqual(target)
        source.remove()
        replica.remove()
    }

    /// The writer of a baseline does not remember what it wrote: it must notice when a record comes again.
    @Test func aBaselineThatBringsARecordTwiceIsRefused() throws {
        try change(0)
        let target = try volume.createSnapshot(name: "s0", uuid: .random(.system))
        do {
            let writer = try ReplicaWriter(volume: replica.volume, isBaseline: true)
            let reader = TransferReader(volume: volume, base: nil, target: target, resume: nil)
            var frame = ByteWriter()
            #expect(try reader.next(into: &frame, bytes: 1000) != nil)
            _ = try frame.bytes.withUnsafeBytes { try writer.apply($0) }
            #expect {
                try frame.bytes.withUnsafeBytes { _ = try writer.apply($0) }
            } throws: { ($0 as? StorageError)?.code == .damaged }
        }
        #expect(try transfer(from: nil, to: target) == nil)
        try expectEqual(target)
        source.remove()
        replica.remove()
    }

    @Test func aSnapshotIsHeldWhileATransferReadsIt() throws {
        try change(0)
        let base = try volume.createSnapshot(name: "s0", uuid: .random(.system))
        try change(1)
        let target = try volume.createSnapshot(name: "s1", uuid: .random(.system))
        do {
            let reader = TransferReader(volume: volume, base: base, target: target, resume: nil)
            for snapshot in [base, target] {
                #expect(volume.isHeld(snapshot.uuid))
                #expect {
                    try volume.deleteSnapshot(snapshot.uuid)
                } throws: { ($0 as? StorageError)?.code == .conflict }
            }
            #expect(throws: StorageError.self) { try volume.restore(to: base.uuid) }
            var frame = ByteWriter()
            _ = try reader.next(into: &frame, bytes: 1000)
        }
        #expect(!volume.isHeld(base.uuid))
        try volume.deleteSnapshotAfterTransfer(base.uuid)
        try volume.deleteSnapshot(target.uuid)
        #expect(volume.snapshots().isEmpty)
        source.remove()
        replica.remove()
    }
}
