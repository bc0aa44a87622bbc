package import ClusterConfiguration
package import Identity

/// One configuration object of an SVM as a revision of the source's database left it, in a form that survives kinds and
/// formats that the reader does not know: it can then refuse them by name.
package struct ConfigurationUpdate: Codable, Equatable, Sendable {
    /// The kind by its name in the keys: `svm`, `export-policy`, `volume`, `lif`.
    package var kind: String
    /// What tells objects of a kind apart: the last part of the key.
    package var identifier: String
    /// The revision of the source's database that wrote or deleted it; in a baseline the one of the baseline.
    package var revision: Int64
    /// The record, as JSON; nil when the object was deleted.
    package var record: String?

    /// Makes an update.
    package init(kind: String, identifier: String, revision: Int64, record: String?) {
        self.kind = kind
        self.identifier = identifier
        self.revision = revision
        self.record = record
    }

    /// Reads a key of an SVM; nil when it is not one of this SVM.
    package init?(key: String, value: [UInt8]?, revision: Int64, of svm: ObjectUUID) {
        let root = ConfigurationKeys.svm(svm)
        let record = value.map { String(decoding: $0, as: UTF8.self) }
        if key == root {
            self.init(kind: SVMHandler.kind, identifier: svm.description, revision: revision, record: record)
            return
        }
        guard key.hasPrefix(root + "/") else { return nil }
        let parts = key.dropFirst(root.count + 1).split(separator: "/", maxSplits: 1)
        self.init(
            kind: parts.first.map(String.init) ?? "",
            identifier: parts.count > 1 ? String(parts[1]) : "",
            revision: revision,
            record: record
        )
    }

    /// What a message calls it.
    var name: String { "\(kind) '\(identifier)'" }

    /// Only the format, whatever else a record holds.
    private struct Format: Decodable { var formatVersion: Int }

    /// The format that the record was written in; nil for a deletion.
    package func formatVersion() throws(ManagementError) -> Int? {
        guard let record else { return nil }
        return try ConfigurationCoding.decode(Format.self, from: [UInt8](record.utf8), key: name).formatVersion
    }

    /// What a pre-check calls the kind and format of the object: the kind alone in its first format.
    package func feature() throws(ManagementError) -> String {
        let format = try formatVersion() ?? 1
        return format == 1 ? kind : "\(kind) format \(format)"
    }

    /// Whether the object is deleted, or on its way out.
    package func isGoing() throws(ManagementError) -> Bool {
        guard kind == VolumeHandler.kind else { return record == nil }
        guard let volume = try decoded(VolumeRecord.self) else { return true }
        return volume.state == .deleting
    }

    /// Leaves out what volumes and interfaces were before they were deleted by a later update: no place need be found for
    /// them, and none may be left. Nothing else refers to them.
    package static func withoutPassing(_ updates: [Self]) throws(ManagementError) -> [Self] {
        var gone: Set<String> = []
        var left: [Self] = []
        for update in updates.reversed() {
            let isPlaced = update.kind == VolumeHandler.kind || update.kind == InterfaceHandler.kind
            let isGoing = try update.isGoing()
            if isPlaced && isGoing { gone.insert(update.name) }
            if !isPlaced || isGoing || !gone.contains(update.name) { left.append(update) }
        }
        return left.reversed()
    }

    /// The record of an object that was not deleted.
    package func decoded<Record: ConfigurationRecord>(_ type: Record.Type) throws(ManagementError) -> Record? {
        guard let record else { return nil }
        return try ConfigurationCoding.decode(type, from: [UInt8](record.utf8), key: name)
    }
}

/// What the source answers to a destination that tells how far it is.
package enum ConfigurationAnswer: Codable, Equatable, Sendable {
    /// Everything that the SVM has at a revision: what is not in it is gone. For a destination that has nothing yet, or for
    /// which the history does not reach back far enough.
    case baseline([ConfigurationUpdate], revision: Int64)
    /// What has changed up to a revision, in order and whole revisions only; nothing when there is nothing new.
    case updates([ConfigurationUpdate], through: Int64)

    /// The objects in it.
    package var updates: [ConfigurationUpdate] {
        switch self {
        case .baseline(let updates, _), .updates(let updates, _): updates
        }
    }

    /// The revision up to which it tells all.
    package var revision: Int64 {
        switch self {
        case .baseline(_, let revision), .updates(_, let revision): revision
        }
    }
}
