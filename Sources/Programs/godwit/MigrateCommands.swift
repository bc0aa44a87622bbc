import ArgumentParser
import JSON

/// `godwit svm migrate …`, on the destination cluster.
struct MigrateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "migrate",
        abstract: "Moves an SVM from another cluster to this one while its clients keep working.",
        subcommands: [
            Start.self, Show.self, Pause.self, Resume.self, Cutover.self, Abort.self, SourceCleanup.self,
        ]
    )
    static let path = "/api/svm/migrations"
    static let sourcePath = "/api/private/godwit/migration-sources"

    struct Start: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Starts to move an SVM.",
            discussion: "Run it on the destination. The pre-checks of both clusters report everything at once."
        )
        @OptionGroup var options: GlobalOptions
        @Option(help: "The SVM on the source cluster.") var svm: String
        @Option(help: "The cluster peer that has it.") var sourceCluster: String
        @Option(help: "Cut over as soon as it is ready (true), or wait for 'cutover' (false).")
        var autoCutover = true
        @Option(help: "Delete the source after the integrity check (true), or wait for 'source-cleanup' (false).")
        var autoSourceCleanup = true
        @OptionGroup var places: MigratePlaces
        @Option(help: "Limit of all transfers together in KB/s; 0 is unlimited.") var throttle: Int64 = 0
        @Option(help: "Milliseconds that clients may be held before the cutover is undone (default: 5000).")
        var holdBudgetMs: Int64?
        @Option(help: "Short transfers in a row that make it ready for cutover (default: 3).")
        var readyTransfers: Int64?
        @Option(help: "Milliseconds that the configuration may stay locked before the cutover (default: 7200000).")
        var preCommitBudgetMs: Int64?
        @Option(help: "Cutovers in a row that may be undone before it gives up (default: 10).")
        var cutoverAttempts: Int64?
        @Option(help: "Milliseconds between cutovers that were undone (default: 500, doubling up to 30000).")
        var cutoverRetryMs: Int64?
        @Flag(help: "Only run the pre-checks.") var checkOnly = false
        @Flag(help: "Watch it until it ends.") var watch = false

        func run() async throws {
            let choices: [(String, Int64?)] = [
                ("hold_budget_ms", holdBudgetMs), ("ready_transfers", readyTransfers),
                ("pre_commit_budget_ms", preCommitBudgetMs), ("cutover_attempts", cutoverAttempts),
                ("cutover_retry_ms", cutoverRetryMs),
            ]
            var given = choices.compactMap { name, value in value.map { (key: name, value: JSONValue.int($0)) } }
            given += try places.fields()
            let body = JSONValue.fields([
                "source": .fields([
                    "svm": .fields(["name": .string(svm)]), "cluster": .fields(["name": .string(sourceCluster)]),
                ]),
                "auto_cutover": .bool(autoCutover), "auto_source_cleanup": .bool(autoSourceCleanup),
                "check_only": .bool(checkOnly), "throttle": .int(throttle),
                "destination": places.destination,
                "godwit": given.isEmpty ? nil : .object(given),
            ])
            let client = options.client
            if checkOnly { return try await check(client, body) }
            let job = try await explained {
                try await client.wait(for: try await client.post(MigrateCommand.path, body)) { _ in }
            }
            // The job's description ends with the identifier of the operation.
            let words = job[path: "description"]?.plain ?? ""
            let uuid = String(words.split(separator: "/").last ?? "")
            if watch { return try await MigrateWatch(client: client, uuid: uuid, json: options.json).run() }
            let record = try await client.get("\(MigrateCommand.path)/\(uuid)")
            options.done("migrate operation \(uuid) started; watch it with 'godwit svm migrate show --watch'", record)
        }

        /// Runs the pre-checks and tells where everything would go, and why.
        private func check(_ client: Client, _ body: JSONValue) async throws {
            let job = try await explained {
                try await client.wait(for: try await client.post(MigrateCommand.path, body)) { _ in }
            }
            if !options.json { PlacementTable.lines(job[path: "godwit"]).forEach { print($0) } }
            options.done(job[path: "message"]?.plain ?? "the pre-checks found nothing", job)
        }

        /// Lets something be done; when the pre-checks are against it, tells what was looked at.
        private func explained(_ body: () async throws -> JSONValue) async throws -> JSONValue {
            do {
                return try await body()
            } catch let error as CommandError {
                if let details = error.details {
                    if options.json { print(JSONValue.fields(["godwit": details]).text) }
                    if !options.json { PlacementTable.lines(details).forEach { print($0) } }
                }
                throw error
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Shows the migrate operations of this destination.")
        @OptionGroup var options: GlobalOptions
        @Option(help: "Only those of this SVM.") var svm: String?
        @Flag(help: "Watch the newest one until it ends.") var watch = false
        @Flag(help: "Volumes and the stages of the outage too.") var details = false
        @Flag(help: "The operations that this cluster is the source of.") var sourceSide = false

        func run() async throws {
            let client = options.client
            if sourceSide { return try await showSources(client) }
            if watch {
                let uuid = try await MigrateCommand.newest(client, svm)
                return try await MigrateWatch(client: client, uuid: uuid, json: options.json).run()
            }
            let records = try await client.records(MigrateCommand.path, [("source.svm.name", svm)])
            options.show(
                records,
                [
                    Column("SVM", "source.svm.name"), Column("SOURCE", "source.cluster.name"),
                    Column("STATE", "state"), Column("PHASE", "godwit.phase"), Column("STEP", "godwit.step"),
                    Column("PONR", "point_of_no_return"), Column("WINDOW MS", "godwit.window_ms"),
                    Column("UUID", "uuid"),
                ]
            )
            guard details && !options.json else { return }
            for record in records { for line in MigrateWatch.details(record) { print(line) } }
        }

        private func showSources(_ client: Client) async throws {
            options.show(
                try await client.records(MigrateCommand.sourcePath, [("svm.name", svm)]),
                [
                    Column("SVM", "svm.name"), Column("DESTINATION", "destination_cluster.name"),
                    Column("STATE", "state"), Column("SOURCE STATE", "source_state"),
                    Column("PONR", "point_of_no_return"), Column("UUID", "uuid"),
                ]
            )
        }
    }

    struct Pause: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Stops an operation before its cutover and keeps what it has transferred.",
            discussion: "The source is unlocked and serves; 'resume' goes on from there, 'abort' takes everything back."
        )
        @OptionGroup var options: GlobalOptions
        @Option(help: "The SVM.") var svm: String
        @Flag(help: "Watch it until it stands still.") var watch = false

        func run() async throws { try await MigrateCommand.act("pause", svm, options, watch) }
    }

    struct Resume: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Goes on with an operation that is paused or failed.",
            discussion: """
                Only what has changed is transferred. What is not given stays as it was. Places can be chosen for what is not \
                on this cluster yet: after a failure for want of one, or when the source has got a volume or LIF since.
                """
        )
        @OptionGroup var options: GlobalOptions
        @Option(help: "The SVM.") var svm: String
        @Option(help: "Cut over as soon as it is ready (true), or wait for 'cutover' (false).") var autoCutover: Bool?
        @Option(help: "Delete the source by itself (true), or wait for 'source-cleanup' (false).")
        var autoSourceCleanup: Bool?
        @Option(help: "Limit of all transfers together in KB/s; 0 is unlimited.") var throttle: Int64?
        @OptionGroup var places: MigratePlaces
        @Flag(help: "Watch it until it ends.") var watch = false

        func run() async throws {
            let given = try places.fields()
            let body = JSONValue.fields([
                "auto_cutover": autoCutover.map { .bool($0) },
                "auto_source_cleanup": autoSourceCleanup.map { .bool($0) },
                "throttle": throttle.map { .int($0) }, "destination": places.destination,
                "godwit": given.isEmpty ? nil : .object(given),
            ])
            try await MigrateCommand.act("resume", svm, options, watch, body)
        }
    }

    struct Abort: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Takes an operation back: deletes everything that it made, on both clusters.",
            discussion: """
                The source serves as ever. With --source-side it is run on the source cluster and removes only what the \
                operation left there, for a destination that is gone for ever.
                """
        )
        @OptionGroup var options: GlobalOptions
        @Option(help: "The SVM.") var svm: String
        @Flag(help: "Run on the source cluster, because its destination is gone for ever.") var sourceSide = false

        func run() async throws {
            let client = options.client
            let path = sourceSide ? MigrateCommand.sourcePath : MigrateCommand.path
            let uuid = sourceSide ? try await sourceOperation(client) : try await MigrateCommand.newest(client, svm)
            let answer = try await client.delete("\(path)/\(uuid)")
            let job = try await client.wait(for: answer) { _ in }
            options.done(job[path: "message"]?.plain ?? "the operation is aborted", job)
        }

        private func sourceOperation(_ client: Client) async throws -> String {
            let records = try await client.records(MigrateCommand.sourcePath, [("svm.name", svm)])
            guard let uuid = records.first?[path: "uuid"]?.plain else {
                throw CommandError(
                    name: "not_found",
                    message: "no migrate operation moves SVM '\(svm)' away from this cluster",
                    remedy: "run it on the source cluster; look with 'godwit svm migrate show --source-side'"
                )
            }
            return uuid
        }
    }

    struct Cutover: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Cuts an operation over that was started without auto-cutover."
        )
        @OptionGroup var options: GlobalOptions
        @Option(help: "The SVM.") var svm: String
        @Flag(help: "Watch it until it ends.") var watch = false

        func run() async throws { try await MigrateCommand.act("cutover", svm, options, watch) }
    }

    struct SourceCleanup: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "source-cleanup",
            abstract: "Compares both sides and deletes the source."
        )
        @OptionGroup var options: GlobalOptions
        @Option(help: "The SVM.") var svm: String
        @Flag(help: "Watch it until it ends.") var watch = false

        func run() async throws { try await MigrateCommand.act("source_cleanup", svm, options, watch) }
    }

    /// Asks for an action on the newest operation of an SVM.
    static func act(
        _ action: String,
        _ svm: String,
        _ options: GlobalOptions,
        _ watch: Bool,
        _ body: JSONValue = .object([])
    ) async throws {
        let client = options.client
        let uuid = try await newest(client, svm)
        let answer = try await client.patch("\(path)/\(uuid)?action=\(action)", body)
        _ = try await client.wait(for: answer) { _ in }
        if watch { return try await MigrateWatch(client: client, uuid: uuid, json: options.json).run() }
        options.done("\(action) of the migrate of SVM '\(svm)' is accepted", try await client.get("\(path)/\(uuid)"))
    }

    /// The operation that was started last.
    static func newest(_ client: Client, _ svm: String?) async throws -> String {
        let records = try await client.records(path, [("source.svm.name", svm)])
        let newest = records.max { left, right in
            (left[path: "time_metrics.start_time"]?.plain ?? "") < (right[path: "time_metrics.start_time"]?.plain ?? "")
        }
        guard let uuid = newest?[path: "uuid"]?.plain else {
            throw CommandError(
                name: "not_found",
                message: svm.map { "there is no migrate operation of SVM '\($0)'" } ?? "there is no migrate operation",
                remedy: "start one with 'godwit svm migrate start' on the destination cluster"
            )
        }
        return uuid
    }
}
