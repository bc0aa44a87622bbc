import Environment
import FileIO
import Foundation
import Identity
import TestKit
import Testing
import VolumeEngine

/// What a power cut takes away, made by hand on copies of a living aggregate's files.
@Suite struct CommitJournalTests {
    private func logOfMetadata(_ directory: String) throws -> FileHandle {
        let metadata = directory + "/metadata/"
        let logs = try FileSystem.list(metadata).filter { $0.hasSuffix(".log") }
        return try FileHandle(forUpdating: URL(filePath: metadata + (try #require(logs.max()))))
    }

    /// Cuts the newest log of the metadata off after a part of what lies behind its first `durable` bytes.
    private func cutLog(_ directory: String, keeping part: Double, after durable: UInt64 = 0) throws {
        let log = try logOfMetadata(directory)
        let size = try log.seekToEnd()
        try log.truncate(atOffset: durable + UInt64(Double(size - durable) * part))
        try log.close()
    }

    private func makeFiles(_ test: TestVolume, _ numbers: Range<Int>) throws {
        for number in numbers {
            let file = try test.volume.makeFile("file-\(number)", in: test.volume.rootReference)
            test.volume.waitUntilDurable(try test.volume.put([UInt8(number & 255)], at: 0, to: file, isStable: true))
        }
    }

    private func expectFiles(_ test: TestVolume, _ count: Int) throws {
        let volume = test.volume
        #expect(try volume.list(volume.rootReference).count == count)
        for number in 0..<count {
            let file = try volume.find("file-\(number)", in: volume.rootReference).reference
            #expect(try volume.get(4, from: file) == [UInt8(number & 255)])
        }
        #expect(try volume.checkConsistency() == [])
    }

    @Test(arguments: [1, 0.9, 0.5, 0.1, 0])
    func whatTheLogOfTheMetadataLostComesBack(kept: Double) throws {
        let test = try TestVolume()
        try makeFiles(test, 0..<120)
        let copy = try test.openCopy { try cutLog($0, keeping: kept) }
        try expectFiles(copy, 120)
        // And once more, from the new journal. What came back is durable in the log.
        let durable = try logOfMetadata(copy.directory).seekToEnd()
        try makeFiles(copy, 120..<130)
        let next = try copy.openCopy { try cutLog($0, keeping: kept, after: durable) }
        try expectFiles(next, 130)
        for one in [test, copy, next] { one.remove() }
    }

    private static func fill(_ test: TestVolume, _ thread: Int) throws {
        let volume = try test.aggregate.createVolume(
            msid: VolumeMSID(rawValue: 100 + UInt64(thread)),
            sizeBytes: 1 << 40,
            isSpaceGuaranteed: false,
            isReplica: false
        )
        for number in 0..<160 {
            let file = try volume.makeFile("file-\(number)", in: volume.rootReference)
            let bytes = [UInt8](repeating: UInt8(number & 255), count: number % 16 == 0 ? 30_000 : 100)
            volume.waitUntilDurable(try volume.put(bytes, at: 0, to: file, isStable: true))
        }
    }

    /// The halves of a small journal are filled many times, while several threads commit small and large changes.
    @Test func halvesAreFilledInTurn() throws {
        let test = try TestVolume(journalBytes: 64 << 10)
        nonisolated(unsafe) let shared = test
        let threads = (0..<3).map { thread -> Parking in
            let parking = Parking()
            SystemThread.start(name: "writer") {
                do { try Self.fill(shared, thread) } catch { Issue.record("thread \(thread): \(error)") }
                parking.leave()
            }
            return parking
        }
        for thread in threads { thread.stay() }
        let copy = try test.openCopy()
        for volume in copy.aggregate.volumes.filter({ $0.msid.rawValue >= 100 }) {
            #expect(try volume.list(volume.rootReference).count == 160)
            #expect(try volume.checkConsistency() == [])
        }
        for one in [test, copy] { one.remove() }
    }

    @Test func moreThanTheJournalHasMustNotBeLost() throws {
        let test = try TestVolume(journalBytes: 64 << 10)
        try makeFiles(test, 0..<300)
        let error = #expect(throws: StorageError.self) { try test.openCopy { try cutLog($0, keeping: 0) } }
        #expect(error?.code == .damaged)
        #expect(error?.message.contains("commit 1 is missing") == true)
        test.remove()
    }

    /// The place of the n-th entry from the end.
    private func entry(fromEnd index: Int, in journal: [UInt8]) throws -> Range<Int> {
        let magic = Array("1JWG".utf8)
        let starts = journal.indices.dropLast(magic.count).filter { journal[$0..<$0 + 4].elementsEqual(magic) }
        let start = try #require(starts.dropLast(index).last)
        let count = journal[(start + 4)..<(start + 8)].reversed().reduce(0) { $0 << 8 | Int($1) }
        return start..<(start + 32 + count)
    }

    @Test func aTornLastEntryIsLeftOutAndDamageBeforeItIsRefused() throws {
        let test = try TestVolume()
        try makeFiles(test, 0..<50)
        func change(_ directory: String, entryFromEnd index: Int) throws {
            try cutLog(directory, keeping: 0)
            let path = URL(filePath: directory + "/journal")
            var bytes = [UInt8](try Data(contentsOf: path))
            bytes[try entry(fromEnd: index, in: bytes).upperBound - 1] ^= 1
            try Data(bytes).write(to: path)
        }
        // The last commit holds the last write, and the one before it may hold the file's name.
        let torn = try test.openCopy { try change($0, entryFromEnd: 0) }
        #expect(try torn.volume.list(torn.volume.rootReference).count >= 49)
        #expect(try torn.volume.checkConsistency() == [])
        let error = #expect(throws: StorageError.self) {
            try test.openCopy { try change($0, entryFromEnd: 20) }
        }
        #expect(error?.message.contains("was durable when") == true)
        for one in [test, torn] { one.remove() }
    }

    @Test func aMissingOrShortJournalIsRefused() throws {
        let test = try TestVolume()
        try makeFiles(test, 0..<3)
        let missing = #expect(throws: StorageError.self) {
            try test.openCopy { try FileSystem.remove($0 + "/journal") }
        }
        #expect(missing?.message.contains("there is no journal") == true)
        let short = #expect(throws: StorageError.self) {
            try test.openCopy { directory in
                try FileHandle(forUpdating: URL(filePath: directory + "/journal")).truncate(atOffset: 100)
            }
        }
        #expect(short?.message.contains("has 100 bytes instead of 4194304") == true)
        test.remove()
    }
}
