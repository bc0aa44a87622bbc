import ClusterConfiguration
import ConfigurationReplication
import Environment
import Identity
import ReplicatedDatabase
import Testing

private let svm = ObjectUUID(high: 2, low: 1)
private let operation = ObjectUUID(high: 9, low: 1)
private let node = ObjectUUID(high: 3, low: 1)

private func store(_ database: InMemoryDatabase, aggregate: UInt64) async throws -> ConfigurationStore {
    let store = ConfigurationStore(database)
    _ = try await store.change(as: .system) { draft throws(ManagementError) in
        try draft.putNode(
            NodeRecord(
                uuid: node,
                name: "node",
                management: NetworkEndpoint(address: "127.0.0.1", port: 1),
                replication: NetworkEndpoint(address: "127.0.0.1", port: 2),
                replicationSecret: "secret"
            )
        )
        try draft.putAggregate(
            AggregateRecord(
                uuid: ObjectUUID(high: 1, low: aggregate),
                name: "aggr",
                node: node,
                directory: "/aggr",
                capacityBytes: 1 << 40
            )
        )
    }
    return store
}

private func volume(_ number: UInt64, _ name: String, policy: String = "default") -> VolumeRecord {
    VolumeRecord(
        uuid: ObjectUUID(high: 4, low: number),
        name: name,
        msid: VolumeMSID(rawValue: number),
        svm: svm,
        aggregate: ObjectUUID(high: 1, low: 1),
        sizeBytes: 1 << 30,
        exportPolicy: policy
    )
}

private func policy(_ number: UInt64, _ name: String, rules: [ExportRule] = []) -> ExportPolicyRecord {
    ExportPolicyRecord(identifier: number, name: name, svm: svm, rules: rules)
}

/// A source with an SVM, and a destination that has nothing of it.
private struct Clusters {
    let sourceDatabase: InMemoryDatabase
    let source: ConfigurationStore
    let destination: ConfigurationStore
    let reader: ConfigurationFeedReader

    init(historyRevisionsMax: Int64 = 10_000) async throws {
        sourceDatabase = InMemoryDatabase(historyRevisionsMax: historyRevisionsMax)
        source = try await store(sourceDatabase, aggregate: 1)
        destination = try await store(InMemoryDatabase(), aggregate: 2)
        reader = ConfigurationFeedReader(sourceDatabase, waiting: .system)
        try await change { draft throws(ManagementError) in
            try draft.putSVM(
                SVMRecord(uuid: svm, name: "tenant", state: .running, handleKey: HandleKey(first: 1, second: 2)),
                defaultPolicyIdentifier: 7
            )
            try draft.putVolume(volume(1, "one"))
            try draft.putLIF(
                LIFRecord(
                    uuid: ObjectUUID(high: 5, low: 1),
                    name: "lif",
                    svm: svm,
                    address: "127.0.0.9",
                    port: 2049,
                    node: node
                )
            )
        }
    }

    @discardableResult
    func change(_ body: (inout ConfigurationDraft) throws(ManagementError) -> Void) async throws -> Int64 {
        try await source.change(as: .user, body).snapshot.revision
    }

    func ask(after revision: Int64?, wait: UInt64 = 0) async throws -> ConfigurationAnswer {
        try await reader.answer(of: svm, after: revision, waitMilliseconds: wait)
    }

    func apply(_ updates: [ConfigurationUpdate]) async throws -> ConfigurationSnapshot {
        let places = ConfigurationPlaces(
            volumes: (1...9).reduce(into: [:]) { $0[ObjectUUID(high: 4, low: $1)] = ObjectUUID(high: 1, low: 2) },
            interfaces: [ObjectUUID(high: 5, low: 1): ConfigurationPlaces.Interface(node: node, port: nil)]
        )
        let context = ConfigurationContext(svm: svm, operation: operation, places: places)
        return try await destination.change(as: .operation(operation)) { draft throws(ManagementError) in
            try draft.requireReplica(context)
            try draft.replicate(updates, context)
        }.snapshot
    }
}

@Suite("Configuration feed") struct ConfigurationFeedTests {
    @Test func withoutAPositionAllIsTold() async throws {
        let clusters = try await Clusters()
        guard case .baseline(let objects, let revision) = try await clusters.ask(after: nil) else {
            Issue.record("no baseline")
            return
        }
        #expect(Set(objects.map(\.kind)) == ["svm", "export-policy", "volume", "lif"])
        #expect(objects.allSatisfy { $0.record != nil && $0.revision == revision })
        #expect(try await clusters.ask(after: revision) == .updates([], through: revision))
    }

    @Test func changesAreToldInOrderWithTheirRevisions() async throws {
        let clusters = try await Clusters()
        let start = try await clusters.ask(after: nil).revision
        let made = try await clusters.change { draft throws(ManagementError) in
            try draft.putExportPolicy(policy(8, "new"))
            try draft.putVolume(volume(2, "two", policy: "new"))
        }
        let gone = try await clusters.change { draft throws(ManagementError) in
            try draft.removeVolume(volume(1, "").uuid)
        }
        let answer = try await clusters.ask(after: start)
        #expect(answer.revision == gone)
        #expect(answer.updates.map(\.revision) == [made, made, gone])
        #expect(answer.updates.map(\.kind) == ["export-policy", "volume", "volume"])
        #expect(answer.updates.map { $0.record == nil } == [false, false, true])
        #expect(try await clusters.ask(after: made).updates.map(\.revision) == [gone])
    }

    @Test func whatConcernsAnotherSVMIsNotTold() async throws {
        let clusters = try await Clusters()
        let start = try await clusters.ask(after: nil).revision
        let other = ObjectUUID(high: 2, low: 2)
        let revision = try await clusters.change { draft throws(ManagementError) in
            try draft.putSVM(
                SVMRecord(uuid: other, name: "other", state: .running, handleKey: HandleKey(first: 1, second: 2))
            )
        }
        #expect(try await clusters.ask(after: start) == .updates([], through: revision))
    }

    @Test func whoWaitsIsAnsweredByTheChange() async throws {
        let clusters = try await Clusters()
        let start = try await clusters.ask(after: nil).revision
        async let answer = clusters.ask(after: start, wait: 60_000)
        try await Task.sleep(for: .milliseconds(50))
        let revision = try await clusters.change { draft throws(ManagementError) in
            try draft.putExportPolicy(policy(8, "new"))
        }
        #expect(try await answer.updates.map(\.revision) == [revision])
        #expect(try await clusters.ask(after: revision, wait: 20) == .updates([], through: revision))
    }

    @Test func aHistoryThatIsForgottenIsReplacedByABaseline() async throws {
        let clusters = try await Clusters(historyRevisionsMax: 2)
        let start = try await clusters.ask(after: nil).revision
        for number in 10..<20 {
            try await clusters.change { draft throws(ManagementError) in
                try draft.putExportPolicy(policy(UInt64(number), "p\(number)"))
            }
        }
        guard case .baseline(let objects, _) = try await clusters.ask(after: start) else {
            Issue.record("no baseline")
            return
        }
        #expect(objects.count { $0.kind == "export-policy" } == 11)
    }

    @Test func aDatabaseThatWasSetBackBeginsAnew() async throws {
        let clusters = try await Clusters()
        guard case .baseline = try await clusters.ask(after: 1_000_000) else {
            Issue.record("no baseline")
            return
        }
    }

    @Test func aRevisionWithoutItsGuardIsNotTold() {
        var feed = ConfigurationFeed(of: svm, after: 5)
        feed.take(WatchEvent(key: ConfigurationKeys.exportPolicy(7, of: svm), value: [1], revision: 6))
        #expect(feed.updates.isEmpty && feed.through == 5)
        feed.take(WatchEvent(key: ConfigurationKeys.writeGuard, value: [], revision: 6))
        #expect(feed.updates.count == 1 && feed.through == 6)
        feed.take(WatchEvent(key: ConfigurationKeys.exportPolicy(7, of: svm), value: [1], revision: 6))
        #expect(feed.updates.count == 1)
    }
}

@Suite("Configuration position") struct ConfigurationPositionTests {
    private func update(_ revision: Int64) -> ConfigurationUpdate {
        ConfigurationUpdate(kind: "lif", identifier: "\(revision)", revision: revision, record: nil)
    }

    private func at(_ revision: Int64) -> ConfigurationPosition {
        ConfigurationPosition(operation: operation, revision: revision)
    }

    @Test func whatIsAppliedIsNotAppliedAgain() {
        let answer = ConfigurationAnswer.updates([update(4), update(6), update(8)], through: 9)
        #expect(ConfigurationPosition.pending(answer, asked: at(3), current: at(6)) == [update(8)])
        #expect(ConfigurationPosition.pending(answer, asked: at(3), current: at(8)) == nil)
        #expect(ConfigurationPosition.pending(answer, asked: at(3), current: at(20)) == nil)
        #expect(ConfigurationPosition.pending(answer, asked: nil, current: nil) == nil)
    }

    /// Made and deleted between two looks: no place is looked for, and none has to be found.
    @Test func whatWasThereForAMomentIsLeftOut() throws {
        func update(_ kind: String, _ identifier: String, _ revision: Int64, _ record: String?) -> ConfigurationUpdate {
            ConfigurationUpdate(kind: kind, identifier: identifier, revision: revision, record: record)
        }
        let updates = [
            update("lif", "passing", 1, "{}"), update("lif", "lasting", 2, "{}"), update("export-policy", "7", 3, "{}"),
            update("lif", "passing", 4, nil), update("export-policy", "7", 5, nil), update("lif", "passing", 6, "{}"),
        ]
        // What is made again after it is one that stays; and a policy may have been named meanwhile.
        #expect(try ConfigurationUpdate.withoutPassing(updates).map(\.revision) == [2, 3, 4, 5, 6])
    }

    @Test func aBaselineThatWasOvertakenIsNothing() {
        let answer = ConfigurationAnswer.baseline([update(5)], revision: 5)
        #expect(ConfigurationPosition.pending(answer, asked: nil, current: nil) == [update(5)])
        #expect(ConfigurationPosition.pending(answer, asked: at(4), current: at(7)) == nil)
        #expect(ConfigurationPosition.pending(answer, asked: at(4), current: at(4)) == [update(5)])
        // The source's database was set back behind what is applied.
        #expect(ConfigurationPosition.pending(answer, asked: at(9), current: at(9)) == [update(5)])
    }
}

@Suite("Configuration handlers") struct ConfigurationHandlerTests {
    @Test func eachKindBecomesTheDestinationsOwn() async throws {
        let clusters = try await Clusters()
        let there = try await clusters.apply(clusters.ask(after: nil).updates)
        let made = try #require(there.svm(svm))
        #expect(made.state == .stopped && made.migrateRole == .destination && made.configurationLock == operation)
        #expect(made.handleKey == HandleKey(first: 1, second: 2))
        #expect(there.volumes.map(\.aggregate) == [ObjectUUID(high: 1, low: 2)])
        #expect(there.volumes.map(\.isReplica) == [true])
        #expect(there.lifs.map(\.homeNode) == [node])
        #expect(there.exportPolicies == [policy(7, "default")])
    }

    @Test func appliedTwiceIsAppliedOnce() async throws {
        let clusters = try await Clusters()
        let baseline = try await clusters.ask(after: nil).updates
        let first = try await clusters.apply(baseline)
        // Nothing is written where nothing differs, not even the guard.
        #expect(try await clusters.apply(baseline) == first)
    }

    @Test func aChangedObjectStaysInItsPlace() async throws {
        let clusters = try await Clusters()
        let start = try await clusters.ask(after: nil)
        let before = try await clusters.apply(start.updates)
        // Another node than on the source: a move, for those who remember the SVM.
        #expect(before.lifs[0].moveCount == 1)
        try await clusters.change { draft throws(ManagementError) in
            var record = volume(1, "renamed")
            record.junctionPath = "/renamed"
            try draft.putVolume(record)
            var lif = draft.snapshot.lifs[0]
            lif.address = "127.0.0.10"
            lif.moveCount = 3
            try draft.putLIF(lif)
        }
        let after = try await clusters.apply(clusters.ask(after: start.revision).updates)
        #expect(after.volumes.map(\.name) == ["renamed"] && after.volumes[0].aggregate == before.volumes[0].aggregate)
        #expect(after.lifs.map(\.address) == ["127.0.0.10"] && after.lifs[0].moveCount == 1)
    }

    @Test func aVolumeThatIsBeingDeletedGoes() async throws {
        let clusters = try await Clusters()
        let start = try await clusters.ask(after: nil)
        _ = try await clusters.apply(start.updates)
        try await clusters.change { draft throws(ManagementError) in try draft.deleteVolume(volume(1, "").uuid) }
        let after = try await clusters.apply(clusters.ask(after: start.revision).updates)
        #expect(after.volumes.map(\.state) == [.deleting])
    }

    @Test func objectsThatNeedEachOtherFindTheirOrder() async throws {
        let clusters = try await Clusters()
        let start = try await clusters.ask(after: nil)
        _ = try await clusters.apply(start.updates)
        // Names go from one volume to the next, told together.
        try await clusters.change { draft throws(ManagementError) in try draft.putVolume(volume(2, "two")) }
        _ = try await clusters.apply(clusters.ask(after: start.revision).updates)
        try await clusters.change { draft throws(ManagementError) in
            try draft.putVolume(volume(2, "three"))
            try draft.putVolume(volume(1, "two"))
        }
        let baseline = try await clusters.ask(after: nil).updates
        for updates in [baseline, baseline.reversed()] {
            #expect(try await clusters.apply(updates).volumes.map(\.name).sorted() == ["three", "two"])
        }
    }

    @Test func absentObjectsGoWithABaseline() async throws {
        let clusters = try await Clusters()
        let context = ConfigurationContext(svm: svm, operation: operation)
        _ = try await clusters.apply(clusters.ask(after: nil).updates)
        try await clusters.change { draft throws(ManagementError) in
            try draft.deleteLIF(ObjectUUID(high: 5, low: 1))
            try draft.removeVolume(volume(1, "").uuid)
        }
        let baseline = try await clusters.ask(after: nil).updates
        let there = try await clusters.destination.change(as: .operation(operation)) { draft throws(ManagementError) in
            try draft.removeAbsent(from: baseline, ofKinds: ConfigurationKinds.names, context)
        }.snapshot
        #expect(there.lifs.isEmpty && there.volumes.map(\.state) == [.deleting] && there.exportPolicies.count == 1)
    }

    @Test func whatIsNotKnownIsRefusedByName() async throws {
        let quota = ConfigurationUpdate(kind: "quota", identifier: "1", revision: 3, record: #"{"formatVersion":1}"#)
        let newer = ConfigurationUpdate(kind: "volume", identifier: "1", revision: 3, record: #"{"formatVersion":2}"#)
        for (update, word) in [(quota, "'quota'"), (newer, "format 2")] {
            let error = #expect(throws: ManagementError.self) { try ConfigurationKinds.requireKnown([update]) }
            #expect(
                error?.kind == .unsupported && error?.message.contains(word) == true && error?.remedy.isEmpty == false
            )
        }
        #expect(try quota.feature() == "quota")
        #expect(try newer.feature() == "volume format 2")
        let key = ConfigurationKeys.svm(svm) + "/quota/a/b"
        let read = ConfigurationUpdate(key: key, value: [], revision: 1, of: svm)
        #expect(read?.kind == "quota" && read?.identifier == "a/b")
    }

    @Test func anSVMOfAnotherIsLeftAlone() async throws {
        let clusters = try await Clusters()
        let baseline = try await clusters.ask(after: nil).updates
        _ = try await clusters.destination.change(as: .user) { draft throws(ManagementError) in
            try draft.putSVM(
                SVMRecord(uuid: svm, name: "tenant", state: .running, handleKey: HandleKey(first: 1, second: 2))
            )
        }
        let error = await #expect(throws: ManagementError.self) { try await clusters.apply(baseline) }
        #expect(error?.code == "svm_not_replica")
    }

    @Test func anSVMThatIsGoneIsToldSo() async throws {
        let clusters = try await Clusters()
        _ = try await clusters.apply(clusters.ask(after: nil).updates)
        let gone = ConfigurationUpdate(kind: "svm", identifier: svm.description, revision: 99, record: nil)
        let error = await #expect(throws: ManagementError.self) { try await clusters.apply([gone]) }
        #expect(error?.code == SVMHandler.goneCode)
    }
}
