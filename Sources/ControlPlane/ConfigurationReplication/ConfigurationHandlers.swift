package import ClusterConfiguration
import Identity

/// The SVM itself: name, comment and handle key come from the source; state, IP space, lock and part in the migrate are the
/// destination's own.
package enum SVMHandler: ConfigurationHandler {
    package static let kind = "svm"

    package static func put(
        _ record: SVMRecord,
        _ context: ConfigurationContext,
        in draft: inout ConfigurationDraft
    ) throws(ManagementError) {
        guard record.state != .deleting else { throw gone(record.name) }
        let own = draft.snapshot.svm(record.uuid)
        var record = record
        record.state = own?.state ?? .stopped
        // The source's has an identity that says nothing here.
        record.ipSpace = own == nil ? context.ipSpace : own?.ipSpace
        record.migrateRole = .destination
        record.configurationLock = context.operation
        if record != own { try draft.putSVM(record) }
    }

    package static func delete(
        _ identifier: String,
        _ context: ConfigurationContext,
        in draft: inout ConfigurationDraft
    ) throws(ManagementError) { throw gone(draft.snapshot.svm(context.svm)?.name ?? identifier) }

    package static func present(_ context: ConfigurationContext, in snapshot: ConfigurationSnapshot) -> [String] {
        snapshot.svm(context.svm).map { [$0.uuid.description] } ?? []
    }

    /// The code of the error of an SVM that the source does not have any more.
    package static let goneCode = "source_svm_gone"

    private static func gone(_ name: String) -> ManagementError {
        ManagementError(
            .conflict,
            goneCode,
            "the source cluster has no SVM '\(name)' any more",
            remedy: "abort the operation"
        )
    }
}

/// Export policies are taken over as they are.
package enum ExportPolicyHandler: ConfigurationHandler {
    package static let kind = "export-policy"

    package static func put(
        _ record: ExportPolicyRecord,
        _ context: ConfigurationContext,
        in draft: inout ConfigurationDraft
    ) throws(ManagementError) {
        if record != draft.snapshot.exportPolicy(record.identifier) { try draft.putExportPolicy(record) }
    }

    package static func delete(
        _ identifier: String,
        _ context: ConfigurationContext,
        in draft: inout ConfigurationDraft
    ) throws(ManagementError) {
        let policy = draft.snapshot.exportPolicies(of: context.svm).first { String($0.identifier) == identifier }
        if let policy { try draft.deleteExportPolicy(policy.identifier) }
    }

    package static func present(_ context: ConfigurationContext, in snapshot: ConfigurationSnapshot) -> [String] {
        snapshot.exportPolicies(of: context.svm).map { String($0.identifier) }
    }
}

/// A volume gets an aggregate of the destination, where it stays, and is a replica.
package enum VolumeHandler: ConfigurationHandler {
    package static let kind = "volume"

    package static func put(
        _ record: VolumeRecord,
        _ context: ConfigurationContext,
        in draft: inout ConfigurationDraft
    ) throws(ManagementError) {
        // Its data is on the way out, at the source, and its record follows.
        if record.state == .deleting { return try delete(record.uuid.description, context, in: &draft) }
        let own = draft.snapshot.volume(record.uuid)
        guard let aggregate = own?.aggregate ?? context.places.volumes[record.uuid] else {
            throw ManagementError(
                .unavailable,
                "volume_unplaced",
                "volume '\(record.name)' has no place here",
                remedy: "nothing: it is placed when it is tried again",
                target: "aggregates"
            )
        }
        var record = record
        record.aggregate = aggregate
        record.isReplica = true
        if record != own { try draft.putVolume(record) }
    }

    package static func delete(
        _ identifier: String,
        _ context: ConfigurationContext,
        in draft: inout ConfigurationDraft
    ) throws(ManagementError) {
        let volume = draft.snapshot.volumes(of: context.svm).first { $0.uuid.description == identifier }
        if let volume, volume.state != .deleting { try draft.deleteVolume(volume.uuid) }
    }

    package static func present(_ context: ConfigurationContext, in snapshot: ConfigurationSnapshot) -> [String] {
        snapshot.volumes(of: context.svm).filter { $0.state != .deleting }.map(\.uuid.description)
    }
}

/// An interface gets a node and a port of the destination, where it stays unless a new place was chosen; the moves that it made on the source were
/// between other nodes.
package enum InterfaceHandler: ConfigurationHandler {
    package static let kind = "lif"

    package static func put(
        _ record: LIFRecord,
        _ context: ConfigurationContext,
        in draft: inout ConfigurationDraft
    ) throws(ManagementError) {
        let own = draft.snapshot.lif(record.uuid)
        let place = context.places.interfaces[record.uuid]
        var record = record
        record.homeNode = place?.node ?? own?.homeNode
        record.currentNode = place?.node ?? own?.currentNode ?? record.homeNode
        record.formerNode = own?.formerNode
        // An SVM may come back to a node that has not seen it go.
        record.moveCount = own == nil ? (record.moveCount ?? 0) + 1 : own?.moveCount
        if record.prefixLength != nil {
            record.homePort = place == nil ? own?.homePort : place?.port
            record.currentPort = place == nil ? own?.currentPort ?? record.homePort : record.homePort
        }
        if record != own { try draft.putLIF(record) }
    }

    package static func delete(
        _ identifier: String,
        _ context: ConfigurationContext,
        in draft: inout ConfigurationDraft
    ) throws(ManagementError) {
        let lif = draft.snapshot.lifs(of: context.svm).first { $0.uuid.description == identifier }
        if let lif { try draft.deleteLIF(lif.uuid) }
    }

    package static func present(_ context: ConfigurationContext, in snapshot: ConfigurationSnapshot) -> [String] {
        snapshot.lifs(of: context.svm).map(\.uuid.description)
    }
}
