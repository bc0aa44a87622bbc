import ClusterConfiguration
package import Identity
package import ReplicatedDatabase

/// The source's end of the stream of an SVM: makes whole revisions out of the events of a watch over the configuration. Pure.
///
/// Every transaction of the configuration writes the guard, after everything else: its event says that the revision is
/// complete, and a destination never gets a part of one.
package struct ConfigurationFeed: Equatable, Sendable {
    private let svm: ObjectUUID
    /// The revision up to which every change of the configuration was seen.
    package private(set) var through: Int64
    /// What has changed of the SVM up to there, in order.
    package private(set) var updates: [ConfigurationUpdate] = []
    private var incomplete: [ConfigurationUpdate] = []

    /// Begins after a revision that the destination has.
    package init(of svm: ObjectUUID, after revision: Int64) {
        self.svm = svm
        through = revision
    }

    /// Takes the next event of a watch on `ConfigurationKeys.all`. What the destination has already is passed over.
    package mutating func take(_ event: WatchEvent) {
        guard event.revision > through else { return }
        if event.key == ConfigurationKeys.writeGuard {
            updates += incomplete
            incomplete = []
            through = event.revision
            return
        }
        let update = ConfigurationUpdate(key: event.key, value: event.value, revision: event.revision, of: svm)
        if let update { incomplete.append(update) }
    }

    /// Everything that an SVM has in a range over its keys, and the revision that the range is the state of.
    package static func baseline(
        of svm: ObjectUUID,
        _ records: [DatabaseRecord],
        revision: Int64
    ) -> ConfigurationAnswer {
        let updates = records.compactMap { record in
            ConfigurationUpdate(key: record.key, value: record.value, revision: revision, of: svm)
        }
        return .baseline(updates, revision: revision)
    }
}
