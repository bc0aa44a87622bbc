import ClusterConfiguration
import Identity
import JSON
import MigrateOperation
import GroupControl
import Orchestrator
import Replication
import Saga

/// Migrate operations in the words of REST; what the reference interface has no field for is under `godwit`.
enum MigrationJSON {
    /// One operation.
    static func operation(_ view: MigrationView, _ snapshot: ConfigurationSnapshot) -> JSONValue {
        let record = view.record
        let nodeName = snapshot.node(record.owningNode)?.name ?? ""
        let ipSpace = snapshot.ipSpace(record.svm.destinationIPSpace)
        let messages = record.messages.map { message in
            JSONValue.fields(["code": .string(message.code), "message": .string(message.message)])
        }
        return .fields([
            "uuid": .text(record.operation),
            "source": .fields([
                "svm": .reference(record.svm.name, record.svm.uuid),
                "cluster": .reference(record.svm.clusterName, record.svm.clusterUUID),
            ]),
            "destination": .fields(["ipspace": .reference(ipSpace?.name, ipSpace?.uuid)]),
            "auto_cutover": .bool(record.options.isAutoCutover),
            "auto_source_cleanup": .bool(record.options.isAutoSourceCleanup),
            "throttle": .count(record.options.throttleBytesPerSecond / 1_024),
            "state": .string(record.state.rawValue),
            "last_failed_state": record.lastFailedState.map { .string($0.rawValue) },
            "current_operation": .string(name(of: record.currentAction)),
            "last_operation": .string(name(of: record.lastAction)),
            "point_of_no_return": .bool(record.isPastPointOfNoReturn),
            "restart_count": .count(record.restartCount),
            "messages": .array(messages),
            "time_metrics": times(record.times),
            "godwit": godwit(view, nodeName),
            "_links": .selfLink("/api/svm/migrations/\(record.operation)"),
        ])
    }

    private static func name(of action: MigrationAction) -> String { action.rawValue }

    private static func times(_ times: MigrationTimes) -> JSONValue {
        .fields([
            "start_time": times.start.map { .time(nanoseconds: $0) },
            "end_time": times.end.map { .time(nanoseconds: $0) },
            "cutover_trigger_time": times.cutoverTrigger.map { .time(nanoseconds: $0) },
            "cutover_start_time": times.cutoverStart.map { .time(nanoseconds: $0) },
            "cutover_complete_time": times.cutoverComplete.map { .time(nanoseconds: $0) },
            "last_pause_time": times.lastPause.map { .time(nanoseconds: $0) },
            "last_resume_time": times.lastResume.map { .time(nanoseconds: $0) },
        ])
    }

    private static func godwit(_ view: MigrationView, _ nodeName: String) -> JSONValue {
        let record = view.record
        let stages = record.window.map { stage in
            JSONValue.fields([
                "name": .string(stage.name), "milliseconds": .double(Double(stage.durationMicroseconds) / 1_000),
            ])
        }
        let total = record.window.reduce(0) { $0 + $1.durationMicroseconds }
        let volumes = zip(record.svm.volumes, view.mirrors).map { progress($0, $1, record) }
        let running = record.log.events.last
        return .fields([
            "phase": .string(record.phase.rawValue),
            "step": running.map { .string($0.step) },
            "owning_node": .string(nodeName),
            "cutover_attempt": .count(record.attempt),
            "transfers": .count(record.transferNumber),
            "window": .array(stages),
            "window_ms": stages.isEmpty ? nil : .double(Double(total) / 1_000),
            "predicted_outage_ms": record.prediction.map { milliseconds($0.outageMicroseconds) },
            "predicted_baseline_ms": record.prediction?.baselineMilliseconds.map { .count($0) },
            "prediction": record.prediction.map(prediction),
            "outage": record.outage.map(outage),
            "pending": record.pending.map { .string($0.rawValue) },
            "cutovers_undone": .count(record.cutoverFailures),
            "volumes_verified": .count(record.verifiedHashes.count),
            "configuration": record.configurationStream.map(configuration),
            "node_pairs": .array(record.nodePairs.map(pair)),
            "volumes": .array(volumes),
        ])
    }

    private static func configuration(_ state: ConfigurationStreamState) -> JSONValue {
        .fields([
            "revision": .count(UInt64(clamping: state.revision)),
            "applied_time": state.nanoseconds == 0 ? nil : .time(nanoseconds: state.nanoseconds),
            "baselines": .count(state.baselines),
            "last_failure": state.lastFailure.map { .string($0) },
        ])
    }

    private static func pair(_ pair: NodePairBytes) -> JSONValue {
        .fields([
            "source": .string(pair.source), "destination": .string(pair.destination), "bytes": .count(pair.bytes),
        ])
    }

    private static func milliseconds(_ microseconds: UInt64) -> JSONValue { .double(Double(microseconds) / 1_000) }

    private static func prediction(_ prediction: OutagePrediction) -> JSONValue {
        .fields([
            "outage_ms": milliseconds(prediction.outageMicroseconds),
            "round_trip_ms": milliseconds(prediction.path.roundTripMicroseconds),
            "commit_ms": milliseconds(prediction.path.commitMicroseconds),
            "clock_skew_ms": .double(Double(prediction.path.clockSkewMicroseconds) / 1_000),
            "connections": .count(prediction.connectionCount),
            "volumes": .count(prediction.volumeCount),
        ])
    }

    private static func outage(_ outage: ObservedOutage) -> JSONValue {
        let gaps = outage.gaps.map { gap in
            JSONValue.fields(["client": .string(gap.client), "milliseconds": milliseconds(gap.microseconds)])
        }
        return .fields([
            "hold_ms": milliseconds(outage.holdMicroseconds),
            "longest_gap_ms": outage.longestGapMicroseconds.map(milliseconds),
            "gaps": .array(gaps),
        ])
    }

    /// What the pre-checks foretell, for people.
    static func words(of prediction: OutagePrediction) -> String {
        func text(_ microseconds: UInt64) -> String { "\(Double(microseconds / 100) / 10) ms" }
        var words = "round trip \(text(prediction.path.roundTripMicroseconds))"
        words += ", predicted outage \(text(prediction.outageMicroseconds))"
        if let baseline = prediction.baselineMilliseconds { words += ", baseline about \(baseline) ms" }
        return words
    }

    /// What was looked at for each volume and interface; nil when nothing was.
    static func details(_ placements: [PlacementDecision]) -> JSONValue? {
        placements.isEmpty ? nil : .fields(["placements": .array(placements.map(placement))])
    }

    private static func placement(_ decision: PlacementDecision) -> JSONValue {
        let options = decision.options.map { option in
            JSONValue.fields([
                "name": .string(option.name), "detail": .string(option.detail),
                "refusal": option.refusal.map { .string($0) },
            ])
        }
        return .fields([
            "kind": .string(decision.kind.rawValue), "name": .string(decision.name),
            "choice": decision.choice.map { .string($0) }, "reason": .string(decision.reason),
            "options": .array(options),
        ])
    }

    /// The source's side of an operation.
    static func source(_ record: SourceRecord, nodeName: String) -> JSONValue {
        .fields([
            "uuid": .text(record.operation),
            "svm": .reference(record.svmName, record.svm),
            "destination_cluster": .fields(["name": .string(record.destinationCluster)]),
            "source_state": .string(record.state.rawValue),
            "state": .string(record.operationState.rawValue),
            "epoch": .count(record.epoch),
            "owning_node": .string(nodeName),
            "owner_epoch": .count(record.ownerEpoch),
            "cutover_attempt": .count(record.attempt),
            "point_of_no_return": .bool(record.isPastPointOfNoReturn),
            "last_recovery_reason": record.lastRecoveryReason.map { .string($0) },
        ])
    }

    private static func progress(
        _ volume: VolumeDescription,
        _ mirror: VolumeMirrorStatus,
        _ record: DestinationRecord
    ) -> JSONValue {
        let done = record.progress[volume.msid.description] ?? VolumeProgress()
        let running = mirror.state == .transferring
        let bytes = done.bytesTransferred + (running ? mirror.transfer.bytes : 0)
        let milliseconds = done.durationMilliseconds + (running ? mirror.transfer.durationNanoseconds / 1_000_000 : 0)
        return .fields([
            "name": .string(volume.name), "uuid": .text(volume.uuid),
            "transfer_state": .string(mirror.state.rawValue),
            "transfers": .count(done.transfersCompleted),
            "bytes_transferred": .count(bytes),
            "transfer_milliseconds": .count(milliseconds),
            "baseline_bytes": done.baselineBytes.map { .count($0) },
            "baseline_milliseconds": done.baselineMilliseconds.map { .count($0) },
            "current_bytes": .count(mirror.transfer.bytes),
            "current_bytes_expected": .count(mirror.transfer.bytesExpected),
            "last_transfer_milliseconds": done.lastDurationMilliseconds.map { .count($0) },
            "size_used": .count(volume.usedBytes),
        ])
    }

    /// The volumes of an operation.
    static func volumes(_ view: MigrationView, _ snapshot: ConfigurationSnapshot) -> [JSONValue] {
        let record = view.record
        return zip(record.svm.volumes, view.mirrors).map { volume, mirror in
            let aggregate = volume.destinationAggregate.flatMap { snapshot.aggregate($0) }
            let node = aggregate.flatMap { snapshot.node($0.node) }
            let errors = mirror.failure.map { failure in
                [JSONValue.fields(["code": .string(MigrateCode.startFailed), "message": .string(failure)])]
            }
            let path = "/api/svm/migrations/\(record.operation)/volumes/\(volume.uuid)"
            return .fields([
                "volume": .reference(volume.name, volume.uuid),
                "svm": .reference(record.svm.name, record.svm.uuid),
                "node": .reference(node?.name, node?.uuid),
                "transfer_state": .string(mirror.state.rawValue),
                "healthy": .bool(mirror.failure == nil),
                "errors": .array(errors ?? []),
                "godwit": progress(volume, mirror, record),
                "_links": .selfLink(path),
            ])
        }
    }
}
