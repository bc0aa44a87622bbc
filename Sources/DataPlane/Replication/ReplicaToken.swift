package import Bytes
package import Identity
package import VolumeEngine

/// What is durably known of a replica's content; lies in the same commit as the content that it describes.
///
///     version 1 | kind 1 | atSnapshot: uuid 16
///                        | inInterval: has base 1 | base uuid 16 | target uuid 16 | has position 1 | position 21
///                        | inStream: nothing
package enum ReplicaToken: Equatable, Sendable {
    /// Nothing is known: a new replica, or a volume that others have written.
    case unknown
    /// The replica is exactly what the snapshot holds.
    case atSnapshot(ObjectUUID)
    /// Between two snapshots (no base in a baseline); everything up to the position has been applied.
    case inInterval(base: ObjectUUID?, target: ObjectUUID, position: TransferPosition?)
    /// Follows the source's commits, beyond its newest snapshot.
    case inStream

    private static let version: UInt8 = 1

    /// Appends the token.
    package func encode(into writer: inout ByteWriter) {
        writer.append(Self.version)
        switch self {
        case .unknown: writer.append(UInt8(0))
        case .atSnapshot(let uuid):
            writer.append(UInt8(1))
            writer.append(uuid)
        case .inInterval(let base, let target, let position):
            writer.append(UInt8(2))
            writer.append(UInt8(base == nil ? 0 : 1))
            writer.append(base ?? ObjectUUID(high: 0, low: 0))
            writer.append(target)
            writer.append(UInt8(position == nil ? 0 : 1))
            position?.encode(into: &writer)
        case .inStream: writer.append(UInt8(3))
        }
    }

    /// The token alone.
    package var encoded: [UInt8] {
        var writer = ByteWriter(capacity: 64)
        encode(into: &writer)
        return writer.bytes
    }

    /// Reads a token back.
    package init(decoding reader: inout ByteReader) throws(ByteFormatError) {
        let version = try reader.read(UInt8.self)
        guard version == Self.version else { throw ByteFormatError("replica token of version \(version)") }
        let kind = try reader.read(UInt8.self)
        switch kind {
        case 0: self = .unknown
        case 1: self = .atSnapshot(try reader.readUUID())
        case 2:
            let hasBase = try reader.read(UInt8.self) != 0
            let base = try reader.readUUID()
            let target = try reader.readUUID()
            let hasPosition = try reader.read(UInt8.self) != 0
            self = .inInterval(
                base: hasBase ? base : nil,
                target: target,
                position: hasPosition ? try TransferPosition(decoding: &reader) : nil
            )
        case 3: self = .inStream
        default: throw ByteFormatError("\(kind) is no kind of replica token")
        }
    }

    /// The token of a volume; what is absent or not understood is unknown.
    package static func of(_ volume: Volume) throws(StorageError) -> ReplicaToken {
        guard let bytes = try volume.replicaCheckpoint() else { return .unknown }
        return bytes.withUnsafeBytes { memory in
            var reader = ByteReader(memory)
            return (try? ReplicaToken(decoding: &reader)) ?? .unknown
        }
    }
}

extension ByteWriter {
    mutating func append(_ uuid: ObjectUUID) {
        append(uuid.high)
        append(uuid.low)
    }
}

extension ByteReader {
    mutating func readUUID() throws(ByteFormatError) -> ObjectUUID {
        ObjectUUID(high: try read(), low: try read())
    }
}
