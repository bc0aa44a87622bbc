package import Identity

extension ConfigurationDraft {
    /// Writes a volume.
    package mutating func putVolume(_ record: VolumeRecord) throws(ManagementError) {
        try changeableSVM(record.svm)
        if let old = snapshot.volume(record.uuid), old.state == .deleting {
            throw ManagementError(
                .conflict,
                "volume_deleting",
                "volume '\(old.name)' is being deleted",
                remedy: "make a new volume of another name, or wait until it is gone",
                target: "uuid"
            )
        }
        try ConfigurationChecks.name(record.name, of: "volume")
        try ConfigurationChecks.comment(record.comment)
        let siblings = snapshot.volumes(of: record.svm).filter { $0.uuid != record.uuid }
        try unique(record.name, "volume", siblings.contains { $0.name == record.name })
        guard siblings.count < ConfigurationLimits.volumesPerSVMMax else {
            throw ManagementError(
                .conflict,
                "too_many_volumes",
                "an SVM has at most \(ConfigurationLimits.volumesPerSVMMax) volumes",
                remedy: "delete one that is not needed"
            )
        }
        if snapshot.volumes.contains(where: { $0.msid == record.msid && $0.uuid != record.uuid }) {
            throw ManagementError(
                .exists,
                "msid_exists",
                "there is already a volume with the MSID \(record.msid)",
                remedy: "delete that volume, or leave the choice of the MSID to the cluster",
                target: "msid"
            )
        }
        guard snapshot.exportPolicies(of: record.svm).contains(where: { $0.name == record.exportPolicy }) else {
            throw .notFound("export policy", record.exportPolicy, target: "nas.export_policy.name")
        }
        guard record.snapshotPolicy == "none" else {
            throw ManagementError(
                .unsupported,
                "snapshot_policy_unsupported",
                "snapshot policy '\(record.snapshotPolicy)': schedules of snapshots are not in this version",
                remedy: "use the policy 'none' and take snapshots by command",
                target: "snapshot_policy.name"
            )
        }
        try checkJunction(record, siblings)
        try checkSize(record)
        edit { snapshot in
            snapshot.volumes.removeAll { $0.uuid == record.uuid }
            snapshot.volumes.append(record)
        }
        try put(record)
    }

    /// Marks a volume as going: it leaves the namespace now, and the runtime deletes its data and then its record, also
    /// when it is interrupted in between.
    package mutating func deleteVolume(_ uuid: ObjectUUID) throws(ManagementError) {
        guard var volume = snapshot.volume(uuid) else { throw .notFound("volume", uuid.description) }
        try changeableSVM(volume.svm)
        volume.state = .deleting
        volume.junctionPath = nil
        let record = volume
        edit { snapshot in
            snapshot.volumes.removeAll { $0.uuid == uuid }
            snapshot.volumes.append(record)
        }
        try put(record)
    }

    /// Deletes the record of a volume whose data is gone.
    package mutating func removeVolume(_ uuid: ObjectUUID) throws(ManagementError) {
        guard let volume = snapshot.volume(uuid) else { return }
        edit { $0.volumes.removeAll { $0.uuid == uuid } }
        delete(key: volume.key)
    }

    private func checkJunction(_ record: VolumeRecord, _ siblings: [VolumeRecord]) throws(ManagementError) {
        guard let path = record.junctionPath else { return }
        try ConfigurationChecks.junctionPath(path)
        guard let other = siblings.first(where: { $0.junctionPath == path }) else { return }
        throw ManagementError(
            .exists,
            "junction_path_in_use",
            "volume '\(other.name)' is already at '\(path)'",
            remedy: "give another path",
            target: "nas.path"
        )
    }

    private func checkSize(_ record: VolumeRecord) throws(ManagementError) {
        guard let aggregate = snapshot.aggregate(record.aggregate) else {
            throw .notFound("aggregate", record.aggregate.description, target: "aggregates.uuid")
        }
        let limit = ConfigurationLimits.self
        guard record.sizeBytes >= limit.volumeSizeBytesMin else {
            throw ManagementError(
                .invalid,
                "volume_too_small",
                "\(record.sizeBytes) bytes is below the smallest volume, \(limit.volumeSizeBytesMin) bytes",
                remedy: "give a larger size",
                target: "size"
            )
        }
        switch record.guarantee {
        case .none:
            let (product, isOverflow) = aggregate.capacityBytes.multipliedReportingOverflow(
                by: limit.thinVolumeFactorMax
            )
            let largest = isOverflow ? limit.volumeSizeBytesMax : min(product, limit.volumeSizeBytesMax)
            guard record.sizeBytes <= largest else {
                throw tooLarge(
                    record,
                    "a thin volume on aggregate '\(aggregate.name)' has at most \(largest) bytes "
                        + "(\(limit.thinVolumeFactorMax) times the aggregate, never above 300 TiB)"
                )
            }
        case .volume:
            let others = snapshot.volumes.filter {
                $0.aggregate == record.aggregate && $0.uuid != record.uuid && $0.guarantee == .volume
            }
            let promised = others.reduce(UInt64(0)) { $0 + min($1.sizeBytes, aggregate.capacityBytes) }
            let left = aggregate.capacityBytes - min(promised, aggregate.capacityBytes)
            guard record.sizeBytes <= left else {
                throw tooLarge(
                    record,
                    "aggregate '\(aggregate.name)' can guarantee \(left) more bytes of its "
                        + "\(aggregate.capacityBytes)"
                )
            }
        }
    }

    private func tooLarge(_ record: VolumeRecord, _ reason: String) -> ManagementError {
        ManagementError(
            .invalid,
            "volume_too_large",
            "volume '\(record.name)' of \(record.sizeBytes) bytes is too large: \(reason)",
            remedy: "give a smaller size, make it thin (guarantee none), or use a larger aggregate",
            target: "size"
        )
    }
}
