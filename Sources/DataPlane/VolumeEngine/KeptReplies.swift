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
    /// Counts the answers of the volume; of two for one call the greater is the newer.
    package var sequence: UInt64
    /// The call.
    package var call: CallIdentity
    /// The answer as it was sent, or would have been.
    package var bytes: [UInt8]

    /// Makes an answer.
    package init(sequence: UInt64, call: CallIdentity, bytes: [UInt8]) {
        self.sequence = sequence
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

/// The place of answers in the metadata of a volume: a ring, so that each takes the place of an old one and none is ever
/// deleted.
///
///     key    msid 8 | 0x16 | slot 4
///     value  sequence 8 | client 4 | xid 4 | procedure 4 | checksum of the arguments 8 | answer | XXH3 of all before 8
enum ReplyRing {
    /// Answers that a volume keeps.
    static let slotCount: UInt64 = 4096
    /// Bytes of a value beside the answer.
    static let overheadBytes = 36

    static func slot(_ sequence: UInt64) -> UInt32 { UInt32(sequence % slotCount) }

    /// Whether an answer is still in its place when `next` is the next one's number.
    static func isKept(_ sequence: UInt64, next: UInt64) -> Bool {
        sequence < next && sequence + slotCount >= next
    }

    /// Appends a value.
    static func append(
        _ sequence: UInt64,
        _ call: CallIdentity,
        _ reply: UnsafeRawBufferPointer,
        to writer: inout ByteWriter
    ) {
        let start = writer.bytes.count
        writer.append(sequence)
        writer.append(call.client)
        writer.append(call.xid)
        writer.append(call.procedure)
        writer.append(call.checksum)
        writer.append(raw: reply)
        let checksum = writer.bytes.withUnsafeBytes { Checksum.xxh3(UnsafeRawBufferPointer(rebasing: $0[start...])) }
        writer.append(checksum)
    }

    /// The number of a value that is whole.
    static func sequence(_ value: UnsafeRawBufferPointer) throws(ByteFormatError) -> UInt64 {
        guard value.count >= overheadBytes else { throw ByteFormatError("an answer of \(value.count) bytes") }
        let end = value.count - 8
        let checksum = UInt64(littleEndian: value.loadUnaligned(fromByteOffset: end, as: UInt64.self))
        guard Checksum.xxh3(UnsafeRawBufferPointer(rebasing: value[..<end])) == checksum else {
            throw ByteFormatError("an answer with a wrong checksum")
        }
        return UInt64(littleEndian: value.loadUnaligned(as: UInt64.self))
    }

    /// Reads a value back.
    static func decode(_ value: UnsafeRawBufferPointer) throws(ByteFormatError) -> KeptReply {
        let sequence = try sequence(value)
        var reader = ByteReader(value)
        _ = try reader.readMemory(8)
        let call = CallIdentity(
            client: try reader.read(),
            xid: try reader.read(),
            procedure: try reader.read(),
            checksum: try reader.read()
        )
        return KeptReply(sequence: sequence, call: call, bytes: try reader.readBytes(reader.remaining - 8))
    }
}

extension VolumeCore {
    /// Makes an answer part of the pending commit. Under the lock, in the transaction that has the effect.
    fileprivate func keep(_ reply: UnsafeRawBufferPointer, of call: CallIdentity) {
        let sequence = nextReply
        nextReply += 1
        pending.operations.putReply(msid, sequence, call, reply)
        if pending.isMirrored {
            var value = ByteWriter(capacity: ReplyRing.overheadBytes + reply.count)
            ReplyRing.append(sequence, call, reply, to: &value)
            pending.mirrored.append(ReplicaRecord(reply: value.bytes, epoch: properties.epoch))
        }
    }
}

extension Volume {
    /// The answers that are kept, oldest first; those of everything that was executed before are among them. For threads
    /// that may wait: reads the disk.
    ///
    /// One that is damaged is reported as an event and left out.
    package func keptReplies() throws(StorageError) -> [KeptReply] {
        flush()
        var found: [KeptReply] = []
        try walkReplies { _, value in
            do throws(ByteFormatError) { found.append(try ReplyRing.decode(value)) } catch {
                report(
                    StorageError(
                        .damaged,
                        "an answer that volume \(msid) keeps for a repeated request cannot be read: \(error)",
                        remedy: "nothing: were that request sent again, it would be executed again"
                    )
                )
            }
        }
        return found.sorted { $0.sequence < $1.sequence }
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
