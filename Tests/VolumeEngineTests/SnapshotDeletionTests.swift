import Environment
import FileIO
import Identity
import Synchronization
import TestKit
import Testing
import VolumeEngine

/// Snapshots that are deleted while clients go on writing.
@Suite struct SnapshotDeletionTests {
    /// Threads that create, write and remove the same few names until they are stopped.
    private final class Churn: Sendable {
        private let isStopped = Mutex(false)
        private let running: Mutex<Int>

        init(_ test: TestVolume, threads: Int) {
            running = Mutex(threads)
            nonisolated(unsafe) let test = test
            for thread in 0..<threads {
                SystemThread.start(name: "churn") { [self] in
                    var generator = SplitMix(state: UInt64(thread) + 1)
                    while !isStopped.withLock({ $0 }) { try? Self.change(test, thread, &generator) }
                    running.withLock { $0 -= 1 }
                }
            }
        }

        private static func change(_ test: TestVolume, _ thread: Int, _ generator: inout SplitMix) throws {
            let volume = test.volume
            let root = volume.rootReference
            let name = "t\(thread)-\(generator.next() % 60)"
            switch generator.next() % 4 {
            case 0: _ = try name.withRawBytes { try volume.remove($0, from: root, as: .superuser, .blocking) }
            case 1: _ = try volume.makeFile(name, in: root)
            default:
                let file = try volume.find(name, in: root).reference
                let bytes = [UInt8](repeating: UInt8(truncatingIfNeeded: generator.next()), count: 6000)
                // Waiting makes many small commits, as clients do.
                volume.waitUntilDurable(
                    try volume.put(bytes, at: generator.next() % 8 * 4096, to: file, isStable: true)
                )
            }
        }

        func stop() {
            isStopped.withLock { $0 = true }
            while running.withLock({ $0 > 0 }) { SystemThread.pause(milliseconds: 1) }
        }
    }

    /// Snapshots come and go under load. What stays is what it was, nothing that was removed comes back, and everything
    /// is given back in the end.
    @Test(arguments: [1, 2, 3] as [UInt64])
    func deletionsUnderLoadLeaveNothingBehind(seed: UInt64) throws {
        let test = try TestVolume()
        let volume = test.volume
        let churn = Churn(test, threads: 2)
        var generator = SplitMix(state: seed)
        var kept: [(snapshot: Snapshot, hash: UInt64?)] = []
        for step in 0..<400 {
            if kept.count < 4 || generator.next() % 2 == 0 {
                let snapshot = try volume.createSnapshot(name: "s\(step)", uuid: .random(.system))
                kept.append((snapshot, step % 6 == 0 ? try volume.contentHash(of: snapshot.uuid) : nil))
            } else {
                let index = Int(generator.next() % UInt64(kept.count))
                try volume.deleteSnapshot(kept.remove(at: index).snapshot.uuid)
            }
            if step % 25 == 0 { try #require(try volume.checkConsistency() == [], "step \(step)") }
        }
        churn.stop()
        try #require(try volume.checkConsistency() == [])
        for (snapshot, hash) in kept {
            let found = try volume.contentHash(of: snapshot.uuid)
            #expect(hash == nil || found == hash, "\(snapshot.name)")
        }
        for (snapshot, _) in kept { try volume.deleteSnapshot(snapshot.uuid) }
        for name in try volume.list(volume.rootReference) {
            _ = try name.withRawBytes { try volume.remove($0, from: volume.rootReference, as: .superuser, .blocking) }
        }
        try test.reopen()
        #expect(test.volume.space().usedBytes == 512)
        #expect(try test.volume.checkConsistency() == [])
        test.remove()
    }
}
