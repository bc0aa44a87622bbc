import ArgumentParser
import JSON

/// Names a LIF.
struct LIFSelection: ParsableArguments {
    @Option(help: "The SVM.") var svm: String
    @Option(name: [.customLong("lif"), .customLong("name")], help: "The LIF.") var name: String

    /// The path of the LIF.
    func path(_ options: GlobalOptions) async throws -> String {
        let record = try await options.client.record(
            LIFCommand.path,
            [("svm.name", svm), ("name", name)],
            "LIF '\(name)' in SVM '\(svm)'"
        )
        return "\(LIFCommand.path)/\(record[path: "uuid"]?.plain ?? "")"
    }
}

/// `godwit lif …`
struct LIFCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lif",
        abstract: "The addresses at which clients reach an SVM.",
        subcommands: [Create.self, Show.self, Modify.self, Delete.self]
    )
    static let path = "/api/network/ip/interfaces"

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Makes a LIF.")
        @OptionGroup var options: GlobalOptions
        @OptionGroup var lif: LIFSelection
        @Option(help: "Its address: of a port's network, or in 127.0.0.0/8.") var address: String?
        @Option(help: "The subnet that gives it an address, instead of one that is named.") var subnet: String?
        @Option(help: "The netmask of an address of a port's network, such as 24.") var netmask: String?
        @Option(help: "The port of NFS and MOUNT (default: nfs.port of the node's configuration).") var port: Int?
        @Option(help: "Its node (default: the one that holds most of the SVM's volumes).") var homeNode: String?
        @Option(help: "The port of that node that its address is put on, such as eth1.") var homePort: String?
        @Flag(help: "A LIF of that name that is there already is no error.") var okIfExists = false

        func run() async throws {
            let body = JSONValue.fields([
                "name": .string(lif.name), "svm": .fields(["name": .string(lif.svm)]),
                "ip": address == nil && netmask == nil
                    ? nil
                    : .fields(["address": address.map { .string($0) }, "netmask": netmask.map { .string($0) }]),
                "subnet": subnet.map { .fields(["name": .string($0)]) },
                "godwit": LIFCommand.port(port), "location": LIFCommand.location(homeNode, homePort),
            ])
            try await forgiving(okIfExists, "lif_exists") {
                options.done("LIF '\(lif.name)' made", try await options.client.post(LIFCommand.path, body))
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Shows LIFs.")
        @OptionGroup var options: GlobalOptions
        @Option(help: "Only those of this SVM.") var svm: String?

        func run() async throws {
            let records = try await options.client.records(LIFCommand.path, [("svm.name", svm)])
            options.show(
                records,
                [
                    Column("SVM", "svm.name"), Column("LIF", "name"), Column("ADDRESS", "ip.address"),
                    Column("NETMASK", "ip.netmask"), Column("TCP", "godwit.nfs_port"),
                    Column("NODE", "location.node.name"), Column("PORT", "location.port.name"),
                    Column("HOME NODE", "location.home_node.name"), Column("HOME PORT", "location.home_port.name"),
                    Column("ENABLED", "enabled"), Column("STATE", "state"),
                    Column("FAILURE", "godwit.failure"),
                ]
            )
        }
    }

    struct Modify: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Changes a LIF.")
        @OptionGroup var options: GlobalOptions
        @OptionGroup var lif: LIFSelection
        @Option(help: "Its new name.") var newName: String?
        @Option(help: "Its address: of a port's network, or in 127.0.0.0/8.") var address: String?
        @Option(help: "The netmask of an address of a port's network, such as 24.") var netmask: String?
        @Option(help: "The port of NFS and MOUNT.") var port: Int?
        @Option(help: "true or false.") var enabled: Bool?
        @Option(help: "The node that it moves to; its clients connect again.") var homeNode: String?
        @Option(help: "The port of its node that its address is put on.") var homePort: String?

        func run() async throws {
            let body = JSONValue.fields([
                "name": newName.map { .string($0) },
                "ip": address == nil && netmask == nil
                    ? nil
                    : .fields(["address": address.map { .string($0) }, "netmask": netmask.map { .string($0) }]),
                "enabled": enabled.map { .bool($0) }, "godwit": LIFCommand.port(port),
                "location": LIFCommand.location(homeNode, homePort),
            ])
            try await options.client.patch(try await lif.path(options), body)
            options.done("LIF '\(lif.name)' changed")
        }
    }

    struct Delete: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Deletes a LIF.")
        @OptionGroup var options: GlobalOptions
        @OptionGroup var lif: LIFSelection
        @Flag(help: "That there is none is no error.") var okIfAbsent = false

        func run() async throws {
            try await forgiving(okIfAbsent, "not_found") {
                try await options.client.delete(try await lif.path(options))
                options.done("LIF '\(lif.name)' deleted")
            }
        }
    }

    private static func location(_ homeNode: String?, _ homePort: String?) -> JSONValue? {
        if homeNode == nil && homePort == nil { return nil }
        return .fields([
            "home_node": homeNode.map { .fields(["name": .string($0)]) },
            "home_port": homePort.map { .fields(["name": .string($0)]) },
        ])
    }

    private static func port(_ port: Int?) -> JSONValue? {
        port.map { .fields(["nfs_port": .int(Int64($0))]) }
    }
}
