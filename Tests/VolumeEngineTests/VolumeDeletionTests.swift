import Environment
import FileIO
import Identity
import TestKit
import Testing
import VolumeEngine

@Suite struct VolumeDeletionTests {
    private static let msids = [VolumeMSID(rawValue: 7), VolumeMSID(rawValue: 8)]
    private static let names = (0..<2000).map { "file-\($0)" }

    private func createVolume(_ msid: VolumeMSID, _ test: TestVolume) throws -> Volume {
        try test.aggregate.createVolume(msid: msid, sizeBytes: 1 << 40, isSpaceGuaranteed: false, isReplica: false)
    }

    private func fill(_ test: TestVolume) throws {
        for msid in Self.msids {
            let volume = try createVolume(msid, test)
            for name in Self.names { _ = try volume.makeFile(name, in: volume.rootReference) }
        }
    }

    /// What a client's event loop does: without the disk first, and with it if it must.
    private func exists(_ name: String, in volume: Volume) -> Bool {
        name.withRawBytes { name in
            for execution in [Execution.cachedOnly, .blocking] {
                do throws(FileError) {
                    _ = try volume.lookup(name, in: volume.rootReference, as: .superuser, execution)
                    return true
                } catch {
                    guard error == .wouldBlock else { return false }
                }
            }
            return false
        }
    }

    /// Neighbours that were deleted and made again lie in several files of the metadata, of which some blocks are in
    /// memory and some are not: a reader that may not touch the disk must learn that it would have to (decision 0022).
    @Test func volumesMadeAgainShowAllTheirNames() throws {
        let test = try TestVolume(msid: 7)
        try fill(test)
        try test.reopen()
        for msid in Self.msids { try test.aggregate.deleteVolume(msid) }
        try fill(test)
        try test.reopen()
        for msid in Self.msids {
            let volume = try #require(test.aggregate.volume(msid))
            let missing = Self.names.filter { !exists($0, in: volume) }
            #expect(missing == [])
            #expect(try volume.list(volume.rootReference).count == Self.names.count)
            #expect(try volume.checkConsistency() == [])
        }
        test.remove()
    }

    @Test func nothingOfADeletedVolumeIsLeft() throws {
        let test = try TestVolume(msid: 7)
        try fill(test)
        for msid in Self.msids { try test.aggregate.deleteVolume(msid) }
        #expect(test.aggregate.space().usedBytes == 0)
        let volume = try createVolume(Self.msids[0], test)
        #expect(try volume.list(volume.rootReference) == [])
        #expect(try volume.checkConsistency() == [])
        test.remove()
    }

    /// Whatever cuts a deletion off, the volume never comes back, and the next start or the next attempt ends it.
    @Test(arguments: [false, true]) func aDeletionThatWasCutOffIsEnded(restarts: Bool) throws {
        let test = try TestVolume(msid: 8)
        let other = test.volume
        _ = try other.makeFile("stays", in: other.rootReference)
        let volume = try createVolume(Self.msids[0], test)
        let file = try volume.makeFile("goes", in: volume.rootReference)
        try volume.put([1, 2, 3], at: 0, to: file, isStable: true)
        // A folder among the segments, which are files, stops the deletion half-way.
        let segments = "\(test.directory)/segments/0000000000000007"
        try #require(FileSystem.exists(segments))
        let obstacle = segments + "/obstacle"
        try FileSystem.makeDirectories(obstacle)
        #expect(throws: StorageError.self) { try test.aggregate.deleteVolume(Self.msids[0]) }
        #expect(test.aggregate.volume(Self.msids[0]) == nil)
        #expect(throws: StorageError.self) { try createVolume(Self.msids[0], test) }
        try FileSystem.removeDirectory(obstacle)
        if restarts { try test.reopen() } else { try test.aggregate.deleteVolume(Self.msids[0]) }
        #expect(!FileSystem.exists(segments))
        let again = try createVolume(Self.msids[0], test)
        #expect(try again.list(again.rootReference) == [])
        #expect(try test.volume.list(test.volume.rootReference) == ["stays"])
        test.remove()
    }
}
