import ArgumentParser
import JSON

/// `godwit subnet …`
struct SubnetCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "subnet",
        abstract: "Which addresses there are on a broadcast domain.",
        subcommands: [Create.self, Show.self, Modify.self, Delete.self]
    )
    static let path = "/api/network/ip/subnets"

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Makes a subnet.")
        @OptionGroup var options: GlobalOptions
        @OptionGroup var selection: NetworkSelection
        @Option(help: "The broadcast domain that it is on.") var broadcastDomain: String
        @Option(help: "The network, such as 10.1.2.0/24.") var subnet: String
        @Option(help: "The address of its router.") var gateway: String?
        @Option(help: "Addresses for LIFs, such as 10.1.2.10-10.1.2.20; more than one range with commas.")
        var ipRanges: String?
        @Flag(help: "One of that name that is there already is no error.") var okIfExists = false

        func run() async throws {
            let body = JSONValue.fields([
                "name": .string(selection.name), "ipspace": named(selection.ipspace),
                "broadcast_domain": named(broadcastDomain), "subnet": SubnetCommand.network(subnet),
                "gateway": gateway.map { .string($0) }, "ip_ranges": ipRanges.map(SubnetCommand.ranges),
            ])
            try await forgiving(okIfExists, "subnet_exists") {
                let record = try await options.client.post(SubnetCommand.path, body)
                options.done("subnet '\(selection.name)' made", record)
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Shows the subnets.")
        @OptionGroup var options: GlobalOptions
        @Option(help: "Only those of this IP space.") var ipspace: String?

        func run() async throws {
            let records = try await options.client.records(SubnetCommand.path, [("ipspace.name", ipspace)])
            options.show(
                records,
                [
                    Column("NAME", "name"), Column("IPSPACE", "ipspace.name"),
                    Column("DOMAIN", "broadcast_domain.name"),
                    Column("SUBNET") { record in
                        "\(record[path: "subnet.address"]?.plain ?? "?")/\(record[path: "subnet.netmask"]?.plain ?? "?")"
                    },
                    Column("GATEWAY", "gateway"),
                    Column("RANGES") { record in
                        let ranges = record.values(at: "ip_ranges").map { range in
                            "\(range[path: "start"]?.plain ?? "?")-\(range[path: "end"]?.plain ?? "?")"
                        }
                        return ranges.isEmpty ? "-" : ranges.joined(separator: ",")
                    },
                    Column("USED", "used_count"), Column("FREE", "available_count"),
                ]
            )
        }
    }

    struct Modify: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Changes a subnet.")
        @OptionGroup var options: GlobalOptions
        @OptionGroup var selection: NetworkSelection
        @Option(help: "Its new name.") var newName: String?
        @Option(help: "The broadcast domain that it is on.") var broadcastDomain: String?
        @Option(help: "The network, such as 10.1.2.0/24; LIFs may have no address of it.") var subnet: String?
        @Option(help: "The address of its router; an empty one takes it away.") var gateway: String?
        @Option(help: "All ranges of addresses for LIFs; an empty list takes them away.") var ipRanges: String?

        func run() async throws {
            let path = try await selection.path(SubnetCommand.path, "subnet", options)
            let body = JSONValue.fields([
                "name": newName.map { .string($0) }, "broadcast_domain": named(broadcastDomain),
                "subnet": subnet.map(SubnetCommand.network), "gateway": gateway.map { .string($0) },
                "ip_ranges": ipRanges.map(SubnetCommand.ranges),
            ])
            try await options.client.patch(path, body)
            options.done("subnet '\(selection.name)' changed")
        }
    }

    struct Delete: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Deletes a subnet that no LIF has an address of.")
        @OptionGroup var options: GlobalOptions
        @OptionGroup var selection: NetworkSelection
        @Flag(help: "That there is none is no error.") var okIfAbsent = false

        func run() async throws {
            try await forgiving(okIfAbsent, "not_found") {
                try await options.client.delete(try await selection.path(SubnetCommand.path, "subnet", options))
                options.done("subnet '\(selection.name)' deleted")
            }
        }
    }

    private static func network(_ text: String) -> JSONValue {
        let parts = text.split(separator: "/", maxSplits: 1).map(String.init)
        return .fields([
            "address": .string(parts.first ?? ""), "netmask": parts.count > 1 ? .string(parts[1]) : nil,
        ])
    }

    private static func ranges(_ list: String) -> JSONValue {
        .array(
            list.split(separator: ",").map { text in
                let ends = text.split(separator: "-", maxSplits: 1).map(String.init)
                return .fields(["start": .string(ends.first ?? ""), "end": .string(ends.last ?? "")])
            }
        )
    }
}
