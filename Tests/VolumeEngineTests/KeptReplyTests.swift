import Bytes
import Environment
import FileIO
import Foundation
import Identity
import RocksStore
import TestKit
import Testing
import VolumeEngine

/// The answers that a volume keeps with the effects of their calls.
@Suite struct KeptReplyTests {
    private static func call(_ xid: Int, client: UInt32 = 0x7f00_0009) -> CallIdentity {
        CallIdentity(client: client, xid: UInt32(xid), procedure: 8, checksum: UInt64(xid) &* 0x9e37_79b9_7f4a_7c15)
    }

    /// Bytes that nobody could make up from the call alone.
    private static func answer(_ xid: Int, _ object: FileAttributes) -> [UInt8] {
        Array("answer \(xid): \(object.reference.inode) \(object.reference.generation)".utf8)
    }

    /// Makes a file, and keeps an answer with it.
    @discardableResult
    private static func make(_ volume: Volume, _ number: Int, mode: CreateMode? = nil) throws -> CommitTicket {
        try "file-\(number)".withRawBytes {
            try volume.create(
                $0,
                in: volume.rootReference,
                mode: mode ?? .guarded(AttributeChanges(mode: 0o644)),
                as: .superuser,
                .blocking
            ) { object, _, keeper in
                answer(number, object).withUnsafeBytes { keeper.keep($0, of: call(number)) }
            }
        }.ticket
    }

    private static func remove(_ volume: Volume, _ number: Int, xid: Int) throws {
        _ = try "file-\(number)".withRawBytes {
            try volume.remove($0, from: volume.rootReference, as: .superuser, .blocking) { _, keeper in
                Array("removed \(number)".utf8).withUnsafeBytes { keeper.keep($0, of: call(xid)) }
            }
        }
    }

    /// Empties the newest log of the metadata, and the journal from the `kept`-th entry on; false when it has no more.
    private static func cut(_ directory: String, keeping kept: Int) throws -> Bool {
        let metadata = directory + "/metadata/"
        let logs = try FileSystem.list(metadata).filter { $0.hasSuffix(".log") }
        let log = try FileHandle(forUpdating: URL(filePath: metadata + (try #require(logs.max()))))
        try log.truncate(atOffset: 0)
        try log.close()
        let path = URL(filePath: directory + "/journal")
        var bytes = [UInt8](try Data(contentsOf: path))
        let magic = Array("1JWG".utf8)
        let starts = bytes.indices.dropLast(magic.count).filter { bytes[$0..<$0 + 4].elementsEqual(magic) }
        guard kept < starts.count else { return false }
        for index in starts[kept]..<bytes.count { bytes[index] = 0 }
        try Data(bytes).write(to: path)
        return true
    }

    /// A power cut between any two commits: the volume then has an effect exactly if it has its answer.
    @Test func anEffectIsThereExactlyIfItsAnswerIs() throws {
        let test = try TestVolume()
        for number in 0..<40 {
            let ticket = try Self.make(test.volume, number)
            // Some commits have several operations.
            if number % 3 == 0 { test.volume.waitUntilDurable(ticket) }
            if number % 4 == 3 { try Self.remove(test.volume, number - 1, xid: 1000 + number - 1) }
        }
        #expect(try test.volume.keptReplies().count == 50)
        var lengths: Set<Int> = []
        var kept = 1
        while true {
            var isCut = false
            let copy = try test.openCopy { isCut = try Self.cut($0, keeping: kept) }
            let names = Set(try copy.volume.list(copy.volume.rootReference))
            let replies = try copy.volume.keptReplies()
            let answered = Set(replies.map(\.call.xid))
            for number in 0..<40 {
                let isMade = answered.contains(UInt32(number))
                let isRemoved = answered.contains(UInt32(1000 + number))
                #expect(names.contains("file-\(number)") == (isMade && !isRemoved))
                guard names.contains("file-\(number)") else { continue }
                let found = try copy.volume.find("file-\(number)", in: copy.volume.rootReference)
                #expect(replies.first { $0.call == Self.call(number) }?.bytes == Self.answer(number, found))
            }
            #expect(
                replies.map(\.call.xid).filter { $0 < 1000 }
                    == (0..<UInt32(answered.filter { $0 < 1000 }.count)).map { $0 }
            )
            #expect(try copy.volume.checkConsistency() == [])
            lengths.insert(replies.count)
            copy.remove()
            guard isCut else { break }
            kept += 1
        }
        // From nothing to all of it, in steps of a commit.
        #expect(lengths.contains(0) && lengths.contains(50) && lengths.count > 10)
        test.remove()
    }

    @Test func theRingKeepsTheNewestAndGoesOnAfterARestart() throws {
        let test = try TestVolume()
        func names() throws -> [UInt32] { try test.volume.keptReplies().map(\.call.xid) }
        // Ten answers in each commit, eight and two in a slot: 4,096 slots are 2,048 commits.
        for number in 0..<21_000 {
            let ticket = try Self.make(test.volume, number)
            if number % 10 == 9 { test.volume.waitUntilDurable(ticket) }
        }
        let first = try names()
        #expect(first.count >= 20_480 && first == Array((21_000 - UInt32(first.count))..<21_000))
        try test.reopen()
        // A slot for each of these.
        for number in 21_000..<21_010 { test.volume.waitUntilDurable(try Self.make(test.volume, number)) }
        let second = try names()
        #expect(second.count < first.count && second.first! > first.first!)
        #expect(second == Array(second.first!..<21_010))
        for number in 21_010..<25_200 { test.volume.waitUntilDurable(try Self.make(test.volume, number)) }
        #expect(try names() == Array((25_200 - 4096)..<25_200))
        #expect(try test.volume.checkConsistency() == [])
        test.remove()
    }

    @Test func whatHadNoEffectIsNotKept() throws {
        let test = try TestVolume()
        let volume = test.volume
        try Self.make(volume, 1)
        #expect(throws: FileError.exists) { try Self.make(volume, 1) }
        // An existing file that is taken as it is; one that is cut does change.
        try Self.make(volume, 1, mode: .unchecked(AttributeChanges()))
        #expect(try volume.keptReplies().count == 1)
        try Self.make(volume, 1, mode: .unchecked(AttributeChanges(sizeBytes: 0)))
        #expect(try volume.keptReplies().count == 2)
        // Two names of one file.
        let file = try volume.find("file-1", in: volume.rootReference).reference
        _ = try "other".withRawBytes {
            try volume.link(file, to: $0, in: volume.rootReference, as: .superuser, .blocking)
        }
        func rename(_ from: String, _ to: String) throws {
            _ = try from.withRawBytes { from in
                try to.withRawBytes { to in
                    let root = volume.rootReference
                    _ = try volume.rename(from, from: root, to: to, in: root, as: .superuser, .blocking) {
                        _,
                        _,
                        keeper in
                        [UInt8(9)].withUnsafeBytes { keeper.keep($0, of: Self.call(77)) }
                    }
                }
            }
        }
        try rename("file-1", "other")
        #expect(try volume.keptReplies().count == 2)
        try rename("other", "third")
        #expect(try volume.keptReplies().count == 3)
        test.remove()
    }

    /// Snapshots hold files and nothing else; a restore does not undo what clients were answered.
    @Test func snapshotsAndRestoresLeaveThemAlone() throws {
        let test = try TestVolume()
        let volume = test.volume
        try Self.make(volume, 1)
        let before = try volume.createSnapshot(name: "before", uuid: .random(.system))
        let hash = try volume.contentHash(of: before.uuid)
        try Self.make(volume, 2)
        #expect(try volume.contentHash(of: before.uuid) == hash)
        try volume.restore(to: before.uuid)
        #expect(try volume.list(volume.rootReference) == ["file-1"])
        #expect(try volume.keptReplies().map(\.call.xid) == [1, 2])
        try test.reopen()
        #expect(try test.volume.keptReplies().map(\.call.xid) == [1, 2])
        #expect(try test.volume.checkConsistency() == [])
        test.remove()
    }

    @Test func aVolumeThatIsMadeAgainKnowsNothingOfTheOldOne() throws {
        let test = try TestVolume()
        try Self.make(test.volume, 1)
        let msid = test.volume.msid
        try test.aggregate.deleteVolume(msid)
        let again = try test.aggregate.createVolume(
            msid: msid,
            sizeBytes: 1 << 30,
            isSpaceGuaranteed: false,
            isReplica: false
        )
        #expect(try again.keptReplies() == [])
        test.remove()
    }

    @Test func aDamagedAnswerIsToldAndTheOthersAreKept() throws {
        let test = try TestVolume()
        for number in 0..<3 { test.volume.waitUntilDurable(try Self.make(test.volume, number)) }
        test.aggregate.close()
        let copy = try test.openCopy { directory in
            let database = try RocksDatabase(path: directory + "/metadata", prefixLength: 25, cacheBytes: 1 << 20)
            var key = ByteWriter()
            key.appendBigEndian(UInt64(7))
            key.append(UInt8(0x16))
            key.appendBigEndian(UInt32(2))
            var value: [UInt8] = []
            _ = try key.bytes.withUnsafeBytes { try database.get($0, cachedOnly: false) { value = [UInt8]($0) } }
            try #require(value.count > 40)
            value[40] ^= 1
            let batch = RocksBatch()
            batch.put(key.bytes, value)
            try database.write(batch, isSynced: true)
            database.close()
        }
        #expect(try copy.volume.keptReplies().map(\.call.xid) == [0, 2])
        #expect(try copy.volume.checkConsistency().count == 1)
        #expect(copy.events.all.count == 1)
        copy.remove()
        TemporaryDirectory.remove(test.directory)
    }
}
