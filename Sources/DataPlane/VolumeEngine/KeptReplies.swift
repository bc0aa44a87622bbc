import Bytes
import Identity
import RocksStore

/// What a call is known by when it is sent again: who sent it, its number, and its bytes.
package struct CallIdentity: Hashable, Sendable {
    /// The client's IPv4 address as a number.
    package var client: UInt32
    /// The transaction identifier of its RPC.
    package var xid: UInt32
    /// The procedure.
    package var procedure: UInt32
    /// XXH3 of the arguments.
    package var checksum: UInt64

    /// Makes an identity.
    package init(client: UInt32, xid: UInt32, procedure: UInt32, checksum: UInt64) {
        self.client = client
        self.xid = xid
        self.procedure = procedure
        self.checksum = checksum
    }
}

/// An answer that became durable in the commit that has the effect of its call.
package struct KeptReply: Equatable, Sendable {
    /// The call.
    package var call: CallIdentity
    /// The answer as it was sent, or would have been.
    package var bytes: [UInt8]

    /// Makes an answer.
    package init(call: CallIdentity, bytes: [UInt8]) {
        self.call = call
        self.bytes = bytes
    }
}

/// Takes the answer of a call within the transaction that has the call's effect.
///
/// The transaction runs under the volume's lock and a commit begins under the same lock, so that no commit has the effect
/// without the answer, or the answer without the effect (decision 0030).
package struct ReplyKeeper {
    private let core: VolumeCore?

    init(_ core: VolumeCore) { self.core = core }

    private init() { core = nil }

    /// For a call that had no effect: to execute it again does no harm, and nothing is kept.
    static var withoutEffect: ReplyKeeper { ReplyKeeper() }

    /// Keeps an answer with the effect of its call.
    package func keep(_ reply: UnsafeRawBufferPointer, of call: CallIdentity) { core?.keep(reply, of: call) }
}

/// Writes the answer of CREATE, MKDIR, SYMLINK and MKNOD. Called exactly once by an operation that succeeds, mostly under
/// the volume's lock: must be quick and must not call the volume.
package typealias CreateAnswer = (
    _ object: FileAttributes, _ directory: WeakCacheConsistency, _ keeper: ReplyKeeper
) -> Void

/// The same of SETATTR, REMOVE and RMDIR.
package typealias ChangeAnswer = (_ consistency: WeakCacheConsistency, _ keeper: ReplyKeeper) -> Void

/// The same of RENAME.
package typealias RenameAnswer = (
    _ from: WeakCacheConsistency, _ to: WeakCacheConsistency, _ keeper: ReplyKeeper
) -> Void

/// The same of LINK.
package typealias LinkAnswer = (
    _ object: FileAttributes, _ directory: WeakCacheConsistency, _ keeper: ReplyKeeper
) -> Void

/// The place of answers in the metadata of a volume: a ring, so that new ones take the place of old ones and none is ever
/// deleted. The answers of one commit share slots: a key of the database for each answer would cost most of what all of
/// this costs.
///
///     key    msid 8 | 0x16 | slot 4
///     value  sequence 8 | answers, oldest first | XXH3 of all before 8
///     answer client 4 | xid 4 | procedure 4 | checksum of the arguments 8 | count 4 | bytes
///
/// The slot is the sequence number modulo the number of slots.
enum ReplyRing {
    /// Slots of a volume, and the most recent commits whose answers it keeps at least.
    static let slotCount: UInt64 = 4096
    /// Answers in a slot.
    static let repliesPerSlotMax = 8
    private static let replyBytesMax = 1 << 16

    static func slot(_ sequence: UInt64) -> UInt32 { UInt32(sequence % slotCount) }

    /// Whether a value is still in its place when `next` is the next one's number.
    static func isKept(_ sequence: UInt64, next: UInt64) -> Bool {
        sequence < next && sequence + slotCount >= next
    }

    /// The number of a value that is whole.
    static func sequence(_ value: UnsafeRawBufferPointer) throws(ByteFormatError) -> UInt64 {
        guard value.count >= 16 else { throw ByteFormatError("answers of \(value.count) bytes") }
        let end = value.count - 8
        let checksum = UInt64(littleEndian: value.loadUnaligned(fromByteOffset: end, as: UInt64.self))
        guard Checksum.xxh3(UnsafeRawBufferPointer(rebasing: value[..<end])) == checksum else {
            throw ByteFormatError("answers with a wrong checksum")
        }
        return UInt64(littleEndian: value.loadUnaligned(as: UInt64.self))
    }

    /// Reads a value back.
    static func decode(
        _ value: UnsafeRawBufferPointer
    ) throws(ByteFormatError) -> (sequence: UInt64, replies: [KeptReply]) {
        let sequence = try sequence(value)
        var reader = ByteReader(UnsafeRawBufferPointer(rebasing: value[8..<(value.count - 8)]))
        var replies: [KeptReply] = []
        while reader.remaining > 0 {
            let call = CallIdentity(
                client: try reader.read(),
                xid: try reader.read(),
                procedure: try reader.read(),
                checksum: try reader.read()
            )
            replies.append(KeptReply(call: call, bytes: try reader.readCounted(limit: replyBytesMax)))
        }
        return (sequence, replies)
    }
}

/// The answers that a commit keeps, as the values of their slots, one behind the other.
struct PendingReplies {
    private var writer = ByteWriter(capacity: 0)
    /// The number of the first value; the others follow it.
    private var first: UInt64 = 0
    /// Where each value begins.
    private var starts: [Int] = []
    /// Answers in the last value, which still lacks its checksum.
    private var countInLast = 0
    private static let roomBytes = 1024

    /// Whether there are none.
    var isEmpty: Bool { starts.isEmpty }

    /// Adds an answer; `next` is the number of the next value, and grows when this begins one.
    mutating func append(_ reply: UnsafeRawBufferPointer, of call: CallIdentity, _ next: inout UInt64) {
        if starts.isEmpty || countInLast == ReplyRing.repliesPerSlotMax {
            begin(next)
            next += 1
        }
        writer.append(call.client)
        writer.append(call.xid)
        writer.append(call.procedure)
        writer.append(call.checksum)
        writer.append(UInt32(reply.count))
        writer.append(raw: reply)
        countInLast += 1
    }

    private mutating func begin(_ sequence: UInt64) {
        if starts.isEmpty {
            // At once, and not byte by byte.
            writer.bytes.reserveCapacity(Self.roomBytes)
            first = sequence
        } else {
            end()
        }
        starts.append(writer.bytes.count)
        writer.append(sequence)
        countInLast = 0
    }

    private mutating func end() {
        let start = starts[starts.count - 1]
        let checksum = writer.bytes.withUnsafeBytes { Checksum.xxh3(UnsafeRawBufferPointer(rebasing: $0[start...])) }
        writer.append(checksum)
    }

    /// Completes the values and shows each with its number.
    mutating func finish(_ body: (_ sequence: UInt64, _ value: UnsafeRawBufferPointer) -> Void) {
        guard !starts.isEmpty else { return }
        end()
        writer.bytes.withUnsafeBytes { bytes in
            for (index, start) in starts.enumerated() {
                let end = index + 1 < starts.count ? starts[index + 1] : bytes.count
                body(first + UInt64(index), UnsafeRawBufferPointer(rebasing: bytes[start..<end]))
            }
        }
    }
}

extension VolumeCore {
    /// Makes an answer part of the pending commit. Under the lock, in the transaction that has the effect.
    fileprivate func keep(_ reply: UnsafeRawBufferPointer, of call: CallIdentity) {
        pending.replies.append(reply, of: call, &nextReply)
    }

    /// Writes the answers of the pending commit into its batch, and for the mirror.
    func encodeReplies(into batch: borrowing RocksBatch) {
        var replies = pending.replies
        pending.replies = PendingReplies()
        replies.finish { sequence, value in
            let key = DatabaseKey.local(msid, DatabaseKey.replyKind, ReplyRing.slot(sequence))
            key.withUnsafeBytes { batch.put($0, value) }
            if pending.isMirrored {
                pending.mirrored.append(ReplicaRecord(reply: [UInt8](value), epoch: properties.epoch))
            }
        }
    }
}

extension Volume {
    /// The answers that are kept, oldest first; those of everything that was executed before are among them. For threads
    /// that may wait: reads the disk.
    ///
    /// One that is damaged is reported as an event and left out; so is an error of the disk, which is thrown as well.
    package func keptReplies() throws(StorageError) -> [KeptReply] {
        flush()
        var found: [(sequence: UInt64, replies: [KeptReply])] = []
        do throws(StorageError) {
            try walkReplies { _, value in
                do throws(ByteFormatError) { found.append(try ReplyRing.decode(value)) } catch {
                    report(
                        StorageError(
                            .damaged,
                            "answers that volume \(msid) keeps for repeated requests cannot be read: \(error)",
                            remedy: "nothing: were one of those requests sent again, it would be executed again"
                        )
                    )
                }
            }
        } catch {
            report(error)
            throw error
        }
        return found.sorted { $0.sequence < $1.sequence }.flatMap(\.replies)
    }

    /// The keys of the ring that the database has.
    func storedReplyKeys() throws(StorageError) -> [[UInt8]] {
        var found: [[UInt8]] = []
        try walkReplies { key, _ in found.append([UInt8](key)) }
        return found
    }

    /// Shows what the database has of the ring, in the order of the slots.
    private func walkReplies(
        _ body: (_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Void
    ) throws(StorageError) {
        let prefix = DatabaseKey.prefix(msid, DatabaseKey.replyKind)
        let iterator = context.database.iterator(.ordered)
        iterator.seek(prefix)
        while iterator.isValid, DatabaseKey.hasPrefix(iterator.key, prefix) {
            body(iterator.key, iterator.value)
            iterator.next()
        }
        _ = try reader.check(iterator, false)
    }

    /// Sends the mirror what was kept before it was attached; what has been kept since goes its own way, with its commit.
    func mirrorReplies() throws(StorageError) {
        try managed { () throws(StorageError) in
            var stored: [(sequence: UInt64, value: [UInt8])] = []
            try walkReplies { _, value in
                if let sequence = try? ReplyRing.sequence(value) { stored.append((sequence, [UInt8](value))) }
            }
            locked {
                guard core.pending.isMirrored else { return }
                let epoch = core.properties.epoch
                // One that has lost its place meanwhile must not take that of its successor in the replica.
                for reply in stored where ReplyRing.isKept(reply.sequence, next: core.nextReply) {
                    core.pending.mirrored.append(ReplicaRecord(reply: reply.value, epoch: epoch))
                }
            }
            flush()
        }
    }
}
