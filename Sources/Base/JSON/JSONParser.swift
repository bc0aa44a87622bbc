/// Why bytes are not JSON.
package struct JSONFormatError: Error, Equatable, CustomStringConvertible {
    /// What was wrong and where.
    package let description: String
}

extension JSONValue {
    /// How deep values may be nested.
    package static let depthMax = 64

    /// Reads JSON (RFC 8259). Fields keep their order.
    package init(parsing bytes: [UInt8]) throws(JSONFormatError) {
        var parser = JSONParser(bytes: bytes)
        self = try parser.document()
    }
}

/// A reader of JSON text: one pass, no look back.
private struct JSONParser {
    let bytes: [UInt8]
    var offset = 0

    init(bytes: [UInt8]) { self.bytes = bytes }

    mutating func document() throws(JSONFormatError) -> JSONValue {
        let result = try value(depth: 0)
        skipBlanks()
        guard offset == bytes.count else { throw failure("the end") }
        return result
    }

    private var next: UInt8? { offset < bytes.count ? bytes[offset] : nil }

    private func failure(_ wanted: String) -> JSONFormatError {
        JSONFormatError(description: "\(wanted) expected at byte \(offset)")
    }

    private mutating func skipBlanks() {
        while let byte = next, [0x20, 0x09, 0x0a, 0x0d].contains(byte) { offset += 1 }
    }

    private mutating func take(_ byte: UInt8) -> Bool {
        skipBlanks()
        guard next == byte else { return false }
        offset += 1
        return true
    }

    private mutating func value(depth: Int) throws(JSONFormatError) -> JSONValue {
        guard depth < JSONValue.depthMax else { throw failure("less nesting") }
        skipBlanks()
        switch next {
        case UInt8(ascii: "{"): return try object(depth: depth)
        case UInt8(ascii: "["): return try array(depth: depth)
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try literal("true", .bool(true))
        case UInt8(ascii: "f"): return try literal("false", .bool(false))
        case UInt8(ascii: "n"): return try literal("null", .null)
        default: return try number()
        }
    }

    private mutating func literal(_ text: String, _ value: JSONValue) throws(JSONFormatError) -> JSONValue {
        guard bytes[offset...].starts(with: text.utf8) else { throw failure(text) }
        offset += text.utf8.count
        return value
    }

    private mutating func object(depth: Int) throws(JSONFormatError) -> JSONValue {
        offset += 1
        var fields: [(key: String, value: JSONValue)] = []
        if take(UInt8(ascii: "}")) { return .object(fields) }
        repeat {
            skipBlanks()
            guard next == UInt8(ascii: "\"") else { throw failure("a field name") }
            let key = try string()
            guard take(UInt8(ascii: ":")) else { throw failure("':'") }
            fields.append((key, try value(depth: depth + 1)))
        } while take(UInt8(ascii: ","))
        guard take(UInt8(ascii: "}")) else { throw failure("'}'") }
        return .object(fields)
    }

    private mutating func array(depth: Int) throws(JSONFormatError) -> JSONValue {
        offset += 1
        var elements: [JSONValue] = []
        if take(UInt8(ascii: "]")) { return .array(elements) }
        repeat { elements.append(try value(depth: depth + 1)) } while take(UInt8(ascii: ","))
        guard take(UInt8(ascii: "]")) else { throw failure("']'") }
        return .array(elements)
    }

    private mutating func number() throws(JSONFormatError) -> JSONValue {
        let start = offset
        while let byte = next, (0x30...0x39).contains(byte) || [0x2b, 0x2d, 0x2e, 0x45, 0x65].contains(byte) {
            offset += 1
        }
        let text = String(decoding: bytes[start..<offset], as: UTF8.self)
        guard text.utf8.first != 0x2b, text.utf8.first != 0x2e else { throw failure("a value") }
        if let whole = Int64(text) { return .int(whole) }
        guard let value = Double(text), value.isFinite else { throw failure("a value") }
        return .double(value)
    }

    private mutating func string() throws(JSONFormatError) -> String {
        offset += 1
        var text: [UInt8] = []
        while let byte = next {
            offset += 1
            switch byte {
            case UInt8(ascii: "\""):
                guard let result = String(validating: text, as: UTF8.self) else { throw failure("UTF-8") }
                return result
            case UInt8(ascii: "\\"): text.append(contentsOf: String(try escape()).utf8)
            case ..<0x20: throw failure("no control character")
            default: text.append(byte)
            }
        }
        throw failure("the end of the string")
    }

    private mutating func escape() throws(JSONFormatError) -> Unicode.Scalar {
        guard let byte = next else { throw failure("an escape") }
        offset += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(byte)
        case UInt8(ascii: "b"): return "\u{8}"
        case UInt8(ascii: "f"): return "\u{c}"
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "u"): return try unicodeEscape()
        default: throw failure("an escape")
        }
    }

    private mutating func unicodeEscape() throws(JSONFormatError) -> Unicode.Scalar {
        let first = try codeUnit()
        if let scalar = Unicode.Scalar(first) { return scalar }
        // A surrogate: only a pair is a character (RFC 8259, section 7).
        guard (0xd800...0xdbff).contains(first), next == UInt8(ascii: "\\") else { throw failure("a surrogate pair") }
        offset += 1
        guard next == UInt8(ascii: "u") else { throw failure("a surrogate pair") }
        offset += 1
        let second = try codeUnit()
        guard (0xdc00...0xdfff).contains(second) else { throw failure("a surrogate pair") }
        guard let scalar = Unicode.Scalar(0x10000 + (first - 0xd800) << 10 + (second - 0xdc00)) else {
            throw failure("a surrogate pair")
        }
        return scalar
    }

    private mutating func codeUnit() throws(JSONFormatError) -> UInt32 {
        guard offset + 4 <= bytes.count,
            let value = UInt32(String(decoding: bytes[offset..<offset + 4], as: UTF8.self), radix: 16),
            bytes[offset] != 0x2b
        else { throw failure("four hexadecimal digits") }
        offset += 4
        return value
    }
}
