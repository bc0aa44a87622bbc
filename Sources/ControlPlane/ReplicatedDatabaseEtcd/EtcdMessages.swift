import Foundation

// The JSON that etcd's gateway makes of its gRPC messages (etcd 3.4, rpc.proto and kv.proto): 64-bit integers are texts,
// bytes are base64, and what is zero, empty or false is left out.

/// A 64-bit integer of the gateway.
struct EtcdInteger: Codable, Equatable {
    var value: Int64

    init(_ value: Int64) { self.value = value }

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let number = try? container.decode(Int64.self) {
            value = number
            return
        }
        guard let number = Int64(try container.decode(String.self)) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "not a 64-bit integer")
        }
        value = number
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(String(value))
    }
}

/// Keys from the first one to before the second one.
struct EtcdKeyRange: Equatable {
    var first: Data
    /// Nil for the first key alone.
    var end: Data?

    /// One key.
    init(key: String) { first = Data(key.utf8) }

    /// Every key that begins with `prefix`, which is not empty.
    init(prefix: String) {
        first = Data(prefix.utf8)
        var end = first
        // No byte of UTF-8 is 0xFF, so the last one can be counted up.
        end[end.count - 1] += 1
        self.end = end
    }

    init(first: Data, end: Data?) {
        self.first = first
        self.end = end
    }
}

struct EtcdHeader: Decodable {
    var revision: EtcdInteger?
}

struct EtcdKeyValue: Decodable {
    private enum CodingKeys: String, CodingKey {
        case key, value, createRevision = "create_revision", modifyRevision = "mod_revision"
    }

    var key: Data
    var value: Data?
    var createRevision: EtcdInteger?
    var modifyRevision: EtcdInteger?
}

struct EtcdRangeRequest: Encodable {
    private enum CodingKeys: String, CodingKey { case key, rangeEnd = "range_end", limit, revision }

    var key: Data
    var rangeEnd: Data?
    var limit: EtcdInteger?
    /// The state of this revision; nil for the newest.
    var revision: EtcdInteger?
}

struct EtcdRangeResponse: Decodable {
    var header: EtcdHeader
    var kvs: [EtcdKeyValue]?
    var more: Bool?
}

struct EtcdCompare: Encodable {
    private enum CodingKeys: String, CodingKey { case key, target, result, version, modifyRevision = "mod_revision" }

    enum Target: String, Encodable { case version = "VERSION", modifyRevision = "MOD" }
    enum Result: String, Encodable { case equal = "EQUAL", greater = "GREATER" }

    var key: Data
    var target: Target
    var result: Result
    var version: EtcdInteger?
    var modifyRevision: EtcdInteger?
}

/// One change of a transaction: exactly one of the two.
struct EtcdOperation: Encodable {
    private enum CodingKeys: String, CodingKey {
        case requestPut = "request_put", requestDeleteRange = "request_delete_range"
    }

    struct Put: Encodable {
        var key: Data
        var value: Data
        /// The lease that the key lives with.
        var lease: EtcdInteger?
    }

    struct Delete: Encodable {
        private enum CodingKeys: String, CodingKey { case key, rangeEnd = "range_end" }

        var key: Data
        var rangeEnd: Data?
    }

    var requestPut: Put?
    var requestDeleteRange: Delete?
}

struct EtcdTransactionRequest: Encodable {
    var compare: [EtcdCompare]
    var success: [EtcdOperation]
}

struct EtcdTransactionResponse: Decodable {
    var header: EtcdHeader
    var succeeded: Bool?
}

struct EtcdWatchRequest: Encodable {
    private enum CodingKeys: String, CodingKey { case createRequest = "create_request" }

    struct Create: Encodable {
        private enum CodingKeys: String, CodingKey {
            case key, rangeEnd = "range_end", startRevision = "start_revision"
        }

        var key: Data
        var rangeEnd: Data?
        var startRevision: EtcdInteger
    }

    var createRequest: Create
}

/// A message of a watch: a result, or the end of the stream.
struct EtcdWatchMessage: Decodable {
    struct Event: Decodable {
        /// Left out for a put.
        var type: String?
        var kv: EtcdKeyValue
    }

    struct Result: Decodable {
        private enum CodingKeys: String, CodingKey {
            case created, canceled, cancelReason = "cancel_reason", compactRevision = "compact_revision", events
        }

        var created: Bool?
        var canceled: Bool?
        var cancelReason: String?
        /// The revision up to which history is gone, when that is why the watch was cancelled.
        var compactRevision: EtcdInteger?
        var events: [Event]?
    }

    struct Failure: Decodable { var message: String? }

    var result: Result?
    var error: Failure?
}

struct EtcdLeaseRequest: Encodable {
    private enum CodingKeys: String, CodingKey { case identifier = "ID", seconds = "TTL" }

    var identifier: EtcdInteger
    var seconds: EtcdInteger?
}

struct EtcdLeaseResponse: Decodable {
    private enum CodingKeys: String, CodingKey { case identifier = "ID", seconds = "TTL", result }

    struct Result: Decodable {
        private enum CodingKeys: String, CodingKey { case seconds = "TTL" }

        var seconds: EtcdInteger?
    }

    var identifier: EtcdInteger?
    var seconds: EtcdInteger?
    /// Of a renewal, whose time is missing when the lease has ended.
    var result: Result?
}

/// A refusal.
struct EtcdFailure: Decodable {
    /// A code of gRPC.
    var code: Int?
    var error: String?
    var message: String?
}
