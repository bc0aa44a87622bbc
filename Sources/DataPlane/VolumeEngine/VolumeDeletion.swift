import Bytes
import FileIO
import Identity
import RocksStore
import SegmentStore

/// Takes everything of a volume out of an aggregate.
///
/// Key by key, and not as one range: iterators of RocksDB 7.8 lose errors where a range of keys was deleted, and say that
/// there is nothing where they could not look (decision 0022). It is on record that the volume goes, so that the next
/// start ends a deletion that was cut off.
struct VolumeDeletion {
    let msid: VolumeMSID
    let context: AggregateContext

    private static let keysPerBatchMax = 4096

    /// The volumes whose deletion has begun.
    static func begun(in context: AggregateContext) throws(StorageError) -> [VolumeDeletion] {
        let prefix = DatabaseKey.prefix(VolumeMSID(rawValue: 0), DatabaseKey.deletionKind)
        var found: [VolumeDeletion] = []
        let iterator = context.database.iterator(.ordered)
        iterator.seek(prefix)
        while iterator.isValid, DatabaseKey.hasPrefix(iterator.key, prefix) {
            let msid = VolumeMSID(rawValue: DatabaseKey.bigEndian(iterator.key, 9))
            found.append(VolumeDeletion(msid: msid, context: context))
            iterator.next()
        }
        do { _ = try iterator.check(cachedOnly: false) } catch { throw .metadata(error) }
        return found
    }

    /// Durably makes the volume one that is no more.
    func begin() throws(StorageError) {
        let batch = RocksBatch()
        batch.delete(DatabaseKey.volume(msid))
        batch.put(DatabaseKey.deletion(msid), [])
        do { try context.database.write(batch, isSynced: true) } catch { throw .metadata(error) }
    }

    /// Takes its records and its data away; may be repeated.
    func finish() throws(StorageError) {
        do throws(RocksError) { try deleteRecords() } catch { throw .metadata(error) }
        do { try SegmentStore.removeAll(directory: context.segmentDirectory(msid)) } catch { throw .io(error) }
        let batch = RocksBatch()
        batch.delete(DatabaseKey.deletion(msid))
        do { try context.database.write(batch, isSynced: true) } catch { throw .metadata(error) }
    }

    /// Nothing is waited for: a log that knows of the end of the deletion knows of what went before.
    private func deleteRecords() throws(RocksError) {
        let batch = RocksBatch()
        let iterator = context.database.iterator(.ordered)
        var start = ByteWriter()
        start.appendBigEndian(msid.rawValue)
        iterator.seek(start.bytes)
        while iterator.isValid, DatabaseKey.hasPrefix(iterator.key, start.bytes) {
            batch.delete(iterator.key)
            if batch.count == Self.keysPerBatchMax {
                try context.database.write(batch, isSynced: false)
                batch.clear()
            }
            iterator.next()
        }
        _ = try iterator.check(cachedOnly: false)
        try context.database.write(batch, isSynced: false)
    }
}
