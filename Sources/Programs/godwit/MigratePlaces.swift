import ArgumentParser
import JSON

/// Where what moves goes on the destination: what `start` and `resume` have in common.
struct MigratePlaces: ParsableArguments {
    @Option(help: "Aggregates that may be used, with commas; a new move uses all, unless it is told.")
    var aggrList: String?
    @Option(
        help: "The tier that aggregates must have: performance, capacity or any; any for a new move, unless it is told."
    )
    var tier: String?
    @Option(
        help:
            "The IP space here that it comes to; for a new move the one with the name of the source's, unless it is told."
    )
    var ipspace: String?
    @Option(
        name: .customLong("lif"),
        help: "Where a LIF goes, as LIF=NODE:PORT; may be given for several. Others go where the network tells."
    )
    var lifs: [String] = []
    @Flag(help: "Choose ports by name and subnet, without asking the networks who answers there.")
    var noNetworkChecks = false

    /// The `destination` of a body; nil when nothing of it is given.
    var destination: JSONValue? {
        if aggrList == nil && ipspace == nil { return nil }
        let aggregates = aggrList.map { list in
            JSONValue.array(list.split(separator: ",").map { .fields(["name": .string(String($0))]) })
        }
        return .fields([
            "volume_placement": aggregates.map { .fields(["aggregates": $0]) }, "ipspace": named(ipspace),
        ])
    }

    /// What a body says of places in `godwit`.
    func fields() throws -> [(key: String, value: JSONValue)] {
        var fields: [(key: String, value: JSONValue)] = []
        if let tier { fields.append((key: "tier", value: .string(tier))) }
        if !lifs.isEmpty { fields.append((key: "interface_placement", value: .array(try lifs.map(Self.place)))) }
        if noNetworkChecks { fields.append((key: "network_checks", value: .bool(false))) }
        return fields
    }

    /// `LIF=NODE:PORT` in the words of REST.
    private static func place(_ text: String) throws -> JSONValue {
        let parts = text.split(separator: "=", maxSplits: 1).map(String.init)
        guard parts.count == 2, let port = try PortCommand.ports(parts[1]).first else {
            throw ValidationError("'\(text)' does not say where a LIF goes; give LIF=NODE:PORT")
        }
        return .fields([
            "name": .string(parts[0]), "node": named(port[path: "node.name"]?.plain),
            "port": named(port[path: "name"]?.plain),
        ])
    }
}
