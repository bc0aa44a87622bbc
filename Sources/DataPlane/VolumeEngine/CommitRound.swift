import RocksStore
import SegmentStore

/// Makes the commits of some volumes of one aggregate durable with one synchronous write.
enum CommitRound {
    /// Commits until nobody waits for any of the volumes. Called by the scheduler's threads.
    static func run(_ volumes: [Volume]) {
        var wanting = volumes
        while !wanting.isEmpty {
            commit(wanting)
            wanting.removeAll { !$0.wantsCommit() }
        }
    }

    private static func commit(_ volumes: [Volume]) {
        let batch = RocksBatch()
        var begun: [(volume: Volume, work: CommitWork)] = []
        for volume in volumes {
            if let work = volume.beginCommit(into: batch) { begun.append((volume, work)) }
        }
        guard let first = begun.first else { return }
        do {
            // Data before metadata: nothing in the database may point to a block that a crash could take away.
            for (volume, work) in begun {
                for segment in work.bulkSegments { try volume.segments.synchronize(segment) }
            }
            try first.volume.context.journal.commit(batch) {
                for (volume, work) in begun { volume.noteDurable(work.number) }
            }
        } catch {
            // The page cache may have dropped what it could not write, so that going on could lose acknowledged data:
            // the process ends and recovers from what is durable.
            fatalError("volumes \(begun.map(\.volume.msid)): a commit could not be made durable: \(error)")
        }
        for (volume, work) in begun { volume.endCommit(work) }
    }
}
