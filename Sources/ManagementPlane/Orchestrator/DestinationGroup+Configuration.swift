import ClusterConfiguration
package import ConfigurationReplication
import GroupControl
package import Identity
package import MigrateOperation
import Replication
import ReplicatedDatabase
import StorageControl

// The destination's end of the stream of an SVM's configuration.
extension DestinationGroup {
    /// How far the operation is. A position without its SVM, or of another operation, is none.
    package func configurationPosition(
        of svm: ObjectUUID,
        for operation: ObjectUUID
    ) async throws -> ConfigurationPosition? {
        guard let stored = try await storedPosition(of: svm), stored.position.operation == operation,
            try await group.controller.store.snapshot().svm(svm) != nil
        else { return nil }
        return stored.position
    }

    private func storedPosition(
        of svm: ObjectUUID
    ) async throws -> (position: ConfigurationPosition, record: DatabaseRecord)? {
        let key = ConfigurationPosition.key(of: svm)
        guard let record = try await group.controller.store.database.get(key) else { return nil }
        return (try ConfigurationCoding.decode(ConfigurationPosition.self, from: record.value, key: key), record)
    }

    /// Deletes the position of an operation that leaves nothing behind.
    func forgetPosition(of svm: ObjectUUID, for operation: ObjectUUID) async throws {
        guard let stored = try await storedPosition(of: svm), stored.position.operation == operation else { return }
        _ = try await group.controller.store.database.transact(
            when: [.modifyRevision(key: stored.record.key, equals: stored.record.modifyRevision)],
            [.delete(key: stored.record.key)]
        )
    }

    /// The aggregates of the volumes that the SVM has here.
    package func placements(of svm: SVMDescription) async throws -> [ObjectUUID: ObjectUUID] {
        let volumes = try await group.controller.store.snapshot().volumes(of: svm.uuid)
        return volumes.reduce(into: [:]) { if $1.state != .deleting { $0[$1.uuid] = $1.aggregate } }
    }

    /// What of the SVM is here.
    package func objectsHere(of svm: SVMDescription) async throws -> ObjectsHere {
        let snapshot = try await group.controller.store.snapshot()
        var here = ObjectsHere()
        here.svm = snapshot.svm(svm.uuid)
        here.volumes = Set(snapshot.volumes(of: svm.uuid).filter { $0.state != .deleting }.map(\.uuid))
        here.interfaces = snapshot.lifs(of: svm.uuid)
        return here
    }

    /// Applies what the source has told: a baseline in one transaction, updates in one for each revision, each with the
    /// position that it leads to.
    package func replicate(
        _ answer: ConfigurationAnswer,
        asked: ConfigurationPosition?,
        of svm: SVMDescription,
        _ options: MigrationOptions,
        for operation: ObjectUUID
    ) async throws -> ConfigurationPosition {
        do {
            return try await apply(answer, asked: asked, svm, options, operation)
        } catch let error as ManagementError {
            if let hopeless = Self.hopeless(error) { throw hopeless }
            throw error
        }
    }

    private func apply(
        _ answer: ConfigurationAnswer,
        asked: ConfigurationPosition?,
        _ svm: SVMDescription,
        _ options: MigrationOptions,
        _ operation: ObjectUUID
    ) async throws -> ConfigurationPosition {
        try ConfigurationKinds.requireKnown(answer.updates)
        // What is written below is written only while this is what is there: an orchestrator that was overtaken while it
        // looked for places must not set anything back.
        let stored = try await storedPosition(of: svm.uuid)
        let isHere = try await group.controller.store.snapshot().svm(svm.uuid) != nil
        let current = stored.flatMap { isHere && $0.position.operation == operation ? $0.position : nil }
        let pending = ConfigurationPosition.pending(answer, asked: asked, current: current)
        guard let pending else {
            guard let current else {
                throw MigrateError(
                    .failed,
                    "SVM '\(svm.name)' is not on this cluster any more, and what the source told of it is no beginning",
                    remedy: "nothing: all of it is asked for again"
                )
            }
            return current
        }
        var context = ConfigurationContext(svm: svm.uuid, operation: operation, ipSpace: svm.destinationIPSpace)
        switch answer {
        case .baseline(_, let revision):
            context.places = try await places(of: pending, svm, options)
            return try await applyBaseline(pending, revision, svm, context, from: stored?.record)
        case .updates:
            var (position, former) = (
                current ?? ConfigurationPosition(operation: operation, revision: 0), stored?.record
            )
            let lasting = try ConfigurationUpdate.withoutPassing(pending)
            for revision in Set(pending.map(\.revision)).sorted() {
                let updates = lasting.filter { $0.revision == revision }
                context.places = try await places(of: updates, svm, options)
                position = try await applyRevision(updates, revision, svm, context, from: former)
                former = try await written(position, svm)
            }
            return position
        }
    }

    private func applyRevision(
        _ updates: [ConfigurationUpdate],
        _ revision: Int64,
        _ svm: SVMDescription,
        _ context: ConfigurationContext,
        from former: DatabaseRecord?
    ) async throws -> ConfigurationPosition {
        let volumes = updates.filter { $0.kind == VolumeHandler.kind }.map(\.identifier)
        let before = try await group.controller.store.snapshot().volumes(of: svm.uuid)
        let going = try before.filter { volume in
            try updates.contains { try $0.identifier == volume.uuid.description && $0.isGoing() }
        }
        try await stopMirrors(going.map(\.msid), of: svm)
        let position = try await transact(revision, context, from: former) { draft throws(ManagementError) in
            try draft.replicate(updates, context)
        }
        if !volumes.isEmpty { try await makeSo(Set(volumes), before, svm) }
        return position
    }

    /// What the baseline does not have goes first, with its data, so that names, addresses and export policies are free.
    private func applyBaseline(
        _ updates: [ConfigurationUpdate],
        _ revision: Int64,
        _ svm: SVMDescription,
        _ context: ConfigurationContext,
        from former: DatabaseRecord?
    ) async throws -> ConfigurationPosition {
        guard updates.contains(where: { $0.kind == SVMHandler.kind }) else {
            throw MigrateError(
                .refused,
                code: MigrateCode.unknownSVM,
                "the source cluster has no SVM '\(svm.name)' any more",
                remedy: "abort the operation"
            )
        }
        let before = try await group.controller.store.snapshot().volumes(of: svm.uuid)
        let wanted = try updates.filter { try $0.kind == VolumeHandler.kind && !$0.isGoing() }.map(\.identifier)
        let going = before.filter { !wanted.contains($0.uuid.description) }
        if !going.isEmpty {
            try await stopMirrors(going.map(\.msid), of: svm)
            try await change(context) { draft throws(ManagementError) in
                try draft.removeAbsent(
                    from: updates,
                    ofKinds: [InterfaceHandler.kind, VolumeHandler.kind],
                    context
                )
            }
            try await makeSo(Set(going.map(\.uuid.description)), before, svm)
        }
        let position = try await transact(revision, context, from: former) { draft throws(ManagementError) in
            try draft.removeAbsent(from: updates, ofKinds: [InterfaceHandler.kind], context)
            try draft.replicate(updates, context)
            try draft.removeAbsent(from: updates, ofKinds: ConfigurationKinds.names, context)
        }
        try await makeSo(Set(wanted), before, svm)
        return position
    }

    /// Changes the configuration and the position together.
    private func transact(
        _ revision: Int64,
        _ context: ConfigurationContext,
        from former: DatabaseRecord?,
        _ body: (inout ConfigurationDraft) throws(ManagementError) -> Void
    ) async throws -> ConfigurationPosition {
        let position = ConfigurationPosition(operation: context.operation, revision: revision)
        return try await change(context) { draft throws(ManagementError) in
            try body(&draft)
            try draft.setPosition(position, context, from: former)
            return position
        }
    }

    /// Changes the configuration for the operation while it is at work and nobody else drives it. What is late changes nothing:
    /// the SVM of an operation that is aborted is not made again when it, and the position with it, is deleted already.
    private func change<Result: Sendable>(
        _ context: ConfigurationContext,
        _ body: (inout ConfigurationDraft) throws(ManagementError) -> Result
    ) async throws -> Result {
        let (operation, epoch) = (context.operation, group.authority?.epoch)
        return try await group.controller.change(
            as: .operation(operation),
            beside: MigrateKeys.destination(operation)
        ) { draft, stored throws(ManagementError) in
            try Self.requireAtWork(operation, epoch, stored)
            try draft.requireReplica(context)
            return try body(&draft)
        }
    }

    /// Makes sure that an operation takes configuration over, and that its orchestrator is the one that has this epoch.
    static func requireAtWork(
        _ operation: ObjectUUID,
        _ epoch: UInt64?,
        _ stored: DatabaseRecord?
    ) throws(ManagementError) {
        let record = try stored.map { record throws(ManagementError) in
            try ConfigurationCoding.decode(DestinationRecord.self, from: record.value, key: record.key)
        }
        let reason: String
        switch record?.phase {
        case nil: reason = "there is no such operation any more"
        case _ where epoch != nil && record?.epoch != epoch: reason = "another orchestrator has taken it over"
        case .setup, .transfer, .cutover: return
        case let phase?: reason = "it is in phase \(phase.rawValue)"
        }
        throw ManagementError(
            .conflict,
            overtakenCode,
            "what the source told of the configuration is too late for operation \(operation): \(reason)",
            remedy: "nothing: what is needed of it is asked for again"
        )
    }

    private static let overtakenCode = "operation_overtaken"

    /// The record of a position that was just written.
    /// - Throws: `.failed` when somebody has written another one since.
    private func written(_ position: ConfigurationPosition, _ svm: SVMDescription) async throws -> DatabaseRecord {
        if let stored = try await storedPosition(of: svm.uuid), stored.position == position { return stored.record }
        throw MigrateError(
            .failed,
            "the configuration of SVM '\(svm.name)' is replicated by somebody else, too",
            remedy: "nothing: it is asked for again"
        )
    }

    /// Lets the nodes make volumes that are recorded.
    package func settle(_ volumes: [ObjectUUID], of svm: SVMDescription) async throws {
        try await makeSo(Set(volumes.map(\.description)), [], svm)
    }

    /// Lets the nodes make some volumes as they are recorded now; fails when one of them could not be made so.
    private func makeSo(_ identifiers: Set<String>, _ before: [VolumeRecord], _ svm: SVMDescription) async throws {
        let snapshot = try await group.controller.store.snapshot()
        let here = snapshot.volumes(of: svm.uuid)
        let concerned = (before + here).filter { identifiers.contains($0.uuid.description) }
        let nodes = Set(concerned.map { snapshot.node(holding: $0)?.uuid ?? group.controller.node.uuid })
        try await reconcile(nodes.sorted(), Set(concerned.map(\.uuid)).sorted(), svm)
    }

    // MARK: - Places

    /// Places for volumes and interfaces that are not here yet.
    private func places(
        of updates: [ConfigurationUpdate],
        _ svm: SVMDescription,
        _ options: MigrationOptions
    ) async throws -> ConfigurationPlaces {
        let snapshot = try await group.controller.store.snapshot()
        let volumes = try updates.filter { $0.kind == VolumeHandler.kind }
            .compactMap { try $0.decoded(VolumeRecord.self) }
            .filter { $0.state != .deleting && snapshot.volume($0.uuid) == nil }
        var places = ConfigurationPlaces(volumes: try await places(of: volumes, svm, options))
        let interfaces = try updates.filter { $0.kind == InterfaceHandler.kind }
            .compactMap { try $0.decoded(LIFRecord.self) }
        if !interfaces.isEmpty {
            places.interfaces = try await self.places(of: interfaces, places.volumes, svm, options)
        }
        return places
    }

    private func places(
        of volumes: [VolumeRecord],
        _ svm: SVMDescription,
        _ options: MigrationOptions
    ) async throws -> [ObjectUUID: ObjectUUID] {
        var places: [ObjectUUID: ObjectUUID] = [:]
        var unplaced: [VolumeDescription] = []
        for volume in volumes {
            let known = svm.volumes.first { $0.uuid == volume.uuid }
            if let aggregate = known?.destinationAggregate {
                places[volume.uuid] = aggregate
                continue
            }
            unplaced.append(
                VolumeDescription(
                    uuid: volume.uuid,
                    name: volume.name,
                    msid: volume.msid,
                    sizeBytes: volume.sizeBytes,
                    isSpaceGuaranteed: volume.guarantee == .volume,
                    // One that was not described yet was made just now.
                    usedBytes: known?.usedBytes ?? 0,
                    source: VolumeSource(nodeName: "", endpoint: PeerEndpoint(address: "", port: 0), secret: "")
                )
            )
        }
        if unplaced.isEmpty { return places }
        let (findings, placed) = try await place(unplaced, options)
        try Self.refuse(findings)
        for volume in placed { places[volume.uuid] = volume.destinationAggregate }
        return places
    }

    /// Interfaces go where the pre-check has placed them; those that were made or changed later are placed like them. Those that
    /// are here at their address stay.
    private func places(
        of interfaces: [LIFRecord],
        _ aggregates: [ObjectUUID: ObjectUUID],
        _ svm: SVMDescription,
        _ options: MigrationOptions
    ) async throws -> [ObjectUUID: ConfigurationPlaces.Interface] {
        let here = try await group.controller.store.snapshot().lifs(of: svm.uuid)
        let new = interfaces.filter { Self.needsPlace($0, here) }
        if new.isEmpty { return [:] }
        var (asked, options) = (svm, options)
        asked.configuration.interfaces = new
        asked.interfaces = new.map { interface in
            svm.interfaces.first { $0.name == interface.name && $0.address == interface.address }
                ?? InterfaceDescription(name: interface.name, address: interface.address, port: interface.port)
        }
        for index in asked.volumes.indices where asked.volumes[index].destinationAggregate == nil {
            asked.volumes[index].destinationAggregate = aggregates[asked.volumes[index].uuid]
        }
        // What was chosen for the others is no mistake.
        options.interfaces = options.interfaces?.filter { choice in new.contains { $0.name == choice.interface } }
        let (findings, placed, decisions) = try await placeInterfaces(of: asked, options)
        if let finding = findings.first, try await isAnyoneUnheard(decisions) {
            throw MigrateError(
                .nodeAway,
                code: finding.code,
                "\(finding.message); not all nodes could be asked",
                remedy: "nothing: they are asked again; \(finding.remedy)"
            )
        }
        try Self.refuse(findings)
        return zip(new, placed).reduce(into: [:]) { places, pair in
            guard let place = pair.1.destination else { return }
            places[pair.0.uuid] = ConfigurationPlaces.Interface(node: place.node, port: place.port)
        }
    }

    /// Whether nodes are down, or did not answer: one of them may have the port that is missing.
    private func isAnyoneUnheard(_ decisions: [PlacementDecision]) async throws -> Bool {
        let up = try await group.controller.namesOfNodesUp()
        let nodes = try await group.controller.store.snapshot().nodes
        return nodes.contains { !up.contains($0.name) }
            || decisions.contains { $0.options.contains { $0.name.hasSuffix(Self.silentSuffix) } }
    }

    private static func refuse(_ findings: [PrecheckFinding]) throws {
        guard let first = findings.first else { return }
        throw MigrateError(
            .refused,
            code: first.code,
            findings.map(\.message).joined(separator: "; "),
            remedy: findings.map(\.remedy).joined(separator: "; ")
        )
    }

    /// What trying again does not mend.
    private static func hopeless(_ error: ManagementError) -> MigrateError? {
        if error.code == overtakenCode { return MigrateError(.fenced, error.message, remedy: error.remedy) }
        if error.kind == .unsupported {
            return MigrateError(.refused, code: MigrateCode.unknownFeature, error.message, remedy: error.remedy)
        }
        guard error.code == SVMHandler.goneCode else { return nil }
        return MigrateError(.refused, code: MigrateCode.unknownSVM, error.message, remedy: error.remedy)
    }
}
