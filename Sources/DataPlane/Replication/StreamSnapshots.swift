package import VolumeEngine

extension Volume {
    /// Begins the names of the snapshots that synchronous streams start from.
    static let streamSnapshotPrefix = "godwit-sync-"

    /// Deletes the snapshots that synchronous streams left: the last one of each replication stays so that the next has
    /// something in common to begin with, until whoever replicated says that there is no next. Blocks.
    package func deleteStreamSnapshots() throws(StorageError) {
        for snapshot in snapshots() where snapshot.name.hasPrefix(Self.streamSnapshotPrefix) {
            try deleteSnapshot(snapshot.uuid)
        }
    }
}
