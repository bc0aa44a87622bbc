import ClusterConfiguration
import AsyncHTTPClient
import Environment
import Foundation
import HostNetwork
import Logging
import NIOCore
import NetworkModule
import PeerTransport
import RESTAPI
import ReplicatedDatabase
import ServiceLifecycle
import StorageControl
import TransportSecurity
import UnixSignals

/// The composition root: makes every part, gives each what it needs, and runs them as one group of services.
struct Daemon {
    let settings: DaemonConfiguration
    /// What connections between nodes are secured with; nil on loopback only.
    let security: TransportSecurity?
    let readyFile: String?

    /// Puts it together.
    /// - Throws: what is wrong with the files of the node's identity.
    init(settings: DaemonConfiguration, readyFile: String?) throws {
        self.settings = settings
        self.readyFile = readyFile
        do {
            security = try settings.identity.map { files throws(TransportSecurityError) in try TransportSecurity(files)
            }
        } catch {
            throw ManagementError(
                .failed,
                "identity_unusable",
                "tls: \(error)",
                remedy: "correct the section 'tls' of the configuration file, or the files that it names"
            )
        }
    }

    /// How nodes are spoken to.
    private var scheme: String { security == nil ? "http" : "https" }

    /// A client for other nodes, of this cluster and of its peers.
    private func makeClient(_ configuration: HTTPClient.Configuration = .init()) -> HTTPClient {
        var configuration = configuration
        configuration.tlsConfiguration = security?.clientConfiguration
        return HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    }

    /// Runs until SIGTERM or SIGINT.
    func run() async throws {
        let logger = Logger(label: "godwitd")
        let lock = try DirectoryLock(directory: settings.dataDirectory)
        try requireFree(settings.management, key: "management")
        try requireFree(settings.replication, key: "replication")
        if let interconnect = settings.interconnect { try requireFree(interconnect, key: "interconnect") }
        let environment = Environment.system
        let opened = try await OpenDatabase(settings, environment, .system)
        do {
            try await run(opened, environment, logger)
        } catch {
            try? await opened.close()
            throw error
        }
        try await opened.close()
        logger.notice("ended")
        // The lock must outlive everything that uses the directory.
        _ = consume lock
    }

    private func run(_ opened: OpenDatabase, _ environment: Environment, _ logger: Logger) async throws {
        let store = ConfigurationStore(opened.database)
        let threads = NetworkThreads(security: security)
        let node = try await StorageController.register(
            clusterName: settings.clusterName,
            nodeName: settings.nodeName,
            management: settings.management,
            replication: settings.replication,
            interconnect: settings.interconnect,
            partners: settings.partners,
            isDatabaseShared: opened.isShared,
            in: store,
            environment: environment
        )
        let pool = BlockingPool()
        let network = LinuxHostNetwork()
        let controller = StorageController(
            store: store,
            node: node,
            environment: environment,
            logger: Logger(label: "godwitd.storage"),
            pool: pool,
            transport: NetworkReplicationTransport(security: security),
            hostAddresses: try .of(settings, network, pool),
            makeService: { [threads] svm in
                NFSClientService(
                    svm,
                    threads: threads,
                    network: network,
                    environment: environment,
                    logger: Logger(label: "godwitd.nfs")
                )
            }
        )
        // A node that is away is told at once: whoever waits for it is better told than kept waiting. Transfers of many
        // volumes are asked for at the same time.
        var patience = HTTPClient.Configuration(timeout: .init(connect: .seconds(2)))
        patience.connectionPool.retryConnectionEstablishment = false
        patience.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = 64
        let client = makeClient(patience)
        defer { client.shutdown { _ in } }
        let migrate = try MigrateParts(
            database: opened.database,
            controller: controller,
            settings: settings,
            client: client,
            scheme: scheme,
            environment: environment
        )
        do {
            let interconnect = try await listenForNodes(node, controller, threads, environment)
            do {
                try await migrate.start(controller, settings.aggregates)
                try await serve(controller, migrate, opened, client, environment, logger)
            } catch {
                await interconnect?.close()
                throw error
            }
            await interconnect?.close()
        } catch {
            await controller.stop()
            throw error
        }
        await threads.stop()
    }

    /// Listens for other nodes that forward requests of clients, if there may be any.
    private func listenForNodes(
        _ node: NodeRecord,
        _ controller: StorageController,
        _ threads: NetworkThreads,
        _ environment: Environment
    ) async throws -> InterconnectListener? {
        guard let endpoint = node.interconnect, let secret = node.interconnectSecret else { return nil }
        return try await InterconnectListener.bind(
            address: endpoint.address,
            port: endpoint.port,
            secret: [UInt8](secret.utf8),
            threads: threads,
            environment: environment,
            find: { [weak controller] svm in (controller?.service(of: svm) as? NFSClientService)?.forwarded }
        )
    }

    private func serve(
        _ controller: StorageController,
        _ migrate: MigrateParts,
        _ opened: OpenDatabase,
        _ client: HTTPClient,
        _ environment: Environment,
        _ logger: Logger
    ) async throws {
        let jobs = JobManager(environment: environment)
        let others = OtherNodes(client: client, scheme: scheme, ownName: settings.nodeName)
        let groups: [any RouteGroup] =
            [
                ClusterRoutes(controller: controller, jobs: jobs, others: others, isSecured: security != nil),
                NodeRoutes(controller: controller), SVMRoutes(controller: controller, others: others),
                VolumeRoutes(controller: controller, others: others),
                SnapshotRoutes(controller: controller, group: migrate.snapshots),
                InterfaceRoutes(controller: controller, others: others, portDefault: settings.nfsPort),
                NetworkRoutes(controller: controller), SubnetRoutes(controller: controller),
                ExportPolicyRoutes(controller: controller), PrivateRoutes(controller: controller, jobs: jobs),
                StatisticsRoutes(controller: controller),
            ] + migrate.routes(controller, jobs)
        let application = try RESTServer.makeApplication(
            groups: groups,
            others: others,
            endpoint: settings.management,
            security: security,
            logger: Logger(label: "godwitd.rest"),
            onRunning: { announce() }
        )
        defer { if let readyFile { try? FileManager.default.removeItem(atPath: readyFile) } }
        var watch: [any Service] = [BackgroundService { await controller.followPorts(.system) }]
        if opened.isShared {
            watch += [
                BackgroundService { await controller.followConfiguration(.system) },
                BackgroundService { await controller.keepAggregates(.system) },
                BackgroundService { await controller.watchNodes(.system) },
            ]
        }
        let interval = settings.statisticsIntervalSeconds
        let statistics = BackgroundService { await controller.collectStatistics(everySeconds: interval, .system) }
        // Ended in the reverse order: first no new requests, then no jobs, then the storage.
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: opened.services.map { .init(service: $0) } + [
                    .init(service: StorageService(controller: controller)),
                    .init(service: BackgroundService { await controller.retryFailures(.system) }),
                    .init(service: statistics),
                    .init(service: BackgroundService { await jobs.run() }),
                ] + (watch + migrate.services).map { .init(service: $0) } + [.init(service: application)],
                gracefulShutdownSignals: [.sigterm, .sigint],
                logger: logger
            )
        )
        try await group.run()
    }

    private func announce() {
        print(
            "godwitd: ready cluster=\(settings.clusterName) node=\(settings.nodeName) management=\(settings.management) "
                + "replication=\(settings.replication) aggregates=\(settings.aggregates.count)"
        )
        fflush(nil)
        guard let readyFile else { return }
        _ = FileManager.default.createFile(atPath: readyFile, contents: Data("\(getpid())\n".utf8))
    }
}

/// Keeps the storage open until the daemon ends.
private struct StorageService: Service {
    let controller: StorageController

    func run() async throws {
        try? await gracefulShutdown()
        await controller.stop()
    }
}

extension HostAddresses {
    /// Those of a node, which are noted in its data directory.
    static func of(
        _ settings: DaemonConfiguration,
        _ network: LinuxHostNetwork,
        _ pool: BlockingPool
    ) throws -> HostAddresses {
        try HostAddresses(network: network, noteFile: settings.dataDirectory + "/addresses", pool: pool)
    }
}
