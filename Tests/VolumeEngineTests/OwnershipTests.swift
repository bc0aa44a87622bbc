import Environment
import FileIO
import Identity
import TestKit
import Testing
import VolumeEngine

@Suite("Ownership of an aggregate")
struct OwnershipTests {
    private func open(_ directory: String, _ node: ObjectUUID, epoch: UInt64) throws(StorageError) -> Aggregate {
        try Aggregate.open(
            directory: directory,
            options: AggregateOptions(node: node, ownershipEpoch: epoch, capacityBytes: 1 << 30),
            environment: .system
        )
    }

    private func refusal(_ directory: String, _ node: ObjectUUID, epoch: UInt64) -> StorageError.Code? {
        do throws(StorageError) {
            try open(directory, node, epoch: epoch).close()
            return nil
        } catch {
            return error.code
        }
    }

    @Test func newerEpochTakesOverAndOlderOnesAreRefused() throws {
        let directory = try TemporaryDirectory.make()
        defer { TemporaryDirectory.remove(directory) }
        let (first, second) = (ObjectUUID.random(.system), ObjectUUID.random(.system))
        let owned = try open(directory, first, epoch: 0)
        let uuid = owned.uuid
        _ = try owned.createVolume(
            msid: VolumeMSID(rawValue: 7),
            sizeBytes: 1 << 30,
            isSpaceGuaranteed: false,
            isReplica: false
        )
        #expect(!owned.isTakenOver())
        // The lock keeps the new owner out as long as the former one has not closed; its epoch is there already.
        #expect(refusal(directory, second, epoch: 1) == .wrongOwner)
        #expect(owned.isTakenOver())
        owned.close()
        // The former owner, should it come back.
        #expect(refusal(directory, first, epoch: 0) == .wrongOwner)
        // Somebody else with the same epoch.
        #expect(refusal(directory, first, epoch: 1) == .wrongOwner)
        let taken = try open(directory, second, epoch: 1)
        #expect(taken.uuid == uuid)
        #expect(taken.volume(VolumeMSID(rawValue: 7)) != nil)
        #expect(!taken.isTakenOver())
        taken.close()
        #expect(refusal(directory, second, epoch: 0) == .wrongOwner)
        #expect(refusal(directory, second, epoch: 1) == nil)
        #expect(refusal(directory, first, epoch: 2) == nil)
        #expect(refusal(directory, second, epoch: 1) == .wrongOwner)
    }

    @Test func damagedEpochIsNotTakenForNone() throws {
        let directory = try TemporaryDirectory.make()
        defer { TemporaryDirectory.remove(directory) }
        let node = ObjectUUID.random(.system)
        try open(directory, node, epoch: 3).close()
        let path = directory + "/aggregate.label"
        let text = String(decoding: try FileSystem.readAll(path), as: UTF8.self)
        try FileSystem.writeAtomically(Array(text.replacing("epoch 3", with: "epoch x").utf8), to: path)
        #expect(refusal(directory, node, epoch: 4) == .damaged)
        #expect(refusal(directory, node, epoch: 0) == .damaged)
    }

    @Test func callsAfterTheCloseAreRefused() throws {
        let test = try TestVolume()
        defer { TemporaryDirectory.remove(test.directory) }
        test.aggregate.close()
        #expect(throws: StorageError.self) {
            _ = try test.volume.createSnapshot(name: "late", uuid: .random(.system))
        }
        #expect(throws: StorageError.self) { try test.volume.resize(toBytes: 1 << 20) }
    }
}
