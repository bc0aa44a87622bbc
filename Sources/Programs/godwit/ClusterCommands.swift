import ArgumentParser
import JSON

/// `godwit cluster …`
struct ClusterCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cluster",
        abstract: "The cluster and its peers.",
        subcommands: [Show.self, PeerCommand.self]
    )

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Shows the cluster.")
        @OptionGroup var options: GlobalOptions

        func run() async throws {
            let record = try await options.client.get("/api/cluster", [("fields", "*")])
            options.show([record], [Column("NAME", "name"), Column("UUID", "uuid"), Column("VERSION", "version.full")])
        }
    }
}

/// `godwit cluster peer …`
struct PeerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "peer",
        abstract: "Other clusters that this one works with.",
        subcommands: [Create.self, Show.self, Delete.self]
    )
    static let path = "/api/cluster/peers"

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Makes a relationship with another cluster.",
            discussion: "Do it on both clusters, with the same passphrase."
        )
        @OptionGroup var options: GlobalOptions
        @Option(help: "The name of the other cluster.") var name: String
        @Option(help: "Its cluster service, address:port; several nodes of it with commas. Others it tells itself.")
        var address: String
        @Option(help: "Its replication listener, address:port; not needed, since it tells where each volume is.")
        var replication: String?
        @Option(help: "The passphrase (default: $GODWIT_PASSPHRASE), at least 8 characters.") var passphrase: String?
        @Flag(help: "A relationship of that name that is there already is no error.") var okIfExists = false

        func run() async throws {
            guard let passphrase = passphrase ?? environmentValue("GODWIT_PASSPHRASE") else {
                throw CommandError(
                    message: "the passphrase is missing",
                    remedy: "give --passphrase, or set GODWIT_PASSPHRASE"
                )
            }
            let addresses = address.split(separator: ",").map { JSONValue.string(String($0)) }
            let body = JSONValue.fields([
                "name": .string(name), "remote": .fields(["ip_addresses": .array(addresses)]),
                "authentication": .fields(["passphrase": .string(passphrase)]),
                "replication": replication.map { .fields(["address": .string($0)]) },
            ])
            try await forgiving(okIfExists, "_exists") {
                let record = try await options.client.post(PeerCommand.path, body)
                options.done("cluster peer '\(name)' made", record)
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Shows the other clusters.")
        @OptionGroup var options: GlobalOptions

        func run() async throws {
            let records = try await options.client.records(PeerCommand.path)
            options.show(
                records,
                [
                    Column("NAME", "name"), Column("ADDRESS", "remote.ip_addresses"),
                    Column("REPLICATION", "replication.address"), Column("UUID", "uuid"),
                ]
            )
        }
    }

    struct Delete: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Ends a relationship.")
        @OptionGroup var options: GlobalOptions
        @Option(help: "The name of the other cluster.") var name: String
        @Flag(help: "That there is none is no error.") var okIfAbsent = false

        func run() async throws {
            try await forgiving(okIfAbsent, "not_found") {
                let record = try await options.client.record(
                    PeerCommand.path,
                    [("name", name)],
                    "cluster peer '\(name)'"
                )
                try await options.client.delete("\(PeerCommand.path)/\(record[path: "uuid"]?.plain ?? "")")
                options.done("cluster peer '\(name)' deleted")
            }
        }
    }
}

/// `godwit aggregate …`
struct AggregateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "aggregate",
        abstract: "The directories that hold volumes.",
        subcommands: [Show.self]
    )

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Shows the aggregates.")
        @OptionGroup var options: GlobalOptions

        func run() async throws {
            let records = try await options.client.records("/api/storage/aggregates")
            options.show(
                records,
                [
                    Column("NAME", "name"), Column("STATE", "state"), Column("NODE", "node.name"),
                    Column("HOME", "home_node.name"), Column("TIER", "godwit.tier"),
                    Column("SIZE", bytes: "space.block_storage.size"),
                    Column("USED", bytes: "space.block_storage.used"),
                    Column("AVAILABLE", bytes: "space.block_storage.available"),
                    Column("VOLUMES", "volume-count"), Column("DIRECTORY", "godwit.directory"),
                ]
            )
        }
    }
}

/// `godwit job …`
struct JobCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "job",
        abstract: "Long work in the background.",
        subcommands: [Show.self]
    )

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Shows jobs.")
        @OptionGroup var options: GlobalOptions
        @Option(help: "Only this one.") var uuid: String?

        func run() async throws {
            let records = try await options.client.records("/api/cluster/jobs", [("uuid", uuid)])
            options.show(
                records,
                [
                    Column("UUID", "uuid"), Column("STATE", "state"), Column("STARTED", "start_time"),
                    Column("DESCRIPTION", "description"), Column("MESSAGE", "message"),
                ]
            )
        }
    }
}

/// `godwit event …`
struct EventCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "event",
        abstract: "What happened on a node.",
        subcommands: [Show.self]
    )

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Shows events, oldest first.")
        @OptionGroup var options: GlobalOptions
        @Option(help: "Only events of this name; * stands for anything.") var name: String?

        func run() async throws {
            let records = try await options.client.records("/api/private/godwit/events", [("message.name", name)])
            options.show(
                records,
                [
                    Column("TIME", "time"), Column("SEVERITY", "message.severity"), Column("NAME", "message.name"),
                    Column("MESSAGE", "log_message"),
                ]
            )
        }
    }
}
