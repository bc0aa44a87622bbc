package import ClusterConfiguration
package import Identity
package import ReplicatedDatabase

/// Samples in the replicated database: each node writes its own, and every node reads those of all.
package struct PerformanceStore: Sendable {
    private let database: any ReplicatedDatabase

    /// A store over a database.
    package init(_ database: any ReplicatedDatabase) { self.database = database }

    /// Writes an interval of a node, in one transaction. The same slot again is written over.
    package func write(
        aggregates: IntervalRecord,
        volumes: IntervalRecord,
        of node: ObjectUUID,
        slot: Int
    ) async throws(ManagementError) {
        let changes: [DatabaseChange] = [
            .put(
                key: PerformanceKeys.aggregates(of: node, slot: slot),
                value: try ConfigurationCoding.encode(aggregates)
            ),
            .put(key: PerformanceKeys.volumes(of: node, slot: slot), value: try ConfigurationCoding.encode(volumes)),
        ]
        do { _ = try await database.transact(when: [], changes) } catch { throw ManagementError(database: error) }
    }

    /// The history of aggregates of every node that has one, small whatever the number of volumes.
    package func aggregates() async throws(ManagementError) -> [ObjectUUID: PerformanceHistory] {
        let records = try await range(PerformanceKeys.aggregates)
        var entries: [ObjectUUID: [PerformanceHistory.Entry]] = [:]
        for record in records {
            let parts = record.key.dropFirst(PerformanceKeys.aggregates.count).split(separator: "/").map(String.init)
            guard parts.count == 2, let node = ObjectUUID(parts[0]), let slot = Int(parts[1]) else { continue }
            entries[node, default: []].append(.init(slot: slot, record: try Self.read(record)))
        }
        return entries.mapValues { PerformanceHistory($0) }
    }

    /// The history of the volumes of one node.
    package func volumes(of node: ObjectUUID) async throws(ManagementError) -> PerformanceHistory {
        let prefix = PerformanceKeys.volumes(of: node)
        var entries: [PerformanceHistory.Entry] = []
        for record in try await range(prefix) {
            guard let slot = Int(record.key.dropFirst(prefix.count)) else { continue }
            entries.append(.init(slot: slot, record: try Self.read(record)))
        }
        return PerformanceHistory(entries)
    }

    /// What a node measured of its volumes in some slots; those that are not there are left out.
    package func volumes(of node: ObjectUUID, slots: [Int]) async throws(ManagementError) -> [IntervalRecord] {
        var records: [IntervalRecord] = []
        for slot in slots {
            let found = try await get(PerformanceKeys.volumes(of: node, slot: slot))
            if let found { records.append(try Self.read(found)) }
        }
        return records
    }

    /// Forgets what a node has measured, when it leaves the cluster.
    package func remove(_ node: ObjectUUID) async throws(ManagementError) {
        do {
            _ = try await database.transact(
                when: [],
                [
                    .deletePrefix(PerformanceKeys.aggregates(of: node)),
                    .deletePrefix(PerformanceKeys.volumes(of: node)),
                ]
            )
        } catch { throw ManagementError(database: error) }
    }

    private func get(_ key: String) async throws(ManagementError) -> DatabaseRecord? {
        do { return try await database.get(key) } catch { throw ManagementError(database: error) }
    }

    private func range(_ prefix: String) async throws(ManagementError) -> [DatabaseRecord] {
        do { return try await database.range(prefix: prefix).records } catch {
            throw ManagementError(database: error)
        }
    }

    private static func read(_ record: DatabaseRecord) throws(ManagementError) -> IntervalRecord {
        try ConfigurationCoding.decode(IntervalRecord.self, from: record.value, key: record.key)
    }
}
