package import Identity
package import MigrateOperation

/// What the pre-checks of both clusters say.
package struct PrecheckReport: Sendable {
    /// The source's description with a place chosen for each volume and interface.
    package var svm: SVMDescription
    /// Everything that speaks against the operation.
    package var findings: [PrecheckFinding]
    /// What is expected of it.
    package var prediction: OutagePrediction
    /// What was looked at for each place, and why it was chosen.
    package var decisions: [PlacementDecision]
}

// The pre-checks of both clusters, run together, everything found reported at once [126].
extension Orchestrator {
    /// The clocks of two clusters may differ by this much.
    static let clockSkewMicrosecondsMax: Int64 = 60_000_000
    /// A longer round trip makes the outage long whatever else is done.
    static let roundTripMicrosecondsMax: UInt64 = 200_000

    /// Runs the pre-checks; nothing is made.
    package func precheck(_ request: MigrationRequest, operation: ObjectUUID) async throws -> PrecheckReport {
        let source = try await directory.sourceCluster(peerName: request.peerName)
        let call = SourceCall(operation: operation, epoch: 1, request: .describe(svmName: request.svmName))
        guard case .description(var svm, var findings) = try await source.send(call).answer else {
            throw Migration.strangeAnswer("describe")
        }
        async let measured = Prediction.path(
            to: source,
            operation: operation,
            database: database,
            environment: environment,
            measuresRate: true
        )
        findings += Self.findings(of: svm)
        let here = try await storage.precheck(svm, request.options)
        findings += here.findings
        svm = here.svm
        findings += try await others(with: svm)
        let prediction = OutagePrediction(
            path: try await measured,
            connectionCount: svm.connectionCount,
            volumeCount: UInt64(svm.volumes.count),
            usedBytes: svm.volumes.reduce(0) { $0 + $1.usedBytes }
        )
        findings += Self.findings(of: prediction, holdBudgetMilliseconds: request.options.holdBudgetMilliseconds)
        return PrecheckReport(svm: svm, findings: findings, prediction: prediction, decisions: here.decisions)
    }

    /// Other operations of this cluster that move the same SVM or one of its name.
    private func others(with svm: SVMDescription) async throws -> [PrecheckFinding] {
        try await records.all().map(\.record)
            .filter { $0.phase != .ended && ($0.svm.uuid == svm.uuid || $0.svm.name == svm.name) }
            .map { record in
                PrecheckFinding(
                    code: MigrateCode.svmInMigrate,
                    "SVM '\(svm.name)' is already being migrated by operation \(record.operation) (state \(record.state.rawValue))",
                    remedy: "wait for that operation, or abort it"
                )
            }
    }

    /// What speaks against the SVM itself: pure.
    static func findings(of svm: SVMDescription) -> [PrecheckFinding] {
        var findings: [PrecheckFinding] = []
        if svm.protocolVersion != migrateProtocolVersion {
            findings.append(
                PrecheckFinding(
                    code: MigrateCode.wrongVersion,
                    "the source speaks version \(svm.protocolVersion) of the migrate protocol, this cluster \(migrateProtocolVersion)",
                    remedy: "run the same version of the software on both clusters"
                )
            )
        }
        if svm.volumes.isEmpty {
            findings.append(
                PrecheckFinding(
                    code: MigrateCode.noVolumes,
                    "SVM '\(svm.name)' has no volume",
                    remedy: "create a volume first, or create the SVM anew on the destination"
                )
            )
        }
        for feature in svm.features where !SVMDescription.knownFeatures.contains(feature) {
            findings.append(
                PrecheckFinding(
                    code: MigrateCode.unknownFeature,
                    "SVM '\(svm.name)' uses '\(feature)', which this cluster does not have",
                    remedy: "run the source's version of the software here, or remove it from the SVM"
                )
            )
        }
        return findings
    }

    /// What speaks against the way between the clusters: pure.
    static func findings(of prediction: OutagePrediction, holdBudgetMilliseconds: UInt64) -> [PrecheckFinding] {
        var findings: [PrecheckFinding] = []
        let path = prediction.path
        if abs(path.clockSkewMicroseconds) > clockSkewMicrosecondsMax {
            findings.append(
                PrecheckFinding(
                    code: MigrateCode.clockSkew,
                    "the source's clock differs by \(path.clockSkewMicroseconds / 1_000) ms",
                    remedy: "synchronise the clocks of both clusters with NTP"
                )
            )
        }
        if path.roundTripMicroseconds > roundTripMicrosecondsMax {
            findings.append(
                PrecheckFinding(
                    code: MigrateCode.roundTrip,
                    "a round trip to the source takes \(path.roundTripMicroseconds / 1_000) ms, the most is \(roundTripMicrosecondsMax / 1_000)",
                    remedy: "use a faster network between the clusters"
                )
            )
        }
        if prediction.outageMicroseconds > holdBudgetMilliseconds * 1_000 {
            findings.append(
                PrecheckFinding(
                    code: MigrateCode.predictedOutage,
                    "an outage of \(prediction.outageMicroseconds / 1_000) ms is predicted, the hold budget is \(holdBudgetMilliseconds) ms",
                    remedy: "give a larger hold budget, or a faster network between the clusters"
                )
            )
        }
        return findings
    }
}
