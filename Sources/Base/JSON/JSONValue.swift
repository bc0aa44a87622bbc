/// A JSON value whose objects keep the order of their fields.
package enum JSONValue: Equatable, Sendable {
    /// `null`
    case null
    /// `true` or `false`
    case bool(Bool)
    /// A whole number.
    case int(Int64)
    /// Any other number.
    case double(Double)
    /// Text.
    case string(String)
    /// Values in order.
    case array([JSONValue])
    /// Fields in order.
    case object([(key: String, value: JSONValue)])

    /// Whether two values are the same; the order of fields counts.
    package static func == (left: JSONValue, right: JSONValue) -> Bool { left.text == right.text }

    /// An identifier, a number or text as a value; nil as `null`.
    package static func text(_ value: (some CustomStringConvertible)?) -> JSONValue {
        value.map { .string($0.description) } ?? .null
    }

    /// An unsigned number; what does not fit becomes the largest that does.
    package static func count(_ value: some BinaryInteger) -> JSONValue { .int(Int64(clamping: value)) }

    /// An object without the fields whose values are nil.
    package static func fields(_ fields: KeyValuePairs<String, JSONValue?>) -> JSONValue {
        .object(fields.compactMap { key, value in value.map { (key: key, value: $0) } })
    }

    /// The value at a dotted path; the first element where the path meets an array.
    package subscript(path path: String) -> JSONValue? {
        var current = self
        for part in path.split(separator: ".") {
            if case .array(let elements) = current {
                guard let first = elements.first else { return nil }
                current = first
            }
            guard case .object(let fields) = current, let field = fields.first(where: { $0.key == part }) else {
                return nil
            }
            current = field.value
        }
        return current
    }

    /// Every value at a dotted path, through all elements of arrays: what a filter compares.
    package func values(at path: Substring) -> [JSONValue] {
        if case .array(let elements) = self { return elements.flatMap { $0.values(at: path) } }
        guard !path.isEmpty else { return [self] }
        guard case .object(let fields) = self else { return [] }
        let end = path.firstIndex(of: ".") ?? path.endIndex
        guard let field = fields.first(where: { $0.key == path[..<end] }) else { return [] }
        return field.value.values(at: end == path.endIndex ? "" : path[path.index(after: end)...])
    }

    /// The fields of an object that a set of dotted paths names, with all that is below them.
    package func selecting(_ isWanted: (String) -> Bool, prefix: String = "") -> JSONValue {
        guard case .object(let fields) = self else { return self }
        return .object(
            fields.compactMap { field in
                let path = prefix.isEmpty ? field.key : "\(prefix).\(field.key)"
                if isWanted(path) { return field }
                let inner: JSONValue
                switch field.value {
                case .object: inner = field.value.selecting(isWanted, prefix: path)
                case .array(let elements): inner = .array(elements.map { $0.selecting(isWanted, prefix: path) })
                default: return nil
                }
                return inner.isEmptyContainer ? nil : (field.key, inner)
            }
        )
    }

    private var isEmptyContainer: Bool {
        switch self {
        case .object(let fields): fields.isEmpty
        case .array(let elements): elements.allSatisfy(\.isEmptyContainer)
        default: false
        }
    }

    /// The compact text.
    package var text: String {
        switch self {
        case .null: "null"
        case .bool(let value): value ? "true" : "false"
        case .int(let value): String(value)
        case .double(let value): value.isFinite ? "\(value)" : "null"
        case .string(let value): Self.quoted(value)
        case .array(let elements): "[" + elements.map(\.text).joined(separator: ",") + "]"
        case .object(let fields):
            "{" + fields.map { "\(Self.quoted($0.key)):\($0.value.text)" }.joined(separator: ",") + "}"
        }
    }

    /// What a filter compares with: text without quotes.
    package var plain: String {
        if case .string(let value) = self { value } else { text }
    }

    private static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\r": result += "\\r"
            case "\t": result += "\\t"
            case let control where control.value < 0x20:
                let digits = String(control.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}
