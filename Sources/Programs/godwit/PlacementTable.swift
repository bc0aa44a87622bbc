import JSON

/// What the pre-checks of a migrate looked at, for eyes: an option a line.
enum PlacementTable {
    /// The lines: a table, and why each choice was made. None when the node told of no placement.
    static func lines(_ details: JSONValue?) -> [String] {
        let decisions = elements(details?[path: "placements"])
        let rows = decisions.flatMap { decision in
            elements(decision[path: "options"]).map { option in
                let isChosen = option[path: "name"] == decision[path: "choice"]
                return JSONValue.fields([
                    "object": .string(name(decision)), "option": option[path: "name"],
                    "choice": isChosen ? .string("chosen") : nil, "detail": option[path: "detail"],
                    "refusal": option[path: "refusal"],
                ])
            }
        }
        guard !decisions.isEmpty else { return [] }
        let columns = [
            Column("OBJECT", "object"), Column("OPTION", "option"), Column("CHOICE", "choice"),
            Column("DETAIL", "detail"), Column("REFUSED BECAUSE", "refusal"),
        ]
        let reasons = decisions.map { decision in
            "\(name(decision)): \(decision[path: "choice"]?.plain ?? "no place"), \(decision[path: "reason"]?.plain ?? "")"
        }
        return table(rows, columns) + reasons
    }

    private static func name(_ decision: JSONValue) -> String {
        "\(decision[path: "kind"]?.plain ?? "") \(decision[path: "name"]?.plain ?? "")"
    }

    private static func elements(_ value: JSONValue?) -> [JSONValue] {
        guard case .array(let elements)? = value else { return [] }
        return elements
    }
}
