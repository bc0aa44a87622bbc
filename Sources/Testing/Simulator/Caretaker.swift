import ClusterConfiguration
import Identity
import StorageControl

/// The administrator of the nodes: gives back what was taken over, and sometimes lets a partner take over before a node has
/// died. In the end everything is at home.
final class Caretaker: @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    private var generator: Generator
    private var isBusy = false
    /// Whether the last look at each cluster found everything at home.
    private var atHome = [true, true]

    init(generator: Generator) { self.generator = generator }

    /// Whether nothing is anywhere else than where it belongs.
    var isAllHome: Bool { atHome[0] && atHome[1] && !isBusy }

    /// What was seen before does not count any more.
    func forget() { atHome = [false, false] }

    /// Begins to look.
    func begin() {
        let pause = simulation.isSlow ? 5_000_000_000 : generator.within(500_000_000...2_500_000_000)
        simulation.scheduler.after(pause) { [self] in
            defer { begin() }
            guard !isBusy else { return }
            look(at: simulation.clusters[generator.below(2)])
        }
    }

    private func look(at cluster: Cluster) {
        let up = cluster.nodes.filter { $0.isUp && !$0.isIsolated && $0.process?.isPaused == false }
        guard !up.isEmpty else {
            atHome[cluster.index] = false
            return
        }
        let node = up[generator.below(up.count)]
        guard let process = node.process, let controller = node.controller else { return }
        isBusy = true
        node.spawn { [self] in
            do { try await tend(cluster, controller) } catch {
                atHome[cluster.index] = false
                simulation.trace("the administrator of \(cluster.name) hears: \(error)")
            }
            isBusy = false
        }
        let before = process.onDeath
        process.onDeath = { [self] in
            isBusy = false
            atHome[cluster.index] = false
            before()
        }
    }

    private func tend(_ cluster: Cluster, _ controller: StorageController) async throws {
        let isSafe = !simulation.isHealing || simulation.isEverySessionSafe
        let snapshot = try await controller.store.snapshot()
        let away = snapshot.nodes.filter { node in
            snapshot.aggregates.contains { $0.home == node.uuid && $0.node != node.uuid }
                || snapshot.lifs.contains { $0.homeNode == node.uuid && $0.currentNode != node.uuid }
        }
        atHome[cluster.index] = isSafe && away.isEmpty && isServed(snapshot, by: cluster)
        if simulation.isHealing {
            for node in away { _ = try await controller.giveBack(to: node) }
        } else if let node = away.first, generator.oneIn(3) {
            simulation.trace("the administrator gives back what belongs to \(node.name)")
            _ = try await controller.giveBack(to: node)
        } else if generator.oneIn(12), let node = snapshot.nodes.first(where: { $0.uuid != controller.node.uuid }) {
            simulation.trace("the administrator lets \(controller.node.name) take over from \(node.name)")
            _ = try await controller.vacate(node, for: controller.node)
        }
    }

    /// Whether every node has what the records give it.
    private func isServed(_ snapshot: ConfigurationSnapshot, by cluster: Cluster) -> Bool {
        let node = { (uuid: ObjectUUID?) in cluster.nodes.first { $0.record?.uuid == uuid } }
        return snapshot.aggregates.allSatisfy { node($0.node)?.controller?.aggregate($0.uuid) != nil }
            && snapshot.lifs.allSatisfy { lif in
                node(lif.currentNode)?.controller?.isUp(lif) == (snapshot.svm(lif.svm)?.state == .running)
            }
    }
}
