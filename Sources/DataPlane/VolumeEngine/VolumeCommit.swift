import Bytes
import Identity
import RocksStore
import SegmentStore

/// What a commit must do outside the lock.
struct CommitWork {
    var number: UInt64
    var bulkSegments: [UInt32]
    var freed: [BlockExtent]
    /// Segments without a living block once the commit is durable.
    var deadSegments: [UInt32]
    /// Writes that are durable in the log and not yet in their segments.
    var deferred: [(sequence: UInt64, segment: UInt32)]
    var mirrored: [ReplicaRecord]
    var isMirrored: Bool
}

extension VolumeCore {
    /// Writes all that is pending into `batch` and begins the next pending commit.
    ///
    /// Runs under the lock between two transactions, so that a commit is a state that the volume really had.
    func beginCommit(into batch: borrowing RocksBatch) -> CommitWork? {
        guard !pending.isEmpty else { return nil }
        pending.operations.write(into: batch)
        var writer = ByteWriter(capacity: 1024)
        for record in pending.dirty { encode(record, &writer, into: batch) }
        encodeReplies(into: batch)
        encodeSpace(into: batch)
        encodeProperties(into: batch)

        let work = CommitWork(
            number: pending.number,
            bulkSegments: pending.bulkSegments.sorted(),
            freed: pending.freed,
            deadSegments: pending.touchedSegments.filter { liveBlocks[$0] == 0 },
            deferred: pending.deferred.map { ($0.sequence, $0.start.segment) },
            mirrored: mirroredInOrder(),
            isMirrored: pending.isMirrored
        )
        committing = pending.dirty
        pending = PendingCommit(number: work.number + 1)
        pending.isMirrored = work.isMirrored
        return work
    }

    private func encode(_ record: AnyRecord, _ writer: inout ByteWriter, into batch: borrowing RocksBatch) {
        record.isDirty = false
        if pending.isMirrored { pending.mirrored.append(ReplicaRecord(of: record)) }
        if record.key.kind == .chunk { unsafeDowncast(record, to: Record<ChunkContent>.self).pendingBlocks = 0 }
        let version = DatabaseKey.version(msid, record.key, record.epoch)
        if record.isAbsent && !record.hasOlderVersion {
            // Nothing was ever there for anybody: no trace stays.
            if record.isStored {
                batch.delete(version)
                batch.delete(DatabaseKey.changed(msid, record.epoch, record.key))
            }
            record.isStored = false
            return
        }
        writer.removeAll()
        record.encodeValue(into: &writer)
        batch.put(version, writer.bytes)
        if !record.isStored { batch.put(DatabaseKey.changed(msid, record.epoch, record.key), []) }
        record.isStored = true
    }

    private func encodeSpace(into batch: borrowing RocksBatch) {
        for segment in pending.touchedSegments.sorted() {
            var value = ByteWriter(capacity: 4)
            value.append(UInt32(liveBlocks[segment, default: 0]))
            batch.put(DatabaseKey.local(msid, DatabaseKey.segmentKind, segment), value.bytes)
        }
        for extent in pending.freed {
            var value = ByteWriter(capacity: 4)
            value.append(UInt32(extent.count))
            batch.put(DatabaseKey.local(msid, DatabaseKey.freedKind, extent.start.rawValue), value.bytes)
        }
        for write in pending.deferred {
            var value = ByteWriter(capacity: write.bytes.count + 8)
            value.append(write.start.rawValue)
            value.append(raw: write.bytes)
            batch.put(DatabaseKey.local(msid, DatabaseKey.deferredKind, write.sequence), value.bytes)
        }
    }

    private func encodeProperties(into batch: borrowing RocksBatch) {
        var value = ByteWriter(capacity: 128)
        properties.encode(into: &value)
        batch.put(DatabaseKey.volume(msid), value.bytes)
    }

    /// What the mirror gets: the versions of an epoch before the snapshot that ends it, the volume's counters last.
    private func mirroredInOrder() -> [ReplicaRecord] {
        guard pending.isMirrored else { return [] }
        var ordered: [ReplicaRecord] = []
        var remaining = pending.mirrored
        for snapshot in pending.snapshots {
            ordered += remaining.filter { $0.epoch <= snapshot.epoch }
            remaining.removeAll { $0.epoch <= snapshot.epoch }
            ordered.append(snapshot)
        }
        return ordered + remaining + [ReplicaRecord(properties: properties)]
    }

    /// Notes that a commit is durable.
    func finishCommit(_ number: UInt64) {
        for record in committing where record.key.kind == .entry && record.commit <= number {
            unsettledEntries[record.key.first]?[record.key.second] = nil
            if unsettledEntries[record.key.first]?.isEmpty == true { unsettledEntries[record.key.first] = nil }
        }
        committing = []
        evict()
    }
}
