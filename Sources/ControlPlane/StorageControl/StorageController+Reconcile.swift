package import ClusterConfiguration
package import Environment
import HostNetwork
package import Identity
import Logging
import Replication
import ReplicatedDatabase
import Synchronization
import VolumeEngine

extension StorageController {
    /// Compares the configuration with what runs and mends the difference. Idempotent; one at a time.
    ///
    /// What fails is kept per object (`failure(of:)`), told as an event, and tried again by the next call, which
    /// `retryFailures` makes if nobody else does.
    package func reconcile() async {
        await reconcileLock.acquire()
        if !state.withLock({ $0.isStopped }) {
            do {
                let snapshot = try await store.snapshot()
                state.withLock { $0.isConfigurationUnread = false }
                for svm in snapshot.svms { await reconcile(svm, snapshot) }
                await closeServices(of: state.withLock { $0.services.keys.sorted() }.filter { snapshot.svm($0) == nil })
                state.withLock { $0.reconciled = snapshot }
            } catch {
                let wasUnread = state.withLock { state in
                    defer { state.isConfigurationUnread = true }
                    return state.isConfigurationUnread
                }
                if !wasUnread {
                    events.record(name: "configuration.unreadable", severity: "error", error.description)
                }
            }
        }
        await reconcileLock.release()
    }

    private static let retryMilliseconds: UInt64 = 2000

    /// Tries again what has failed, until the task is cancelled: a database that did not answer while the node started, an
    /// address that was in use. Who changed something then has no reason to come back.
    package func retryFailures(_ waiting: Waiting) async {
        while (try? await waiting.milliseconds(Self.retryMilliseconds)) != nil {
            if state.withLock({ $0.isConfigurationUnread || !$0.failures.isEmpty }) { await reconcile() }
        }
    }

    /// Follows what other nodes change in the configuration, until the task is cancelled.
    package func followConfiguration(_ waiting: Waiting) async {
        let key = ConfigurationKeys.writeGuard
        repeat {
            // What has ended this watch, or was changed before it, is made good by one look at everything.
            guard let (_, revision) = try? await store.database.range(prefix: key) else { continue }
            await reconcile()
            do {
                for try await event in store.database.watch(prefix: key, after: revision)
                where event.revision > state.withLock({ $0.reconciled.guardRevision }) { await reconcile() }
            } catch {
                logger.debug("the watch of the configuration ended and begins again: \(error)")
            }
        } while (try? await waiting.milliseconds(Self.watchPauseMilliseconds)) != nil
    }

    private static let watchPauseMilliseconds: UInt64 = 500
    /// How long answers may take to leave before an address or an aggregate changes hands.
    static let drainMilliseconds: UInt64 = 2000

    /// Why an object (volume, LIF, SVM) is not as the configuration says; nil when it is.
    package func failure(of object: ObjectUUID) -> ManagementError? { state.withLock { $0.failures[object] } }

    private func reconcile(_ svm: SVMRecord, _ snapshot: ConfigurationSnapshot) async {
        let records = snapshot.volumes(of: svm.uuid)
        var volumes: [(record: VolumeRecord, volume: Volume)] = []
        for record in records
        where record.state != .deleting && isHere(record, snapshot) && !isComing(record.aggregate, snapshot) {
            await attempt(record.uuid, "volume '\(record.name)' of SVM '\(svm.name)'") {
                volumes.append((record, try await self.makeVolume(record)))
            }
        }
        let configuration = configuration(of: svm, volumes.filter { $0.record.state == .online }, snapshot)
        let lifs = snapshot.lifs(of: svm.uuid).filter { snapshot.node(serving: $0)?.uuid == node.uuid }
        await reconcileService(configuration, lifs, departed: snapshot.lifs(of: svm.uuid).filter(hasLeft))
        // Only now: no client can reach what is being deleted.
        var isEmptied = true
        for record in records where record.state == .deleting {
            guard isHere(record, snapshot), !isComing(record.aggregate, snapshot) else {
                // Its node deletes it; the last one to be done finds nothing left the next time.
                isEmptied = false
                continue
            }
            await attempt(record.uuid, "deletion of volume '\(record.name)' of SVM '\(svm.name)'") {
                try await self.destroyVolume(record)
            }
            if failure(of: record.uuid) != nil { isEmptied = false }
        }
        guard svm.state == .deleting, isEmptied else { return }
        await attempt(svm.uuid, "deletion of SVM '\(svm.name)'") {
            _ = try await self.store.change(as: .system) { draft throws(ManagementError) in
                try draft.removeSVM(svm.uuid)
            }
        }
    }

    /// Whether a volume is on an aggregate of this node.
    package func isHere(_ record: VolumeRecord, _ snapshot: ConfigurationSnapshot) -> Bool {
        // An aggregate that no record names is nobody else's: what it lacks is told here.
        snapshot.aggregate(record.aggregate).map { $0.node == node.uuid } ?? true
    }

    /// The volumes that clients may reach and whose requests this node does not execute.
    func remotes(
        of svm: SVMRecord,
        _ snapshot: ConfigurationSnapshot
    ) -> [(record: VolumeRecord, node: NodeRecord?)] {
        snapshot.volumes(of: svm.uuid).filter { $0.state == .online }.compactMap { record in
            guard isHere(record, snapshot) else { return (record, snapshot.node(holding: record)) }
            // One that should be open here and is not: requests wait, since to say that there is no such file would be a
            // lie that clients remember.
            return openedVolume(record) == nil ? (record, nil) : nil
        }
    }

    func configuration(
        of svm: SVMRecord,
        _ volumes: [(record: VolumeRecord, volume: Volume)],
        _ snapshot: ConfigurationSnapshot
    ) -> ServiceConfiguration {
        ServiceConfiguration(
            svm: svm,
            exportPolicies: snapshot.exportPolicies(of: svm.uuid),
            volumes: volumes,
            remotes: remotes(of: svm, snapshot),
            terms: snapshot.lifs(of: svm.uuid).map(\.term)
        )
    }

    func openedVolume(_ record: VolumeRecord) -> Volume? { aggregate(record.aggregate)?.volume(record.msid) }

    private func makeVolume(_ record: VolumeRecord) async throws -> Volume {
        guard let aggregate = aggregate(record.aggregate) else {
            throw ManagementError(
                .unavailable,
                "aggregate_not_open",
                "its aggregate \(record.aggregate) is not open on this node",
                remedy: "name the aggregate in the configuration file of the node that holds its directory"
            )
        }
        return try await pool.run {
            if let volume = aggregate.volume(record.msid) {
                // The size of a replica comes with what is replicated; only a volume of our own follows its record.
                if !record.isReplica, volume.space().sizeBytes != record.sizeBytes {
                    try volume.resize(toBytes: record.sizeBytes)
                }
                return volume
            }
            return try aggregate.createVolume(
                msid: record.msid,
                sizeBytes: record.sizeBytes,
                isSpaceGuaranteed: record.guarantee == .volume,
                isReplica: record.isReplica
            )
        }
    }

    private func destroyVolume(_ record: VolumeRecord) async throws {
        if let aggregate = aggregate(record.aggregate) {
            replicationListener?.disconnect(record.msid)
            try await pool.run { try aggregate.deleteVolume(record.msid) }
        }
        _ = try await store.change(as: .system) { draft throws(ManagementError) in try draft.removeVolume(record.uuid) }
    }

    private func reconcileService(
        _ configuration: ServiceConfiguration,
        _ lifs: [LIFRecord],
        departed: [LIFRecord]
    ) async {
        let svm = configuration.svm
        let current = state.withLock { $0.services[svm.uuid] }
        if let current, current.isOperated {
            current.service.configure(configuration)
            // What a node has no part of any more its operation does not know of: nobody would give the face back. There is
            // nothing left to hold; where the volumes are now decides what is executed.
            guard svm.state == .running, configuration.volumes.isEmpty, lifs.isEmpty else { return }
            state.withLock { $0.services[svm.uuid]?.isOperated = false }
            current.service.reopen()
        }
        guard svm.state == .running else {
            await closeServices(of: [svm.uuid])
            for lif in lifs { state.withLock { $0.failures[lif.uuid] = nil } }
            return
        }
        let service = current?.service ?? makeService(svm)
        service.configure(configuration)
        state.withLock { $0.services[svm.uuid] = ServiceState(service: service, isOperated: false) }
        await bind(lifs, departed: departed, on: service)
    }

    /// Makes the addresses of a service those of the enabled LIFs.
    func bind(_ lifs: [LIFRecord], departed: [LIFRecord], on service: any ClientService) async {
        let wanted = lifs.filter(\.isEnabled)
        let endpoints = wanted.map { NetworkEndpoint(address: $0.address, port: $0.port) }
        let connections = await unbind(service.boundEndpoints.filter { !endpoints.contains($0) }, from: service)
        for lif in departed where !service.boundEndpoints.contains(lif.endpoint) {
            await tellDeparture(of: lif, connections[lif.endpoint] ?? [])
        }
        for (lif, endpoint) in zip(wanted, endpoints) {
            await attempt(lif.uuid, "LIF '\(lif.name)' (\(endpoint))") {
                self.state.withLock { $0.toldMoves[lif.uuid] = nil }
                let isTakenOver = lif.formerNode.map { $0 != self.node.uuid } ?? false
                if !self.isServed(lif, on: service) { try await self.awaitDeparture(of: lif, for: service) }
                try await self.bringUp(lif, on: service, isTakenOver: isTakenOver)
            }
        }
        for lif in lifs where !lif.isEnabled { state.withLock { $0.failures[lif.uuid] = nil } }
    }

    /// Gives addresses up. What has been executed is answered before its connection goes: another node, which serves the
    /// address from now on, does not know that it was.
    ///
    /// - Returns: the connections that clients had at addresses of the host.
    @discardableResult
    func unbind(
        _ endpoints: [NetworkEndpoint],
        from service: any ClientService
    ) async -> [NetworkEndpoint: [TransportConnection]] {
        if endpoints.isEmpty { return [:] }
        var connections: [NetworkEndpoint: [TransportConnection]] = [:]
        service.hold()
        _ = await service.drained(withinMilliseconds: Self.drainMilliseconds)
        for endpoint in endpoints {
            do throws(ManagementError) {
                try await surrender(endpoint, from: service)
                connections[endpoint] = service.connections(at: endpoint)
            } catch {
                // It is tried again by the next turn, and the listener stays till then.
                events.record(name: "lif.leftover", severity: "error", "the address of \(endpoint) stays: \(error)")
            }
        }
        service.reopen()
        return connections
    }

    private func closeServices(of svms: [ObjectUUID]) async {
        for svm in svms {
            let service = state.withLock { state in
                defer { state.services[svm] = nil }
                return state.services[svm]?.service
            }
            let endpoints = service?.boundEndpoints ?? []
            await service?.close()
            await takeDown(endpoints)
        }
    }

    func attempt(_ object: ObjectUUID, _ what: String, _ body: () async throws -> Void) async {
        do {
            try await body()
            state.withLock { $0.failures[object] = nil }
        } catch {
            let failure = ManagementError.from(error)
            let previous = state.withLock { state in
                defer { state.failures[object] = failure }
                return state.failures[object]
            }
            if previous != failure {
                events.record(name: "configuration.failed", severity: "error", "\(what): \(failure)")
            }
        }
    }
}
