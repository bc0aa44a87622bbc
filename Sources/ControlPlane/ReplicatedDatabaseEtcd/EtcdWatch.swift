import AsyncHTTPClient
import Environment
import Foundation
import NIOCore
import ReplicatedDatabase

/// One watch: a stream of lines from one member, begun again where it ended when that member fails.
///
/// etcd sends the changes of one revision in one message, so that the last revision seen says where to go on. What the
/// reader does not fetch waits in the connection, and then in etcd.
final class EtcdWatch: @unchecked Sendable {
    // Proof of Sendable: only the reader of one stream calls `next`, one call after the other.

    private static let pauseMilliseconds: UInt64 = 200
    private static let messageBytesMax = 512 << 20

    private let client: EtcdClient
    private let names: KeyNames
    private let prefix: String
    /// The last revision that was seen.
    private var revision: Int64
    private var events: ArraySlice<WatchEvent> = []
    private var body: HTTPClientResponse.Body.AsyncIterator?
    private var pending = Data()

    init(client: EtcdClient, names: KeyNames, prefix: String, after revision: Int64) {
        self.client = client
        self.names = names
        self.prefix = prefix
        self.revision = revision
    }

    /// The next event; waits for it over as many members as it takes.
    ///
    /// - Throws: `DatabaseError` when history has been compacted away, or when something is there that no other member
    ///   can mend.
    func next() async throws -> WatchEvent? {
        while true {
            if let event = events.popFirst() { return event }
            do {
                try await readMore()
            } catch let error as DatabaseError {
                throw error
            } catch {
                // The member has gone, or was silent: the next one goes on after the last revision that was seen.
                body = nil
                try await client.waiting.milliseconds(Self.pauseMilliseconds)
            }
        }
    }

    private func readMore() async throws {
        var body = if let begun = self.body { begun } else { try await begin() }
        let part = try await body.next()
        self.body = body
        guard let part else { throw EtcdClient.Unready(reason: "the member ended the watch") }
        pending.append(contentsOf: part.readableBytesView)
        guard pending.count <= Self.messageBytesMax else {
            throw DatabaseError(.unavailable, "a message of a watch has more than \(Self.messageBytesMax) bytes")
        }
        while let end = pending.firstIndex(of: UInt8(ascii: "\n")) {
            let line = pending[..<end]
            events += try accept(line)
            pending = Data(pending[(end + 1)...])
        }
    }

    private func begin() async throws -> HTTPClientResponse.Body.AsyncIterator {
        pending = Data()
        let range = names.range(under: prefix)
        let create = EtcdWatchRequest.Create(
            key: range.first,
            rangeEnd: range.end,
            startRevision: EtcdInteger(revision + 1)
        )
        return try await client.stream("/v3/watch", EtcdWatchRequest(createRequest: create)).makeAsyncIterator()
    }

    private func accept(_ line: Data) throws -> [WatchEvent] {
        let message: EtcdWatchMessage
        do { message = try JSONDecoder().decode(EtcdWatchMessage.self, from: line) } catch {
            throw DatabaseError(.unavailable, "a message of a watch is not etcd's: \(error); run etcd 3.4 or newer")
        }
        guard let result = message.result else {
            throw EtcdClient.Unready(reason: message.error?.message ?? "the watch ended")
        }
        if let oldest = result.compactRevision?.value, oldest > 0 {
            throw DatabaseError.compacted(revision, oldest: oldest)
        }
        if result.canceled == true {
            throw EtcdClient.Unready(reason: result.cancelReason ?? "the watch was cancelled")
        }
        let found = try (result.events ?? []).map { event in
            WatchEvent(
                key: try names.key(event.kv.key),
                value: event.type == "DELETE" ? nil : [UInt8](event.kv.value ?? Data()),
                revision: event.kv.modifyRevision?.value ?? 0
            )
        }
        if let last = found.last { revision = last.revision }
        return found
    }
}
