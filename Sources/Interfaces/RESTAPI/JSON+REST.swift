package import ClusterConfiguration
import Foundation
package import JSON

extension JSONValue {
    /// Nanoseconds since 1970 as an ISO 8601 time in UTC.
    package static func time(nanoseconds: Int64) -> JSONValue {
        .string(Date(timeIntervalSince1970: Double(nanoseconds) / 1e9).formatted(.iso8601))
    }

    /// An object with one more field.
    func adding(_ key: String, _ value: JSONValue) -> JSONValue {
        guard case .object(let fields) = self else { return self }
        return .object(fields + [(key: key, value: value)])
    }

    /// Reads the body of a request; nothing at all is an empty object, as clients send it.
    package init(body bytes: [UInt8]) throws(ManagementError) {
        guard bytes.contains(where: { ![0x20, 0x09, 0x0a, 0x0d].contains($0) }) else {
            self = .object([])
            return
        }
        do {
            self = try JSONValue(parsing: bytes)
        } catch {
            throw ManagementError(
                .invalid,
                "json_invalid",
                "the body of the request is not JSON: \(error.description)",
                remedy: "send a JSON object"
            )
        }
    }
}
