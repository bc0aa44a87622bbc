import Environment
import Identity
import TestKit
import Testing
import VolumeEngine

/// What a volume should hold: names in the root, with their bytes.
typealias Model = [String: [UInt8]]

@Suite struct SnapshotTests {
    let test: TestVolume
    var volume: Volume { test.volume }
    var root: FileReference { volume.rootReference }

    init() throws { test = try TestVolume() }

    private func snapshot(_ name: String) throws -> Snapshot {
        try volume.createSnapshot(name: name, uuid: .random(.system))
    }

    @Test func aSnapshotStaysAsItWas() throws {
        let file = try volume.makeFile("a", in: root)
        try volume.put(Array("old".utf8), at: 0, to: file)
        _ = try snapshot("first")
        try volume.put(Array("new!".utf8), at: 0, to: file)
        _ = try volume.makeFile("later", in: root)
        let list = try volume.find(".snapshot", in: root).reference
        #expect(try volume.list(list) == ["first"])
        let old = try volume.find("first", in: list).reference
        #expect(try volume.list(old) == ["a"])
        let oldFile = try volume.find("a", in: old).reference
        #expect(try volume.get(10, from: oldFile) == Array("old".utf8))
        #expect(throws: FileError.readOnly) { try volume.put([0], at: 0, to: oldFile) }
        #expect(throws: FileError.readOnly) { try volume.makeFile("x", in: old) }
        #expect(throws: FileError.noEntry) { try volume.find("later", in: old) }
        #expect(try volume.get(10, from: file) == Array("new!".utf8))
        #expect(try volume.checkConsistency() == [])
        test.remove()
    }

    @Test func takingOneCostsTheSameHoweverManyFilesThereAre() throws {
        // Not a matter of time: the commit of a snapshot writes a fixed number of keys.
        for index in 0..<500 { _ = try volume.makeFile("f\(index)", in: root) }
        let before = volume.space()
        _ = try snapshot("s")
        #expect(volume.space() == before)
        test.remove()
    }

    /// A deletion walks the shorter of what changed before the snapshot and after it: both must find the same. With many
    /// files before it the walk goes through the few that changed afterwards, and the other way round.
    @Test(arguments: [(1500, 20), (20, 1500)])
    func deletingOneFreesTheSameWhicheverSideIsWalked(before: Int, after: Int) throws {
        let directory = root
        var model: Model = [:]
        func write(_ index: Int, _ generation: UInt8) throws {
            let name = "f\(index)"
            let file =
                try model[name] == nil
                ? volume.makeFile(name, in: directory) : volume.find(name, in: directory).reference
            model[name] = [UInt8](repeating: generation, count: 5000)
            try volume.put(model[name]!, at: 0, to: file)
        }
        for index in 0..<before { try write(index, 1) }
        let kept = try snapshot("kept")
        for index in 0..<10 { try write(index, 2) }
        let gone = try snapshot("gone")
        for index in 0..<after { try write(index, 3) }
        _ = try "f5".withRawBytes { try volume.remove($0, from: directory, as: .superuser, .blocking) }
        model["f5"] = nil
        try volume.deleteSnapshot(gone.uuid)
        #expect(try volume.checkConsistency() == [])
        try volume.deleteSnapshot(kept.uuid)
        #expect(try volume.checkConsistency() == [])
        #expect(volume.space().usedBytes == UInt64(model.count * 8192 + (model.count + 1) * 512))
        for (name, bytes) in model {
            #expect(try volume.get(5001, from: volume.find(name, in: directory).reference) == bytes)
        }
        try test.reopen()
        #expect(try volume.checkConsistency() == [])
        test.remove()
    }

    /// Random changes, snapshots, deletions of snapshots, restores and restarts, against a model of each of them.
    @Test(arguments: [1, 2, 3, 4, 5, 6] as [UInt64])
    func historiesMatchTheirModels(seed: UInt64) throws {
        var generator = SplitMix(state: seed)
        var active: Model = [:]
        var kept: [(snapshot: Snapshot, model: Model)] = []
        for step in 0..<400 {
            let action = generator.next() % 20
            switch action {
            case 0:
                kept.append((try snapshot("s\(step)"), active))
            case 1 where !kept.isEmpty:
                let index = Int(generator.next() % UInt64(kept.count))
                try volume.deleteSnapshot(kept.remove(at: index).snapshot.uuid)
            case 2 where !kept.isEmpty && step % 3 == 0:
                let index = Int(generator.next() % UInt64(kept.count))
                try volume.restore(to: kept[index].snapshot.uuid)
                active = kept[index].model
                kept.removeLast(kept.count - index - 1)
            case 3 where step % 5 == 0: try test.reopen()
            default: try change(&active, &generator)
            }
            let findings = try volume.checkConsistency()
            try #require(findings.isEmpty, "step \(step): \(findings)")
        }
        try compare(root, active)
        for (snapshot, model) in kept {
            let list = try volume.find(".snapshot", in: root).reference
            try compare(try volume.find(snapshot.name, in: list).reference, model)
        }
        try #require(try volume.checkConsistency() == [])
        for (snapshot, _) in kept { try volume.deleteSnapshot(snapshot.uuid) }
        try compare(root, active)
        #expect(try volume.checkConsistency() == [])
        for name in active.keys.sorted() {
            _ = try name.withRawBytes { try volume.remove($0, from: root, as: .superuser, .blocking) }
        }
        _ = try volume.checkConsistency()
        // Everything is given back once nothing refers to it.
        #expect(volume.space().usedBytes == 512)
        test.remove()
    }

    private func change(_ model: inout Model, _ generator: inout SplitMix) throws {
        let name = "n\(generator.next() % 12)"
        if model[name] == nil {
            _ = try volume.makeFile(name, in: root)
            model[name] = []
            return
        }
        let file = try volume.find(name, in: root).reference
        switch generator.next() % 6 {
        case 0:
            _ = try name.withRawBytes { try volume.remove($0, from: root, as: .superuser, .blocking) }
            model[name] = nil
        case 1:
            let size = Int(generator.next() % 600_000)
            _ = try volume.setAttributes(
                AttributeChanges(sizeBytes: UInt64(size)),
                of: file,
                guardChangeTime: nil,
                as: .superuser,
                .blocking
            )
            let old = model[name]!
            model[name] = Array(old.prefix(size)) + [UInt8](repeating: 0, count: max(0, size - old.count))
        default:
            let offset = Int(generator.next() % 500_000)
            let data = (0..<Int(generator.next() % 60_000) + 1).map { _ in
                UInt8(truncatingIfNeeded: generator.state >> 20)
            }
            try volume.put(data, at: UInt64(offset), to: file, isStable: generator.next() % 4 == 0)
            var bytes = model[name]!
            if bytes.count < offset + data.count {
                bytes += [UInt8](repeating: 0, count: offset + data.count - bytes.count)
            }
            bytes.replaceSubrange(offset..<offset + data.count, with: data)
            model[name] = bytes
        }
    }

    private func compare(_ directory: FileReference, _ model: Model) throws {
        #expect(try volume.list(directory).sorted() == model.keys.sorted())
        for (name, bytes) in model {
            let file = try volume.find(name, in: directory).reference
            #expect(try volume.attributes(of: file, .blocking).sizeBytes == UInt64(bytes.count))
            #expect(try volume.get(bytes.count, from: file) == bytes, "\(name)")
        }
    }

    /// What was durable when the files were copied is there after a recovery from the copy.
    @Test func aCrashLosesNothingThatWasDurable() throws {
        var generator = SplitMix(state: 77)
        var model: Model = [:]
        for _ in 0..<5 {
            for _ in 0..<40 { try change(&model, &generator) }
            _ = try snapshot("s\(generator.next())")
            let crashed = try test.openCopy()
            #expect(try crashed.volume.checkConsistency() == [])
            #expect(crashed.volume.writeVerifier != volume.writeVerifier)
            for (name, bytes) in model {
                let file = try crashed.volume.find(name, in: root).reference
                #expect(try crashed.volume.get(bytes.count + 1, from: file) == bytes)
            }
            crashed.remove()
        }
        test.remove()
    }
}
