// The faults of clusters of several nodes. Those of a cluster of one node are made elsewhere, so that a seed goes on meaning
// what it meant.
extension Faults {
    /// The faults of a seed for two clusters of `count` nodes: about half of them concern the two nodes between which the
    /// SVM moves, and some come in pairs, one on each side.
    static func make(_ generator: inout Generator, nodes count: Int) -> [Fault] {
        let places = NodeChoice(count: count)
        var faults: [Fault] = []
        let wanted = generator.oneIn(6) ? 0 : 1 + generator.below(5)
        while faults.count < wanted {
            let trigger = trigger(&generator, places)
            if generator.oneIn(4) {
                for cluster in 0...1 {
                    let node = places.choose(&generator, in: cluster)
                    faults.append(Fault(trigger: trigger, action: loss(&generator, node)))
                }
            } else {
                let node = place(of: trigger) ?? places.choose(&generator)
                let isHere = place(of: trigger) == nil && !isTimed(trigger) && !generator.oneIn(4)
                let action =
                    generator.oneIn(2) ? loss(&generator, isHere ? nil : node) : disturbance(&generator, node, count)
                faults.append(Fault(trigger: trigger, action: action))
            }
        }
        return faults
    }

    /// Which node something concerns.
    private struct NodeChoice {
        var count: Int

        func choose(_ generator: inout Generator, in cluster: Int? = nil) -> Int {
            let cluster = cluster ?? generator.below(2)
            // The first node of each cluster is the one that the SVM moves between.
            return cluster * count + (generator.oneIn(2) ? 0 : generator.below(count))
        }
    }

    private static func trigger(_ generator: inout Generator, _ places: NodeChoice) -> Fault.Trigger {
        switch generator.below(10) {
        case 0..<3: .time(generator.within(0...12_000_000_000))
        case 3..<5: .steps(node: places.choose(&generator), generator.spread(1...4_000))
        case 5..<6: .writes(node: places.choose(&generator), generator.spread(1...800))
        case 6..<7: .frames(generator.below(120))
        default: .crashPoints(1 + generator.below(110))
        }
    }

    private static func place(of trigger: Fault.Trigger) -> Int? {
        switch trigger {
        case .steps(let node, _), .writes(let node, _): node
        case .time, .crashPoints, .frames: nil
        }
    }

    private static func isTimed(_ trigger: Fault.Trigger) -> Bool {
        switch trigger {
        case .time, .frames: true
        case .steps, .writes, .crashPoints: false
        }
    }

    /// A node is lost: killed, frozen or cut off, often for longer than its session lives.
    private static func loss(_ generator: inout Generator, _ node: Int?) -> Fault.Action {
        let duration = generator.oneIn(2) ? generator.within(5_000_000_000...14_000_000_000) : short(&generator)
        switch generator.below(6) {
        case 0..<3:
            return .crash(node: node, losesUnsynced: generator.oneIn(2), downNanoseconds: duration)
        case 3: return .pause(node: node, nanoseconds: duration)
        default: return .isolate(node: node, nanoseconds: duration)
        }
    }

    private static func short(_ generator: inout Generator) -> UInt64 {
        generator.spread(20_000_000...5_000_000_000)
    }

    /// Something is slow, or away, or does not hear.
    private static func disturbance(_ generator: inout Generator, _ node: Int, _ count: Int) -> Fault.Action {
        let cluster = node / count
        let duration = generator.spread(20_000_000...8_000_000_000)
        switch generator.below(20) {
        case 0..<3: return .cut(from: generator.oneIn(2) ? nil : cluster, nanoseconds: duration)
        case 3:
            return .slowNetwork(delayNanosecondsMax: generator.spread(1_000_000...2_000_000_000), nanoseconds: duration)
        case 4..<6:
            return .lossyNetwork(
                lossOneIn: 2 + generator.below(8),
                duplicateOneIn: 1 + generator.below(5),
                nanoseconds: duration
            )
        case 6: return .breakLinks
        case 7:
            return .clockJump(
                node: node,
                nanoseconds: Int64(generator.spread(1_000_000...25_000_000_000)) * (generator.oneIn(2) ? 1 : -1)
            )
        case 8:
            return .slowDisk(
                node: node,
                latencyNanosecondsMax: generator.spread(1_000_000...500_000_000),
                nanoseconds: duration
            )
        case 9: return .fullDisk(node: node, nanoseconds: duration)
        case 10..<13: return .databaseDown(node: node, nanoseconds: duration)
        case 13..<15: return .databaseDownForAll(cluster: cluster, nanoseconds: duration)
        case 15: return .databaseMute(node: node, lossOneIn: 1 + generator.below(4), nanoseconds: duration)
        case 16: return .lossyClients(lossOneIn: 2 + generator.below(6), nanoseconds: duration)
        default: return .disturbInterconnect(cluster: cluster, direction(&generator), nanoseconds: duration)
        }
    }

    private static func direction(_ generator: inout Generator) -> Network.Direction {
        var direction = Network.Direction()
        switch generator.below(3) {
        case 0: direction.isCut = true
        case 1: direction.delayNanosecondsMax = generator.spread(1_000_000...2_000_000_000)
        default:
            direction.lossOneIn = 2 + generator.below(8)
            direction.duplicateOneIn = 1 + generator.below(5)
        }
        return direction
    }
}
