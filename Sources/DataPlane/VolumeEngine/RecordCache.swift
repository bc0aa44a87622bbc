import Identity
import Bytes

/// A record of the active file system in memory, with what the next commit must know.
///
/// Touched under its volume's lock only.
class AnyRecord {
    let key: RecordKey
    /// The epoch of the newest version; `Epoch.active` when there never was one.
    var epoch: Epoch
    /// Whether a snapshot sees an older version, so that a deletion must leave a tombstone.
    var hasOlderVersion: Bool
    /// The number of the commit that last wrote or will write it; not evicted before that is durable.
    var commit: UInt64 = 0
    /// Whether it is in the list of the pending commit.
    var isDirty = false
    /// Whether the newest version is in the database (so that a deletion must reach it).
    var isStored: Bool

    init(key: RecordKey, epoch: Epoch, hasOlderVersion: Bool, isStored: Bool) {
        self.key = key
        self.epoch = epoch
        self.hasOlderVersion = hasOlderVersion
        self.isStored = isStored
    }

    /// Whether there is no such object in the active file system.
    var isAbsent: Bool { true }

    /// Appends the value; nothing for a tombstone.
    func encodeValue(into writer: inout ByteWriter) {}
}

/// A record with its content; nil content means that there is no such object.
final class Record<Content: RecordContent>: AnyRecord {
    // The run-time check of exclusive access costs a tenth of a READDIRPLUS. It can find nothing here: records are
    // touched under their volume's lock only, and no access to one lasts over a call that gets at it another way.
    @exclusivity(unchecked) var content: Content?
    /// For chunks: blocks that the pending commit brings, for the mirror.
    var pendingBlocks: UInt64 = 0

    init(key: RecordKey, epoch: Epoch, hasOlderVersion: Bool, isStored: Bool, content: Content?) {
        self.content = content
        super.init(key: key, epoch: epoch, hasOlderVersion: hasOlderVersion, isStored: isStored)
    }

    override var isAbsent: Bool { content == nil }

    override func encodeValue(into writer: inout ByteWriter) { content?.encode(into: &writer) }
}

/// Records in memory, in two generations: what is not asked for while the young generation fills up is dropped with the
/// old one. Nothing is walked and nothing is ordered on the data path.
struct RecordCache<Content: RecordContent> {
    private var young: [RecordKey: Record<Content>] = [:]
    private var old: [RecordKey: Record<Content>] = [:]
    let generationMax: Int

    init(generationMax: Int) { self.generationMax = generationMax }

    /// The record, if it is in memory.
    mutating func find(_ key: RecordKey) -> Record<Content>? {
        if let record = young[key] { return record }
        guard let record = old.removeValue(forKey: key) else { return nil }
        young[key] = record
        return record
    }

    /// Adds a record.
    mutating func insert(_ record: Record<Content>) { young[record.key] = record }

    /// Whether the young generation is full.
    var isFull: Bool { young.count >= generationMax }

    /// Drops the old generation, ages the young one, and keeps `pinned` (records that are not durable yet).
    mutating func rotate(keeping pinned: [Record<Content>]) {
        old = young
        young = [:]
        for record in pinned { young[record.key] = record }
    }

    /// Forgets everything.
    mutating func removeAll() {
        young = [:]
        old = [:]
    }
}
