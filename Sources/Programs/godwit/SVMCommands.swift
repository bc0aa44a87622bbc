import ArgumentParser
import JSON

/// `godwit svm …`
struct SVMCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "svm",
        abstract: "Storage virtual machines.",
        subcommands: [
            Create.self, Show.self, Modify.self, Delete.self, Start.self, Stop.self, MigrateCommand.self,
        ]
    )
    static let path = "/api/svm/svms"

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Makes an SVM.",
            discussion: "It gets an export policy 'default' without rules: add rules, volumes and a LIF."
        )
        @OptionGroup var options: GlobalOptions
        @Option(help: "Its name.") var name: String
        @Option(help: "Free text.") var comment: String?
        @Option(help: "The IP space of its addresses (default: Default).") var ipspace: String?
        @Flag(help: "An SVM of that name that is there already is no error.") var okIfExists = false

        func run() async throws {
            let body = JSONValue.fields([
                "name": .string(name), "comment": comment.map { .string($0) }, "ipspace": named(ipspace),
            ])
            try await forgiving(okIfExists, "_exists") {
                options.done("SVM '\(name)' made", try await options.client.post(SVMCommand.path, body))
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Shows the SVMs.")
        @OptionGroup var options: GlobalOptions
        @Option(help: "Only this one; * stands for anything.") var name: String?

        func run() async throws {
            let records = try await options.client.records(SVMCommand.path, [("name", name)])
            options.show(
                records,
                [
                    Column("NAME", "name"), Column("STATE", "state"), Column("SUBTYPE", "subtype"),
                    Column("IPSPACE", "ipspace.name"),
                    Column("ADDRESSES") { record in
                        let addresses = record.values(at: "ip_interfaces.ip.address").map(\.plain)
                        return addresses.isEmpty ? "-" : addresses.joined(separator: ",")
                    },
                    Column("LOCKED BY", "configuration_lock.operation"), Column("UUID", "uuid"),
                ]
            )
        }
    }

    struct Modify: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Changes an SVM.")
        @OptionGroup var options: GlobalOptions
        @Option(help: "Its name.") var name: String
        @Option(help: "Its new name.") var newName: String?
        @Option(help: "Free text.") var comment: String?

        func run() async throws {
            let body = JSONValue.fields([
                "name": newName.map { .string($0) }, "comment": comment.map { .string($0) },
            ])
            try await SVMCommand.patch(name, body, options)
            options.done("SVM '\(name)' changed")
        }
    }

    struct Delete: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Deletes an SVM without volumes and LIFs.")
        @OptionGroup var options: GlobalOptions
        @Option(help: "Its name.") var name: String
        @Flag(help: "That there is none is no error.") var okIfAbsent = false

        func run() async throws {
            try await forgiving(okIfAbsent, "not_found") {
                let uuid = try await SVMCommand.uuid(name, options)
                try await options.client.delete("\(SVMCommand.path)/\(uuid)")
                options.done("SVM '\(name)' deleted")
            }
        }
    }

    struct Start: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Serves the clients of an SVM.")
        @OptionGroup var options: GlobalOptions
        @Option(help: "Its name.") var name: String

        func run() async throws {
            try await SVMCommand.patch(name, .fields(["state": .string("running")]), options)
            options.done("SVM '\(name)' runs")
        }
    }

    struct Stop: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Stops serving the clients of an SVM.")
        @OptionGroup var options: GlobalOptions
        @Option(help: "Its name.") var name: String

        func run() async throws {
            try await SVMCommand.patch(name, .fields(["state": .string("stopped")]), options)
            options.done("SVM '\(name)' is stopped")
        }
    }

    /// The identifier of an SVM.
    static func uuid(_ name: String, _ options: GlobalOptions) async throws -> String {
        try await options.client.record(path, [("name", name)], "SVM '\(name)'")[path: "uuid"]?.plain ?? ""
    }

    private static func patch(_ name: String, _ body: JSONValue, _ options: GlobalOptions) async throws {
        try await options.client.patch("\(path)/\(uuid(name, options))", body)
    }
}
