import ClusterConfiguration
import Identity
import ReplicatedDatabase
import TestKit
import Testing

@Suite("Configuration store")
struct ConfigurationStoreTests {
    private let store = ConfigurationStore(InMemoryDatabase())
    private let aggregate = ObjectUUID(high: 1, low: 1)
    private let svm = ObjectUUID(high: 2, low: 1)

    private func populate() async throws {
        _ = try await store.change(as: .user) { draft throws(ManagementError) in
            try draft.putAggregate(
                AggregateRecord(
                    uuid: aggregate,
                    name: "aggr1",
                    node: ObjectUUID(high: 3, low: 1),
                    directory: "/aggr",
                    capacityBytes: 1 << 30
                )
            )
            try draft.putSVM(
                SVMRecord(uuid: svm, name: "tenant", state: .running, handleKey: HandleKey(first: 1, second: .max)),
                defaultPolicyIdentifier: 7
            )
        }
    }

    private func volume(_ number: UInt64, edit: (inout VolumeRecord) -> Void = { _ in }) -> VolumeRecord {
        var record = VolumeRecord(
            uuid: ObjectUUID(high: 4, low: number),
            name: "vol\(number)",
            msid: VolumeMSID(rawValue: number),
            svm: svm,
            aggregate: aggregate,
            sizeBytes: 64 << 20
        )
        edit(&record)
        return record
    }

    private func code(_ body: (inout ConfigurationDraft) throws(ManagementError) -> Void) async -> String? {
        await store.refusal(body)
    }

    @Test func recordsComeBackAsTheyWere() async throws {
        try await populate()
        let record = volume(1) { $0.junctionPath = "/data" }
        _ = try await store.change(as: .user) { draft throws(ManagementError) in try draft.putVolume(record) }
        let snapshot = try await store.snapshot()
        #expect(snapshot.volumes == [record])
        #expect(snapshot.svms.first?.handleKey == HandleKey(first: 1, second: .max))
        #expect(snapshot.exportPolicies.map(\.name) == ["default"])
        let keys = try await store.database.range(prefix: ConfigurationKeys.svm(svm)).records.map(\.key)
        #expect(keys.count == 3)
    }

    @Test func badVolumesAreRefused() async throws {
        try await populate()
        let first = volume(1) { $0.junctionPath = "/data" }
        #expect(await code { draft throws(ManagementError) in try draft.putVolume(first) } == nil)
        let cases: [(String, VolumeRecord)] = [
            ("svm_not_found", volume(2) { $0.svm = ObjectUUID(high: 9, low: 9) }),
            ("aggregate_not_found", volume(2) { $0.aggregate = ObjectUUID(high: 9, low: 9) }),
            ("volume_too_large", volume(2) { $0.sizeBytes = 17 << 30 }),
            (
                "volume_too_large",
                volume(2) {
                    $0.sizeBytes = 2 << 30; $0.guarantee = .volume
                }
            ),
            ("volume_too_small", volume(2) { $0.sizeBytes = 4096 }),
            ("volume_exists", volume(2) { $0.name = "vol1" }),
            ("msid_exists", volume(2) { $0.msid = VolumeMSID(rawValue: 1) }),
            ("name_invalid", volume(2) { $0.name = "1st/volume" }),
            ("junction_path_in_use", volume(2) { $0.junctionPath = "/data" }),
            ("junction_path_invalid", volume(2) { $0.junctionPath = "data" }),
            ("junction_path_invalid", volume(2) { $0.junctionPath = "/data/../x" }),
            ("junction_path_invalid", volume(2) { $0.junctionPath = "/data/" }),
            ("junction_path_invalid", volume(2) { $0.junctionPath = "/.snapshot" }),
            ("export_policy_not_found", volume(2) { $0.exportPolicy = "nobody" }),
            ("snapshot_policy_unsupported", volume(2) { $0.snapshotPolicy = "hourly" }),
        ]
        for (expected, record) in cases {
            #expect(await code { draft throws(ManagementError) in try draft.putVolume(record) } == expected)
        }
        #expect(try await store.snapshot().volumes.count == 1)
    }

    @Test func badLIFsAndRulesAreRefused() async throws {
        try await populate()
        func lif(_ number: UInt64, _ address: String, _ port: Int = 2049) -> LIFRecord {
            LIFRecord(
                uuid: ObjectUUID(high: 5, low: number),
                name: "lif\(number)",
                svm: svm,
                address: address,
                port: port
            )
        }
        #expect(await code { draft throws(ManagementError) in try draft.putLIF(lif(1, "127.0.1.10")) } == nil)
        let cases: [(String, LIFRecord)] = [
            ("lif_address_in_use", lif(2, "127.0.1.10", 2050)), ("lif_address_invalid", lif(2, "127.0.1")),
            ("lif_address_invalid", lif(2, "127.0.1.010")), ("lif_netmask_missing", lif(2, "10.0.0.1")),
            ("port_invalid", lif(2, "127.0.1.11", 70_000)), ("port_invalid", lif(2, "127.0.1.11", 0)),
        ]
        for (expected, record) in cases {
            #expect(await code { draft throws(ManagementError) in try draft.putLIF(record) } == expected)
        }
        for client in ["10.0.0.1/33", "10.0.0.1/8", "host", "", "10.0.0.0/08"] {
            let policy = ExportPolicyRecord(
                identifier: 7,
                name: "default",
                svm: svm,
                rules: [ExportRule(index: 1, clients: [client])]
            )
            #expect(
                await code { draft throws(ManagementError) in try draft.putExportPolicy(policy) }
                    == "client_match_invalid"
            )
        }
    }

    @Test func aLockedSVMRefusesEverybodyButItsOperation() async throws {
        try await populate()
        let operation = ObjectUUID(high: 6, low: 1)
        _ = try await store.change(as: .operation(operation)) { draft throws(ManagementError) in
            var record = try draft.changeableSVM(svm)
            record.configurationLock = operation
            try draft.putSVM(record)
        }
        #expect(await code { draft throws(ManagementError) in try draft.putVolume(volume(1)) } == "svm_locked")
        #expect(await code { draft throws(ManagementError) in try draft.deleteSVM(svm) } == "svm_locked")
        _ = try await store.change(as: .operation(operation)) { draft throws(ManagementError) in
            try draft.putVolume(volume(1))
        }
        #expect(try await store.snapshot().volumes.count == 1)
    }

    @Test func whatIsInUseIsNotDeleted() async throws {
        try await populate()
        #expect(await code { draft throws(ManagementError) in try draft.putVolume(volume(1)) } == nil)
        #expect(await code { draft throws(ManagementError) in try draft.deleteSVM(svm) } == "svm_not_empty")
        #expect(
            await code { draft throws(ManagementError) in try draft.deleteExportPolicy(7) } == "export_policy_in_use"
        )
        #expect(
            await code { draft throws(ManagementError) in try draft.deleteSVM(svm, withContents: true) } == nil
        )
        #expect(try await store.snapshot().volumes.map(\.state) == [.deleting])
        #expect(await code { draft throws(ManagementError) in try draft.putVolume(volume(1)) } == "volume_deleting")
        _ = try await store.change(as: .system) { draft throws(ManagementError) in try draft.removeSVM(svm) }
        #expect(try await store.database.range(prefix: ConfigurationKeys.svms).records.isEmpty)
    }

    @Test func concurrentChangesAllHappen() async throws {
        try await populate()
        let store = store
        let records = (1...12).map { volume(UInt64($0)) }
        await withTaskGroup(of: Void.self) { group in
            for record in records {
                group.addTask {
                    _ = try? await store.change(as: .user) { draft throws(ManagementError) in
                        try draft.putVolume(record)
                    }
                }
            }
        }
        #expect(try await store.snapshot().volumes.count == 12)
    }

    @Test func newerFormatsAndUnknownKindsAreNamed() async throws {
        let database = store.database
        _ = try await database.transact(when: [], [.put(key: "configuration/flux/1", value: [0x7b, 0x7d])])
        await #expect { try await store.snapshot() } throws: { ($0 as? ManagementError)?.code == "record_unknown" }
        _ = try await database.transact(when: [], [.deletePrefix("configuration/")])
        let record = #"{"formatVersion":2,"name":"c","uuid":"00000000-0000-0000-0000-000000000001"}"#
        _ = try await database.transact(when: [], [.put(key: "configuration/cluster", value: [UInt8](record.utf8))])
        await #expect { try await store.snapshot() } throws: { ($0 as? ManagementError)?.code == "record_too_new" }
    }

    /// A change beside a record that changes meanwhile is tried again, with what that says now.
    @Test func aChangeBesideAnotherRecordSeesItAsItIsWhenItHappens() async throws {
        let (racing, key) = (InterruptedDatabase(), "migrate/some")
        let store = ConfigurationStore(racing)
        let write = { @Sendable (value: UInt8) in
            _ = try await racing.database.transact(when: [], [.put(key: key, value: [value])])
        }
        try await write(1)
        racing.interrupt { try await write(2) }
        var seen: [[UInt8]] = []
        _ = try await store.change(as: .system, beside: key) { draft, record throws(ManagementError) in
            seen.append(record?.value ?? [])
            draft.also(.put(key: "other", value: record?.value ?? []))
        }
        #expect(seen == [[1], [2]])
        #expect(try await racing.database.get("other")?.value == [2])
        // One that is not there must still not be there.
        racing.interrupt { _ = try await racing.database.transact(when: [], [.put(key: "late", value: [3])]) }
        _ = try await store.change(as: .system, beside: "late") { draft, record throws(ManagementError) in
            draft.also(.put(key: "other", value: record?.value ?? []))
        }
        #expect(try await racing.database.get("other")?.value == [3])
    }
}
