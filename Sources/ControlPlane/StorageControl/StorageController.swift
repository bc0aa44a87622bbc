package import ClusterConfiguration
package import Environment
package import Identity
package import Logging
import PeerTransport
package import Replication
import Synchronization
package import VolumeEngine

/// An aggregate as the configuration file of the daemon names it.
package struct AggregateSetting: Equatable, Sendable {
    /// Its name.
    package var name: String
    /// Its directory, absolute.
    package var directory: String
    /// Bytes that its volumes together may use.
    package var capacityBytes: UInt64
    /// What it is for; nil when nothing is said about it.
    package var tier: AggregateTier?
    /// Size of its commit journal; nil for what is usual.
    package var journalBytes: Int?

    /// Makes a setting.
    package init(name: String, directory: String, capacityBytes: UInt64, tier: AggregateTier? = nil) {
        self.name = name
        self.directory = directory
        self.capacityBytes = capacityBytes
        self.tier = tier
    }
}

/// Lets one task at a time through, in the order of their coming.
actor TaskLock {
    private var isHeld = false
    private var waiting: [CheckedContinuation<Void, Never>] = []

    func acquire() async {
        guard isHeld else {
            isHeld = true
            return
        }
        await withCheckedContinuation { waiting.append($0) }
    }

    func release() {
        if waiting.isEmpty {
            isHeld = false
        } else {
            waiting.removeFirst().resume()
        }
    }
}

/// The runtime of a node: opens its aggregates and keeps the data plane as the configuration says.
///
/// Every change goes the same way: a validated transaction in the replicated database, then `reconcile`, which compares
/// the configuration with what runs and mends the difference. After a crash the same `reconcile` rebuilds everything.
package final class StorageController: Sendable {
    struct ServiceState {
        let service: any ClientService
        /// A migrate prepared it and decides when it opens and ends; `reconcile` leaves it alone.
        var isOperated: Bool
    }

    struct RuntimeState {
        var aggregates: [ObjectUUID: Aggregate] = [:]
        /// The aggregates of the configuration file.
        var settings: [AggregateSetting] = []
        var ownershipObserver: (any OwnershipObserver)?
        /// SVMs that have come, and whose observer could not be told yet.
        var unsettled: Set<ObjectUUID> = []
        var services: [ObjectUUID: ServiceState] = [:]
        var failures: [ObjectUUID: ManagementError] = [:]
        /// The configuration that was made so last.
        var reconciled = ConfigurationSnapshot()
        /// Whether the last `reconcile` could not read what should be.
        var isConfigurationUnread = false
        var listener: (any ReplicationServing)?
        var isStopped = false
        /// The moves of LIFs to other nodes that the database was told of.
        var toldMoves: [ObjectUUID: UInt64] = [:]
        /// What was asked of this node's volumes.
        var performance = PerformanceState()
    }

    /// The configuration.
    package let store: ConfigurationStore
    /// The node that this is.
    package let node: NodeRecord
    /// What happened in storage.
    package let events: EventLog
    /// Threads for blocking calls.
    package let pool: BlockingPool
    /// How replication reaches other clusters.
    package let transport: any ReplicationTransport
    /// Time and chance.
    package let environment: Environment
    /// The addresses of LIFs on links of the host; nil in a runtime that has none.
    package let hostAddresses: HostAddresses?
    let waiting: Waiting

    let logger: Logger
    let makeService: ClientServiceFactory
    let state = Mutex(RuntimeState())
    let reconcileLock = TaskLock()
    /// Taken before `reconcileLock` by who opens and closes aggregates.
    let ownershipLock = TaskLock()

    /// Makes the runtime of a node; nothing is opened before `start`.
    package init(
        store: ConfigurationStore,
        node: NodeRecord,
        environment: Environment,
        logger: Logger,
        pool: BlockingPool = BlockingPool(),
        transport: any ReplicationTransport = NetworkReplicationTransport(),
        hostAddresses: HostAddresses? = nil,
        waiting: Waiting = .system,
        makeService: @escaping ClientServiceFactory
    ) {
        self.pool = pool
        self.transport = transport
        self.hostAddresses = hostAddresses
        self.waiting = waiting
        self.store = store
        self.node = node
        self.environment = environment
        self.logger = logger
        self.makeService = makeService
        events = EventLog(environment: environment, logger: logger)
    }

    /// Finds or makes the records of the cluster and of this node, which joins the cluster by that.
    ///
    /// - Parameters:
    ///   - interconnect: where it executes what other nodes forward; a cluster of several nodes needs it.
    ///   - partners: the names of the nodes whose aggregates it takes over when they are down.
    ///   - isDatabaseShared: whether other nodes may use the database, too.
    /// - Throws: `cluster_differs` when the database belongs to a cluster of another name, `node_differs` when it is another
    ///   node's alone.
    package static func register(
        clusterName: String,
        nodeName: String,
        management: NetworkEndpoint,
        replication: NetworkEndpoint,
        interconnect: NetworkEndpoint? = nil,
        partners: [String] = [],
        isDatabaseShared: Bool = false,
        in store: ConfigurationStore,
        environment: Environment
    ) async throws -> NodeRecord {
        let clusterUUID = ObjectUUID.random(environment)
        let nodeUUID = ObjectUUID.random(environment)
        let secrets = (0..<2).map { _ in ObjectUUID.random(environment).description.replacing("-", with: "") }
        return try await store.change(as: .system) { draft throws(ManagementError) in
            if let cluster = draft.snapshot.cluster {
                guard cluster.name == clusterName else {
                    throw ManagementError(
                        .conflict,
                        "cluster_differs",
                        "the replicated database belongs to cluster '\(cluster.name)', not to '\(clusterName)'",
                        remedy:
                            "name that cluster in the configuration file, or use another database (data_directory, or database.etcd.prefix)"
                    )
                }
            } else {
                try draft.putCluster(ClusterRecord(uuid: clusterUUID, name: clusterName))
            }
            let old = isDatabaseShared ? draft.snapshot.node(named: nodeName) : draft.snapshot.nodes.first
            if let old, old.name != nodeName {
                throw ManagementError(
                    .conflict,
                    "node_differs",
                    "the replicated database belongs to node '\(old.name)', not to '\(nodeName)'",
                    remedy:
                        "name that node in the configuration file, or use another database (data_directory, or database.etcd.prefix)"
                )
            }
            let record = NodeRecord(
                uuid: old?.uuid ?? nodeUUID,
                name: nodeName,
                management: management,
                replication: replication,
                replicationSecret: old?.replicationSecret ?? secrets[0],
                interconnect: interconnect,
                interconnectSecret: interconnect == nil ? nil : old?.interconnectSecret ?? secrets[1],
                partners: partners.isEmpty ? nil : partners
            )
            if old != record { try draft.putNode(record) }
            return record
        }.result
    }

    /// Opens the aggregates, serves replication, and makes everything run that should.
    ///
    /// - Parameters: see `open` and `startServices`.
    package func start(aggregates: [AggregateSetting], holding: Set<ObjectUUID> = []) async throws {
        // First of all: an address that another cluster or node serves by now answers for it as long as it is here.
        try await sweepAddresses(holding: holding)
        try await open(aggregates)
        try await startReplication()
        try await startServices(holding: holding)
    }

    /// Opens the aggregates of the configuration file and recovers them from a crash; no client is served yet. One that
    /// another node has taken over meanwhile stays there until it is given back.
    package func open(_ aggregates: [AggregateSetting]) async throws {
        state.withLock { $0.settings = aggregates }
        for setting in aggregates { try await open(setting) }
    }

    /// Makes everything run that should.
    ///
    /// - Parameters:
    ///   - holding: SVMs whose gate must stay held until an operation has decided (a migrate was in its commit when the
    ///     daemon ended); their service is the operation's until it is released. One that has been deleted has nothing
    ///     to hold.
    package func startServices(holding: Set<ObjectUUID> = []) async throws {
        let snapshot = try await store.snapshot()
        for svm in holding.sorted() where snapshot.svm(svm) != nil { try await prepareService(of: svm) }
        await reconcile()
    }

    /// Listens for other clusters that fetch volumes.
    package func startReplication() async throws {
        let replication = node.replication
        let secret = [UInt8](node.replicationSecret.utf8)
        let environment = environment
        let find: @Sendable (VolumeMSID) -> Volume? = { [weak self] in self?.volume(msid: $0) }
        let transport = transport
        let listener = try await pool.run {
            try transport.listen(
                on: PeerEndpoint(address: replication.address, port: replication.port),
                secret: secret,
                environment: environment,
                volume: find
            )
        }
        state.withLock { $0.listener = listener }
    }

    /// Stops serving and closes everything; what was acknowledged is durable.
    package func stop() async {
        await reconcileLock.acquire()
        let (services, aggregates, listener) = state.withLock { state in
            state.isStopped = true
            defer {
                state.services = [:]
                state.aggregates = [:]
                state.listener = nil
            }
            return (
                state.services.keys.sorted().compactMap { state.services[$0]?.service },
                state.aggregates.keys.sorted().compactMap { state.aggregates[$0] }, state.listener
            )
        }
        for service in services {
            let endpoints = service.boundEndpoints
            await service.close()
            await takeDown(endpoints)
        }
        try? await pool.run {
            listener?.stop()
            for aggregate in aggregates { aggregate.close() }
        }
        await reconcileLock.release()
    }

    /// The listener that serves replication to other clusters; nil before `start` and after `stop`.
    package var replicationListener: (any ReplicationServing)? { state.withLock { $0.listener } }

    /// A volume of this node by its identity in the data plane.
    package func volume(msid: VolumeMSID) -> Volume? {
        state.withLock { state in
            for uuid in state.aggregates.keys.sorted() {
                if let volume = state.aggregates[uuid]?.volume(msid) { return volume }
            }
            return nil
        }
    }

    /// An open aggregate.
    package func aggregate(_ uuid: ObjectUUID) -> Aggregate? { state.withLock { $0.aggregates[uuid] } }

    /// The volume of a record.
    ///
    /// - Throws: `volume_not_ready` when its aggregate is not open or it could not be made.
    package func openVolume(_ record: VolumeRecord) throws(ManagementError) -> Volume {
        if let volume = aggregate(record.aggregate)?.volume(record.msid) { return volume }
        let reason = state.withLock { ($0.failures[record.uuid] ?? $0.failures[record.aggregate])?.message }
        throw ManagementError(
            .unavailable,
            "volume_not_ready",
            "volume '\(record.name)' is not open: \(reason ?? "its aggregate is not open on this node")",
            remedy: "look at the aggregate and the events of the node",
            target: "volume"
        )
    }
}
