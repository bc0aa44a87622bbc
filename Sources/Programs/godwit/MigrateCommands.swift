import ArgumentParser
import JSON

/// `godwit svm migrate …`, on the destination cluster.
struct MigrateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "migrate",
        abstract: "Moves an SVM from another cluster to this one while its clients keep working.",
        subcommands: [Start.self, Show.self, Cutover.self, SourceCleanup.self]
    )
    static let path = "/api/svm/migrations"

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
        @Option(help: "Aggregates that may be used, with commas (default: all).") var aggrList: String?
        @Option(help: "Limit of each volume's transfer in KB/s; 0 is unlimited.") var throttle: Int64 = 0
        @Option(help: "Milliseconds that clients may be held before the cutover is undone (default: 5000).")
        var holdBudgetMs: Int64?
        @Option(help: "Short transfers in a row that make it ready for cutover (default: 3).")
        var readyTransfers: Int64?
        @Flag(help: "Only run the pre-checks.") var checkOnly = false
        @Flag(help: "Watch it until it ends.") var watch = false

        func run() async throws {
            let aggregates = aggrList.map { list in
                JSONValue.array(list.split(separator: ",").map { .fields(["name": .string(String($0))]) })
            }
            let tuning: JSONValue? =
                holdBudgetMs == nil && readyTransfers == nil
                ? nil
                : .fields([
                    "hold_budget_ms": holdBudgetMs.map { .int($0) }, "ready_transfers": readyTransfers.map { .int($0) },
                ])
            let body = JSONValue.fields([
                "source": .fields([
                    "svm": .fields(["name": .string(svm)]), "cluster": .fields(["name": .string(sourceCluster)]),
                ]),
                "auto_cutover": .bool(autoCutover), "auto_source_cleanup": .bool(autoSourceCleanup),
                "check_only": .bool(checkOnly), "throttle": .int(throttle),
                "destination": aggregates.map { .fields(["volume_placement": .fields(["aggregates": $0])]) },
                "godwit": tuning,
            ])
            let client = options.client
            let accepted = try await client.post(MigrateCommand.path, body)
            let job = try await client.wait(for: accepted) { _ in }
            if checkOnly { return options.done("the pre-checks found nothing", job) }
            // The job's description ends with the identifier of the operation.
            let words = job[path: "description"]?.plain ?? ""
            let uuid = String(words.split(separator: "/").last ?? "")
            if watch { return try await MigrateWatch(client: client, uuid: uuid, json: options.json).run() }
            let record = try await client.get("\(MigrateCommand.path)/\(uuid)")
            options.done("migrate operation \(uuid) started; watch it with 'godwit svm migrate show --watch'", record)
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Shows the migrate operations of this destination.")
        @OptionGroup var options: GlobalOptions
        @Option(help: "Only those of this SVM.") var svm: String?
        @Flag(help: "Watch the newest one until it ends.") var watch = false
        @Flag(help: "Volumes and the stages of the outage too.") var details = false

        func run() async throws {
            let client = options.client
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
    static func act(_ action: String, _ svm: String, _ options: GlobalOptions, _ watch: Bool) async throws {
        let client = options.client
        let uuid = try await newest(client, svm)
        let answer = try await client.patch("\(path)/\(uuid)?action=\(action)", .object([]))
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
