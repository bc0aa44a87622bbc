import ArgumentParser
import Glibc
import JSON

/// The value of an environment variable; nil when it is unset or empty.
func environmentValue(_ name: String) -> String? {
    guard let value = getenv(name), value.pointee != 0 else { return nil }
    return String(cString: value)
}

/// Writes a line to standard error.
func printError(_ text: String) {
    let line = Array((text + "\n").utf8)
    _ = line.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
}

/// A size on the command line: `4096`, `500M`, `10G`; the units are powers of 1024.
struct Size: ExpressibleByArgument {
    /// The size in bytes.
    let bytes: Int64

    init?(argument: String) {
        let units: [Character: Int64] = ["K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50]
        guard let last = argument.last else { return nil }
        let unit = units[Character(last.uppercased())]
        let digits = unit == nil ? argument[...] : argument.dropLast()
        guard digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let count = Int64(digits) else { return nil }
        let (bytes, isOverflow) = count.multipliedReportingOverflow(by: unit ?? 1)
        guard !isOverflow else { return nil }
        self.bytes = bytes
    }
}

/// Bytes for eyes: `10G`, `1.5M`.
func formatBytes(_ value: JSONValue?) -> String {
    guard case .int(let bytes)? = value else { return "-" }
    var amount = Double(bytes)
    var unit = 0
    let units = ["B", "K", "M", "G", "T", "P"]
    while amount >= 1024, unit < units.count - 1 {
        amount /= 1024
        unit += 1
    }
    // Rounded down: 1023.99M is not yet 1024M, and free space is never shown larger than it is.
    let tenths = (amount * 10).rounded(.down) / 10
    return tenths == tenths.rounded() ? "\(Int64(tenths))\(units[unit])" : "\(tenths)\(units[unit])"
}

/// A column of a table: its title and how a record fills it.
struct Column {
    /// The title.
    let title: String
    /// The text of a record.
    let text: (JSONValue) -> String

    /// A column that shows the field at a dotted path.
    init(_ title: String, _ path: String) {
        self.title = title
        text = { $0[path: path].map(Column.plain) ?? "-" }
    }

    /// A column that shows the bytes at a dotted path.
    init(_ title: String, bytes path: String) {
        self.title = title
        text = { formatBytes($0[path: path]) }
    }

    /// A column that is computed.
    init(_ title: String, _ text: @escaping (JSONValue) -> String) {
        self.title = title
        self.text = text
    }

    private static func plain(_ value: JSONValue) -> String {
        switch value {
        case .null: "-"
        case .string(let text) where text.isEmpty: "-"
        case .array(let elements): elements.map(\.plain).joined(separator: ",")
        default: value.plain
        }
    }
}

extension GlobalOptions {
    /// Prints records: a table for eyes, JSON for programs.
    func show(_ records: [JSONValue], _ columns: [Column]) {
        if json {
            print(JSONValue.fields(["records": .array(records), "num_records": .int(Int64(records.count))]).text)
        } else if records.isEmpty {
            print("(none)")
        } else {
            for line in table(records, columns) { print(line) }
        }
    }

    /// Tells what was done: the record as JSON for programs, a sentence for eyes.
    func done(_ sentence: String, _ record: JSONValue = .object([])) {
        print(json ? record.text : sentence)
    }
}

/// The lines of a table whose columns are as wide as what they hold.
func table(_ records: [JSONValue], _ columns: [Column]) -> [String] {
    let rows = [columns.map(\.title)] + records.map { record in columns.map { $0.text(record) } }
    let widths = columns.indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    var lines = rows.map { row in
        zip(row, widths).map { text, width in text + String(repeating: " ", count: width - text.count) }
            .joined(separator: "  ").trimmingTrailingBlanks
    }
    lines.insert(widths.map { String(repeating: "-", count: $0) }.joined(separator: "  "), at: 1)
    return lines
}

extension String {
    fileprivate var trimmingTrailingBlanks: String {
        String(self[..<(lastIndex { $0 != " " }.map { index(after: $0) } ?? startIndex)])
    }
}
