import Environment
import GroupControl
import ClusterConfiguration
import ConfigurationReplication
import Identity
import MigrateOperation
import MigrateSource
import Orchestrator
import Replication
import Synchronization

let svmUUID = ObjectUUID(high: 10, low: 10)
let volumeMSID = VolumeMSID(rawValue: 77)

/// The source's storage in the simulated world.
struct SimulatedSource: SourceStorage {
    let world: World
    let process: Process

    func acting(as authority: GroupAuthority) -> any SourceStorage { self }
    func note(_ record: SourceRecord) {}
    func pass(_ call: SourceCall, of svm: ObjectUUID, to node: ObjectUUID) async throws -> SourceReply {
        throw SimulatedFailure(deed: "a cluster of one node passes nothing on")
    }
    func isConcerned(by svm: ObjectUUID) async throws -> Bool { true }

    func describe(svmName: String) async throws -> (description: SVMDescription, findings: [PrecheckFinding])? {
        guard svmName == "svm" else { return nil }
        let record = SVMRecord(
            uuid: svmUUID,
            name: "svm",
            state: .running,
            handleKey: HandleKey(first: 1, second: 2)
        )
        let volume = VolumeDescription(
            uuid: ObjectUUID(high: 11, low: 11),
            name: "volume",
            msid: volumeMSID,
            sizeBytes: 1_000,
            isSpaceGuaranteed: false,
            usedBytes: 10,
            source: VolumeSource(
                nodeName: "alpha-01",
                endpoint: PeerEndpoint(address: "127.0.0.1", port: 1),
                secret: "secret"
            )
        )
        let recorded = VolumeRecord(
            uuid: volume.uuid,
            name: volume.name,
            msid: volume.msid,
            svm: svmUUID,
            aggregate: ObjectUUID(high: 14, low: 14),
            sizeBytes: volume.sizeBytes
        )
        let description = SVMDescription(
            uuid: svmUUID,
            name: "svm",
            clusterName: "alpha",
            clusterUUID: ObjectUUID(high: 12, low: 12),
            protocolVersion: migrateProtocolVersion,
            services: [],
            volumes: world.state.withLock { $0.sourceVolumeIsClosed } ? [] : [volume],
            interfaces: [],
            configuration: SVMConfiguration(svm: record, exportPolicies: [], volumes: [recorded], interfaces: [])
        )
        return (description, [])
    }
    func name(of svm: ObjectUUID) async throws -> String? {
        try world.deed("source-name", process) { $0.sourceExists ? "svm" : nil }
    }
    func setOperation(_ operation: ObjectUUID?, of svm: ObjectUUID) async throws {}
    func lockConfiguration(of svm: ObjectUUID, for operation: ObjectUUID) async throws {
        try world.deed("source-lock", process) { $0.sourceLock = operation }
    }
    func unlockConfiguration(of svm: ObjectUUID, from operation: ObjectUUID) async throws {
        try world.deed("source-unlock", process) { if $0.sourceLock == operation { $0.sourceLock = nil } }
    }
    func endMirrors(of svm: ObjectUUID) async throws {
        try world.deed("source-end-mirrors", process) { $0.mirrorIsInSync = false }
    }
    func deleteSnapshots(namePrefix: String, of svm: ObjectUUID) async throws {
        try world.deed("source-delete-all-snapshots", process) { $0.sourceSnapshots = [:] }
    }
    func takeSnapshot(_ snapshot: OperationSnapshot, of svm: ObjectUUID) async throws {
        if world.state.withLock({ $0.sourceOwnerIsSuperseded }) {
            throw MigrateError(.fenced, "epoch 1 has been superseded by 2", remedy: "stop this master")
        }
        try world.deed("source-take-snapshot", process) { state in
            if state.sourceSnapshots[snapshot.uuid] != nil { return }
            state.sourceSnapshots[snapshot.uuid] = state.sourceContent
            if state.mirrorIsInSync { state.destinationSnapshots[snapshot.uuid] = state.sourceContent }
        }
    }
    func deleteSnapshots(_ snapshots: [ObjectUUID], of svm: ObjectUUID) async throws {
        try world.deed("source-delete-snapshots", process) { state in
            for snapshot in snapshots { state.sourceSnapshots[snapshot] = nil }
        }
    }
    func mirrorStates(of svm: ObjectUUID) async throws -> [VolumeMSID: MirrorState] {
        try world.deed("source-mirrors", process) { [volumeMSID: $0.mirrorIsInSync ? .inSync : .outOfSync] }
    }
    func holdGate(of svm: ObjectUUID, attempt: UInt64, drainMilliseconds: UInt64) async throws -> Bool {
        try world.deed("source-hold", process) { $0.sourceGateIsOpen = false }
        try await world.waiting(process).milliseconds(world.drainMilliseconds)
        return try world.deed("source-drain", process) { _ in true }
    }
    func seal(
        _ svm: ObjectUUID,
        _ snapshot: OperationSnapshot,
        attempt: UInt64,
        since marks: [ProtocolStateMark],
        withinMilliseconds: UInt64
    ) async throws -> SealedService? {
        try await takeSnapshot(snapshot, of: svm)
        return SealedService(
            protocolState: try await exportProtocolState(of: svm, since: marks).state,
            lastAnswers: [ClientAnswerAge(client: "192.0.2.7:903", microseconds: 5)],
            mirrorStates: try await mirrorStates(of: svm)
        )
    }
    func exportProtocolState(
        of svm: ObjectUUID,
        since marks: [ProtocolStateMark]
    ) async throws -> (state: [UInt8], marks: [ProtocolStateMark]) {
        try world.deed("source-export", process) { _ in ([1, 2, 3], [ProtocolStateMark(face: 1, position: 3)]) }
    }
    func reopenGate(of svm: ObjectUUID, attempt: UInt64) async throws {
        try world.deed("source-reopen", process) { state in
            if state.sourceIsRecordedRunning { state.sourceGateIsOpen = true }
        }
    }
    func surrenderInterfaces(of svm: ObjectUUID) async throws {
        try world.deed("source-surrender", process) { $0.surrenderCount += 1 }
    }
    func releaseInterfaces(of svm: ObjectUUID) async throws {
        try world.deed("source-release", process) { $0.sourceIsBound = false }
    }
    func stop(_ svm: ObjectUUID, for operation: ObjectUUID) async throws {
        try world.deed("source-stop", process) { state in
            state.sourceIsRecordedRunning = false
            state.sourceGateIsOpen = false
            state.sourceIsBound = false
            state.mirrorIsInSync = false
        }
    }
    func contentHash(of volume: VolumeMSID, in svm: ObjectUUID, snapshot: ObjectUUID) async throws -> String {
        try world.deed("source-hash", process) { state in
            guard let content = state.sourceSnapshots[snapshot] else { throw SimulatedFailure(deed: "no snapshot") }
            return contentHashText(UInt64(content))
        }
    }
    func deleteSVM(_ svm: ObjectUUID) async throws {
        try world.deed("source-delete", process) { $0.sourceExists = false }
    }
}

/// The destination's storage in the simulated world.
struct SimulatedDestination: DestinationStorage {
    let world: World
    let process: Process

    func acting(as authority: GroupAuthority) -> any DestinationStorage { self }
    func isReady(for svm: SVMDescription) async throws -> Bool { true }

    func precheck(
        _ svm: SVMDescription,
        _ options: MigrationOptions
    ) async throws -> (findings: [PrecheckFinding], svm: SVMDescription, decisions: [PlacementDecision]) {
        var svm = svm
        svm.volumes = svm.volumes.map { volume in
            var volume = volume
            volume.destinationAggregate = ObjectUUID(high: 13, low: 13)
            return volume
        }
        return ([], svm, [])
    }
    func removeVolumes(_ volumes: [VolumeDescription], of svm: SVMDescription, for operation: ObjectUUID) async throws {
        try world.deed("remove-volumes", process) { state in
            if volumes.isEmpty { return }
            state.destinationVolumesExist = false
            state.destinationContent = 0
            state.destinationSnapshots = [:]
        }
    }
    func configurationPosition(of svm: ObjectUUID, for operation: ObjectUUID) async throws -> ConfigurationPosition? {
        try world.deed("position", process) { $0.destinationPosition }
    }
    func replicate(
        _ answer: ConfigurationAnswer,
        asked: ConfigurationPosition?,
        of svm: SVMDescription,
        _ options: MigrationOptions,
        for operation: ObjectUUID
    ) async throws -> ConfigurationPosition {
        let position = ConfigurationPosition(operation: operation, revision: answer.revision)
        try world.deed("create-svm", process) { state in
            if let tier = state.destinationTier, options.tier != tier, !state.destinationVolumesExist {
                throw MigrateError(.refused, code: MigrateCode.noCapacity, "no room", remedy: "")
            }
            let pending = ConfigurationPosition.pending(answer, asked: asked, current: state.destinationPosition)
            if let pending { state.destinationUpdates += pending }
            state.destinationExists = true
            state.destinationPosition = position
        }
        try world.deed("create-volumes", process) { $0.destinationVolumesExist = true }
        try world.deed("create-interfaces", process) { $0.destinationInterfacesExist = true }
        return position
    }
    func settle(_ volumes: [ObjectUUID], of svm: SVMDescription) async throws {}
    func placements(of svm: SVMDescription) async throws -> [ObjectUUID: ObjectUUID] {
        try world.deed("placements", process) { _ in
            svm.volumes.reduce(into: [:]) { $0[$1.uuid] = ObjectUUID(high: 13, low: 13) }
        }
    }
    func objectsHere(of svm: SVMDescription) async throws -> ObjectsHere {
        var here = ObjectsHere()
        if world.state.withLock({ $0.destinationVolumesExist }) { here.volumes = Set(svm.volumes.map(\.uuid)) }
        return here
    }
    func deleteMirrors(
        of svm: SVMDescription,
        namePrefix: String,
        retaining: SnapshotRetention,
        final: ObjectUUID?
    ) async throws {
        try world.deed("delete-mirrors", process) { state in
            state.mirrorIsInSync = false
            switch retaining {
            case .all: break
            case .none: state.destinationSnapshots = [:]
            case .onlyFinal: state.destinationSnapshots = state.destinationSnapshots.filter { $0.key == final }
            }
        }
    }
    func deleteSVM(_ svm: SVMDescription, for operation: ObjectUUID) async throws {
        try world.deed("delete-svm", process) { state in
            state.destinationExists = false
            state.destinationPosition = nil
            state.destinationVolumesExist = false
            state.destinationInterfacesExist = false
        }
    }
    func transfer(
        _ volume: VolumeDescription,
        of svm: SVMDescription,
        upTo snapshot: ObjectUUID,
        throttleBytesPerSecond: UInt64
    ) async throws -> TransferStatistics {
        try world.deed("transfer", process) { state in
            guard let content = state.sourceSnapshots[snapshot] else { throw SimulatedFailure(deed: "no snapshot") }
            guard state.destinationIsReplica else { throw SimulatedFailure(deed: "not a replica") }
            state.destinationContent = content
            state.destinationSnapshots[snapshot] = content
            var statistics = TransferStatistics()
            statistics.bytes = 10
            return statistics
        }
    }
    func startSynchronous(_ svm: SVMDescription) async throws {
        try world.deed("start-synchronous", process) { state in
            guard state.destinationIsReplica, state.sourceIsBound else { throw SimulatedFailure(deed: "no source") }
            state.destinationContent = state.sourceContent
            state.mirrorIsInSync = true
        }
    }
    func mirrorStatus(of volume: VolumeMSID) -> VolumeMirrorStatus {
        let isInSync = world.state.withLock { $0.mirrorIsInSync }
        return VolumeMirrorStatus(
            state: isInSync ? .inSync : .transitioning,
            transfer: TransferStatistics(),
            failure: nil
        )
    }
    func mirrorStatuses(of svm: SVMDescription) async throws -> [VolumeMSID: VolumeMirrorStatus] {
        [volumeMSID: mirrorStatus(of: volumeMSID)]
    }
    func nodeName(holding volume: VolumeMSID) -> String { "beta-01" }
    func stopMirrors(_ volumes: [VolumeMSID], of svm: SVMDescription) async throws {
        if volumes.isEmpty { return }
        try world.deed("stop-mirror", process) { $0.mirrorIsInSync = false }
    }
    func promote(
        at snapshot: ObjectUUID,
        _ protocolState: [UInt8],
        of svm: SVMDescription,
        withinMilliseconds: UInt64
    ) async throws -> [VolumeMSID] {
        let deadline = world.environment.monotonicNanoseconds() + withinMilliseconds * 1_000_000
        while try world.deed("has-snapshot", process, { $0.destinationSnapshots[snapshot] == nil }) {
            guard world.environment.monotonicNanoseconds() < deadline else { return [volumeMSID] }
            try await world.waiting(process).nanoseconds(500_000)
        }
        try await importProtocolState(protocolState, of: svm)
        try await setReplica(false, of: svm)
        return []
    }
    func setReplica(_ isReplica: Bool, of svm: SVMDescription) async throws {
        try world.deed("set-replica", process) { $0.destinationIsReplica = isReplica }
    }
    func deleteSnapshots(_ snapshots: [ObjectUUID], of svm: SVMDescription) async throws {
        try world.deed("delete-snapshots", process) { state in
            for snapshot in snapshots { state.destinationSnapshots[snapshot] = nil }
        }
    }
    func prepareToServe(_ svm: SVMDescription) async throws {
        try world.deed("prepare", process) { $0.destinationIsPrepared = true }
    }
    func discardPrepared(_ svm: SVMDescription) async throws {
        try world.deed("discard", process) { $0.destinationIsPrepared = false }
    }
    func importProtocolState(_ state: [UInt8], of svm: SVMDescription) async throws {
        try world.deed("import", process) { world in
            guard world.destinationIsPrepared, state == [1, 2, 3] else { throw SimulatedFailure(deed: "state") }
        }
    }
    func bindInterfaces(of svm: SVMDescription) async throws {
        try world.deed("bind", process) { state in
            guard state.destinationIsPrepared else { throw SimulatedFailure(deed: "not prepared") }
            state.destinationIsBound = true
        }
    }
    func openGate(of svm: SVMDescription) async throws {
        try world.deed("open-gate", process) { state in
            guard state.destinationIsPrepared else { throw SimulatedFailure(deed: "not prepared") }
            state.destinationGateIsOpen = true
        }
    }
    func firstAnswers(of svm: SVMDescription) async throws -> [ClientAnswerAge] {
        try world.deed("destination-answers", process) { _ in
            [ClientAnswerAge(client: "192.0.2.7:903", microseconds: 0)]
        }
    }
    func recordServing(_ svm: SVMDescription, for operation: ObjectUUID) async throws {
        try world.deed("record-serving", process) { $0.destinationIsRecordedServing = true }
    }
    func contentHash(of volume: VolumeMSID, in svm: SVMDescription, snapshot: ObjectUUID) async throws -> String {
        try world.deed("destination-hash", process) { state in
            guard let content = state.destinationSnapshots[snapshot] else {
                throw SimulatedFailure(deed: "no snapshot")
            }
            return contentHashText(UInt64(content))
        }
    }
}
