package import ClusterConfiguration
import Environment
package import Hummingbird
import Identity
import JSON
package import MigrateOperation
package import MigrateSource
package import Orchestrator
package import StorageControl

/// `/api/svm/migrations` and its volumes.
package struct MigrationRoutes: RouteGroup {
    private let orchestrator: Orchestrator
    private let source: MigrateSource
    private let controller: StorageController
    private let jobs: JobManager
    private static let keys = ["uuid"]
    /// What a start and a resume say of places.
    private static let placeFields = [
        "destination.volume_placement.aggregates", "destination.ipspace", "godwit.tier", "godwit.interface_placement",
        "godwit.network_checks",
    ]
    private static let path = "/api/svm/migrations"
    /// The operations that this cluster is the source of; the reference interface shows them on the destination only.
    private static let sourcePath = "/api/private/godwit/migration-sources"

    /// Routes over both sides of the operations of a cluster.
    package init(
        orchestrator: Orchestrator,
        source: MigrateSource,
        controller: StorageController,
        jobs: JobManager
    ) {
        self.orchestrator = orchestrator
        self.source = source
        self.controller = controller
        self.jobs = jobs
    }

    /// Adds the routes.
    package func register(on router: Router<BasicRequestContext>) {
        registerReading(on: router)
        router.rest(.post, Self.path) { call in try await refusable { try await start(call) } }
        router.rest(.patch, Self.path + "/{uuid}") { call in
            _ = try await viewHere(call)
            return try await refusable { try await act(call) }
        }
        router.rest(.delete, Self.path + "/{uuid}") { call in
            _ = try await viewHere(call)
            return try await refusable { try await abort(call) }
        }
        registerSourceSide(on: router)
    }

    private func registerSourceSide(on router: Router<BasicRequestContext>) {
        router.rest(.get, Self.sourcePath) { call in
            let snapshot = try await controller.store.snapshot()
            let records = try await source.list().map { record in
                MigrationJSON.source(record, nodeName: snapshot.node(record.owningNode)?.name ?? "")
            }
            return try RESTCollection.answer(call, records, keys: Self.keys)
        }
        router.rest(.delete, Self.sourcePath + "/{uuid}") { call in
            try await refusable {
                let operation = try call.uuid()
                if let record = try await source.list().first(where: { $0.operation == operation }) {
                    try controller.requireHere(try await controller.store.snapshot().node(record.owningNode))
                }
                try await source.abandon(operation)
                return .accepted(
                    job: jobs.start("DELETE \(Self.sourcePath)/\(operation)") { _ in "nothing of it is left here" }
                )
            }
        }
    }

    /// Aborts an operation of this destination; the job ends when nothing is left of it, or when it failed.
    private func abort(_ call: RESTCall) async throws -> RESTAnswer {
        let operation = try call.uuid()
        try await orchestrator.abort(operation)
        return .accepted(
            job: jobs.start("DELETE \(Self.path)/\(operation)") { _ in
                while let record = try await orchestrator.get(operation)?.record, !record.state.isFinal {
                    guard record.state != .migrateAbortFailed else {
                        throw ManagementError(
                            .failed,
                            MigrateCode.abortFailed,
                            record.messages.last?.message ?? "the abort failed",
                            remedy: "mend the cause and abort again"
                        )
                    }
                    try await Task.sleep(for: .milliseconds(50))
                }
                return "the operation is aborted and nothing of it is left"
            }
        )
    }

    private func registerReading(on router: Router<BasicRequestContext>) {
        router.rest(.get, Self.path) { call in
            let snapshot = try await controller.store.snapshot()
            let records = try await orchestrator.list().map { view in
                MigrationJSON.operation(view, snapshot)
            }
            return try RESTCollection.answer(call, records, keys: Self.keys)
        }
        router.rest(.get, Self.path + "/{uuid}") { call in
            let found = try await viewHere(call)
            return RESTCollection.answer(
                call,
                record: MigrationJSON.operation(found, try await controller.store.snapshot()),
                keys: Self.keys
            )
        }
        router.rest(.get, Self.path + "/{uuid}/volumes") { call in
            let records = MigrationJSON.volumes(try await viewHere(call), try await controller.store.snapshot())
            return try RESTCollection.answer(call, records, keys: ["volume.uuid", "volume.name"])
        }
        router.rest(.get, Self.path + "/{uuid}/volumes/{volume}") { call in
            let volume = try call.uuid("volume")
            let records = MigrationJSON.volumes(try await viewHere(call), try await controller.store.snapshot())
            guard let record = records.first(where: { $0[path: "volume.uuid"]?.plain == volume.description }) else {
                throw ManagementError.notFound("volume of the migrate operation", volume.description)
            }
            return RESTCollection.answer(call, record: record, keys: ["volume.uuid", "volume.name"])
        }
    }

    /// The operation that the path of a request names.
    ///
    /// - Throws: `ElsewhereError` when another node drives it.
    private func viewHere(_ call: RESTCall) async throws -> MigrationView {
        let view = try await view(try call.uuid())
        try controller.requireHere(try await controller.store.snapshot().node(view.record.owningNode))
        return view
    }

    private func view(_ operation: ObjectUUID) async throws -> MigrationView {
        guard let view = try await orchestrator.get(operation) else {
            throw ManagementError(
                .notFound,
                MigrateCode.unknownOperation,
                "there is no migrate operation \(operation)",
                remedy: "list the operations with GET \(Self.path)",
                target: "uuid"
            )
        }
        return view
    }

    // MARK: - Start

    private func start(_ call: RESTCall) async throws -> RESTAnswer {
        try call.requireFields(among: [
            "source.svm.name", "source.svm.uuid", "source.cluster.name", "source.cluster.uuid", "auto_cutover",
            "auto_source_cleanup", "check_only", "throttle", "destination.ipspace.name", "destination.ipspace.uuid",
            "destination.volume_placement.aggregates", "godwit.hold_budget_ms", "godwit.ready_transfers",
            "godwit.ready_transfer_ms", "godwit.pre_commit_budget_ms", "godwit.cutover_attempts",
            "godwit.cutover_retry_ms", "godwit.tier", "godwit.interface_placement", "godwit.network_checks",
        ])
        let request = MigrationRequest(
            svmName: try call.required(try call.string("source.svm.name"), "source.svm.name"),
            peerName: try call.required(
                try call.string("source.cluster.name") ?? call.string("source.cluster.uuid"),
                "source.cluster.name"
            ),
            options: try await options(call)
        )
        let isCheckOnly = try call.bool("check_only") ?? call.isTrue("check_only") ?? false
        if isCheckOnly {
            let found = try await orchestrator.precheck(request, operation: ObjectUUID.random(controller.environment))
            guard found.findings.isEmpty else { throw PrecheckFailure(report: found) }
            let words = MigrationJSON.words(of: found.prediction)
            let details = MigrationJSON.details(found.decisions)
            return .accepted(
                job: jobs.start("POST \(Self.path)", details: details) { _ in "the pre-checks found nothing; \(words)" }
            )
        }
        let operation = try await orchestrator.start(request)
        let location = "\(Self.path)/\(operation)"
        return .accepted(job: jobs.start("POST \(location)") { _ in "the operation is started" }, location: location)
    }

    private func options(_ call: RESTCall) async throws -> MigrationOptions {
        var options = MigrationOptions()
        options.isAutoCutover = try call.bool("auto_cutover") ?? call.isTrue("auto_cutover") ?? true
        options.isAutoSourceCleanup =
            try call.bool("auto_source_cleanup") ?? call.isTrue("auto_source_cleanup") ?? true
        options.throttleBytesPerSecond = try throttle(call) ?? 0
        if let budget = try call.bytes("godwit.hold_budget_ms") {
            guard (100...60_000).contains(budget) else {
                throw Self.invalid("\(budget)", "godwit.hold_budget_ms", "give 100 to 60000 milliseconds")
            }
            options.holdBudgetMilliseconds = budget
        }
        if let count = try call.bytes("godwit.ready_transfers") {
            guard (1...1_000_000).contains(count) else {
                throw Self.invalid("\(count)", "godwit.ready_transfers", "give 1 to 1000000 transfers")
            }
            options.readyTransferCount = Int(count)
        }
        if let limit = try call.bytes("godwit.ready_transfer_ms") { options.readyTransferMilliseconds = max(1, limit) }
        if let budget = try call.bytes("godwit.pre_commit_budget_ms") {
            options.preCommitBudgetMilliseconds = max(1, budget)
        }
        if let count = try call.bytes("godwit.cutover_attempts") { options.cutoverAttemptsMax = max(1, count) }
        if let wait = try call.bytes("godwit.cutover_retry_ms") {
            options.cutoverRetryMilliseconds = max(1, wait)
            options.cutoverRetryMillisecondsMax = max(1, wait)
        }
        options.aggregates = try await aggregates(call)
        options.tier = try Self.tier(call) ?? nil
        let snapshot = try await controller.store.snapshot()
        options.ipSpace = try call.ipSpace(in: snapshot, "destination.ipspace")?.uuid
        options.interfaces = try Self.interfaceChoices(call, snapshot)
        if try call.bool("godwit.network_checks") == false { options.skipsNetworkChecks = true }
        return options
    }

    /// `godwit.tier`; nil when it is not given, and nil inside for any tier.
    private static func tier(_ call: RESTCall) throws(ManagementError) -> AggregateTier?? {
        guard let tier = try call.string("godwit.tier") else { return nil }
        if tier == "any" { return .some(nil) }
        guard let known = AggregateTier(rawValue: tier) else {
            throw invalid(tier, "godwit.tier", "give performance, capacity or any")
        }
        return known
    }

    /// `godwit.interface_placement`: where the user wants interfaces, each with `name`, `node.name` and `port.name`.
    private static func interfaceChoices(
        _ call: RESTCall,
        _ snapshot: ConfigurationSnapshot
    ) throws(ManagementError) -> [InterfaceChoice]? {
        let field = "godwit.interface_placement"
        var choices: [InterfaceChoice] = []
        for element in call.body.values(at: field[...]) {
            guard let name = element[path: "name"]?.plain, let node = element[path: "node.name"]?.plain,
                let port = element[path: "port.name"]?.plain
            else { throw invalid(element.text, field, "give name, node.name and port.name") }
            guard let found = snapshot.node(named: node) else { throw .notFound("node", node, target: field) }
            guard !choices.contains(where: { $0.interface == name }) else {
                throw invalid(name, field, "name each interface once")
            }
            choices.append(InterfaceChoice(interface: name, node: found.uuid, port: port))
        }
        return choices.isEmpty ? nil : choices
    }

    /// The unit of this field is KB/s; 1 to 4 count as 4, 0 is unlimited.
    private func throttle(_ call: RESTCall) throws -> UInt64? {
        guard let throttle = try call.bytes("throttle") else { return nil }
        return throttle == 0 ? 0 : max(throttle, 4) * 1_024
    }

    private func aggregates(_ call: RESTCall) async throws -> [ObjectUUID] {
        var aggregates: [ObjectUUID] = []
        let snapshot = try await controller.store.snapshot()
        for element in call.body.values(at: "destination.volume_placement.aggregates") {
            let wanted = element[path: "uuid"]?.plain ?? element[path: "name"]?.plain ?? ""
            guard let found = snapshot.aggregates.first(where: { $0.name == wanted || $0.uuid.description == wanted })
            else {
                throw ManagementError.notFound(
                    "aggregate",
                    wanted,
                    target: "destination.volume_placement.aggregates"
                )
            }
            aggregates.append(found.uuid)
        }
        return aggregates
    }

    private static func invalid(_ value: String, _ field: String, _ remedy: String) -> ManagementError {
        ManagementError(.invalid, "262197", "'\(value)' is not a value for '\(field)'", remedy: remedy, target: field)
    }

    // MARK: - Actions

    private func act(_ call: RESTCall) async throws -> RESTAnswer {
        let operation = try call.uuid()
        _ = try await view(operation)
        let action = try call.required(call.query("action") ?? call.string("action"), "action")
        if action != "resume", let field = Self.placeFields.first(where: { call.body[path: $0] != nil }) {
            throw ManagementError(
                .invalid,
                "13173747",
                "places can be chosen anew only by 'resume'",
                remedy: "leave \(field) out",
                target: field
            )
        }
        switch action {
        case "cutover": try await orchestrator.cutover(operation)
        case "source_cleanup": try await orchestrator.sourceCleanup(operation)
        case "pause": try await orchestrator.pause(operation)
        case "resume": try await orchestrator.resume(operation, try await resumeOptions(call))
        default:
            throw Self.invalid(action, "action", "give pause, resume, cutover or source_cleanup")
        }
        return .accepted(job: jobs.start("PATCH \(Self.path)/\(operation)") { _ in "\(action) is accepted" })
    }

    private func resumeOptions(_ call: RESTCall) async throws -> ResumeOptions {
        var options = ResumeOptions()
        options.isAutoCutover = try call.bool("auto_cutover") ?? call.isTrue("auto_cutover")
        options.isAutoSourceCleanup = try call.bool("auto_source_cleanup") ?? call.isTrue("auto_source_cleanup")
        options.throttleBytesPerSecond = try throttle(call)
        let aggregates = try await aggregates(call)
        if !aggregates.isEmpty { options.aggregates = aggregates }
        options.tier = try Self.tier(call)
        let snapshot = try await controller.store.snapshot()
        options.ipSpace = try call.ipSpace(in: snapshot, "destination.ipspace")?.uuid
        options.interfaces = try Self.interfaceChoices(call, snapshot)
        options.checksNetwork = try call.bool("godwit.network_checks")
        return options
    }

    /// Gives the errors of the migrate operation the form of the management interface.
    private func refusable(_ body: () async throws -> RESTAnswer) async throws -> RESTAnswer {
        do {
            return try await body()
        } catch let failure as PrecheckFailure {
            return Self.answer(failure)
        } catch let error as MigrateError {
            throw ManagementError(migrate: error)
        }
    }

    /// All findings at once: the first one's code, and every one in `arguments`.
    private static func answer(_ failure: PrecheckFailure) -> RESTAnswer {
        let findings = failure.findings.map { finding in
            JSONValue.fields([
                "code": .string(finding.code), "message": .string(finding.message), "remedy": .string(finding.remedy),
            ])
        }
        let code = failure.findings.first?.code ?? MigrateCode.startFailed
        let remedies = failure.findings.map(\.remedy).joined(separator: "; ")
        return RESTAnswer(
            .badRequest,
            .fields([
                "error": .fields([
                    "code": .string(code), "message": .string(failure.findings.map(\.message).joined(separator: "; ")),
                    "name": .string("precheck_failed"), "remedy": .string(remedies), "arguments": .array(findings),
                ]), "godwit": MigrationJSON.details(failure.decisions),
            ])
        )
    }
}

extension ManagementError {
    /// The management error of an error of the migrate operation.
    package init(migrate error: MigrateError) {
        let kind: Kind =
            switch error.kind {
            case .notFound: .notFound
            case .invalid, .wrongVersion: .invalid
            case .refused, .fenced, .pastPointOfNoReturn, .commitRecovered, .interrupted, .baselineLost: .conflict
            case .unreachable, .nodeAway, .notAuthenticated: .unavailable
            case .notInThisVersion: .unsupported
            case .failed: .failed
            }
        self.init(kind, error.code, error.message, remedy: error.remedy)
    }
}
