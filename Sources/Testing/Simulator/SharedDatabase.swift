import ReplicatedDatabase

/// The replicated database of a cluster: leases that end by the world's clock, and watches that reach processes.
final class SharedDatabase: @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    private final class Watcher: @unchecked Sendable {
        // Proof of Sendable: the simulator is one thread.
        let prefix: String
        let node: Node
        let process: SimulatedProcess
        let continuation: AsyncThrowingStream<WatchEvent, any Error>.Continuation
        var isOver = false
        var lastArrival: UInt64 = 0

        init(
            _ prefix: String,
            _ node: Node,
            _ process: SimulatedProcess,
            _ continuation: AsyncThrowingStream<WatchEvent, any Error>.Continuation
        ) {
            self.prefix = prefix
            self.node = node
            self.process = process
            self.continuation = continuation
        }
    }

    private unowned let cluster: Cluster
    private(set) var store: InMemoryDatabase!
    private var history: [WatchEvent] = []
    private var watchers: [Watcher] = []
    /// When each lease ends.
    private var leases: [Int64: (lease: DatabaseLease, end: UInt64)] = [:]

    init(_ cluster: Cluster) {
        self.cluster = cluster
        store = InMemoryDatabase(onCommit: { [unowned self] in committed($0) })
    }

    // MARK: Watches

    /// The changes under a prefix as a process sees them, until it or its way to the database is gone.
    func watch(
        prefix: String,
        after revision: Int64,
        by node: Node,
        _ process: SimulatedProcess
    ) -> AsyncThrowingStream<WatchEvent, any Error> {
        let (stream, continuation) = AsyncThrowingStream<WatchEvent, any Error>.makeStream()
        let watcher = Watcher(prefix, node, process, continuation)
        continuation.onTermination = { _ in watcher.isOver = true }
        watchers.append(watcher)
        for event in history where event.revision > revision { deliver(event, to: watcher) }
        return stream
    }

    private func committed(_ events: [WatchEvent]) {
        history += events
        watchers.removeAll { $0.isOver || $0.process.isDead }
        for watcher in watchers { for event in events { deliver(event, to: watcher) } }
    }

    private func deliver(_ event: WatchEvent, to watcher: Watcher) {
        guard event.key.hasPrefix(watcher.prefix) else { return }
        let arrival = max(simulation.scheduler.now + watcher.node.databaseLatency(), watcher.lastArrival + 1)
        watcher.lastArrival = arrival
        simulation.scheduler.at(arrival, in: watcher.process) {
            guard !watcher.isOver else { return }
            if watcher.node.isDatabaseUnreachable {
                watcher.isOver = true
                watcher.continuation.finish(throwing: DatabaseError(.unavailable, "the watch broke"))
            } else {
                watcher.continuation.yield(event)
            }
        }
    }

    // MARK: Leases

    /// A lease was granted or renewed.
    func renewed(_ lease: DatabaseLease) {
        let isNew = leases[lease.identifier] == nil
        leases[lease.identifier] = (lease, simulation.scheduler.now + UInt64(lease.seconds) * 1_000_000_000)
        if isNew { expect(lease) }
    }

    /// The database is back: a new leader gives every lease its whole time again.
    func renewAll() { for identifier in leases.keys.sorted() { renewed(leases[identifier]!.lease) } }

    private func expect(_ lease: DatabaseLease) {
        guard let end = leases[lease.identifier]?.end else { return }
        simulation.scheduler.at(end) { [self] in
            guard let known = leases[lease.identifier] else { return }
            let isOver = known.end <= simulation.scheduler.now && !cluster.isDatabaseDown
            guard isOver, !simulation.defects.planted.contains(.endlessSession) else {
                // Looked at again; never in the same moment.
                if known.end <= simulation.scheduler.now {
                    leases[lease.identifier]!.end = simulation.scheduler.now + 1_000_000_000
                }
                return expect(lease)
            }
            leases[lease.identifier] = nil
            simulation.trace("a lease of \(cluster.name) ends")
            store.end(lease)
        }
    }

    /// A lease was revoked.
    func revoked(_ lease: DatabaseLease) { leases[lease.identifier] = nil }
}
