package import Environment
import Foundation
package import ReplicatedDatabase

/// A `ReplicatedDatabase` in etcd, spoken to over its HTTP/JSON gateway: for clusters whose database must survive the
/// loss of a node.
///
/// Revisions are etcd's own. etcd should serve nobody else: other writers use revisions up, and history with them. It
/// compacts history itself (`--auto-compaction-mode revision`).
package final class EtcdDatabase: ReplicatedDatabase {
    /// Records that one call reads.
    private static let pageRecords: Int64 = 1000

    let client: EtcdClient
    private let names: KeyNames

    /// Makes a client; nothing is asked of etcd yet.
    ///
    /// - Throws: `.unavailable` when a file of the TLS connection cannot be read.
    package init(
        _ configuration: EtcdConfiguration,
        environment: Environment,
        waiting: Waiting
    ) throws(DatabaseError) {
        client = try EtcdClient(configuration, environment, waiting)
        names = KeyNames(prefix: configuration.prefix)
    }

    /// Ends every connection; watches end with an error.
    package func close() async { await client.shutDown() }

    /// The record at a key.
    package func get(_ key: String) async throws(DatabaseError) -> DatabaseRecord? {
        let answer: EtcdRangeResponse = try await client.call(
            "/v3/kv/range",
            EtcdRangeRequest(key: names.range(of: key).first),
            .allowed
        )
        return try answer.kvs?.first.map(names.record)
    }

    /// Every record under a prefix, in key order, all of one revision.
    package func range(prefix: String) async throws(DatabaseError) -> (records: [DatabaseRecord], revision: Int64) {
        while true {
            do throws(DatabaseError) { return try await pages(names.range(under: prefix)) } catch {
                // The revision of the first page went while the others were read: again, with a newer one.
                if error.code != .compacted { throw error }
            }
        }
    }

    private func pages(
        _ range: EtcdKeyRange
    ) async throws(DatabaseError) -> (records: [DatabaseRecord], revision: Int64) {
        var records: [DatabaseRecord] = []
        var request = EtcdRangeRequest(key: range.first, rangeEnd: range.end, limit: EtcdInteger(Self.pageRecords))
        while true {
            let page: EtcdRangeResponse = try await client.call("/v3/kv/range", request, .allowed)
            let found = page.kvs ?? []
            records += try found.map(names.record)
            let newest = try Self.revision(page.header)
            let revision = request.revision?.value ?? newest
            guard page.more == true, let last = found.last else { return (records, revision) }
            request.key = last.key + [0]
            request.revision = EtcdInteger(revision)
        }
    }

    /// Makes all changes or none. An error leaves open whether they happened.
    package func transact(
        when conditions: [DatabaseCondition],
        _ changes: [DatabaseChange]
    ) async throws(DatabaseError) -> TransactionOutcome {
        try await transact(when: conditions, changes, with: nil)
    }

    /// The same; what is put lives as long as the lease.
    package func transact(
        when conditions: [DatabaseCondition],
        _ changes: [DatabaseChange],
        with lease: DatabaseLease?
    ) async throws(DatabaseError) -> TransactionOutcome {
        let answer: EtcdTransactionResponse = try await client.call(
            "/v3/kv/txn",
            EtcdTransactionRequest(
                compare: conditions.map(names.compare),
                success: EffectiveChange.list(changes).flatMap { names.operations($0, lease) }
            ),
            .forbidden
        )
        let revision = try Self.revision(answer.header)
        return answer.succeeded == true ? .committed(revision: revision) : .conflicted(revision: revision)
    }

    /// Every change under a prefix after a revision; goes on over another member when one fails.
    package func watch(prefix: String, after revision: Int64) -> AsyncThrowingStream<WatchEvent, any Error> {
        let watch = EtcdWatch(client: client, names: names, prefix: prefix, after: revision)
        return AsyncThrowingStream { try await watch.next() }
    }

    private static func revision(_ header: EtcdHeader) throws(DatabaseError) -> Int64 {
        guard let revision = header.revision?.value else {
            throw DatabaseError(.unavailable, "an answer of etcd has no revision; run etcd 3.4 or newer")
        }
        return revision
    }
}

/// Keys of the cluster and what they are called in etcd.
struct KeyNames: Sendable {
    /// What every key begins with.
    let prefix: String

    func range(of key: String) -> EtcdKeyRange { EtcdKeyRange(key: prefix + key) }
    func range(under part: String) -> EtcdKeyRange { EtcdKeyRange(prefix: prefix + part) }

    func key(_ name: Data) throws(DatabaseError) -> String {
        guard let text = String(data: name, encoding: .utf8), text.utf8.starts(with: prefix.utf8) else {
            throw DatabaseError(
                .damaged,
                "etcd holds a key under '\(prefix)' that is not Godwit's; give the cluster a prefix of its own"
            )
        }
        return String(decoding: text.utf8.dropFirst(prefix.utf8.count), as: UTF8.self)
    }

    func record(_ found: EtcdKeyValue) throws(DatabaseError) -> DatabaseRecord {
        DatabaseRecord(
            key: try key(found.key),
            value: [UInt8](found.value ?? Data()),
            createRevision: found.createRevision?.value ?? 0,
            modifyRevision: found.modifyRevision?.value ?? 0
        )
    }

    func compare(_ condition: DatabaseCondition) -> EtcdCompare {
        switch condition {
        case .modifyRevision(let key, let revision):
            EtcdCompare(
                key: range(of: key).first,
                target: .modifyRevision,
                result: .equal,
                modifyRevision: EtcdInteger(revision)
            )
        case .absent(let key):
            EtcdCompare(key: range(of: key).first, target: .version, result: .equal, version: EtcdInteger(0))
        case .present(let key):
            EtcdCompare(key: range(of: key).first, target: .version, result: .greater, version: EtcdInteger(0))
        }
    }

    func operations(_ change: EffectiveChange, _ lease: DatabaseLease?) -> [EtcdOperation] {
        switch change {
        case .put(let key, let value):
            [
                EtcdOperation(
                    requestPut: EtcdOperation.Put(
                        key: range(of: key).first,
                        value: Data(value),
                        lease: lease.map { EtcdInteger($0.identifier) }
                    )
                )
            ]
        case .delete(let key): [deletion(range(of: key))]
        case .deletePrefix(let prefix, let sparing):
            // etcd refuses a put within a range that the same transaction deletes: the range goes around it.
            gaps(range(under: prefix), around: sparing.map { range(of: $0).first }).map(deletion)
        }
    }

    private func deletion(_ range: EtcdKeyRange) -> EtcdOperation {
        EtcdOperation(requestDeleteRange: EtcdOperation.Delete(key: range.first, rangeEnd: range.end))
    }

    private func gaps(_ range: EtcdKeyRange, around keys: [Data]) -> [EtcdKeyRange] {
        var gaps: [EtcdKeyRange] = []
        var start = range.first
        for key in keys.sorted(by: { $0.lexicographicallyPrecedes($1) }) {
            if start.lexicographicallyPrecedes(key) { gaps.append(EtcdKeyRange(first: start, end: key)) }
            start = key + [0]
        }
        return gaps + [EtcdKeyRange(first: start, end: range.end)]
    }
}
