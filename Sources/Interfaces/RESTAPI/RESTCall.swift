package import ClusterConfiguration
package import Hummingbird
package import Identity
import NIOCore
package import JSON

/// A request to the management interface, read and ready to be answered.
package struct RESTCall: Sendable {
    /// The path without its query.
    package let path: String
    /// The query in its order; names may occur more than once.
    package let query: [(name: String, value: String)]
    /// The body: an object, empty when there was none.
    package let body: JSONValue
    /// The parts of the path that the route left open.
    package let parameters: Parameters
    /// Whether another node of the cluster passes it on.
    package let isForwarded: Bool

    /// Makes a call.
    package init(
        path: String,
        query: [(name: String, value: String)],
        body: JSONValue,
        parameters: Parameters,
        isForwarded: Bool = false
    ) {
        self.isForwarded = isForwarded
        self.path = path
        self.query = query
        self.body = body
        self.parameters = parameters
    }

    /// The last value of a query field.
    package func query(_ name: String) -> String? { query.last { $0.name == name }?.value }

    /// A query field as a truth value; clients write `true`, `True` and `1`.
    package func isTrue(_ name: String) throws(ManagementError) -> Bool? {
        guard let value = query(name) else { return nil }
        switch value.lowercased() {
        case "true", "1", "": return true
        case "false", "0": return false
        default:
            throw ManagementError(
                .invalid,
                "value_invalid",
                "'\(value)' is not a truth value",
                remedy: "give true or false",
                target: name
            )
        }
    }

    /// The identifier that the path names.
    package func uuid(_ parameter: String = "uuid") throws(ManagementError) -> ObjectUUID {
        let text = parameters.get(parameter) ?? ""
        guard let uuid = ObjectUUID(text) else {
            throw ManagementError(
                .invalid,
                "uuid_invalid",
                "'\(text)' is not a UUID",
                remedy: "use the uuid that a collection lists",
                target: parameter
            )
        }
        return uuid
    }

    /// Refuses fields of the body that the resource does not take, so that a misspelt one is not ignored.
    package func requireFields(among known: [String]) throws(ManagementError) {
        guard case .object = body else {
            throw ManagementError(.invalid, "json_invalid", "the body is not a JSON object", remedy: "send an object")
        }
        for path in Self.leaves(of: body, "") {
            guard !known.contains(where: { path == $0 || path.hasPrefix($0 + ".") }) else { continue }
            throw ManagementError(
                .invalid,
                "262179",
                "'\(path)' is not a field that can be given here",
                remedy: "use some of: \(known.joined(separator: ", "))",
                target: path
            )
        }
    }

    private static func leaves(of value: JSONValue, _ prefix: String) -> [String] {
        switch value {
        case .object(let fields):
            fields.flatMap { leaves(of: $0.value, prefix.isEmpty ? $0.key : "\(prefix).\($0.key)") }
        case .array(let elements): elements.isEmpty ? [prefix] : elements.flatMap { leaves(of: $0, prefix) }
        default: [prefix]
        }
    }

    /// A text field of the body; nil when it is not given.
    package func string(_ path: String) throws(ManagementError) -> String? {
        switch body[path: path] {
        case nil, .null: return nil
        case .string(let value): return value
        case let other?: throw Self.wrongType(path, other, "text")
        }
    }

    /// The elements of a list of the body; nil when it is not given.
    package func elements(_ path: String) throws(ManagementError) -> [JSONValue]? {
        switch body[path: path] {
        case nil, .null: return nil
        case .array(let elements): return elements
        case let other?: throw Self.wrongType(path, other, "a list")
        }
    }

    /// A whole number of the body; nil when it is not given. Text of digits counts.
    package func int(_ path: String) throws(ManagementError) -> Int64? {
        switch body[path: path] {
        case nil, .null: return nil
        case .int(let value): return value
        case .string(let value) where Int64(value) != nil: return Int64(value)
        case let other?: throw Self.wrongType(path, other, "a whole number")
        }
    }

    /// A size of the body in bytes; nil when it is not given.
    package func bytes(_ path: String) throws(ManagementError) -> UInt64? {
        guard let value = try int(path) else { return nil }
        guard value >= 0 else { throw Self.wrongType(path, .int(value), "a size in bytes") }
        return UInt64(value)
    }

    /// A truth value of the body; nil when it is not given.
    package func bool(_ path: String) throws(ManagementError) -> Bool? {
        switch body[path: path] {
        case nil, .null: return nil
        case .bool(let value): return value
        case let other?: throw Self.wrongType(path, other, "true or false")
        }
    }

    /// A field that must be given.
    package func required<Value>(_ value: Value?, _ path: String) throws(ManagementError) -> Value {
        guard let value else {
            throw ManagementError(
                .invalid,
                "field_missing",
                "the field '\(path)' is missing",
                remedy: "give it",
                target: path
            )
        }
        return value
    }

    private static func wrongType(_ path: String, _ value: JSONValue, _ wanted: String) -> ManagementError {
        ManagementError(
            .invalid,
            "262197",
            "\(value.text) is not a value for '\(path)'",
            remedy: "give \(wanted)",
            target: path
        )
    }
}

/// An answer of the management interface.
package struct RESTAnswer: Sendable {
    /// The status.
    package var status: HTTPResponse.Status
    /// Where a new object is.
    package var location: String?
    /// The body.
    package var body: JSONValue

    /// Makes an answer.
    package init(_ status: HTTPResponse.Status, _ body: JSONValue, location: String? = nil) {
        self.status = status
        self.body = body
        self.location = location
    }

    /// 200 with a body.
    package static func ok(_ body: JSONValue = .object([])) -> RESTAnswer { RESTAnswer(.ok, body) }

    /// 201 for a new object; its record goes along when the caller asked for it.
    package static func created(_ call: RESTCall, at location: String, _ record: JSONValue) throws -> RESTAnswer {
        let isWanted = try call.isTrue("return_records") ?? false
        let body: JSONValue = isWanted ? .fields(["num_records": .int(1), "records": .array([record])]) : .object([])
        return RESTAnswer(.created, body, location: location)
    }

    /// 202 for work that goes on as a job.
    package static func accepted(job: ObjectUUID, location: String? = nil) -> RESTAnswer {
        let link = "/api/cluster/jobs/\(job)"
        let body = JSONValue.fields([
            "job": .fields(["uuid": .text(job), "_links": .fields(["self": .fields(["href": .string(link)])])])
        ])
        return RESTAnswer(.accepted, body, location: location)
    }

    /// The answer of an error: `error.{code,message,target}`, and Godwit's own `error.{name,remedy}`.
    package static func failure(_ error: ManagementError) -> RESTAnswer {
        let (status, code): (HTTPResponse.Status, String) =
            switch error.kind {
            case .invalid: (.badRequest, "2")
            case .notFound: (.notFound, "4")
            case .exists: (.conflict, "1")
            case .conflict: (.conflict, "8")
            case .unavailable: (.serviceUnavailable, "8")
            case .failed: (.internalServerError, "65536")
            case .unsupported: (.notImplemented, "3")
            }
        let isNumber = error.code.utf8.allSatisfy { (0x30...0x39).contains($0) }
        return RESTAnswer(
            status,
            .fields([
                "error": .fields([
                    "code": .string(isNumber ? error.code : code), "message": .string(error.message),
                    "target": error.target.map { .string($0) }, "name": .string(error.code),
                    "remedy": .string(error.remedy),
                ])
            ])
        )
    }

    /// As HTTP.
    package var response: Response {
        var headers = HTTPFields()
        headers[.contentType] = "application/hal+json"
        if let location { headers[.location] = location }
        return Response(
            status: status,
            headers: headers,
            body: ResponseBody(byteBuffer: ByteBuffer(string: body.text + "\n"))
        )
    }
}
