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
        // Byte by byte: every record that is read has several of them.
        var (high, low): (UInt64, UInt64) = (0, 0)
        var position = 0
        for byte in text.utf8 {
            if Self.hyphens.contains(position) {
                guard byte == UInt8(ascii: "-") else { return nil }
            } else {
                guard position < Self.writtenBytes, let digit = Self.digit(byte) else { return nil }
                if position < Self.hyphens[2] { high = high << 4 | digit } else { low = low << 4 | digit }
            }
            position += 1
        }
        guard position == Self.writtenBytes else { return nil }
        self.init(high: high, low: low)
    }

    private static let writtenBytes = 36
    /// Where the hyphens of the written form are; the third one is between the two halves.
    private static let hyphens = [8, 13, 18, 23]

    private static func digit(_ byte: UInt8) -> UInt64? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt64(byte - UInt8(ascii: "0"))
        case UInt8(ascii: "a")...UInt8(ascii: "f"): UInt64(byte - UInt8(ascii: "a") + 10)
        case UInt8(ascii: "A")...UInt8(ascii: "F"): UInt64(byte - UInt8(ascii: "A") + 10)
        default: nil
        }
    }

    /// The written form, in lower case.
    package var description: String {
        String(unsafeUninitializedCapacity: Self.writtenBytes) { text in
            var shift = 64
            for position in 0..<Self.writtenBytes {
                if Self.hyphens.contains(position) {
                    text[position] = UInt8(ascii: "-")
                    continue
                }
                shift = shift == 0 ? 60 : shift - 4
                let digit = UInt8(truncatingIfNeeded: (position < Self.hyphens[2] ? high : low) >> shift & 15)
                text[position] = digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10
            }
            return Self.writtenBytes
        }
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
