import ArgumentParser
import JSON

/// `godwit port …`
struct PortCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "port",
        abstract: "The Ethernet ports of the nodes' hosts.",
        discussion: "They are the hosts' own: VLANs and bonds are made with the host's tools and show up here.",
        subcommands: [Show.self]
    )
    static let path = "/api/network/ethernet/ports"

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Shows the ports of all nodes.")
        @OptionGroup var options: GlobalOptions
        @Option(help: "Only those of this node.") var node: String?

        func run() async throws {
            let records = try await options.client.records(PortCommand.path, [("node.name", node)])
            options.show(
                records,
                [
                    Column("NODE", "node.name"), Column("PORT", "name"), Column("TYPE", "type"),
                    Column("VLAN", "vlan.tag"), Column("STATE", "state"), Column("MTU", "mtu"),
                    Column("SPEED", "speed"), Column("MAC", "mac_address"),
                    Column("DOMAIN", "broadcast_domain.name"), Column("IPSPACE", "broadcast_domain.ipspace.name"),
                    Column("ADDRESSES", "godwit.addresses"), Column("LIFS", "godwit.lifs"),
                    Column("OBSTACLE", "godwit.obstacle"),
                ]
            )
        }
    }

    /// Ports out of `node:port,node:port`.
    static func ports(_ list: String) throws -> [JSONValue] {
        try list.split(separator: ",").map { text in
            let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
            guard parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty else {
                throw ValidationError("'\(text)' is no port; give NODE:PORT, more than one with commas")
            }
            return .fields(["name": .string(parts[1]), "node": .fields(["name": .string(parts[0])])])
        }
    }

    /// `node:port` of a record that names a port.
    static func name(_ port: JSONValue) -> String {
        "\(port[path: "node.name"]?.plain ?? "?"):\(port[path: "name"]?.plain ?? "?")"
    }
}

/// Names an object of an IP space.
struct NetworkSelection: ParsableArguments {
    @Option(help: "Its name.") var name: String
    @Option(help: "Its IP space; needed when several have one of that name.") var ipspace: String?

    /// The record.
    func record(_ path: String, _ kind: String, _ options: GlobalOptions) async throws -> JSONValue {
        let found = try await options.client.records(path, [("name", name), ("ipspace.name", ipspace)])
        guard found.count == 1 else {
            throw CommandError(
                name: found.isEmpty ? "not_found" : "ambiguous",
                message: found.isEmpty ? "there is no \(kind) '\(name)'" : "several IP spaces have a \(kind) '\(name)'",
                remedy: found.isEmpty ? "list what is there with 'show'" : "say which one is meant with --ipspace"
            )
        }
        return found[0]
    }

    /// The path of the object.
    func path(_ path: String, _ kind: String, _ options: GlobalOptions) async throws -> String {
        "\(path)/\(try await record(path, kind, options)[path: "uuid"]?.plain ?? "")"
    }
}

/// An object by its name; nil when there is none.
func named(_ name: String?) -> JSONValue? { name.map { .fields(["name": .string($0)]) } }

/// `godwit ipspace …`
struct IPSpaceCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ipspace",
        abstract: "Networks of their own, to which ports, subnets and SVMs belong.",
        subcommands: [Create.self, Show.self, Modify.self, Delete.self]
    )
    static let path = "/api/network/ipspaces"

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Makes an IP space.")
        @OptionGroup var options: GlobalOptions
        @Option(help: "Its name.") var name: String
        @Flag(help: "An IP space of that name that is there already is no error.") var okIfExists = false

        func run() async throws {
            try await forgiving(okIfExists, "_exists") {
                let record = try await options.client.post(IPSpaceCommand.path, .fields(["name": .string(name)]))
                options.done("IP space '\(name)' made", record)
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Shows the IP spaces.")
        @OptionGroup var options: GlobalOptions

        func run() async throws {
            let records = try await options.client.records(IPSpaceCommand.path)
            options.show(records, [Column("NAME", "name"), Column("UUID", "uuid")])
        }
    }

    struct Modify: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Renames an IP space.")
        @OptionGroup var options: GlobalOptions
        @Option(help: "Its name.") var name: String
        @Option(help: "Its new name.") var newName: String

        func run() async throws {
            let record = try await options.client.record(IPSpaceCommand.path, [("name", name)], "IP space '\(name)'")
            let path = "\(IPSpaceCommand.path)/\(record[path: "uuid"]?.plain ?? "")"
            try await options.client.patch(path, .fields(["name": .string(newName)]))
            options.done("IP space '\(name)' is now '\(newName)'")
        }
    }

    struct Delete: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Deletes an IP space that nothing belongs to.")
        @OptionGroup var options: GlobalOptions
        @Option(help: "Its name.") var name: String
        @Flag(help: "That there is none is no error.") var okIfAbsent = false

        func run() async throws {
            try await forgiving(okIfAbsent, "not_found") {
                let what = "IP space '\(name)'"
                let record = try await options.client.record(IPSpaceCommand.path, [("name", name)], what)
                try await options.client.delete("\(IPSpaceCommand.path)/\(record[path: "uuid"]?.plain ?? "")")
                options.done("IP space '\(name)' deleted")
            }
        }
    }
}

/// `godwit broadcast-domain …`
struct BroadcastDomainCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "broadcast-domain",
        abstract: "Which ports are on one Ethernet.",
        discussion: "A LIF fails over to ports of its port's broadcast domain. A port is in one at most.",
        subcommands: [Create.self, Show.self, Modify.self, Delete.self]
    )
    static let path = "/api/network/ethernet/broadcast-domains"
    static let kind = "broadcast domain"

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Makes a broadcast domain.")
        @OptionGroup var options: GlobalOptions
        @OptionGroup var domain: NetworkSelection
        @Option(help: "Bytes of the largest packet that all its ports send (default: 1500).") var mtu: Int64?
        @Option(help: "Its ports as NODE:PORT, more than one with commas.") var ports: String?
        @Flag(help: "One of that name that is there already is no error.") var okIfExists = false

        func run() async throws {
            let body = JSONValue.fields([
                "name": .string(domain.name), "mtu": mtu.map { .int($0) }, "ipspace": named(domain.ipspace),
                "ports": try ports.map { .array(try PortCommand.ports($0)) },
            ])
            try await forgiving(okIfExists, "broadcast_domain_exists") {
                let record = try await options.client.post(BroadcastDomainCommand.path, body)
                options.done("broadcast domain '\(domain.name)' made", record)
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Shows the broadcast domains.")
        @OptionGroup var options: GlobalOptions
        @Option(help: "Only those of this IP space.") var ipspace: String?

        func run() async throws {
            let records = try await options.client.records(BroadcastDomainCommand.path, [("ipspace.name", ipspace)])
            options.show(
                records,
                [
                    Column("NAME", "name"), Column("IPSPACE", "ipspace.name"), Column("MTU", "mtu"),
                    Column("PORTS") { record in
                        let ports = record.values(at: "ports").map(PortCommand.name)
                        return ports.isEmpty ? "-" : ports.joined(separator: ",")
                    },
                ]
            )
        }
    }

    struct Modify: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Changes a broadcast domain.")
        @OptionGroup var options: GlobalOptions
        @OptionGroup var domain: NetworkSelection
        @Option(help: "Its new name.") var newName: String?
        @Option(help: "Bytes of the largest packet that all its ports send.") var mtu: Int64?
        @Option(help: "Ports that come to it, as NODE:PORT with commas.") var addPorts: String?
        @Option(help: "Ports that leave it, as NODE:PORT with commas.") var removePorts: String?

        func run() async throws {
            let path = try await domain.path(BroadcastDomainCommand.path, BroadcastDomainCommand.kind, options)
            // Not all of its ports as they were seen here: others may be changing them.
            let (added, removed) = (try addPorts.map(PortCommand.ports), try removePorts.map(PortCommand.ports))
            let body = JSONValue.fields([
                "name": newName.map { .string($0) }, "mtu": mtu.map { .int($0) },
                "godwit": added == nil && removed == nil
                    ? nil
                    : .fields(["add_ports": added.map { .array($0) }, "remove_ports": removed.map { .array($0) }]),
            ])
            try await options.client.patch(path, body)
            options.done("broadcast domain '\(domain.name)' changed")
        }
    }

    struct Delete: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Deletes a broadcast domain without subnets.")
        @OptionGroup var options: GlobalOptions
        @OptionGroup var domain: NetworkSelection
        @Flag(help: "That there is none is no error.") var okIfAbsent = false

        func run() async throws {
            try await forgiving(okIfAbsent, "not_found") {
                let (path, kind) = (BroadcastDomainCommand.path, BroadcastDomainCommand.kind)
                try await options.client.delete(try await domain.path(path, kind, options))
                options.done("broadcast domain '\(domain.name)' deleted")
            }
        }
    }
}
