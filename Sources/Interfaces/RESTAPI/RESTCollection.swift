package import ClusterConfiguration
package import JSON

/// Query fields that are not filters.
private let reservedFields: Set<String> = [
    "fields", "max_records", "offset", "order_by", "return_records", "return_timeout", "ignore_unknown_fields",
    "pretty",
    "continue_on_failure", "serial_records", "action", "query", "query_fields",
]

/// Answers of collections and of single records: filters, fields, order, pages.
package enum RESTCollection {
    /// The most records of one page.
    package static let recordsMax = 10_000

    /// Answers a GET of a collection.
    ///
    /// - Parameters:
    ///   - records: every record in full.
    ///   - keys: the fields that are always there.
    package static func answer(
        _ call: RESTCall,
        _ records: [JSONValue],
        keys: [String]
    ) throws(ManagementError) -> RESTAnswer {
        var found = records
        let filters = call.query.filter { !reservedFields.contains($0.name) }
        for (name, pattern) in filters {
            found = found.filter { record in
                matches(record.values(at: Substring(name)).map(\.plain), pattern)
            }
        }
        if let order = call.query("order_by") { sort(&found, by: order) }
        let offset = try number(call, "offset") ?? 0
        let limit = min(try number(call, "max_records") ?? recordsMax, recordsMax)
        let page = found.dropFirst(offset).prefix(limit)
        let fields = requestedFields(call) ?? keys
        let wanted = keys + fields + filters.map(\.name)
        var body: [(key: String, value: JSONValue)] = []
        if try call.isTrue("return_records") ?? true {
            body.append(("records", .array(page.map { select($0, wanted) })))
        }
        body.append(("num_records", .count(try call.isTrue("return_records") ?? true ? page.count : found.count)))
        var links: [(key: String, value: JSONValue)] = [("self", .fields(["href": .string(link(call, offset: nil))]))]
        if offset + page.count < found.count, !page.isEmpty {
            links.append(("next", .fields(["href": .string(link(call, offset: offset + page.count))])))
        }
        body.append(("_links", .object(links)))
        return .ok(.object(body))
    }

    /// Answers a GET of one record: everything, or the fields asked for.
    package static func answer(_ call: RESTCall, record: JSONValue, keys: [String]) -> RESTAnswer {
        guard let fields = requestedFields(call) else { return .ok(record) }
        return .ok(select(record, keys + fields))
    }

    /// The `fields` of a query, with `b.{c,d}` unfolded; nil when there are none.
    package static func requestedFields(_ call: RESTCall) -> [String]? {
        guard let text = call.query("fields"), !text.isEmpty else { return nil }
        var fields: [String] = []
        var depth = 0
        var current = ""
        for character in text {
            switch character {
            case "{": depth += 1
            case "}": depth -= 1
            default: break
            }
            if character == ",", depth == 0 {
                fields.append(current)
                current = ""
            } else {
                current.append(character)
            }
        }
        fields.append(current)
        return fields.flatMap { field -> [String] in
            guard let open = field.firstIndex(of: "{"), field.hasSuffix("}") else { return [field] }
            let inner = field[field.index(after: open)...].dropLast()
            return inner.split(separator: ",").map { String(field[..<open]) + String($0) }
        }
    }

    private static func select(_ record: JSONValue, _ fields: [String]) -> JSONValue {
        if fields.contains("*") || fields.contains("**") { return record }
        return record.selecting { path in
            path == "_links" || fields.contains { path == $0 || path.hasPrefix($0 + ".") }
        }
    }

    /// Whether one of the values matches a pattern: `a|b`, `!a`, `a*`, `<1`, `>=1`, `1..2`.
    package static func matches(_ values: [String], _ pattern: String) -> Bool {
        if pattern.hasPrefix("!") { return !matches(values, String(pattern.dropFirst())) }
        return pattern.split(separator: "|", omittingEmptySubsequences: false).contains { alternative in
            values.contains { matches($0, alternative) }
        }
    }

    private static func matches(_ value: String, _ pattern: Substring) -> Bool {
        if let number = Double(value) {
            for (sign, test) in comparisons where pattern.hasPrefix(sign) {
                guard let bound = Double(pattern.dropFirst(sign.count)) else { break }
                return test(number, bound)
            }
            if let dots = pattern.firstRange(of: ".."), let low = Double(pattern[..<dots.lowerBound]),
                let high = Double(pattern[dots.upperBound...])
            {
                return (low...max(low, high)).contains(number)
            }
        }
        guard pattern.contains("*") else { return value.lowercased() == pattern.lowercased() }
        return matchesWildcard(Substring(value), pattern)
    }

    private static let comparisons: [(String, @Sendable (Double, Double) -> Bool)] = [
        ("<=", { $0 <= $1 }), (">=", { $0 >= $1 }), ("<", { $0 < $1 }), (">", { $0 > $1 }),
    ]

    private static func matchesWildcard(_ value: Substring, _ pattern: Substring) -> Bool {
        let pieces = pattern.split(separator: "*", omittingEmptySubsequences: false)
        var rest = value
        for (index, piece) in pieces.enumerated() where !piece.isEmpty {
            if index == 0 {
                guard rest.hasPrefix(piece) else { return false }
                rest = rest.dropFirst(piece.count)
            } else if index == pieces.count - 1 {
                return rest.hasSuffix(piece)
            } else {
                guard let range = rest.firstRange(of: piece) else { return false }
                rest = rest[range.upperBound...]
            }
        }
        return pieces.last?.isEmpty ?? true
    }

    private static func sort(_ records: inout [JSONValue], by order: String) {
        let words = order.split(separator: ",").first?.split(separator: " ") ?? []
        guard let field = words.first else { return }
        let isDescending = words.dropFirst().first?.lowercased() == "desc"
        records.sort { left, right in
            let (first, second) = isDescending ? (right, left) : (left, right)
            let values = (first[path: String(field)], second[path: String(field)])
            if case (.int(let a)?, .int(let b)?) = values { return a < b }
            return (values.0?.plain ?? "") < (values.1?.plain ?? "")
        }
    }

    private static func number(_ call: RESTCall, _ name: String) throws(ManagementError) -> Int? {
        guard let text = call.query(name) else { return nil }
        guard let value = Int(text), value >= 0 else {
            throw ManagementError(
                .invalid,
                "262197",
                "'\(text)' is not a value for '\(name)'",
                remedy: "give a number from 0",
                target: name
            )
        }
        return value
    }

    private static func link(_ call: RESTCall, offset: Int?) -> String {
        var query = call.query.filter { offset == nil || $0.name != "offset" }
        if let offset { query.append(("offset", String(offset))) }
        guard !query.isEmpty else { return call.path }
        return call.path + "?" + query.map { "\(escaped($0.name))=\(escaped($0.value))" }.joined(separator: "&")
    }

    private static func escaped(_ text: String) -> String {
        var result = ""
        for byte in text.utf8 {
            switch byte {
            case 0x41...0x5a, 0x61...0x7a, 0x30...0x39, 0x2d, 0x2e, 0x5f, 0x7e, 0x2a, 0x2c:
                result.unicodeScalars.append(UnicodeScalar(byte))
            default:
                let digits = String(byte, radix: 16, uppercase: true)
                result += "%" + (digits.count == 1 ? "0" + digits : digits)
            }
        }
        return result
    }
}
