import ReplicatedDatabase

/// Decodes records, and remembers what they decoded to: most of a configuration is what it was when it was read last, and
/// decoding is nearly all that reading it costs.
struct RecordReader: Sendable {
    private struct Known: Sendable {
        var bytes: [UInt8]
        var value: any ConfigurationRecord
    }
    private var known: [String: Known] = [:]
    private var next: [String: Known] = [:]

    /// The value of a record.
    mutating func read<Record: ConfigurationRecord>(_ record: DatabaseRecord) throws(ManagementError) -> Record {
        if let before = known[record.key], before.bytes == record.value, let value = before.value as? Record {
            next[record.key] = before
            return value
        }
        let value = try ConfigurationCoding.decode(Record.self, from: record.value, key: record.key)
        guard value.formatVersion <= Record.formatVersionMax else {
            throw ManagementError(
                .failed,
                "record_too_new",
                "the record at '\(record.key)' has format \(value.formatVersion), this version reads "
                    + "\(Record.formatVersionMax)",
                remedy: "use the version of the software that wrote it",
                target: record.key
            )
        }
        next[record.key] = Known(bytes: record.value, value: value)
        return value
    }

    /// Forgets what was not read since the last call: those records are gone.
    mutating func forgetAbsent() {
        known = next
        next = [:]
    }
}
