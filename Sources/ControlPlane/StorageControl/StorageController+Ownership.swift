import ClusterConfiguration
package import Environment
package import Identity
import Logging
import Replication
import Synchronization
import VolumeEngine

/// What has to be settled when volumes come to a node, or leave it, while it runs: migrates that they take part in.
package protocol OwnershipObserver: Sendable {
    /// The volumes of these SVMs are about to come.
    ///
    /// - Returns: the SVMs that must not be served, because a migrate has passed its point of no return.
    func willServe(_ svms: Set<ObjectUUID>) async throws -> Set<ObjectUUID>
    /// They have come.
    func didOpen(_ svms: Set<ObjectUUID>) async throws
    /// These volumes are about to go; nobody may use them any more on return.
    func willRelinquish(_ volumes: [VolumeMSID]) async
    /// This node stands in for nodes that are down. Told again and again as long as they are.
    func standIn(for nodes: Set<ObjectUUID>) async throws
}

// Which aggregates are open is what the records of the aggregates say: whoever wants an aggregate to change hands writes
// the new owner into its record, and both nodes make it so. What keeps them apart is the lock of the directory.
extension StorageController {
    private static let turnMilliseconds: UInt64 = 100

    /// Sets who is told of volumes that come and go.
    package func observe(ownershipBy observer: any OwnershipObserver) {
        state.withLock { $0.ownershipObserver = observer }
    }

    /// Keeps the aggregates open that this node owns, and no others, until the task is cancelled.
    package func keepAggregates(_ waiting: Waiting) async {
        while (try? await waiting.milliseconds(Self.turnMilliseconds)) != nil { await keepAggregatesOnce() }
    }

    /// One turn of `keepAggregates`; one at a time.
    package func keepAggregatesOnce() async {
        await ownershipLock.acquire()
        await openAndCloseAggregates()
        await ownershipLock.release()
    }

    private func openAndCloseAggregates() async {
        let (snapshot, open, isStopped) = state.withLock { ($0.reconciled, $0.aggregates, $0.isStopped) }
        guard !isStopped else { return }
        var isChanged = false
        for (uuid, aggregate) in open.sorted(by: { $0.key < $1.key }) {
            let isTakenOver = (try? await pool.run { aggregate.isTakenOver() }) ?? false
            let owner = snapshot.aggregate(uuid)?.node
            guard isTakenOver || (owner != nil && owner != node.uuid) else { continue }
            if isTakenOver { await dropInterfaces() }
            isChanged = await relinquish(uuid, aggregate, snapshot) || isChanged
        }
        for record in snapshot.aggregates where record.node == node.uuid && isComing(record.uuid, snapshot) {
            await attempt(record.uuid, "an aggregate that comes to this node") {
                isChanged = try await self.takeOver(record) || isChanged
            }
        }
        // What another node has now is no failure of this one any more.
        for record in snapshot.aggregates where record.node != node.uuid {
            state.withLock { $0.failures[record.uuid] = nil }
        }
        await settle()
        if isChanged { await reconcile() }
    }

    /// Tells the observer of SVMs that have come, again when the database did not answer.
    private func settle() async {
        let (svms, observer) = state.withLock { ($0.unsettled, $0.ownershipObserver) }
        guard !svms.isEmpty, let observer else { return }
        do {
            try await observer.didOpen(svms)
            state.withLock { $0.unsettled.subtract(svms) }
        } catch {
            logger.warning("what came to this node is not settled yet: \(error)")
        }
    }

    /// Whether this node owns an aggregate that it has not opened and is able to.
    func isComing(_ uuid: ObjectUUID, _ snapshot: ConfigurationSnapshot) -> Bool {
        guard let record = snapshot.aggregate(uuid), record.node == node.uuid, aggregate(uuid) == nil else {
            return false
        }
        // One of its own that the configuration file does not name any more is not opened behind the user's back.
        return record.home != node.uuid || state.withLock { $0.settings.contains { $0.name == record.name } }
    }

    /// Opens an aggregate that came to this node while it runs.
    ///
    /// - Returns: whether it is open now; false when it has another owner meanwhile.
    private func takeOver(_ record: AggregateRecord) async throws -> Bool {
        let snapshot = try await store.snapshot()
        guard let current = snapshot.aggregate(record.uuid), current.node == node.uuid else { return false }
        let settings = state.withLock { $0.settings }
        // What a partner's configuration file says is not known here: all nodes make journals of one size.
        let setting = current.home == node.uuid ? settings.first { $0.name == current.name } : settings.first
        let aggregate = try await open(current, journalBytes: setting?.journalBytes)
        do {
            // Whoever was slow may have been overtaken, and finds it here: nobody else can have opened it meanwhile.
            let newest = try await store.snapshot()
            guard let owned = newest.aggregate(record.uuid), owned.node == node.uuid,
                owned.ownershipEpoch == current.ownershipEpoch
            else {
                try? await pool.run { aggregate.close() }
                return false
            }
            let svms = Set(newest.volumes.filter { $0.aggregate == record.uuid }.map(\.svm))
            let observer = state.withLock { $0.ownershipObserver }
            let silenced = try await observer?.willServe(svms) ?? []
            for svm in silenced.sorted() { try await prepareService(of: svm).hold() }
            // From here on it may be served, and is closed by `relinquish` only.
            state.withLock { state in
                state.aggregates[record.uuid] = aggregate
                state.unsettled.formUnion(svms)
            }
        } catch {
            try? await pool.run { aggregate.close() }
            throw error
        }
        events.record(
            name: "aggregate.opened",
            severity: "notice",
            "aggregate '\(record.name)' is served by node '\(node.name)' now (epoch \(record.ownershipEpoch ?? 0))"
        )
        return true
    }

    /// Stops serving the volumes of an aggregate and closes it. Requests for them wait, or go to the new owner.
    ///
    /// - Returns: whether it is closed; false when requests are still being executed, for the next turn.
    private func relinquish(_ uuid: ObjectUUID, _ aggregate: Aggregate, _ snapshot: ConfigurationSnapshot) async -> Bool
    {
        await state.withLock { $0.ownershipObserver }?.willRelinquish(aggregate.volumes.map(\.msid))
        await reconcileLock.acquire()
        guard self.aggregate(uuid) === aggregate else {
            // The daemon ends, and has closed it.
            await reconcileLock.release()
            return true
        }
        let uuids = Set(snapshot.volumes.filter { $0.aggregate == uuid }.map(\.svm))
        let services = state.withLock { state in
            snapshot.svms.filter { uuids.contains($0.uuid) }.compactMap { svm in
                state.services[svm.uuid].map { (svm: svm, service: $0) }
            }
        }
        for (_, service) in services { service.service.hold() }
        var isIdle = true
        for (_, service) in services {
            _ = await service.service.drained(withinMilliseconds: Self.drainMilliseconds)
            isIdle = isIdle && service.service.executingCount == 0
        }
        if isIdle {
            state.withLock { $0.aggregates[uuid] = nil }
            for (svm, service) in services {
                service.service.configure(configuration(of: svm, openVolumes(of: svm, snapshot), snapshot))
            }
        }
        for (svm, service) in services {
            // A gate that a migrate holds stays held for what is still here. With nothing left of its SVM there is nothing to
            // hold any more: where the volumes are now decides what is executed.
            guard !service.isOperated || openVolumes(of: svm, snapshot).isEmpty else { continue }
            service.service.reopen()
            releaseService(of: svm.uuid)
        }
        if isIdle {
            let listener = replicationListener
            try? await pool.run {
                for volume in aggregate.volumes { listener?.disconnect(volume.msid) }
                aggregate.close()
            }
            let name = snapshot.aggregate(uuid)?.name ?? uuid.description
            events.record(
                name: "aggregate.relinquished",
                severity: "notice",
                "aggregate '\(name)' is not served by node '\(node.name)' any more"
            )
        }
        await reconcileLock.release()
        return isIdle
    }

    /// Gives up every address: others hold this node for dead, and serve them. What is still its own comes back with the
    /// configuration, once that can be read.
    private func dropInterfaces() async {
        await reconcileLock.acquire()
        let services = state.withLock { state in state.services.keys.sorted().compactMap { state.services[$0] } }
        // A gate that a migrate holds stays held: its operation is told by the record that it has lost.
        for service in services {
            if service.isOperated {
                await surrenderHostAddresses(of: service.service)
            } else {
                await unbind(service.service.boundEndpoints, from: service.service)
            }
        }
        await reconcileLock.release()
    }

    func openVolumes(
        of svm: SVMRecord,
        _ snapshot: ConfigurationSnapshot
    ) -> [(record: VolumeRecord, volume: Volume)] {
        snapshot.volumes(of: svm.uuid).filter { $0.state == .online }.compactMap { record in
            openedVolume(record).map { (record: record, volume: $0) }
        }
    }

    /// Opens an aggregate of the configuration file when the node starts.
    func open(_ setting: AggregateSetting) async throws {
        let snapshot = try await store.snapshot()
        let known = snapshot.aggregate(named: setting.name)
        if let known, known.node != node.uuid {
            let owner = snapshot.node(known.node)?.name ?? known.node.description
            guard known.home == node.uuid else {
                throw ManagementError(
                    .exists,
                    "aggregate_exists",
                    "aggregate '\(setting.name)' of this cluster belongs to node '\(owner)'",
                    remedy: "give the aggregate another name in the configuration file"
                )
            }
            events.record(
                name: "aggregate.takenOver",
                severity: "notice",
                "aggregate '\(setting.name)' is with node '\(owner)', which took it over; it comes back with "
                    + "'godwit node giveback --name \(node.name)'"
            )
            return
        }
        var record = AggregateRecord(
            uuid: known?.uuid ?? .random(environment),
            name: setting.name,
            node: node.uuid,
            directory: setting.directory,
            capacityBytes: setting.capacityBytes
        )
        record.tier = setting.tier
        record.homeNode = known?.homeNode
        record.ownershipEpoch = known?.ownershipEpoch
        let aggregate = try await open(record, journalBytes: setting.journalBytes, isNew: known == nil)
        record.uuid = aggregate.uuid
        if known != record {
            let written = record
            _ = try await store.change(as: .system) { draft throws(ManagementError) in try draft.putAggregate(written) }
        }
        state.withLock { $0.aggregates[aggregate.uuid] = aggregate }
    }

    /// Opens the aggregate of a record.
    ///
    /// - Parameter isNew: whether no record names it yet: it may be made.
    private func open(_ record: AggregateRecord, journalBytes: Int?, isNew: Bool = false) async throws -> Aggregate {
        guard isNew || Aggregate.isPresent(in: record.directory) else {
            throw ManagementError(
                .unavailable,
                "aggregate_absent",
                "\(record.directory) holds no aggregate, and '\(record.name)' of this cluster is there",
                remedy: "mount its file system there on this node, or correct the directory in the configuration file"
            )
        }
        let events = events
        let environment = environment
        let options = AggregateOptions(
            node: node.uuid,
            ownershipEpoch: record.ownershipEpoch ?? 0,
            capacityBytes: record.capacityBytes,
            journalBytes: journalBytes,
            onEvent: { events.record($0) }
        )
        let aggregate: Aggregate
        do {
            aggregate = try await pool.run {
                try Aggregate.open(directory: record.directory, options: options, environment: environment)
            }
        } catch let error as StorageError {
            var failure = ManagementError(storage: error)
            failure.message = "aggregate '\(record.name)' in \(record.directory): \(error.message)"
            throw failure
        }
        guard isNew || record.uuid == aggregate.uuid else {
            aggregate.close()
            throw ManagementError(
                .conflict,
                "aggregate_differs",
                "\(record.directory) holds the aggregate \(aggregate.uuid), but '\(record.name)' of this cluster is "
                    + "\(record.uuid)",
                remedy: "correct the directory in the configuration file, or mount the right file system there"
            )
        }
        return aggregate
    }
}
