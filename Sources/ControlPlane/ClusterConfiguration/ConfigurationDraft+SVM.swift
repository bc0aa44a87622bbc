package import Identity
import ReplicatedDatabase

extension ConfigurationDraft {
    // MARK: - SVMs

    /// Writes the record of an SVM; a new one gets an export policy `default` without rules.
    ///
    /// - Parameter defaultPolicyIdentifier: the number of that policy; nil makes none (a migrate brings its own).
    package mutating func putSVM(
        _ record: SVMRecord,
        defaultPolicyIdentifier: UInt64? = nil
    ) throws(ManagementError) {
        try ConfigurationChecks.name(record.name, of: "SVM")
        try ConfigurationChecks.comment(record.comment)
        try unique(record.name, "SVM", snapshot.svms.contains { $0.name == record.name && $0.uuid != record.uuid })
        try requireIPSpace(record.ipSpace)
        let isNew = snapshot.svm(record.uuid) == nil
        if let old = snapshot.svm(record.uuid), old.ipSpace != record.ipSpace, !snapshot.lifs(of: record.uuid).isEmpty {
            throw ManagementError(
                .conflict,
                "svm_has_lifs",
                "SVM '\(record.name)' has LIFs in its IP space",
                remedy: "delete them first",
                target: "ipspace.name"
            )
        }
        if !isNew { try changeableSVM(record.uuid) }
        guard !isNew || snapshot.svms.count < ConfigurationLimits.svmsMax else {
            throw ManagementError(
                .conflict,
                "too_many_svms",
                "the cluster has \(ConfigurationLimits.svmsMax) SVMs, the limit",
                remedy: "delete one that is not needed"
            )
        }
        edit { snapshot in
            snapshot.svms.removeAll { $0.uuid == record.uuid }
            snapshot.svms.append(record)
        }
        try put(record)
        if isNew, let defaultPolicyIdentifier {
            try putExportPolicy(
                ExportPolicyRecord(identifier: defaultPolicyIdentifier, name: "default", svm: record.uuid)
            )
        }
    }

    /// Marks an SVM as going; the runtime deletes its volumes and then all its records, also when it is interrupted in
    /// between. It must have no volumes and no LIFs, unless `withContents` says that they go with it.
    package mutating func deleteSVM(_ uuid: ObjectUUID, withContents: Bool = false) throws(ManagementError) {
        var svm = try changeableSVM(uuid)
        let volumes = snapshot.volumes(of: uuid)
        let lifs = snapshot.lifs(of: uuid)
        guard withContents || (volumes.isEmpty && lifs.isEmpty) else {
            throw ManagementError(
                .conflict,
                "svm_not_empty",
                "SVM '\(svm.name)' still has \(volumes.count) volumes and \(lifs.count) LIFs",
                remedy: "delete them first",
                target: "svm"
            )
        }
        for volume in volumes { try deleteVolume(volume.uuid) }
        for lif in lifs { try deleteLIF(lif.uuid) }
        svm.state = .deleting
        let record = svm
        edit { snapshot in
            snapshot.svms.removeAll { $0.uuid == uuid }
            snapshot.svms.append(record)
        }
        try put(record)
    }

    /// Deletes the records of an SVM whose volumes are gone.
    package mutating func removeSVM(_ uuid: ObjectUUID) throws(ManagementError) {
        guard let svm = snapshot.svm(uuid) else { return }
        edit { snapshot in
            snapshot.svms.removeAll { $0.uuid == uuid }
            snapshot.volumes.removeAll { $0.svm == uuid }
            snapshot.lifs.removeAll { $0.svm == uuid }
            snapshot.exportPolicies.removeAll { $0.svm == uuid }
        }
        delete(key: svm.key)
        also(.deletePrefix(svm.key + "/"))
    }

    // MARK: - Export policies

    /// Writes an export policy.
    package mutating func putExportPolicy(_ given: ExportPolicyRecord) throws(ManagementError) {
        var record = given
        record.rules.sort { $0.index < $1.index }
        try changeableSVM(record.svm)
        try ConfigurationChecks.name(record.name, of: "export policy")
        let isTaken = snapshot.exportPolicies(of: record.svm).contains {
            $0.name == record.name && $0.identifier != record.identifier
        }
        try unique(record.name, "export policy", isTaken)
        if let old = snapshot.exportPolicy(record.identifier), old.name != record.name {
            try requireUnusedPolicy(old)
        }
        guard record.rules.count <= ConfigurationLimits.rulesPerPolicyMax else {
            throw ManagementError(
                .invalid,
                "too_many_rules",
                "an export policy has at most \(ConfigurationLimits.rulesPerPolicyMax) rules",
                remedy: "join clients into networks",
                target: "rules"
            )
        }
        for rule in record.rules { try ConfigurationChecks.exportRule(rule) }
        for (rule, next) in zip(record.rules, record.rules.dropFirst()) where rule.index == next.index {
            throw ManagementError(
                .exists,
                "rule_exists",
                "two rules have the index \(rule.index)",
                remedy: "give each rule an index of its own",
                target: "rules.index"
            )
        }
        edit { snapshot in
            snapshot.exportPolicies.removeAll { $0.identifier == record.identifier }
            snapshot.exportPolicies.append(record)
        }
        try put(record)
    }

    /// Deletes an export policy that no volume uses.
    package mutating func deleteExportPolicy(_ identifier: UInt64) throws(ManagementError) {
        guard let policy = snapshot.exportPolicy(identifier) else {
            throw .notFound("export policy", String(identifier))
        }
        try changeableSVM(policy.svm)
        try requireUnusedPolicy(policy)
        edit { $0.exportPolicies.removeAll { $0.identifier == identifier } }
        delete(key: policy.key)
    }

    private func requireUnusedPolicy(_ policy: ExportPolicyRecord) throws(ManagementError) {
        let users = snapshot.volumes(of: policy.svm).filter { $0.exportPolicy == policy.name }
        guard let first = users.first else { return }
        throw ManagementError(
            .conflict,
            "export_policy_in_use",
            "export policy '\(policy.name)' is used by volume '\(first.name)'"
                + (users.count > 1 ? " and \(users.count - 1) others" : ""),
            remedy: "give these volumes another export policy first",
            target: "name"
        )
    }

    // MARK: - LIFs

    /// Writes a LIF.
    package mutating func putLIF(_ record: LIFRecord) throws(ManagementError) {
        try changeableSVM(record.svm)
        try ConfigurationChecks.name(record.name, of: "LIF")
        try ConfigurationChecks.lifAddress(record)
        try ConfigurationChecks.port(record.port, target: "port")
        for node in [record.homeNode, record.currentNode].compactMap({ $0 }) where snapshot.node(node) == nil {
            throw .notFound("node", node.description, target: "location.home_node")
        }
        try requirePortOfIPSpace(record)
        try requirePortOfNetwork(record)
        let siblings = snapshot.lifs(of: record.svm).filter { $0.uuid != record.uuid }
        try unique(record.name, "LIF", siblings.contains { $0.name == record.name })
        guard siblings.count < ConfigurationLimits.lifsPerSVMMax else {
            throw ManagementError(
                .conflict,
                "too_many_lifs",
                "an SVM has at most \(ConfigurationLimits.lifsPerSVMMax) LIFs",
                remedy: "delete one that is not needed"
            )
        }
        if let other = snapshot.lifs.first(where: { $0.address == record.address && $0.uuid != record.uuid }) {
            let owner = snapshot.svm(other.svm)?.name ?? other.svm.description
            throw ManagementError(
                .exists,
                "lif_address_in_use",
                "\(record.address) is already the address of LIF '\(other.name)' of SVM '\(owner)'",
                remedy: "give another address",
                target: "ip.address"
            )
        }
        try replace(record)
    }

    /// Writes the record of a LIF that is known to be right, or that the runtime moves although its SVM is locked.
    mutating func replace(_ record: LIFRecord) throws(ManagementError) {
        edit { snapshot in
            snapshot.lifs.removeAll { $0.uuid == record.uuid }
            snapshot.lifs.append(record)
        }
        try put(record)
    }

    /// Deletes a LIF.
    package mutating func deleteLIF(_ uuid: ObjectUUID) throws(ManagementError) {
        guard let lif = snapshot.lif(uuid) else { throw .notFound("LIF", uuid.description) }
        try changeableSVM(lif.svm)
        edit { $0.lifs.removeAll { $0.uuid == uuid } }
        delete(key: lif.key)
        if lif.moveCount != nil { delete(key: ConfigurationKeys.departure(of: uuid)) }
    }
}
