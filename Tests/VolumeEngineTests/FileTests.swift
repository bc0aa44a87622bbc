import Bytes
import FileIO
import Identity
import TestKit
import Testing
import VolumeEngine

@Suite struct FileTests {
    let test: TestVolume
    var volume: Volume { test.volume }
    var root: FileReference { volume.rootReference }

    init() throws { test = try TestVolume() }

    private func bytes(_ count: Int, seed: UInt8 = 1) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ Int(seed) &+ $0 / 251) }
    }

    private func checkClean() throws {
        #expect(try volume.checkConsistency() == [])
        test.remove()
    }

    @Test func writesAndReadsAtAnyOffset() throws {
        let file = try volume.makeFile("a", in: root)
        var model = [UInt8](repeating: 0, count: 3_000_000)
        var size = 0
        var generator = SplitMix(state: 42)
        for round in 0..<300 {
            let offset = Int(generator.next() % 2_000_000)
            let count = round % 3 == 0 ? Int(generator.next() % 400_000) + 1 : Int(generator.next() % 9000) + 1
            let data = bytes(count, seed: UInt8(truncatingIfNeeded: round))
            try volume.put(data, at: UInt64(offset), to: file, isStable: round % 7 == 0)
            model.replaceSubrange(offset..<offset + count, with: data)
            size = max(size, offset + count)
            let start = Int(generator.next() % UInt64(size))
            let length = min(Int(generator.next() % 300_000) + 1, size - start)
            #expect(try volume.get(length, at: UInt64(start), from: file) == Array(model[start..<start + length]))
        }
        #expect(try volume.attributes(of: file, .blocking).sizeBytes == UInt64(size))
        try test.reopen()
        #expect(try volume.get(size, from: file) == Array(model[0..<size]))
        try checkClean()
    }

    @Test func truncationNeverBringsOldBytesBack() throws {
        let file = try volume.makeFile("a", in: root)
        try volume.put(bytes(700_000), at: 0, to: file)
        for size in [699_999, 300_001, 262_144, 5000, 1] as [UInt64] {
            _ = try volume.setAttributes(
                AttributeChanges(sizeBytes: size),
                of: file,
                guardChangeTime: nil,
                as: .superuser,
                .blocking
            )
            _ = try volume.setAttributes(
                AttributeChanges(sizeBytes: 700_000),
                of: file,
                guardChangeTime: nil,
                as: .superuser,
                .blocking
            )
            let expected = Array(bytes(700_000)[0..<Int(size)]) + [UInt8](repeating: 0, count: 700_000 - Int(size))
            #expect(try volume.get(700_000, from: file) == expected)
        }
        try checkClean()
    }

    @Test func sparseFilesOfATebibyteTakeNoRoomAndAreCut() throws {
        let file = try volume.makeFile("sparse", in: root)
        for place in 0..<40 as Range<UInt64> { try volume.put([1, 2, 3], at: place << 35, to: file) }
        #expect(try volume.get(5, at: (1 << 35) - 1, from: file) == [0, 1, 2, 3, 0])
        #expect(try volume.attributes(of: file, .blocking).usedBytes == 40 * 4096)
        _ = try volume.setAttributes(
            AttributeChanges(sizeBytes: 10),
            of: file,
            guardChangeTime: nil,
            as: .superuser,
            .blocking
        )
        #expect(try volume.attributes(of: file, .blocking).usedBytes == 4096)
        #expect(try volume.get(20, from: file) == [1, 2, 3, 0, 0, 0, 0, 0, 0, 0])
        try checkClean()
    }

    @Test func namesLinksAndDirectories() throws {
        let directory = try "d".withRawBytes {
            try volume.makeDirectory($0, in: root, attributes: AttributeChanges(mode: 0o755), as: .superuser, .blocking)
        }.object.reference
        let file = try volume.makeFile("f", in: directory)
        _ = try "g".withRawBytes { try volume.link(file, to: $0, in: root, as: .superuser, .blocking) }
        #expect(try volume.attributes(of: file, .blocking).linkCount == 2)
        #expect(throws: FileError.exists) { try volume.makeFile("f", in: directory) }
        #expect(throws: FileError.notEmpty) {
            try "d".withRawBytes { try volume.removeDirectory($0, from: root, as: .superuser, .blocking) }
        }
        #expect(throws: FileError.isDirectory) {
            try "d".withRawBytes { try volume.remove($0, from: root, as: .superuser, .blocking) }
        }
        _ = try "f".withRawBytes { old in
            try "h".withRawBytes { new in
                try volume.rename(old, from: directory, to: new, in: root, as: .superuser, .blocking)
            }
        }
        #expect(try Set(volume.list(root)) == ["d", "g", "h"])
        _ = try "d".withRawBytes { try volume.removeDirectory($0, from: root, as: .superuser, .blocking) }
        _ = try "g".withRawBytes { try volume.remove($0, from: root, as: .superuser, .blocking) }
        _ = try "h".withRawBytes { try volume.remove($0, from: root, as: .superuser, .blocking) }
        #expect(throws: FileError.stale) { try volume.attributes(of: file, .blocking) }
        #expect(try volume.list(root) == [])
        try checkClean()
    }

    @Test func aDirectoryDoesNotMoveBelowItself() throws {
        func make(_ name: String, _ parent: FileReference) throws -> FileReference {
            try name.withRawBytes {
                try volume.makeDirectory($0, in: parent, attributes: AttributeChanges(), as: .superuser, .blocking)
            }.object.reference
        }
        let outer = try make("outer", root)
        let inner = try make("inner", outer)
        #expect(throws: FileError.invalid) {
            try "outer".withRawBytes { try volume.rename($0, from: root, to: $0, in: inner, as: .superuser, .blocking) }
        }
        try checkClean()
    }

    /// A directory that is listed again and again keeps its names in an index: what the names lead to must be of the moment.
    @Test func listingsShowPresentAttributesAndNames() throws {
        let files = try (0..<200).map { try volume.makeFile("file-\($0)", in: root) }
        func sizes() throws -> [String: UInt64] {
            let entries = try volume.listAttributes(root, page: 33).map { ($0.name, $0.attributes?.sizeBytes ?? .max) }
            return Dictionary(uniqueKeysWithValues: entries)
        }
        var model = Dictionary(uniqueKeysWithValues: (0..<200).map { ("file-\($0)", UInt64(0)) })
        #expect(try sizes() == model)
        for number in stride(from: 0, to: 200, by: 7) {
            try volume.put(bytes(number * 10 + 1), at: 0, to: files[number], isStable: number % 2 == 0)
            model["file-\(number)"] = UInt64(number * 10 + 1)
        }
        #expect(try sizes() == model)
        try volume.waitUntilDurable(
            "file-14".withRawBytes { try volume.remove($0, from: root, as: .superuser, .blocking) }.1
        )
        model["file-14"] = nil
        #expect(try sizes() == model)
        _ = try volume.makeFile("another", in: root)
        model["another"] = 0
        #expect(try sizes() == model)
        try checkClean()
    }

    @Test func largeDirectoriesAreReadOnceEach() throws {
        var expected: Set<String> = []
        for index in 0..<3000 {
            _ = try volume.makeFile("file-\(index)", in: root)
            expected.insert("file-\(index)")
        }
        let names = try volume.list(root, page: 77)
        #expect(names.count == 3000)
        #expect(Set(names) == expected)
        try test.reopen()
        #expect(try volume.list(root, page: 500) == names)
        try checkClean()
    }

    @Test func exclusiveCreateIsTheSameTwice() throws {
        func create(_ verifier: UInt64) throws -> FileReference {
            try "x".withRawBytes {
                try volume.create($0, in: root, mode: .exclusive(verifier: verifier), as: .superuser, .blocking)
            }.object.reference
        }
        let first = try create(99)
        #expect(try create(99) == first)
        #expect(throws: FileError.exists) { try create(98) }
        try checkClean()
    }

    @Test func permissionsAreChecked() throws {
        let user = Credentials(user: 1000, group: 1000)
        let file = try volume.makeFile("secret", in: root, mode: 0o600)
        #expect(throws: FileError.accessDenied) {
            var buffer = [UInt8](repeating: 0, count: 1)
            _ = try buffer.withUnsafeMutableBytes { try volume.read(file, offset: 0, into: $0, as: user, .blocking) }
        }
        #expect(throws: FileError.accessDenied) { try volume.makeFile("mine", in: root, as: user) }
        #expect(throws: FileError.notOwner) {
            try volume.setAttributes(
                AttributeChanges(mode: 0o777),
                of: file,
                guardChangeTime: nil,
                as: user,
                .blocking
            )
        }
        try checkClean()
    }

    @Test func aFlippedByteIsAnErrorAndAnEvent() throws {
        let file = try volume.makeFile("a", in: root)
        volume.waitUntilDurable(try volume.put(bytes(20_000), at: 0, to: file, isStable: true))
        let folder = test.directory + "/segments/0000000000000007"
        let segment = try File(path: folder + "/" + FileSystem.list(folder)[0], .readWrite)
        var byte: [UInt8] = [0]
        _ = try byte.withUnsafeMutableBytes { try segment.read(into: $0, at: 5000) }
        byte[0] ^= 1
        try byte.withUnsafeBytes { try segment.write($0, at: 5000) }
        #expect(throws: FileError.inputOutput) { try volume.get(20_000, from: file) }
        #expect(throws: FileError.inputOutput) { try volume.put([1], at: 5000, to: file) }
        #expect(try volume.get(4096, from: file) == Array(bytes(20_000)[0..<4096]))
        #expect(
            test.events.all.contains {
                if case .checksumMismatch(_, file.inode, 4096, _) = $0 { true } else { false }
            }
        )
        let report = try volume.scrub { _ in }
        #expect(report.damage.count == 1)
        #expect(report.blocksVerified == 5)
        try checkClean()
    }

    @Test func aFullVolumeLosesNothingAndRecovers() throws {
        try volume.resize(toBytes: 2 << 20)
        let file = try volume.makeFile("a", in: root)
        let kept = bytes(1 << 20)
        try volume.put(kept, at: 0, to: file)
        #expect(throws: FileError.noSpace) { try volume.put(bytes(1 << 20), at: 1 << 20, to: file) }
        // What replaces blocks that go at once needs no room.
        try volume.put(kept, at: 0, to: file)
        #expect(try volume.get(1 << 20, from: file) == kept)
        let second = try volume.makeFile("b", in: root)
        try volume.put(bytes(900_000), at: 0, to: second)
        _ = try "a".withRawBytes { try volume.remove($0, from: root, as: .superuser, .blocking) }
        try volume.put(bytes(900_000), at: 900_000, to: second)
        try checkClean()
    }
}

/// A small generator with a seed (SplitMix64), so that a failing test fails again.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
        return mixed ^ mixed >> 31
    }
}
