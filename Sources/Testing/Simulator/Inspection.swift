import ClusterConfiguration
import Identity
import MigrateOperation
import StorageControl
import VolumeEngine

/// The look at both clusters when everything has come to rest: one serves, nothing is left over, the records agree.
struct Inspection {
    let user: User

    private var source: Cluster { simulation.clusters[0] }
    private var destination: Cluster { simulation.clusters[1] }

    func inspectAll() async throws {
        let here = try await ConfigurationStore(source.database.store).snapshot()
        let there = try await ConfigurationStore(destination.database.store).snapshot()
        let isMoved = user.records.contains { $0.state.isComplete }
        if let failure = user.integrityFailure { simulation.violation("the two sides differ: \(failure)") }
        try await inspectSource(here)
        inspectLeftovers(isMoved ? here : there, isMoved ? source : destination)
        try inspectMovingSVM(isMoved ? there : here, isMoved ? destination : source)
        if !user.widePaths.isEmpty { try inspectWideSVM(user.wideCluster == 0 ? here : there) }
        for (cluster, snapshot) in [(source, here), (destination, there)] where cluster.isShared {
            inspectNodes(cluster, snapshot)
        }
    }

    private func inspectSource(_ here: ConfigurationSnapshot) async throws {
        let left = try await MigrateRecords<SourceRecord>(source.database.store, prefix: MigrateKeys.sourcePrefix).all()
        for record in left.map(\.record) {
            let isOfMove = user.records.contains { $0.operation == record.operation && $0.state.isComplete }
            if !isOfMove || record.state != .cleaned {
                simulation.violation(
                    "the source's record of \(record.operation) is left in state \(record.state.rawValue)"
                )
            }
        }
    }

    /// The cluster that does not have the SVM has nothing of it.
    private func inspectLeftovers(_ other: ConfigurationSnapshot, _ cluster: Cluster) {
        let svms = other.svms.filter { $0.uuid != user.wideSVM }
        let volumes = other.volumes.filter { $0.svm != user.wideSVM }
        let lifs = other.lifs.filter { $0.svm != user.wideSVM }
        if !svms.isEmpty || !volumes.isEmpty || !lifs.isEmpty {
            simulation.violation("left over: \(svms) \(volumes.map(\.name)) \(lifs.map(\.name))")
        }
        for node in cluster.nodes {
            for volume in user.movingVolumes where node.controller?.volume(msid: volume) != nil {
                simulation.violation("volume \(volume) is left over on \(node.name)")
            }
        }
    }

    private func inspectMovingSVM(_ serving: ConfigurationSnapshot, _ cluster: Cluster) throws {
        guard let svm = serving.svm(named: user.svmName) else { return simulation.violation("the SVM is nowhere") }
        if svm.state != .running || svm.configurationLock != nil || svm.migrateRole != .none {
            simulation.violation("the SVM is not whole: \(svm)")
        }
        if serving.volumes.contains(where: \.isReplica) { simulation.violation("the volume is recorded as a replica") }
        user.configurer.inspect(serving)
        for volume in user.movingVolumes { try inspect(volume, cluster) }
    }

    private func inspectWideSVM(_ snapshot: ConfigurationSnapshot) throws {
        guard let svm = snapshot.svm(user.wideSVM), svm.state == .running, svm.configurationLock == nil else {
            return simulation.violation("the SVM that stays is not whole")
        }
        for record in snapshot.volumes(of: svm.uuid) {
            try inspect(record.msid, simulation.clusters[user.wideCluster])
        }
    }

    /// A volume is open at one node, whole, and without snapshots.
    private func inspect(_ msid: VolumeMSID, _ cluster: Cluster) throws {
        let volumes = cluster.nodes.compactMap { $0.controller?.volume(msid: msid) }
        guard let volume = volumes.first else { return simulation.violation("volume \(msid) is nowhere") }
        if volumes.count > 1 { simulation.violation("volume \(msid) is open at \(volumes.count) nodes") }
        let problems = try volume.checkConsistency()
        if !problems.isEmpty { simulation.violation("volume \(msid) is inconsistent: \(problems)") }
        let snapshots = volume.snapshots()
        if !snapshots.isEmpty { simulation.violation("snapshots are left over: \(snapshots.map(\.name))") }
    }

    /// Every node has what the records say, and nothing else.
    private func inspectNodes(_ cluster: Cluster, _ snapshot: ConfigurationSnapshot) {
        for node in cluster.nodes {
            guard let controller = node.controller else { return simulation.violation("\(node.name) is down") }
            for aggregate in snapshot.aggregates {
                let isOpen = controller.aggregate(aggregate.uuid) != nil
                if isOpen != (aggregate.node == controller.node.uuid) {
                    simulation.violation("\(node.name) and aggregate '\(aggregate.name)': open \(isOpen)")
                }
            }
            for lif in snapshot.lifs {
                let isBound = controller.isUp(lif)
                if isBound != (lif.currentNode == controller.node.uuid) {
                    simulation.violation("\(node.name) and LIF '\(lif.name)': bound \(isBound)")
                }
            }
            let objects = snapshot.volumes.map(\.uuid) + snapshot.lifs.map(\.uuid) + snapshot.aggregates.map(\.uuid)
            for object in objects {
                if let failure = controller.failure(of: object) {
                    simulation.violation("\(node.name) does not have what it should: \(failure)")
                }
            }
        }
    }
}
