import ClusterConfiguration
import Identity
import MigrateOperation

/// An aggregate that volumes may be placed on.
struct PlacementCandidate: Equatable, Sendable {
    /// Its identity.
    var aggregate: ObjectUUID
    /// Its name.
    var name: String
    /// Bytes that are free.
    var availableBytes: UInt64
}

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

    /// Free space that differs by less than this part of the largest is taken for the same.
    private static let spaceStepsPerAggregate: UInt64 = 16

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

    /// Places each volume on the aggregate with the most free space: the whole size when it is guaranteed, what is
    /// really used otherwise [164]. Among aggregates that have about as much, the one with the fewest volumes of the SVM.
    /// Largest first, so that small ones do not take the place of large ones.
    static func place(
        _ volumes: [VolumeDescription],
        on candidates: [PlacementCandidate]
    ) -> (findings: [PrecheckFinding], volumes: [VolumeDescription]) {
        var candidates = candidates
        var placed: [ObjectUUID: ObjectUUID] = [:]
        var counts = candidates.map { _ in 0 }
        let step = max(1, (candidates.map(\.availableBytes).max() ?? 0) / spaceStepsPerAggregate)
        var findings: [PrecheckFinding] = []
        let needs = volumes.map { ($0, $0.isSpaceGuaranteed ? $0.sizeBytes : $0.usedBytes) }
        for (volume, bytes) in needs.sorted(by: { ($1.1, $0.0.name) < ($0.1, $1.0.name) }) {
            let fitting = candidates.indices.filter { candidates[$0].availableBytes >= bytes }
            let best =
                fitting.max { left, right in
                    let (one, two) = (candidates[left].availableBytes / step, candidates[right].availableBytes / step)
                    return one == two ? counts[left] > counts[right] : one < two
                } ?? candidates.indices.max { candidates[$0].availableBytes < candidates[$1].availableBytes }
            guard let best, candidates[best].availableBytes >= bytes else {
                let most = best.map { "'\(candidates[$0].name)' has \(candidates[$0].availableBytes) bytes left" }
                findings.append(
                    PrecheckFinding(
                        code: MigrateCode.noCapacity,
                        "no aggregate has \(bytes) bytes for volume '\(volume.name)' (\(most ?? "there is none"))",
                        remedy: "free space, add an aggregate, or name other aggregates"
                    )
                )
                continue
            }
            candidates[best].availableBytes -= bytes
            counts[best] += 1
            placed[volume.uuid] = candidates[best].aggregate
        }
        let result = volumes.map { volume in
            var volume = volume
            volume.destinationAggregate = placed[volume.uuid]
            return volume
        }
        return (findings, result)
    }
}
