import ClusterConfiguration
import Identity
import ReplicatedDatabase
import Testing

@Suite("Nodes that stand in for others")
struct FailoverTests {
    private let database = InMemoryDatabase()
    private var store: ConfigurationStore { ConfigurationStore(database) }
    /// a and b are partners of each other, c is nobody's.
    fileprivate static let nodes = ThreeNodes.make(partners: ["a": ["b"], "b": ["a"]])
    private static let (a, b, c) = (nodes[0], nodes[1], nodes[2])
    private static let svm = ThreeNodes.svm

    /// Each node has an aggregate and a LIF.
    private func populate() async throws {
        _ = try await store.change(as: .user) { draft throws(ManagementError) in
            try ThreeNodes.put(Self.nodes, in: &draft)
            for (index, node) in Self.nodes.enumerated() {
                try draft.putAggregate(
                    AggregateRecord(
                        uuid: ObjectUUID(high: 1, low: UInt64(index + 1)),
                        name: "aggr-\(node.name)",
                        node: node.uuid,
                        directory: "/\(node.name)",
                        capacityBytes: 1 << 30
                    )
                )
                try draft.putLIF(
                    LIFRecord(
                        uuid: ObjectUUID(high: 5, low: UInt64(index + 1)),
                        name: "lif-\(node.name)",
                        svm: Self.svm,
                        address: "127.0.1.\(index + 1)",
                        port: 2049,
                        node: node.uuid
                    )
                )
            }
        }
        for node in Self.nodes { try await setUp(true, node) }
    }

    private func setUp(_ isUp: Bool, _ node: NodeRecord) async throws {
        let key = ConfigurationKeys.session(ofNodeNamed: node.name)
        _ = try await database.transact(when: [], [isUp ? .put(key: key, value: [1]) : .delete(key: key)])
    }

    private func plan(_ node: NodeRecord, down: [NodeRecord]) async throws -> FailoverPlan {
        FailoverPlan(for: node.uuid, down: Set(down.map(\.uuid)), in: try await store.snapshot())
    }

    private func takeOver(_ plan: FailoverPlan, as node: NodeRecord) async -> String? {
        do {
            _ = try await store.change(as: .system) { draft throws(ManagementError) in
                try draft.takeOver(plan, as: node.uuid)
            }
            return nil
        } catch {
            return error.code
        }
    }

    private func code(_ body: (inout ConfigurationDraft) throws(ManagementError) -> Int) async -> String? {
        await store.refusal(body)
    }

    private func places() async throws -> [String] {
        let snapshot = try await store.snapshot()
        return snapshot.aggregates.map { "\($0.name) \(snapshot.node($0.node)?.name ?? "") \($0.ownershipEpoch ?? 0)" }
            + snapshot.lifs.map { "\($0.name) \(snapshot.node(serving: $0)?.name ?? "")" }
    }

    @Test func oneNodeStandsInForANodeThatIsDown() async throws {
        try await populate()
        let planned = try await plan(Self.b, down: [Self.a])
        #expect(planned.aggregates.map(\.name) == ["aggr-a"])
        #expect(planned.lifs.map(\.name) == ["lif-a"])
        #expect(planned.nodes == [Self.a.uuid])
        #expect(try await plan(Self.c, down: [Self.a]).isEmpty)
        // Nobody reaches the directories of c, but its address can be served.
        let forC = try await plan(Self.a, down: [Self.c])
        #expect(forC.aggregates.isEmpty && forC.lifs.map(\.name) == ["lif-c"])
        #expect(try await plan(Self.b, down: [Self.c]).isEmpty)
    }

    @Test func nodeThatIsSeenAgainKeepsWhatItHas() async throws {
        try await populate()
        let planned = try await plan(Self.b, down: [Self.a])
        #expect(await takeOver(planned, as: Self.b) == "configuration_changed")
        #expect(try await places().prefix(1) == ["aggr-a a 0"])
        try await setUp(false, Self.a)
        #expect(await takeOver(planned, as: Self.b) == nil)
        let expected = ["aggr-a b 1", "aggr-b b 0", "aggr-c c 0", "lif-a b", "lif-b b", "lif-c c"]
        #expect(try await places() == expected)
        // Who planned the same and was slower changes nothing.
        #expect(await takeOver(planned, as: Self.c) == nil)
        #expect(try await places() == expected)
    }

    @Test func whatWasTakenOverComesBack() async throws {
        try await populate()
        try await setUp(false, Self.a)
        _ = await takeOver(try await plan(Self.b, down: [Self.a]), as: Self.b)
        let whileDown = await code { draft throws(ManagementError) in try draft.giveBack(to: Self.a) }
        #expect(whileDown == "configuration_changed")
        try await setUp(true, Self.a)
        let count = try await store.change(as: .user) { draft throws(ManagementError) in
            try draft.giveBack(to: Self.a)
        }.result
        #expect(count == 2)
        #expect(try await places() == ["aggr-a a 2", "aggr-b b 0", "aggr-c c 0", "lif-a a", "lif-b b", "lif-c c"])
        let again = try await store.change(as: .user) { draft throws(ManagementError) in try draft.giveBack(to: Self.a)
        }
        #expect(again.result == 0)
    }

    @Test func homeTakesItsOwnBackWhenTheHolderDies() async throws {
        try await populate()
        try await setUp(false, Self.a)
        _ = await takeOver(try await plan(Self.b, down: [Self.a]), as: Self.b)
        let planned = try await plan(Self.a, down: [Self.b])
        #expect(planned.aggregates.map(\.name) == ["aggr-a", "aggr-b"])
        #expect(try await plan(Self.c, down: [Self.a, Self.b]).aggregates.isEmpty)
    }

    @Test func nodeInUseByAMigrateIsNotEmptied() async throws {
        try await populate()
        _ = try await store.change(as: .user) { draft throws(ManagementError) in
            try draft.vacate(Self.a, for: Self.b)
        }
        #expect(try await places().contains("lif-a b"))
        _ = try await store.change(as: .system) { draft throws(ManagementError) in
            var svm = try draft.changeableSVM(Self.svm)
            svm.migrateRole = .destination
            try draft.putSVM(svm)
        }
        let giveBack = await code { draft throws(ManagementError) in try draft.giveBack(to: Self.a) }
        #expect(giveBack == "svm_in_migrate")
        let vacate = await code { draft throws(ManagementError) in try draft.vacate(Self.b, for: Self.a) }
        #expect(vacate == "svm_in_migrate")
        // A source may come home: its migrate knows it there.
        _ = try await store.change(as: .system) { draft throws(ManagementError) in
            var svm = try draft.changeableSVM(Self.svm)
            svm.migrateRole = .source
            try draft.putSVM(svm)
        }
        let vacateSource = await code { draft throws(ManagementError) in try draft.vacate(Self.b, for: Self.a) }
        #expect(vacateSource == "svm_in_migrate")
        let sourceComesHome = await code { draft throws(ManagementError) in try draft.giveBack(to: Self.a) }
        #expect(sourceComesHome == nil)
        let stranger = await code { draft throws(ManagementError) in try draft.vacate(Self.a, for: Self.c) }
        #expect(stranger == "node_is_no_partner")
    }

    /// An aborted destination is deleted wherever its volumes are: nothing need wait for it where they are now.
    @Test func nodeComesHomeWhileAnSVMIsDeleted() async throws {
        try await populate()
        _ = try await store.change(as: .user) { draft throws(ManagementError) in
            try draft.vacate(Self.a, for: Self.b)
        }
        _ = try await store.change(as: .system) { draft throws(ManagementError) in
            var svm = try draft.changeableSVM(Self.svm)
            svm.migrateRole = .destination
            svm.state = .deleting
            try draft.putSVM(svm)
        }
        let giveBack = await code { draft throws(ManagementError) in try draft.giveBack(to: Self.a) }
        #expect(giveBack == nil)
    }

    /// Looks twice a second, as a daemon does more often: between two calls the same nodes are up as at the first of them.
    private struct Looks {
        var detector = FailureDetector(nowNanoseconds: 0)
        private var last: (time: UInt64, up: Set<String>) = (0, [])

        mutating func down(_ now: UInt64, _ up: Set<String>) -> Set<ObjectUUID> {
            for time in stride(from: last.time + 500_000_000, to: now, by: 500_000_000) { _ = look(time, last.up) }
            last = (now, up)
            return look(now, up)
        }

        private mutating func look(_ now: UInt64, _ up: Set<String>) -> Set<ObjectUUID> {
            detector.down(among: FailoverTests.nodes, nowNanoseconds: now) { up.contains($0.name) }
        }
    }

    @Test func nodeIsDownAfterItWasNotSeenForAWhile() {
        let second: UInt64 = 1_000_000_000
        var looks = Looks()
        func down(_ now: UInt64, _ up: Set<String>) -> Set<ObjectUUID> { looks.down(now, up) }
        // Nodes start one after another.
        #expect(down(second, ["a"]).isEmpty)
        #expect(down(14 * second, ["a"]).isEmpty)
        #expect(down(15 * second, ["a"]) == [Self.b.uuid, Self.c.uuid])
        #expect(down(16 * second, ["a", "b"]) == [Self.c.uuid])
        #expect(down(17 * second, ["a"]) == [Self.c.uuid])
        #expect(down(17 * second + second / 2, ["a"]) == [Self.c.uuid])
        #expect(down(18 * second, ["a"]) == [Self.b.uuid, Self.c.uuid])
        #expect(down(19 * second, ["a", "b", "c"]).isEmpty)
    }

    /// A node that has just started may be the heir of one that dies right then: the others leave it to it.
    @Test func nodeThatWasSeenIsNotWaitedForAfterAStart() {
        let second: UInt64 = 1_000_000_000
        var looks = Looks()
        func down(_ now: UInt64, _ up: Set<String>) -> Set<ObjectUUID> { looks.down(now, up) }
        #expect(down(second, ["a", "b"]).isEmpty)
        #expect(down(2 * second, ["a"]).isEmpty)
        #expect(down(3 * second, ["a"]) == [Self.b.uuid])
        #expect(down(15 * second, ["a"]) == [Self.b.uuid, Self.c.uuid])
    }

    /// A database that was away for longer than the lease has ended the sessions of all, who begin them again one by one.
    @Test func nobodyIsDownForAWhileAfterAGap() {
        let second: UInt64 = 1_000_000_000
        var detector = FailureDetector(nowNanoseconds: 0)
        func down(_ now: UInt64, _ up: Set<String>) -> Set<ObjectUUID> {
            detector.down(among: Self.nodes, nowNanoseconds: now) { up.contains($0.name) }
        }
        for now: UInt64 in 14...20 { #expect(down(now * second, ["a", "b", "c"]).isEmpty) }
        #expect(down(50 * second, ["a"]).isEmpty)
        #expect(down(52 * second, ["a", "b"]).isEmpty)
        #expect(down(54 * second, ["a", "b"]).isEmpty)
        #expect(down(56 * second, ["a", "b"]) == [Self.c.uuid])
        detector.beginGrace(nowNanoseconds: 57 * second)
        #expect(down(58 * second, ["a", "b"]).isEmpty)
    }

    /// A node without a session is held for dead by the others: it takes over nothing.
    @Test func nodeWithoutASessionTakesOverNothing() async throws {
        try await populate()
        let planned = try await plan(Self.b, down: [Self.a])
        try await setUp(false, Self.a)
        try await setUp(false, Self.b)
        #expect(await takeOver(planned, as: Self.b) == "configuration_changed")
        try await setUp(true, Self.b)
        #expect(await takeOver(planned, as: Self.b) == nil)
    }
}
