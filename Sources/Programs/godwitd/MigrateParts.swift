import ClusterConfiguration
import ClusterService
import Environment
import Foundation
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
    private let destination: ControllerDestinationStorage
    private let store: ConfigurationStore

    /// Makes both sides; nothing runs yet.
    init(
        database: any ReplicatedDatabase,
        directory: any SourceClusterDirectory,
        controller: StorageController,
        settings: DaemonConfiguration,
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
        source = MigrateSource(
            database: database,
            storage: ControllerSourceStorage(controller),
            environment: environment,
            waiting: waiting,
            crashPoints: crashPoints,
            log: log
        )
        destination = ControllerDestinationStorage(controller)
        orchestrator = Orchestrator(
            database: database,
            storage: destination,
            directory: directory,
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
            PeerRoutes(routes: ClusterServiceRoutes(source: source, store: store)),
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

    func willRelinquish(_ volumes: [VolumeMSID]) async { await destination.stopMirrors(volumes) }

    func standIn(for nodes: Set<ObjectUUID>) async throws { try await orchestrator.rehome(from: nodes) }
}

/// The calls of other clusters, on the same listener as the management interface.
private struct PeerRoutes: RouteGroup {
    let routes: ClusterServiceRoutes

    func register(on router: Router<BasicRequestContext>) { routes.register(on: router) }
}
