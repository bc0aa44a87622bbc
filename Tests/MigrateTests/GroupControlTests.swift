import Bytes
import ClusterConfiguration
import Environment
import GroupControl
import Identity
import Logging
import MigrateOperation
import MigrateSource
import Replication
import ReplicatedDatabase
import StorageControl
import Synchronization
import Testing

private let operation = ObjectUUID(high: 1, low: 1)
private let svm = ObjectUUID(high: 2, low: 2)
private let nodeUUIDs = (1...3).map { ObjectUUID(high: 3, low: UInt64($0)) }

private func authority(epoch: UInt64 = 1) -> GroupAuthority {
    GroupAuthority(operation: operation, side: .source, epoch: epoch)
}

private func kind(_ body: () async throws -> Void) async -> MigrateError.Kind? {
    do {
        try await body()
        return nil
    } catch {
        return (error as? MigrateError)?.kind
    }
}

private func record(attempt: UInt64 = 0, state: SourceState = .prepared) -> SourceRecord {
    var record = SourceRecord(
        operation: operation,
        epoch: 1,
        owningNode: nodeUUIDs[0],
        svm: svm,
        svmName: "svm",
        destinationCluster: "beta"
    )
    record.attempt = attempt
    record.state = state
    return record
}

@Suite struct GroupFenceTests {
    @Test func aMasterThatWasSupersededIsRefused() async {
        var fence = GroupFence()
        #expect(throws: Never.self) { try fence.admit(authority(epoch: 2)) }
        #expect(await kind { try fence.admit(authority(epoch: 1)) } == .fenced)
        #expect(await kind { try fence.admitHold(authority(epoch: 1), attempt: 9) } == .fenced)
        // The other side of an operation of the same number is another matter.
        let other = GroupAuthority(operation: operation, side: .destination, epoch: 1)
        #expect(throws: Never.self) { try fence.admit(other) }
    }

    @Test func aHoldThatComesAfterItsUndoLeavesTheGateOpen() async {
        var fence = GroupFence()
        #expect(throws: Never.self) { try fence.admitReopening(authority(), attempt: 1) }
        #expect(await kind { try fence.admitHold(authority(), attempt: 1) } == .refused)
        #expect(throws: Never.self) { try fence.admitHold(authority(), attempt: 2) }
    }

    @Test func aReopeningThatComesAfterANewerHoldLeavesTheGateHeld() async {
        var fence = GroupFence()
        #expect(throws: Never.self) { try fence.admitHold(authority(), attempt: 1) }
        #expect(throws: Never.self) { try fence.admitHold(authority(epoch: 2), attempt: 2) }
        #expect(await kind { try fence.admitReopening(authority(epoch: 2), attempt: 1) } == .refused)
        #expect(await kind { try fence.admitHold(authority(epoch: 2), attempt: 1) } == .refused)
        #expect(throws: Never.self) { try fence.admitReopening(authority(epoch: 2), attempt: 2) }
    }

    @Test func onlyTheAttemptThatHoldsTheGateSealsTheService() async {
        var fence = GroupFence()
        #expect(await kind { try fence.admitSeal(authority(), attempt: 1) } == .refused)
        #expect(throws: Never.self) { try fence.admitHold(authority(), attempt: 1) }
        #expect(throws: Never.self) { try fence.admitSeal(authority(), attempt: 1) }
        #expect(!fence.isReopened(authority(), attempt: 1))
        #expect(throws: Never.self) { try fence.admitReopening(authority(), attempt: 1) }
        #expect(await kind { try fence.admitSeal(authority(), attempt: 1) } == .refused)
        #expect(fence.isReopened(authority(), attempt: 1))
        // What a newer attempt holds is not reopened for the sake of an older one.
        #expect(throws: Never.self) { try fence.admitHold(authority(), attempt: 2) }
        #expect(await kind { try fence.admitSeal(authority(), attempt: 1) } == .refused)
        #expect(!fence.isReopened(authority(), attempt: 1))
        #expect(throws: Never.self) { try fence.admitSeal(authority(), attempt: 2) }
        #expect(await kind { try fence.admitSeal(authority(epoch: 0), attempt: 2) } == .fenced)
    }

    /// A node that was restarted has seen nothing, and an owner that was frozen may still want the gate of a commit opened
    /// that was given up before.
    @Test func pastThePointOfNoReturnNothingOpensTheGate() async {
        var fence = GroupFence()
        fence.note(record(attempt: 2, state: .ponr))
        #expect(await kind { try fence.admitReopening(authority(), attempt: 1) } == .pastPointOfNoReturn)
        #expect(await kind { try fence.admitReopening(authority(), attempt: 2) } == .pastPointOfNoReturn)
        var other = GroupFence()
        other.note(record(attempt: 2, state: .recovered))
        #expect(throws: Never.self) { try other.admitReopening(authority(), attempt: 2) }
    }
}

@Suite struct SourceOwnerTests {
    @Test func whoTakesOverACommitGivesItUp() throws {
        let taken = record(attempt: 3, state: .commit).takenOver(by: nodeUUIDs[1])
        #expect(taken.state == .recovered)
        #expect(taken.owningNode == nodeUUIDs[1])
        #expect(taken.ownerEpoch == 2)
        let passed = record(attempt: 3, state: .ponr).takenOver(by: nodeUUIDs[1])
        #expect(passed.state == .ponr)
        #expect(throws: MigrateError.self) { try taken.after(.pointOfNoReturn(attempt: 3)) }
    }
}

@Suite struct ProtocolStatePartsTests {
    @Test func partsComeApartAsTheyWere() throws {
        let parts: [[UInt8]] = [[1, 2, 3], [], [UInt8](repeating: 7, count: 70_000)]
        #expect(try ProtocolStateParts.parts(of: ProtocolStateParts.joined(parts)) == parts)
        #expect(try ProtocolStateParts.parts(of: []).isEmpty)
        var cut = ProtocolStateParts.joined(parts)
        cut.removeLast()
        #expect(throws: ByteFormatError.self) { try ProtocolStateParts.parts(of: cut) }
    }
}

// MARK: - The master over nodes in memory

/// Nodes with a gate each, to which they admit masters.
private struct GatedNodes {
    private final class Gates: Sendable {
        /// Whether the gate of a node is open, and what it has seen of masters.
        let gates = Mutex<[ObjectUUID: (isOpen: Bool, fence: GroupFence)]>([:])
        /// The volume whose mirror is out of synchronisation.
        let outOfSync: UInt64?
        /// The node whose clients do not take their answers.
        let stuck: ObjectUUID?

        init(outOfSync: UInt64?, stuck: ObjectUUID?) {
            self.outOfSync = outOfSync
            self.stuck = stuck
        }

        func answer(_ call: GroupCall, on node: ObjectUUID) throws -> GroupReply {
            try gates.withLock { gates in
                var gate = gates[node] ?? (isOpen: true, fence: GroupFence())
                defer { gates[node] = gate }
                if let authority = call.authority { try gate.fence.admit(authority) }
                switch call.step {
                case .holdAndDrain(let attempt, _):
                    try gate.fence.admitHold(call.authority!, attempt: attempt)
                    gate.isOpen = false
                    return GroupReply(.drained(true))
                case .seal(_, let attempt, let marks, _):
                    try gate.fence.admitSeal(call.authority!, attempt: attempt)
                    let answers = [ClientAnswerAge(client: "192.0.2.\(node.low):903", microseconds: node.low)]
                    let states: [MirrorState] = call.volumes.map { $0.rawValue == outOfSync ? .outOfSync : .inSync }
                    let part = node == stuck ? nil : SealedPart(lastAnswers: answers, mirrorStates: states)
                    return GroupReply(.sealed(part), attachment: [UInt8(node.low), UInt8(marks.count)])
                case .reopen(let attempt):
                    try gate.fence.admitReopening(call.authority!, attempt: attempt)
                    gate.isOpen = true
                case .exportState(let marks):
                    let known = marks.first { $0.face == node.low }?.position ?? 0
                    let mark = ProtocolStateMark(face: node.low, position: known + 1)
                    return GroupReply(.exported(mark), attachment: [UInt8(node.low), UInt8(known)])
                case .mirrorStates: return GroupReply(.mirrorStates(call.volumes.map { _ in .inSync }))
                case .describe:
                    let uses = call.volumes.map { VolumeUse(msid: $0, usedBytes: $0.rawValue) }
                    return GroupReply(.described(uses, connectionCount: node.low))
                default: break
                }
                return GroupReply()
            }
        }
    }

    private let gates: Gates
    let memory: MemoryNodes

    init(outOfSync: UInt64? = nil, stuck: ObjectUUID? = nil) {
        let gates = Gates(outOfSync: outOfSync, stuck: stuck)
        self.gates = gates
        memory = MemoryNodes { try gates.answer($0, on: $1) }
    }

    var openGates: [ObjectUUID] { gates.gates.withLock { $0.filter(\.value.isOpen).keys.sorted() } }
}

/// A cluster of three nodes with an SVM of six volumes and three LIFs on them, as the first node sees it.
private func cluster(_ database: any ReplicatedDatabase) async throws -> StorageController {
    try await MemoryCluster.make("alpha", of: nodeUUIDs, in: database) { draft throws(ManagementError) in
        try draft.putSVM(
            SVMRecord(uuid: svm, name: "svm", state: .running, handleKey: HandleKey(first: 1, second: 2)),
            defaultPolicyIdentifier: 7
        )
        for index in 0..<6 {
            try draft.putVolume(
                VolumeRecord(
                    uuid: ObjectUUID(high: 6, low: UInt64(index)),
                    name: "v\(index)",
                    msid: VolumeMSID(rawValue: UInt64(100 + index)),
                    svm: svm,
                    aggregate: MemoryCluster.aggregate(of: nodeUUIDs[index % 3]),
                    sizeBytes: 1 << 30,
                    junctionPath: "/v\(index)"
                )
            )
        }
        for index in 0..<3 {
            try draft.putLIF(
                LIFRecord(
                    uuid: ObjectUUID(high: 7, low: UInt64(index)),
                    name: "lif\(index)",
                    svm: svm,
                    address: "127.0.1.\(index + 1)",
                    port: 2049,
                    node: nodeUUIDs[index]
                )
            )
        }
    }
}

private func master(_ controller: StorageController, _ nodes: GatedNodes) -> any SourceStorage {
    let executor = GroupExecutor(controller, waiting: .system)
    return SourceGroup(Group(controller, nodes.memory), executor).acting(as: authority())
}

@Suite struct SourceGroupTests {
    @Test func eachNodeIsAskedOnceForItsVolumes() async throws {
        let nodes = GatedNodes()
        let storage = master(try await cluster(InMemoryDatabase()), nodes)
        try await storage.takeSnapshot(OperationSnapshot(uuid: operation, name: "s"), of: svm)
        let calls = nodes.memory.calls.withLock { $0.sorted { $0.node < $1.node } }
        #expect(calls.map(\.node) == nodeUUIDs)
        #expect(calls.map { $0.call.volumes.map(\.rawValue) } == [[100, 103], [101, 104], [102, 105]])
    }

    @Test func aServiceIsHeldAndSealedWithOneCallEachForEachNode() async throws {
        let nodes = GatedNodes(outOfSync: 104)
        let storage = master(try await cluster(InMemoryDatabase()), nodes)
        #expect(try await storage.holdGate(of: svm, attempt: 1, drainMilliseconds: 1_000))
        #expect(nodes.openGates.isEmpty)
        let snapshot = OperationSnapshot(uuid: operation, name: "final")
        let marks = [ProtocolStateMark(face: 1, position: 3)]
        let sealed = try #require(
            try await storage.seal(svm, snapshot, attempt: 1, since: marks, withinMilliseconds: 1_000)
        )
        let isSeal = nodes.memory.steps.map { if case .seal = $0 { true } else { false } }
        #expect(isSeal == [false, false, false, true, true, true])
        #expect(try ProtocolStateParts.parts(of: sealed.protocolState) == [[1, 1], [2, 1], [3, 1]])
        #expect(sealed.lastAnswers.map(\.microseconds) == [1, 2, 3])
        let isInSync = sealed.mirrorStates.mapValues { $0 == .inSync }
        let expected = (100..<106).map { (VolumeMSID(rawValue: $0), $0 != 104) }
        #expect(isInSync == Dictionary(uniqueKeysWithValues: expected))
    }

    @Test func aServiceWithAnAnswerThatIsNotTakenIsNotSealed() async throws {
        let nodes = GatedNodes(stuck: nodeUUIDs[1])
        let storage = master(try await cluster(InMemoryDatabase()), nodes)
        let snapshot = OperationSnapshot(uuid: operation, name: "final")
        #expect(try await storage.holdGate(of: svm, attempt: 1, drainMilliseconds: 1))
        #expect(try await storage.seal(svm, snapshot, attempt: 1, since: [], withinMilliseconds: 1) == nil)
    }

    @Test func eachNodeHasAMarkOfItsOwn() async throws {
        let nodes = GatedNodes()
        let storage = master(try await cluster(InMemoryDatabase()), nodes)
        let (first, marks) = try await storage.exportProtocolState(of: svm, since: [])
        #expect(try ProtocolStateParts.parts(of: first) == [[1, 0], [2, 0], [3, 0]])
        let (second, _) = try await storage.exportProtocolState(of: svm, since: marks)
        #expect(try ProtocolStateParts.parts(of: second) == [[1, 1], [2, 1], [3, 1]])
    }

    @Test func gatesAreReopenedWhereverTheyCanBe() async throws {
        let nodes = GatedNodes()
        let storage = master(try await cluster(InMemoryDatabase()), nodes)
        #expect(try await storage.holdGate(of: svm, attempt: 1, drainMilliseconds: 1_000))
        #expect(nodes.openGates.isEmpty)
        nodes.memory.away.withLock { $0 = [nodeUUIDs[0]] }
        #expect(await kind { try await storage.reopenGate(of: svm, attempt: 1) } == .nodeAway)
        #expect(nodes.openGates == [nodeUUIDs[1], nodeUUIDs[2]])
        nodes.memory.away.withLock { $0 = [] }
        try await storage.reopenGate(of: svm, attempt: 1)
        #expect(nodes.openGates == nodeUUIDs)
    }

    @Test func aDescriptionNamesTheNodeOfEachVolume() async throws {
        let nodes = GatedNodes()
        let found = try await master(try await cluster(InMemoryDatabase()), nodes).describe(svmName: "svm")
        let description = try #require(found?.description)
        #expect(description.volumes.map(\.source.nodeName) == (0..<6).map { "alpha-0\($0 % 3 + 1)" })
        #expect(description.volumes.map(\.source.endpoint.port) == (0..<6).map { 8_100 + $0 % 3 })
        #expect(description.connectionCount == 6)
        #expect(description.services.count == 3)
    }
}

// MARK: - Two nodes of a source cluster

/// The sources of the nodes that are up.
private final class Peers: Sendable {
    private let sources = Mutex<[ObjectUUID: MigrateSource]>([:])

    func value(_ node: ObjectUUID) -> MigrateSource? { sources.withLock { $0[node] } }
    func set(_ node: ObjectUUID, _ source: MigrateSource?) { sources.withLock { $0[node] = source } }
}

/// The source's side of both nodes over one database: what one is asked it passes on to the owner.
private final class SourceNodes: Sendable {
    let nodes = GatedNodes()
    private let sources: [MigrateSource]

    private struct Passing: SourceStorage {
        let base: any SourceStorage
        let others: Peers

        func acting(as authority: GroupAuthority) -> any SourceStorage {
            Passing(base: base.acting(as: authority), others: others)
        }
        func pass(_ call: SourceCall, of svm: ObjectUUID, to node: ObjectUUID) async throws -> SourceReply {
            guard let other = others.value(node) else { throw MigrateError(.nodeAway, "away", remedy: "") }
            return try await other.sendPassedOn(call)
        }
        func note(_ record: SourceRecord) { base.note(record) }
        func describe(svmName: String) async throws -> (description: SVMDescription, findings: [PrecheckFinding])? {
            try await base.describe(svmName: svmName)
        }
        func isConcerned(by svm: ObjectUUID) async throws -> Bool { true }
        func name(of svm: ObjectUUID) async throws -> String? { "svm" }
        func setOperation(_ operation: ObjectUUID?, of svm: ObjectUUID) async throws {}
        func lockConfiguration(of svm: ObjectUUID, for operation: ObjectUUID) async throws {}
        func unlockConfiguration(of svm: ObjectUUID, from operation: ObjectUUID) async throws {}
        func endMirrors(of svm: ObjectUUID) async throws { try await base.endMirrors(of: svm) }
        func deleteSnapshots(namePrefix: String, of svm: ObjectUUID) async throws {}
        func takeSnapshot(_ snapshot: OperationSnapshot, of svm: ObjectUUID) async throws {}
        func deleteSnapshots(_ snapshots: [ObjectUUID], of svm: ObjectUUID) async throws {}
        func mirrorStates(of svm: ObjectUUID) async throws -> [VolumeMSID: MirrorState] {
            try await base.mirrorStates(of: svm)
        }
        func holdGate(of svm: ObjectUUID, attempt: UInt64, drainMilliseconds limit: UInt64) async throws -> Bool {
            try await base.holdGate(of: svm, attempt: attempt, drainMilliseconds: limit)
        }
        func seal(
            _ svm: ObjectUUID,
            _ snapshot: OperationSnapshot,
            attempt: UInt64,
            since marks: [ProtocolStateMark],
            withinMilliseconds limit: UInt64
        ) async throws -> SealedService? {
            try await base.seal(svm, snapshot, attempt: attempt, since: marks, withinMilliseconds: limit)
        }
        func exportProtocolState(
            of svm: ObjectUUID,
            since marks: [ProtocolStateMark]
        ) async throws -> (state: [UInt8], marks: [ProtocolStateMark]) {
            try await base.exportProtocolState(of: svm, since: marks)
        }
        func reopenGate(of svm: ObjectUUID, attempt: UInt64) async throws {
            try await base.reopenGate(of: svm, attempt: attempt)
        }
        func releaseInterfaces(of svm: ObjectUUID) async throws {}
        func stop(_ svm: ObjectUUID, for operation: ObjectUUID) async throws {}
        func contentHash(of volume: VolumeMSID, in svm: ObjectUUID, snapshot: ObjectUUID) async throws -> String { "" }
        func deleteSVM(_ svm: ObjectUUID) async throws {}
    }

    let others = Peers()

    init(_ controller: StorageController, _ database: any ReplicatedDatabase) {
        let executor = GroupExecutor(controller, waiting: .system)
        let base = SourceGroup(Group(controller, nodes.memory), executor)
        let others = others
        sources = nodeUUIDs.prefix(2).map { node in
            MigrateSource(
                database: database,
                storage: Passing(base: base, others: others),
                node: node,
                environment: .system,
                waiting: .system,
                log: Logger(label: "source", factory: { _ in SwiftLogNoOpLogHandler() })
            )
        }
        for (node, source) in zip(nodeUUIDs, sources) { others.set(node, source) }
    }

    subscript(index: Int) -> MigrateSource { sources[index] }
}

@Suite struct SourceNodesTests {
    private func call(_ request: SourceRequest) -> SourceCall {
        SourceCall(operation: operation, epoch: 1, request: request)
    }

    private func status(_ source: MigrateSource) async throws -> SourceRecord {
        guard case .status(let record) = try await source.send(call(.status)).answer else {
            throw MigrateError(.failed, "no status", remedy: "")
        }
        return record
    }

    private func held(_ nodes: SourceNodes) async throws {
        _ = try await nodes[0].send(call(.register(svm: svm, destinationCluster: "beta")))
        // The other node is asked, too, and passes it on.
        _ = try await nodes[1].send(call(.lock(attempt: 1, budgetMilliseconds: 60_000)))
        _ = try await nodes[1].send(call(.arm(attempt: 1, budgetMilliseconds: 60_000)))
        let snapshot = OperationSnapshot(uuid: operation, name: "final")
        _ = try await nodes[1].send(call(.hold(attempt: 1, snapshot: snapshot, drainMilliseconds: 100, since: [])))
    }

    @Test func anyNodeAnswersThroughTheOwner() async throws {
        let database = InMemoryDatabase()
        let nodes = SourceNodes(try await cluster(database), database)
        try await held(nodes)
        #expect(nodes.nodes.openGates.isEmpty)
        #expect(try await status(nodes[1]).owningNode == nodeUUIDs[0])
        _ = try await nodes[1].send(call(.pointOfNoReturn(attempt: 1)))
        #expect(try await status(nodes[0]).state == .ponr)
    }

    @Test func whoStandsInForTheOwnerReopensTheGatesOfAllNodes() async throws {
        let database = InMemoryDatabase()
        let nodes = SourceNodes(try await cluster(database), database)
        try await held(nodes)
        nodes.others.set(nodeUUIDs[0], nil)
        #expect(await kind { _ = try await status(nodes[1]) } == .nodeAway)
        try await nodes[1].rehome(from: [nodeUUIDs[0]])
        let taken = try await status(nodes[1])
        #expect(taken.state == .recovered)
        #expect(taken.ownerEpoch == 2)
        let running = Task { await nodes[1].run() }
        while nodes.nodes.openGates != nodeUUIDs { try await Task.sleep(for: .milliseconds(5)) }
        running.cancel()
        // The former owner wakes up: the point of no return is refused, and so is whatever it still wants of the gates.
        #expect(await kind { _ = try await nodes[0].send(call(.pointOfNoReturn(attempt: 1))) } != nil)
        #expect(try await status(nodes[1]).state == .recovered)
    }

    @Test func aCommitThatPassedThePointOfNoReturnIsNotGivenUp() async throws {
        let database = InMemoryDatabase()
        let nodes = SourceNodes(try await cluster(database), database)
        try await held(nodes)
        _ = try await nodes[0].send(call(.pointOfNoReturn(attempt: 1)))
        nodes.others.set(nodeUUIDs[0], nil)
        try await nodes[1].rehome(from: [nodeUUIDs[0]])
        #expect(try await status(nodes[1]).state == .ponr)
        #expect(nodes.nodes.openGates.isEmpty)
    }
}
