import Bytes
import Identity
import VolumeEngine

/// What a destination asks a source for.
struct ReplicationRequest: Equatable, Sendable {
    /// Transfers end, synchronous streams stay.
    enum Mode: UInt8, Sendable {
        case transfer = 1
        case synchronous = 2
    }

    var msid: VolumeMSID
    var mode: Mode
    /// The last snapshot to transfer; zero in a synchronous stream, which makes its own.
    var target: ObjectUUID
    /// Bytes in a second; 0 is unlimited.
    var throttleBytesPerSecond: UInt64
    /// Whether the replica holds nothing at all.
    var isEmpty: Bool
    /// The replica's snapshots, oldest first.
    var snapshots: [ObjectUUID]
    /// What the replica holds beside its snapshots.
    var token: ReplicaToken
}

/// What the source has decided about a request, for the destination to prepare.
struct ReplicationAnswer: Equatable, Sendable {
    /// The snapshot that the replica must be exactly at before the first interval; nil when it starts empty or goes on
    /// within an interval.
    var base: ObjectUUID?
    /// Whether the first interval goes on where the replica's token stands.
    var isResumed: Bool
    /// Estimated bytes of the transfer; 0 when not known.
    var bytesExpected: UInt64
    /// Every snapshot of the source, oldest first.
    var snapshots: [ObjectUUID]
}

/// The frames of a replication link, little-endian: type 1, then by type the fields in the order of the cases.
///
/// Frames of records are not messages, so that their bytes are applied where they lie:
///
///     records      type 1 | records | the position after them 21
///     intervalEnd  type 1 | the interval's last records
///     commitPart   type 1 | a part of a commit's records, cut anywhere
enum ReplicationMessage: Equatable, Sendable {
    /// 2: synchronous streams carry the answers that volumes keep.
    static let version: UInt8 = 2

    enum Kind: UInt8 {
        case request = 16
        case answer, ready, interval, records, intervalEnd, transferEnd, commitPart, commitEnd, confirmed, inSync,
            refused
    }

    case request(ReplicationRequest)
    case answer(ReplicationAnswer)
    /// The destination has prepared its replica.
    case ready
    /// Records between two snapshots follow.
    case interval(base: ObjectUUID?, target: ObjectUUID)
    case transferEnd
    /// All parts of the commit have come.
    case commitEnd(UInt64)
    /// The destination has made everything up to the commit durable.
    case confirmed(UInt64)
    /// From now on every acknowledged write is on both sides.
    case inSync
    /// The sender gives up.
    case refused(StorageError)

    /// Bytes that lie behind the records of a `records` frame.
    static let positionBytes = 21

    /// The frame. Sources of records build their frames themselves.
    var encoded: [UInt8] {
        var writer = ByteWriter(capacity: 128)
        switch self {
        case .request(let request):
            writer.append(Kind.request.rawValue)
            Self.encode(request, &writer)
        case .answer(let answer):
            writer.append(Kind.answer.rawValue)
            writer.append(UInt8((answer.base == nil ? 0 : 1) | (answer.isResumed ? 2 : 0)))
            writer.append(answer.base ?? ObjectUUID(high: 0, low: 0))
            writer.append(answer.bytesExpected)
            Self.encode(answer.snapshots, &writer)
        case .ready: writer.append(Kind.ready.rawValue)
        case .interval(let base, let target):
            writer.append(Kind.interval.rawValue)
            writer.append(UInt8(base == nil ? 0 : 1))
            writer.append(base ?? ObjectUUID(high: 0, low: 0))
            writer.append(target)
        case .transferEnd: writer.append(Kind.transferEnd.rawValue)
        case .commitEnd(let number):
            writer.append(Kind.commitEnd.rawValue)
            writer.append(number)
        case .confirmed(let number):
            writer.append(Kind.confirmed.rawValue)
            writer.append(number)
        case .inSync: writer.append(Kind.inSync.rawValue)
        case .refused(let error):
            writer.append(Kind.refused.rawValue)
            for text in [error.code.rawValue, error.message, error.remedy] { writer.append(counted: Array(text.utf8)) }
        }
        return writer.bytes
    }

    private static func encode(_ request: ReplicationRequest, _ writer: inout ByteWriter) {
        writer.append(version)
        writer.append(request.msid.rawValue)
        writer.append(request.mode.rawValue)
        writer.append(request.target)
        writer.append(request.throttleBytesPerSecond)
        writer.append(UInt8(request.isEmpty ? 1 : 0))
        encode(request.snapshots, &writer)
        request.token.encode(into: &writer)
    }

    private static func encode(_ snapshots: [ObjectUUID], _ writer: inout ByteWriter) {
        writer.append(UInt32(snapshots.count))
        for uuid in snapshots { writer.append(uuid) }
    }

    /// Reads a frame.
    static func decode(_ frame: [UInt8]) throws(StorageError) -> ReplicationMessage {
        let outcome = frame.withUnsafeBytes { memory in
            Result { () throws(ByteFormatError) in
                var reader = ByteReader(memory)
                return try decode(&reader)
            }
        }
        do { return try outcome.get() } catch {
            throw StorageError(
                .damaged,
                "the other end of the replication link sent what is not understood: \(error)",
                remedy: "run the same version on both clusters"
            )
        }
    }

    private static func decode(_ reader: inout ByteReader) throws(ByteFormatError) -> ReplicationMessage {
        let raw = try reader.read(UInt8.self)
        guard let kind = Kind(rawValue: raw) else { throw ByteFormatError("\(raw) is no type of message") }
        switch kind {
        case .request: return .request(try decodeRequest(&reader))
        case .answer:
            let flags = try reader.read(UInt8.self)
            let base = try reader.readUUID()
            let bytesExpected = try reader.read(UInt64.self)
            return .answer(
                ReplicationAnswer(
                    base: flags & 1 != 0 ? base : nil,
                    isResumed: flags & 2 != 0,
                    bytesExpected: bytesExpected,
                    snapshots: try decodeSnapshots(&reader)
                )
            )
        case .ready: return .ready
        case .interval:
            let hasBase = try reader.read(UInt8.self) != 0
            let base = try reader.readUUID()
            return .interval(base: hasBase ? base : nil, target: try reader.readUUID())
        case .records, .intervalEnd, .commitPart: throw ByteFormatError("records where none were expected")
        case .transferEnd: return .transferEnd
        case .commitEnd: return .commitEnd(try reader.read())
        case .confirmed: return .confirmed(try reader.read())
        case .inSync: return .inSync
        case .refused:
            let code = String(decoding: try reader.readCounted(limit: 64), as: UTF8.self)
            let message = String(decoding: try reader.readCounted(limit: 1 << 16), as: UTF8.self)
            let remedy = String(decoding: try reader.readCounted(limit: 1 << 16), as: UTF8.self)
            return .refused(StorageError(StorageError.Code(rawValue: code) ?? .conflict, message, remedy: remedy))
        }
    }

    private static func decodeRequest(_ reader: inout ByteReader) throws(ByteFormatError) -> ReplicationRequest {
        let version = try reader.read(UInt8.self)
        guard version == Self.version else { throw ByteFormatError("version \(version) of the protocol is not known") }
        let msid = VolumeMSID(rawValue: try reader.read())
        let rawMode = try reader.read(UInt8.self)
        guard let mode = ReplicationRequest.Mode(rawValue: rawMode) else {
            throw ByteFormatError("\(rawMode) is no mode")
        }
        return ReplicationRequest(
            msid: msid,
            mode: mode,
            target: try reader.readUUID(),
            throttleBytesPerSecond: try reader.read(),
            isEmpty: try reader.read(UInt8.self) != 0,
            snapshots: try decodeSnapshots(&reader),
            token: try ReplicaToken(decoding: &reader)
        )
    }

    private static func decodeSnapshots(_ reader: inout ByteReader) throws(ByteFormatError) -> [ObjectUUID] {
        let count = Int(try reader.read(UInt32.self))
        guard count <= FrameLimits.snapshotsMax else { throw ByteFormatError("\(count) snapshots") }
        var snapshots: [ObjectUUID] = []
        for _ in 0..<count { snapshots.append(try reader.readUUID()) }
        return snapshots
    }
}
