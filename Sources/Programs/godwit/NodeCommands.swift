import ArgumentParser
import JSON

/// `godwit node …`
struct NodeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "node",
        abstract: "The nodes of the cluster.",
        subcommands: [Show.self, Takeover.self, Giveback.self, Delete.self]
    )

    struct Delete: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Takes a node out of the cluster.",
            discussion: "One that is down, and that has no volumes and no LIFs any more. A start of it joins again."
        )
        @OptionGroup var options: GlobalOptions
        @Option(help: "The name of the node.") var name: String
        @Flag(help: "That there is none is no error.") var okIfAbsent = false

        func run() async throws {
            try await forgiving(okIfAbsent, "not_found") {
                let path = "/api/cluster/nodes"
                let record = try await options.client.record(path, [("name", name)], "node '\(name)'")
                try await options.client.delete("\(path)/\(record[path: "uuid"]?.plain ?? "")")
                options.done("node '\(name)' has left the cluster")
            }
        }
    }

    struct Takeover: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Moves the aggregates and LIFs of a node that is up to a partner.",
            discussion: """
                So that the node can be stopped: clients wait for as long as the partner needs to open the aggregates. \
                What a node that is down has is taken over without this.
                """
        )
        @OptionGroup var options: GlobalOptions
        @Option(help: "The name of the node that is emptied.") var name: String
        @Option(help: "The node that takes over; may be left out when there is one partner only.") var by: String?

        func run() async throws {
            try await NodeCommand.act("takeover", name, partner: by, options)
        }
    }

    struct Giveback: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Gives a node that is up again the aggregates and LIFs back that others took over."
        )
        @OptionGroup var options: GlobalOptions
        @Option(help: "The name of the node that gets them back.") var name: String

        func run() async throws {
            try await NodeCommand.act("giveback", name, partner: nil, options)
        }
    }

    private static func act(_ action: String, _ name: String, partner: String?, _ options: GlobalOptions) async throws {
        let path = "/api/cluster/nodes"
        let record = try await options.client.record(path, [("name", name)], "node '\(name)'")
        let answer = try await options.client.patch(
            "\(path)/\(record[path: "uuid"]?.plain ?? "")?action=\(action)",
            partner.map { .fields(["partner": .fields(["name": .string($0)])]) } ?? .object([])
        )
        let count = answer[path: "num_records"]?.plain ?? "0"
        options.done(
            count == "0"
                ? "there is nothing to move" : "\(count) aggregates and LIFs change hands (godwit aggregate show)",
            answer
        )
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Shows the nodes.")
        @OptionGroup var options: GlobalOptions

        func run() async throws {
            let records = try await options.client.records("/api/cluster/nodes")
            options.show(
                records,
                [
                    Column("NAME", "name"), Column("STATE", "state"),
                    Column("MANAGEMENT", "godwit.management_endpoint"),
                    Column("REPLICATION", "godwit.replication_endpoint"),
                    Column("INTERCONNECT", "godwit.interconnect_endpoint"),
                    Column("PARTNERS", "godwit.partners"), Column("TAKEOVER", "ha.takeover.state"),
                    Column("UUID", "uuid"),
                ]
            )
        }
    }
}
