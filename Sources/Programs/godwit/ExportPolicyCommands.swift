import ArgumentParser
import JSON

/// Names an export policy.
struct PolicySelection: ParsableArguments {
    @Option(help: "The SVM.") var svm: String
    @Option(name: [.customLong("policy"), .customLong("name")], help: "The export policy.") var name: String

    /// The path of the policy.
    func path(_ options: GlobalOptions) async throws -> String {
        let record = try await options.client.record(
            ExportPolicyCommand.path,
            [("svm.name", svm), ("name", name)],
            "export policy '\(name)' in SVM '\(svm)'"
        )
        return "\(ExportPolicyCommand.path)/\(record[path: "id"]?.plain ?? "")"
    }
}

/// `godwit export-policy …`
struct ExportPolicyCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export-policy",
        abstract: "Who may use volumes.",
        subcommands: [Create.self, Show.self, Delete.self, RuleCommand.self]
    )
    static let path = "/api/protocols/nfs/export-policies"

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Makes an export policy without rules: nobody may.")
        @OptionGroup var options: GlobalOptions
        @OptionGroup var policy: PolicySelection
        @Flag(help: "A policy of that name that is there already is no error.") var okIfExists = false

        func run() async throws {
            let body = JSONValue.fields([
                "name": .string(policy.name), "svm": .fields(["name": .string(policy.svm)]),
            ])
            try await forgiving(okIfExists, "_exists") {
                options.done(
                    "export policy '\(policy.name)' made",
                    try await options.client.post(ExportPolicyCommand.path, body)
                )
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Shows export policies and their rules.")
        @OptionGroup var options: GlobalOptions
        @Option(help: "Only those of this SVM.") var svm: String?
        @Option(name: [.customLong("policy"), .customLong("name")], help: "Only this one.") var name: String?

        func run() async throws {
            let records = try await options.client.records(
                ExportPolicyCommand.path,
                [("svm.name", svm), ("name", name)]
            )
            guard !options.json else { return options.show(records, []) }
            // A row per rule; a policy without rules has a row of its own.
            let rows = records.flatMap { record -> [JSONValue] in
                guard case .array(let rules)? = record[path: "rules"], !rules.isEmpty else { return [record] }
                return rules.map { rule in
                    .fields(["svm": record[path: "svm"], "name": record[path: "name"], "rule": rule])
                }
            }
            options.show(
                rows,
                [
                    Column("SVM", "svm.name"), Column("POLICY", "name"), Column("RULE", "rule.index"),
                    Column("CLIENTS") { row in
                        let clients = row.values(at: "rule.clients.match").map(\.plain)
                        return clients.isEmpty ? "-" : clients.joined(separator: ",")
                    },
                    Column("RO", "rule.ro_rule"), Column("RW", "rule.rw_rule"),
                    Column("SUPERUSER", "rule.superuser"), Column("ANONYMOUS", "rule.anonymous_user"),
                ]
            )
        }
    }

    struct Delete: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Deletes an export policy that no volume uses.")
        @OptionGroup var options: GlobalOptions
        @OptionGroup var policy: PolicySelection
        @Flag(help: "That there is none is no error.") var okIfAbsent = false

        func run() async throws {
            try await forgiving(okIfAbsent, "not_found") {
                try await options.client.delete(try await policy.path(options))
                options.done("export policy '\(policy.name)' deleted")
            }
        }
    }
}

/// `godwit export-policy rule …`
struct RuleCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rule",
        abstract: "Rules of an export policy; the first whose clients match decides.",
        subcommands: [Add.self, Remove.self]
    )

    struct Add: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Adds a rule, by default as the last one.")
        @OptionGroup var options: GlobalOptions
        @OptionGroup var policy: PolicySelection
        @Option(help: "Addresses and networks, such as 127.0.0.0/8,192.0.2.1.") var clients: String
        @Option(help: "Who may read: any, sys, none, never; more than one with commas (default: any).") var ro: String?
        @Option(help: "Who may write (default: any).") var rw: String?
        @Option(help: "Who keeps user 0 (default: none).") var superuser: String?
        @Option(help: "Who user 0 becomes otherwise (default: 65534).") var anonymousUser: UInt32?
        @Option(help: "Its place.") var index: Int?

        func run() async throws {
            let body = JSONValue.fields([
                "index": index.map { .int(Int64($0)) },
                "clients": .array(
                    clients.split(separator: ",").map { .fields(["match": .string(String($0))]) }
                ),
                "ro_rule": Self.list(ro), "rw_rule": Self.list(rw), "superuser": Self.list(superuser),
                "anonymous_user": anonymousUser.map { .string(String($0)) },
            ])
            let record = try await options.client.post("\(policy.path(options))/rules", body)
            options.done("rule \(record[path: "index"]?.plain ?? "") added to '\(policy.name)'", record)
        }

        private static func list(_ text: String?) -> JSONValue? {
            text.map { .array($0.split(separator: ",").map { .string(String($0)) }) }
        }
    }

    struct Remove: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Removes a rule.")
        @OptionGroup var options: GlobalOptions
        @OptionGroup var policy: PolicySelection
        @Option(help: "Its place.") var index: Int
        @Flag(help: "That there is none is no error.") var okIfAbsent = false

        func run() async throws {
            try await forgiving(okIfAbsent, "not_found") {
                try await options.client.delete("\(policy.path(options))/rules/\(index)")
                options.done("rule \(index) removed from '\(policy.name)'")
            }
        }
    }
}
