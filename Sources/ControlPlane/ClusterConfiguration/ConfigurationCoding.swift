import Foundation

/// The one place where configuration records become bytes and come back: JSON with sorted keys, so that equal records
/// are equal bytes and a person can read the database.
package enum ConfigurationCoding {
    /// The bytes of a value.
    package static func encode(_ value: some Encodable) throws(ManagementError) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        do {
            return [UInt8](try encoder.encode(value))
        } catch {
            throw ManagementError(
                .failed,
                "encoding_failed",
                "a \(type(of: value)) cannot be written: \(error)",
                remedy: "report this as a defect"
            )
        }
    }

    /// The value of bytes; an error names the key that held them.
    package static func decode<Value: Decodable>(
        _ type: Value.Type,
        from bytes: [UInt8],
        key: String
    ) throws(ManagementError) -> Value {
        do {
            return try JSONDecoder().decode(type, from: Data(bytes))
        } catch {
            throw ManagementError(
                .failed,
                "record_unreadable",
                "the record at '\(key)' is not a readable \(type): \(error)",
                remedy: "use the version of the software that wrote it, or restore the database from a backup",
                target: key
            )
        }
    }
}
