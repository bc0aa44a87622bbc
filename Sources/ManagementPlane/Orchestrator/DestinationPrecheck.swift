import ClusterConfiguration
import Identity
import MigrateOperation

/// The destination's pre-checks that need nothing but what was read: pure.
enum DestinationPrecheck {
    /// What of the SVM is on this cluster already.
    static func collisions(of svm: SVMDescription, with snapshot: ConfigurationSnapshot) -> [PrecheckFinding] {
        var findings: [PrecheckFinding] = []
        if snapshot.cluster?.uuid == svm.clusterUUID {
            findings.append(
                PrecheckFinding(
                    code: MigrateCode.svmCollision,
                    "the source is this cluster itself",
                    remedy: "name a peer that is another cluster"
                )
            )
            return findings
        }
        if let other = snapshot.svms.first(where: { $0.name == svm.name || $0.uuid == svm.uuid }) {
            findings.append(
                PrecheckFinding(
                    code: MigrateCode.svmCollision,
                    "this cluster has an SVM with the name or identity of '\(svm.name)': '\(other.name)' (\(other.uuid))",
                    remedy: "rename or delete the one that is here"
                )
            )
        }
        for volume in svm.volumes {
            guard let other = snapshot.volumes.first(where: { $0.msid == volume.msid || $0.uuid == volume.uuid }) else {
                continue
            }
            findings.append(
                PrecheckFinding(
                    code: MigrateCode.volumeCollision,
                    "this cluster has a volume with the identity of '\(volume.name)': '\(other.name)'",
                    remedy: "delete the one that is here"
                )
            )
        }
        for interface in svm.interfaces {
            guard let other = snapshot.lifs.first(where: { $0.address == interface.address && $0.svm != svm.uuid })
            else {
                continue
            }
            findings.append(
                PrecheckFinding(
                    code: MigrateCode.interfaceAddress,
                    "the address \(interface.address) of interface '\(interface.name)' is in use here by '\(other.name)'",
                    remedy: "give one of the two another address"
                )
            )
        }
        return findings
    }

    /// The IP space that the SVM comes to: the one that the user named, or the one with the name of the source's. Nil is
    /// `Default`.
    static func ipSpace(
        of svm: SVMDescription,
        _ options: MigrationOptions,
        _ snapshot: ConfigurationSnapshot
    ) -> (finding: PrecheckFinding?, ipSpace: ObjectUUID?) {
        let wanted =
            options.ipSpace.map { snapshot.ipSpace($0) } ?? snapshot.ipSpace(named: svm.ipSpaceName ?? "Default")
        guard let wanted else {
            let name = svm.ipSpaceName.map { "'\($0)' of SVM '\(svm.name)'" } ?? "that was chosen"
            return (
                PrecheckFinding(
                    code: MigrateCode.interfacePort,
                    "this cluster does not have the IP space \(name)",
                    remedy: "make it (godwit ipspace create), or name one that is here (--ipspace)"
                ), nil
            )
        }
        return (nil, wanted.reference)
    }

    /// Places each interface on a node, evenly: pure.
    ///
    /// - Parameters:
    ///   - known: where interfaces are already; those stay.
    ///   - nodes: the nodes to choose from, at least one, in the order in which they are taken.
    static func place(
        _ interfaces: [String],
        keeping known: [String: ObjectUUID],
        on nodes: [ObjectUUID]
    ) -> [String: ObjectUUID] {
        var places = known.filter { interfaces.contains($0.key) }
        for interface in interfaces.sorted() where places[interface] == nil {
            let counts = nodes.map { node in places.values.count { $0 == node } }
            guard let fewest = counts.min(), let index = counts.firstIndex(of: fewest) else { continue }
            places[interface] = nodes[index]
        }
        return places
    }
}
