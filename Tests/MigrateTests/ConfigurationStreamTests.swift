import ClusterConfiguration
import ConfigurationReplication
import Identity
import Logging
import MigrateOperation
import MigrateSource
import Orchestrator
import ReplicatedDatabase
import Saga
import Synchronization
import Testing

/// The configuration of an SVM on its way through an operation: the source's database is real, the storage is simulated.
@Suite(.timeLimit(.minutes(2))) struct ConfigurationStreamTests {
    private struct Directory: SourceClusterDirectory {
        let source: MigrateSource
        func sourceCluster(peerName: String) async throws -> any SourceCluster { source }
    }

    private let world = World()
    private let store = ConfigurationStore(InMemoryDatabase())

    private static let log = Logger(label: "stream", factory: { _ in SwiftLogNoOpLogHandler() })

    private func putPolicy(_ number: UInt64) async throws {
        _ = try await store.change(as: .user) { draft throws(ManagementError) in
            try draft.putExportPolicy(ExportPolicyRecord(identifier: number, name: "policy\(number)", svm: svmUUID))
        }
    }

    private var applied: [ConfigurationUpdate] { world.state.withLock { $0.destinationUpdates } }

    private func isApplied(_ number: UInt64) -> Bool {
        applied.contains { $0.kind == "export-policy" && $0.identifier == String(number) }
    }

    private func until(_ holds: () async throws -> Bool) async throws {
        while try await !holds() {
            try Task.checkCancellation()
            try await Task.sleep(for: .milliseconds(2))
        }
    }

    @Test func changesArriveWhileTransfersRunAndBeforeTheCutover() async throws {
        _ = try await store.change(as: .system) { draft throws(ManagementError) in
            try draft.putSVM(
                SVMRecord(uuid: svmUUID, name: "svm", state: .running, handleKey: HandleKey(first: 1, second: 2)),
                defaultPolicyIdentifier: 7
            )
        }
        let process = Process(crashAt: nil)
        // The last moment at which a change can be acknowledged.
        let points = CrashPoints { name, moment in
            if name == "source-lock", moment == .before { try await putPolicy(9) }
        }
        let source = MigrateSource(
            database: store.database,
            storage: SimulatedSource(world: world, process: process),
            node: ObjectUUID(high: 6, low: 6),
            environment: world.environment,
            waiting: world.waiting(process),
            crashPoints: points,
            log: Self.log
        )
        let orchestrator = Orchestrator(
            database: InMemoryDatabase(),
            storage: SimulatedDestination(world: world, process: process),
            directory: Directory(source: source),
            node: ObjectUUID(high: 5, low: 5),
            clusterName: "beta",
            environment: world.environment,
            waiting: world.waiting(process),
            log: Self.log
        )
        let running = Task { try? await orchestrator.run() }
        defer { running.cancel() }
        var options = MigrationOptions()
        options.isAutoCutover = false
        let operation = try await orchestrator.start(
            MigrationRequest(svmName: "svm", peerName: "alpha", options: options)
        )
        let state = { try await orchestrator.get(operation)?.record.state }
        try await until { try await state() == .readyForCutover }
        #expect(isApplied(7) && !isApplied(8))
        try await putPolicy(8)
        try await until { isApplied(8) }
        let now = try await state()
        #expect(now == .readyForCutover || now == .transferring)
        let stream = try #require(try await orchestrator.get(operation)?.record.configurationStream)
        #expect(stream.baselines == 1 && stream.lastFailure == nil)
        try await orchestrator.cutover(operation)
        try await until { try await state() == .migrateComplete }
        #expect(isApplied(9))
        let record = try #require(try await orchestrator.get(operation)?.record)
        #expect(record.configurationStream?.revision ?? 0 > stream.revision)
        // Each of them once, in the order in which they were made.
        let policies = applied.filter { $0.kind == "export-policy" }
        #expect(policies.map(\.identifier) == ["7", "8", "9"])
        #expect(applied.map(\.revision) == applied.map(\.revision).sorted())
    }
}
