import Identity
import Saga

/// Something that goes wrong, and when.
struct Fault: Equatable {
    /// What it waits for; counted from the start of the first operation.
    enum Trigger: Equatable {
        /// A time, in nanoseconds.
        case time(UInt64)
        /// A number of steps of a node's daemon: between any two of its instructions that an `await` parts.
        case steps(node: Int, UInt64)
        /// A number of writes to a node's disk.
        case writes(node: Int, UInt64)
        /// A number of crash points that were reached, on both nodes together.
        case crashPoints(Int)
        /// A number of frames of replication.
        case frames(Int)
    }

    enum Action: Equatable {
        /// The daemon ends; with its machine, when what was not synchronised is lost too. It is started again after a
        /// while that is given, or that chance says.
        case crash(node: Int?, losesUnsynced: Bool, downNanoseconds: UInt64? = nil)
        /// The daemon stands still.
        case pause(node: Int?, nanoseconds: UInt64)
        /// Nothing gets from a node, or to it, but to the disks.
        case isolate(node: Int?, nanoseconds: UInt64)
        /// Nothing gets from a cluster to the other one; nil is both ways.
        case cut(from: Int?, nanoseconds: UInt64)
        /// Messages take long.
        case slowNetwork(delayNanosecondsMax: UInt64, nanoseconds: UInt64)
        /// Calls and answers are lost, calls arrive twice.
        case lossyNetwork(lossOneIn: Int, duplicateOneIn: Int, nanoseconds: UInt64)
        /// The same between the nodes of a cluster.
        case disturbInterconnect(cluster: Int, Network.Direction, nanoseconds: UInt64)
        /// Replication's connections break.
        case breakLinks
        /// A node's clock is set.
        case clockJump(node: Int, nanoseconds: Int64)
        /// Making something durable takes long.
        case slowDisk(node: Int, latencyNanosecondsMax: UInt64, nanoseconds: UInt64)
        /// No room for data.
        case fullDisk(node: Int, nanoseconds: UInt64)
        /// The database is away.
        case databaseDown(node: Int, nanoseconds: UInt64)
        /// The database is away for all nodes of a cluster.
        case databaseDownForAll(cluster: Int, nanoseconds: UInt64)
        /// The database does what it is asked and its answers are lost.
        case databaseMute(node: Int, lossOneIn: Int, nanoseconds: UInt64)
        /// Clients' messages are lost.
        case lossyClients(lossOneIn: Int, nanoseconds: UInt64)
    }

    var trigger: Trigger
    var action: Action
}

/// The faults of a run: made out of the seed beforehand, so that any part of them can be left out.
final class Faults {
    let all: [Fault]
    private var pending: [Fault]
    private var isArmed = false
    private var crashPointCount = 0
    private var frameCount = 0
    private var stepBase: [UInt64] = []
    private var writeBase: [UInt64] = []
    /// Faults that happened.
    private(set) var appliedCount = 0

    init(_ faults: [Fault]) {
        all = faults
        pending = faults
    }

    /// Counting begins.
    func arm() {
        isArmed = true
        stepBase = simulation.nodes.map { simulation.stepCount(of: $0.index) }
        writeBase = simulation.nodes.map(\.disk.writeCount)
        for fault in all {
            guard case .time(let time) = fault.trigger else { continue }
            simulation.scheduler.after(time) { self.fire { $0 == fault } }
        }
    }

    /// Nothing goes wrong any more.
    func disarm() {
        isArmed = false
        pending = []
    }

    /// A node's daemon has made a step.
    func stepped(_ node: Int, _ count: UInt64) {
        guard isArmed, !pending.isEmpty else { return }
        fire {
            if case .steps(node, let limit) = $0.trigger { count - self.stepBase[node] >= limit } else { false }
        }
    }

    /// Something was written to a disk.
    func diskWritten(_ disk: SimulatedDisk) {
        guard isArmed, let node = simulation.nodes.first(where: { $0.disk === disk }) else { return }
        let count = disk.writeCount - writeBase[node.index]
        fire {
            if case .writes(node.index, let limit) = $0.trigger { count >= limit } else { false }
        }
    }

    /// A frame of replication leaves.
    func frameSent() {
        guard isArmed else { return }
        frameCount += 1
        fire { if case .frames(let limit) = $0.trigger { self.frameCount >= limit } else { false } }
    }

    /// A step of an operation was reached.
    func reached(_ node: Node, _ name: String, _ moment: SagaMoment) {
        simulation.trace("\(node.name) \(moment.rawValue) \(name)")
        guard isArmed else { return }
        crashPointCount += 1
        fire(at: node) {
            if case .crashPoints(let limit) = $0.trigger { self.crashPointCount >= limit } else { false }
        }
    }

    private func fire(at node: Node? = nil, _ isDue: (Fault) -> Bool) {
        guard isArmed, let index = pending.firstIndex(where: isDue) else { return }
        let fault = pending.remove(at: index)
        appliedCount += 1
        simulation.apply(fault.action, at: node)
    }
}

extension Faults {
    /// The faults of a seed.
    static func make(_ generator: inout Generator) -> [Fault] {
        let count = generator.below(3) == 0 ? generator.below(2) : 1 + generator.below(8)
        return (0..<count).map { _ in
            let trigger = trigger(&generator)
            return Fault(trigger: trigger, action: action(&generator, trigger))
        }
    }

    private static func trigger(_ generator: inout Generator) -> Fault.Trigger {
        switch generator.below(10) {
        case 0..<2: .time(generator.within(0...15_000_000_000))
        case 2..<5: .steps(node: generator.below(2), generator.spread(1...6_000))
        case 5..<6: .writes(node: generator.below(2), generator.spread(1...800))
        case 6..<7: .frames(generator.below(120))
        default: .crashPoints(1 + generator.below(110))
        }
    }

    private static func action(_ generator: inout Generator, _ trigger: Fault.Trigger) -> Fault.Action {
        let node = generator.below(2)
        // Where the trigger says which node it is about, a crash is there.
        let place: Int? =
            switch trigger {
            case .steps(let node, _), .writes(let node, _): node
            case .crashPoints: generator.oneIn(4) ? node : nil
            case .time, .frames: node
            }
        let duration = generator.spread(20_000_000...8_000_000_000)
        switch generator.below(24) {
        case 0..<8: return .crash(node: place, losesUnsynced: generator.oneIn(2))
        case 8..<10: return .pause(node: place, nanoseconds: duration)
        case 10..<13: return .cut(from: generator.oneIn(2) ? nil : node, nanoseconds: duration)
        case 13:
            return .slowNetwork(delayNanosecondsMax: generator.spread(1_000_000...4_000_000_000), nanoseconds: duration)
        case 14..<16:
            return .lossyNetwork(
                lossOneIn: 2 + generator.below(8),
                duplicateOneIn: 1 + generator.below(5),
                nanoseconds: duration
            )
        case 16: return .breakLinks
        case 17:
            return .clockJump(
                node: node,
                nanoseconds: Int64(generator.spread(1_000_000...25_000_000_000)) * (generator.oneIn(2) ? 1 : -1)
            )
        case 18:
            return .slowDisk(
                node: node,
                latencyNanosecondsMax: generator.spread(1_000_000...2_000_000_000),
                nanoseconds: duration
            )
        case 19: return .fullDisk(node: node, nanoseconds: duration)
        case 20..<22: return .databaseDown(node: node, nanoseconds: duration)
        case 22: return .databaseMute(node: node, lossOneIn: 1 + generator.below(4), nanoseconds: duration)
        default: return .lossyClients(lossOneIn: 2 + generator.below(6), nanoseconds: duration)
        }
    }
}
