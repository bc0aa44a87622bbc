package import Environment

/// A 128-bit identifier, written as 8-4-4-4-12 hexadecimal digits (RFC 9562, section 4).
package struct ObjectUUID: Hashable, Sendable, Comparable, CustomStringConvertible, Codable {
    /// The first eight bytes, big-endian.
    package let high: UInt64
    /// The last eight bytes, big-endian.
    package let low: UInt64

    /// Makes an identifier out of its 128 bits.
    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// A random identifier (version 4).
    package static func random(_ environment: Environment) -> ObjectUUID {
        ObjectUUID(
            high: environment.randomBits() & 0xffff_ffff_ffff_0fff | 0x4000,
            low: environment.randomBits() & 0x3fff_ffff_ffff_ffff | 0x8000_0000_0000_0000
        )
    }

    /// Reads the written form; nil when it is not one.
    package init?(_ text: String) {
        let groups = text.split(separator: "-", omittingEmptySubsequences: false)
        guard groups.map(\.utf8.count) == [8, 4, 4, 4, 12] else { return nil }
        let digits = groups.joined()
        guard digits.utf8.allSatisfy({ Character(UnicodeScalar($0)).isHexDigit }),
            let high = UInt64(digits.prefix(16), radix: 16), let low = UInt64(digits.suffix(16), radix: 16)
        else { return nil }
        self.init(high: high, low: low)
    }

    /// The written form, in lower case.
    package var description: String {
        let digits = Self.hexadecimal(high) + Self.hexadecimal(low)
        var text = ""
        for (index, digit) in digits.enumerated() {
            if [8, 12, 16, 20].contains(index) { text.append("-") }
            text.append(digit)
        }
        return text
    }

    private static func hexadecimal(_ value: UInt64) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }

    /// Orders identifiers by their bytes.
    package static func < (left: ObjectUUID, right: ObjectUUID) -> Bool {
        (left.high, left.low) < (right.high, right.low)
    }

    /// Decodes the written form.
    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let value = ObjectUUID(text) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "'\(text)' is not a UUID")
        }
        self = value
    }

    /// Encodes the written form.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}

/// The master set identifier of a volume: 64 random bits that stay the same wherever the volume moves [124].
package struct VolumeMSID: RawRepresentable, Hashable, Sendable, Comparable, CustomStringConvertible, Codable {
    /// The 64 bits.
    package let rawValue: UInt64

    /// Wraps 64 bits.
    package init(rawValue: UInt64) { self.rawValue = rawValue }

    /// A random identifier that is never zero (zero marks objects outside all volumes).
    package static func random(_ environment: Environment) -> VolumeMSID {
        VolumeMSID(rawValue: max(1, environment.randomBits() & 0x7fff_ffff_ffff_ffff))
    }

    /// The decimal form.
    package var description: String { String(rawValue) }

    /// Orders identifiers by their value.
    package static func < (left: VolumeMSID, right: VolumeMSID) -> Bool { left.rawValue < right.rawValue }
}

/// The number of an inode, unique within its volume for ever.
package struct InodeNumber: RawRepresentable, Hashable, Sendable, Comparable {
    /// The number.
    package let rawValue: UInt64

    /// Wraps a number.
    @inlinable
    package init(rawValue: UInt64) { self.rawValue = rawValue }

    /// The directory at the root of every volume.
    package static let root = InodeNumber(rawValue: 64)

    /// Orders inodes by their number.
    package static func < (left: InodeNumber, right: InodeNumber) -> Bool { left.rawValue < right.rawValue }
}

/// A stretch of a volume's log between two snapshots; grows by one with every snapshot taken.
package struct Epoch: RawRepresentable, Hashable, Sendable, Comparable, Codable {
    /// The number.
    package let rawValue: UInt32

    /// Wraps a number.
    @inlinable
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    /// Stands for the active file system wherever a snapshot's epoch may be named.
    package static let active = Epoch(rawValue: 0)

    /// The epoch of a new volume.
    package static let first = Epoch(rawValue: 1)

    /// The epoch after this one.
    package var next: Epoch { Epoch(rawValue: rawValue + 1) }

    /// Orders epochs by time.
    @inlinable
    package static func < (left: Epoch, right: Epoch) -> Bool { left.rawValue < right.rawValue }
}
