import AsyncHTTPClient
import ClusterConfiguration
import ClusterService
import Environment
import Foundation
import GroupControl
import Identity
import class Hummingbird.Router
import struct Hummingbird.BasicRequestContext
import Logging
import MigrateOperation
import MigrateSource
import Orchestrator
import RESTAPI
import ReplicatedDatabase
import ServiceLifecycle
import StorageControl
import VolumeEngine

/// Both sides of migrate operations in this daemon: it may be the source of some and the destination of others.
struct MigrateParts: Sendable {
    let source: MigrateSource
    let orchestrator: Orchestrator
    /// Snapshots of all volumes of an SVM.
    let snapshots: SnapshotGroup
    private let executor: GroupExecutor
    private let node: NodeRecord
    private let store: ConfigurationStore

    /// Makes both sides; nothing runs yet. `client` reaches the other nodes of the cluster.
    init(
        database: any ReplicatedDatabase,
        controller: StorageController,
        settings: DaemonConfiguration,
        client: HTTPClient,
        scheme: String,
        environment: Environment
    ) throws {
        let crashPoints: CrashPoints
        do {
            let variables = ProcessInfo.processInfo.environment
            let waits = try CrashTesting.waitPoints(
                directory: variables[CrashTesting.waitVariable],
                isAllowed: settings.isTesting
            )
            let crashes = try CrashTesting.crashPoints(
                setting: variables[CrashTesting.variable],
                isAllowed: settings.isTesting
            )
            crashPoints = waits.followed(by: crashes)
        } catch {
            throw ManagementError(migrate: error)
        }
        let waiting = Waiting.system
        let log = Logger(label: "godwitd.migrate")
        store = controller.store
        node = controller.node
        executor = GroupExecutor(controller, waiting: waiting)
        let group = Group(controller, GroupNodes(client: client, scheme: scheme, controller: controller, own: executor))
        snapshots = SnapshotGroup(group)
        source = MigrateSource(
            database: database,
            storage: SourceGroup(group, executor),
            node: controller.node.uuid,
            environment: environment,
            waiting: waiting,
            crashPoints: crashPoints,
            log: log
        )
        executor.answer { [weak source] call in
            guard let source else { throw CancellationError() }
            return try await source.sendPassedOn(call)
        }
        orchestrator = Orchestrator(
            database: database,
            storage: DestinationGroup(group, executor),
            directory: PeerDirectory(client: client, scheme: scheme, store: controller.store),
            node: controller.node.uuid,
            clusterName: settings.clusterName,
            environment: environment,
            waiting: waiting,
            crashPoints: crashPoints,
            log: log
        )
    }

    /// Starts the storage, with the gates held of what this cluster may not serve any more.
    func start(_ controller: StorageController, _ aggregates: [AggregateSetting]) async throws {
        controller.observe(ownershipBy: self)
        let silenced = try await source.settle()
        try await controller.start(aggregates: aggregates, holding: silenced)
        try await source.finishSettling()
    }

    /// The routes: migrations for users, calls of other clusters.
    func routes(_ controller: StorageController, _ jobs: JobManager) -> [any RouteGroup] {
        [
            MigrationRoutes(orchestrator: orchestrator, source: source, controller: controller, jobs: jobs),
            PeerRoutes(
                peers: ClusterServiceRoutes(source: source, store: store),
                nodes: GroupRoutes(node: node, executor: executor)
            ),
        ]
    }

    /// What runs as long as the daemon does.
    var services: [any Service] {
        [
            BackgroundService { await source.run() },
            // The next start goes on with its operations.
            BackgroundService { try await orchestrator.run() },
        ]
    }
}

extension MigrateParts: OwnershipObserver {
    func willServe(_ svms: Set<ObjectUUID>) async throws -> Set<ObjectUUID> { try await source.settle(svms) }

    func didOpen(_ svms: Set<ObjectUUID>) async throws { try await source.finishSettling(svms) }

    func willRelinquish(_ volumes: [VolumeMSID]) async { await executor.stopMirrors(volumes) }

    func standIn(for nodes: Set<ObjectUUID>) async throws {
        try await source.rehome(from: nodes)
        try await orchestrator.rehome(from: nodes)
    }
}

/// The calls of other clusters and of other nodes, on the same listener as the management interface.
private struct PeerRoutes: RouteGroup {
    let peers: ClusterServiceRoutes
    let nodes: GroupRoutes

    func register(on router: Router<BasicRequestContext>) {
        peers.register(on: router)
        nodes.register(on: router)
    }
}
