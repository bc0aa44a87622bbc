package import Bytes
package import VolumeEngine
import Synchronization

/// What makes a request the same as an earlier one: who sent it, its number, and its bytes. The client's port is not part
/// of it, since a client that reconnects may come from another one.
package struct RequestKey: Hashable, Sendable {
    package var client: ClientAddress
    package var xid: UInt32
    package var procedure: UInt32
    /// XXH3 of the arguments.
    package var checksum: UInt64

    /// Makes a key.
    package init(client: ClientAddress, xid: UInt32, procedure: UInt32, checksum: UInt64) {
        self.client = client
        self.xid = xid
        self.procedure = procedure
        self.checksum = checksum
    }

    /// The key of a call that a volume knows.
    package init(_ call: CallIdentity) {
        client = ClientAddress(rawValue: call.client)
        (xid, procedure, checksum) = (call.xid, call.procedure, call.checksum)
    }

    /// What a volume knows the call by.
    package var call: CallIdentity {
        CallIdentity(client: client.rawValue, xid: xid, procedure: procedure, checksum: checksum)
    }
}

/// An answer that was given, and what must be durable before it may be given again.
package struct CachedReply: Sendable {
    /// The whole RPC answer without its record mark.
    package var bytes: [UInt8]
    /// What it waits for.
    package var volume: Volume?
    /// The same.
    package var ticket: CommitTicket

    /// Makes an answer.
    package init(bytes: [UInt8], volume: Volume?, ticket: CommitTicket) {
        self.bytes = bytes
        self.volume = volume
        self.ticket = ticket
    }
}

/// Answers of requests that must not be executed twice (nfs.md, "Exactly once"). Part of the SVM's protocol state: it
/// moves at a cutover, so that a request which is sent again to the new cluster gets the old answer. Volumes keep those of
/// requests that had an effect, and they come back from there after a crash (decision 0030).
package final class DuplicateRequestCache: Sendable {
    /// Answers that are kept. Those of other nodes or another cluster come on top of them, and the oldest ones go two by two
    /// for each new one until there are no more than this.
    package static let repliesMax = 65_536

    /// What is known of a request.
    package enum Claim: Sendable {
        /// New: execute it, then call `finish`.
        case execute
        /// Executed before.
        case answered(CachedReply)
        /// Being executed: the waiter gets the answer.
        case inProgress
    }

    private struct State {
        var replies: [RequestKey: CachedReply] = [:]
        var order: [RequestKey] = []
        /// The oldest key's place in `order`.
        var first = 0
        /// Keys that were ever added to `order`.
        var addedCount: UInt64 = 0
        var running: [RequestKey: [@Sendable (CachedReply) -> Void]] = [:]
    }

    private let state = Mutex(State())

    /// An empty cache.
    package init() {}

    /// Asks whether to execute a request; `waiter` is called later if the answer is `.inProgress`.
    package func claim(_ key: RequestKey, waiter: @escaping @Sendable (CachedReply) -> Void) -> Claim {
        state.withLock { state in
            if let reply = state.replies[key] { return .answered(reply) }
            if state.running[key] != nil {
                state.running[key]!.append(waiter)
                return .inProgress
            }
            state.running[key] = []
            return .execute
        }
    }

    /// Keeps the answer of a request that was claimed.
    package func finish(_ key: RequestKey, _ reply: CachedReply) {
        let waiters = state.withLock { state in
            Self.insert(key, reply, &state)
            Self.shrink(&state)
            return state.running.removeValue(forKey: key) ?? []
        }
        for waiter in waiters { waiter(reply) }
    }

    /// Takes over the answers that volumes have kept, each oldest first, from volumes that are new to this face.
    ///
    /// Of more than there is room for the newest of each are taken.
    package func load(_ kept: [[KeptReply]]) {
        let share = Self.repliesMax / max(1, kept.count)
        state.withLock { state in
            for replies in kept {
                for reply in replies.suffix(share) {
                    let known = CachedReply(bytes: reply.bytes, volume: nil, ticket: .durable)
                    Self.insert(RequestKey(reply.call), known, &state)
                }
            }
        }
    }

    private static func insert(_ key: RequestKey, _ reply: CachedReply, _ state: inout State) {
        if state.replies.updateValue(reply, forKey: key) == nil {
            state.order.append(key)
            state.addedCount += 1
        }
    }

    /// Forgets the oldest answers. Several full caches may be taken over, one from each node of another cluster, and none may
    /// push another one out before its clients have come.
    private static func shrink(_ state: inout State) {
        for _ in 0..<min(2, max(0, state.replies.count - repliesMax)) {
            state.replies[state.order[state.first]] = nil
            state.first += 1
        }
        if state.first > repliesMax {
            state.order.removeFirst(state.first)
            state.first = 0
        }
    }

    // MARK: Moving

    private static let formatVersion: UInt32 = 1

    /// All answers, or those that came after the first `since` ones, oldest first: version 4 | count 4 | entries | XXH3 8.
    /// - Returns: The answers, and what `since` is next time to get only those that come from now on.
    package func export(since: UInt64 = 0) -> (state: [UInt8], addedCount: UInt64) {
        var writer = ByteWriter(capacity: 64 << 10)
        let addedCount = state.withLock { state -> UInt64 in
            writer.append(Self.formatVersion)
            let news = state.addedCount - min(since, state.addedCount)
            let part = state.order[state.first...].suffix(Int(min(news, UInt64(state.order.count))))
            writer.append(UInt32(part.count))
            for key in part {
                // Every key in order has its answer: they are added and dropped together.
                guard let reply = state.replies[key] else { preconditionFailure("a key without its answer") }
                writer.append(key.client.rawValue)
                writer.append(key.xid)
                writer.append(key.procedure)
                writer.append(key.checksum)
                writer.append(counted: reply.bytes)
            }
            return state.addedCount
        }
        writer.append(Checksum.xxh3(writer.bytes))
        return (writer.bytes, addedCount)
    }

    /// Takes the answers of another cluster over.
    package func `import`(_ bytes: [UInt8]) throws(ByteFormatError) {
        guard bytes.count >= 16 else { throw ByteFormatError("protocol state of \(bytes.count) bytes") }
        let outcome = bytes.withUnsafeBytes { memory in
            Result { () throws(ByteFormatError) in try Self.decode(memory) }
        }
        let entries = try outcome.get()
        state.withLock { state in for (key, reply) in entries { Self.insert(key, reply, &state) } }
    }

    private static func decode(_ memory: UnsafeRawBufferPointer) throws(ByteFormatError) -> [(RequestKey, CachedReply)]
    {
        let body = UnsafeRawBufferPointer(rebasing: memory[0..<memory.count - 8])
        let checksum = UInt64(littleEndian: memory.loadUnaligned(fromByteOffset: body.count, as: UInt64.self))
        guard Checksum.xxh3(body) == checksum else { throw ByteFormatError("protocol state with a wrong checksum") }
        var reader = ByteReader(body)
        let version = try reader.read(UInt32.self)
        guard version == formatVersion else { throw ByteFormatError("protocol state of version \(version)") }
        var entries: [(RequestKey, CachedReply)] = []
        for _ in 0..<(try reader.read(UInt32.self)) {
            let key = RequestKey(
                client: ClientAddress(rawValue: try reader.read()),
                xid: try reader.read(),
                procedure: try reader.read(),
                checksum: try reader.read()
            )
            let reply = try reader.readCounted(limit: 1 << 16)
            entries.append((key, CachedReply(bytes: reply, volume: nil, ticket: .durable)))
        }
        return entries
    }
}
