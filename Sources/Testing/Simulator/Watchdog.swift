import ClusterConfiguration
import Identity
import StorageControl

/// Sees to it that nodes which are lost are stood in for, in time: safety alone would be content with nobody serving.
final class Watchdog: @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    private static let turnNanoseconds: UInt64 = 1_000_000_000
    /// A lease, the time of absence that is waited for besides, and what turns and a slow database add.
    private static let takeoverNanosecondsMax: UInt64 = 10_000_000_000
    /// What a former owner has to let requests leave, and the new one to recover.
    private static let openNanosecondsMax: UInt64 = 7_000_000_000
    /// A node that was started does not hold one for dead at first that it has never seen.
    private static let startNanoseconds: UInt64 = 17_000_000_000

    /// Since when each node has been lost, or well.
    private var lostSince: [Int: UInt64] = [:]
    private var wellSince: [Int: UInt64] = [:]
    /// How often the daemon of each node had been started at the last look.
    private var startCounts: [Int: Int] = [:]
    /// The ways in which each node was lost at the last look: dead, isolated, paused.
    private var lostWays: [Int: [Bool]] = [:]
    /// Since when the database of each cluster has been answering.
    private var calmSince: [UInt64] = [0, 0]
    /// Since when an aggregate has not been open at its owner although it could.
    private var closedSince: [ObjectUUID: UInt64] = [:]

    /// Begins to look.
    func begin() {
        simulation.scheduler.after(Self.turnNanoseconds) { [self] in
            defer { begin() }
            note()
            // Nothing is lost any more when all is at rest, and what takes hours is not looked at.
            if !simulation.isSlow { look() }
        }
    }

    private func note() {
        let now = simulation.scheduler.now
        for cluster in simulation.clusters {
            if cluster.isDatabaseDown { calmSince[cluster.index] = now }
            for node in cluster.nodes {
                let isLost = node.process == nil || node.isIsolated || node.process?.isPaused == true
                let isWell = node.isUp && !isLost && !node.isDatabaseUnreachable && node.databaseLosesOneIn == 0
                // One that was started between two looks was there in between and knows nothing of before, and one that is lost
                // in another way than at the last look was well in between.
                if startCounts[node.index] != node.startCount {
                    (wellSince[node.index], lostSince[node.index]) = (nil, nil)
                }
                let ways = [node.process == nil, node.isIsolated, node.process?.isPaused == true]
                if !zip(ways, lostWays[node.index] ?? []).contains(where: { $0 && $1 }) { lostSince[node.index] = nil }
                (startCounts[node.index], lostWays[node.index]) = (node.startCount, ways)
                if isLost { lostSince[node.index] = lostSince[node.index] ?? now } else { lostSince[node.index] = nil }
                if isWell { wellSince[node.index] = wellSince[node.index] ?? now } else { wellSince[node.index] = nil }
            }
        }
    }

    private func look() {
        simulation.scheduler.run(as: simulation.scheduler.world) {
            _ = Task.detached { [self] in
                for cluster in simulation.clusters {
                    guard let snapshot = try? await ConfigurationStore(cluster.database.store).snapshot() else {
                        return
                    }
                    look(at: cluster, snapshot)
                }
            }
        }
    }

    private func look(at cluster: Cluster, _ snapshot: ConfigurationSnapshot) {
        let now = simulation.scheduler.now
        let isCalm = now - calmSince[cluster.index] > Self.takeoverNanosecondsMax
        let isSlow = cluster.nodes.contains { $0.disk.isDisturbed }
        for aggregate in snapshot.aggregates {
            guard let owner = cluster.nodes.first(where: { $0.record?.uuid == aggregate.node }) else { continue }
            let lost = now - (lostSince[owner.index] ?? now)
            if lost > Self.takeoverNanosecondsMax && isCalm && isStoodBy(owner, since: now - lost) {
                simulation.violation("\(owner.name) has been lost for 10 s and nobody has taken over")
            }
            let isBlocked = isSlow || holdsAsleep(aggregate, cluster)
            guard wellSince[owner.index] != nil, !isBlocked, owner.controller?.aggregate(aggregate.uuid) == nil else {
                closedSince[aggregate.uuid] = nil
                continue
            }
            let since = closedSince[aggregate.uuid] ?? now
            closedSince[aggregate.uuid] = since
            if now - since > Self.openNanosecondsMax {
                simulation.violation("\(owner.name) owns \(aggregate.name) and has not opened it for 7 s")
            }
        }
    }

    /// Whether every other node knows that a node is lost, or is lost as well for long, and one is there.
    private func isStoodBy(_ owner: Node, since lost: UInt64) -> Bool {
        let now = simulation.scheduler.now
        let others = owner.cluster.nodes.filter { $0 !== owner }
        let knowing = others.filter { node in
            wellSince[node.index].map { $0 + 2 * Self.turnNanoseconds < lost || now - $0 > Self.startNanoseconds }
                ?? false
        }
        let gone = others.filter { now - (lostSince[$0.index] ?? now) > Self.takeoverNanosecondsMax }
        return !knowing.isEmpty && knowing.count + gone.count == others.count
    }

    /// Whether the one that has the lock of an aggregate cannot give it back.
    private func holdsAsleep(_ aggregate: AggregateRecord, _ cluster: Cluster) -> Bool {
        guard let disk = simulation.disk(of: aggregate.directory) else { return false }
        return disk.holder?.isPaused == true
    }
}
