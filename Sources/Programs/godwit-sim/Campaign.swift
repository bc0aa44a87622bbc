import Glibc
import Simulator

/// Many seeds, in child processes: a run takes its process over, so that more than one at a time needs more than one.
/// What a run leaves behind in memory ends with its process.
struct Campaign {
    /// Seeds of one child.
    static let seedsPerChild: UInt64 = 50

    let seeds: SeedRange
    /// Nodes of each cluster.
    let nodes: Int
    let defect: String?
    let jobs: Int
    let stopsAtFailure: Bool

    /// Runs all.
    func run() -> Summary {
        var summary = Summary()
        var next = seeds.first
        var isExhausted = false
        var children: [Child] = []
        while true {
            let isEnough = stopsAtFailure && !summary.failures.isEmpty
            while children.count < jobs && !isExhausted && !isEnough {
                let last = seeds.last - next < Self.seedsPerChild ? seeds.last : next + Self.seedsPerChild - 1
                children.append(Child(SeedRange(first: next, last: last), nodes: nodes, defect: defect))
                isExhausted = last == seeds.last
                next = last &+ 1
            }
            if isEnough {
                for child in children { child.end() }
                return summary
            }
            guard !children.isEmpty else { return summary }
            for index in Child.readable(children).reversed() {
                if children[index].read(into: &summary) { continue }
                // A child that ended before its time takes a seed with it: the others of its part go on without it.
                let rest = children[index].finish(into: &summary)
                children.remove(at: index)
                if let rest, !(stopsAtFailure && !summary.failures.isEmpty) {
                    children.append(Child(rest, nodes: nodes, defect: defect))
                }
            }
        }
    }
}

/// What came of many seeds.
struct Summary {
    var seedCount = 0
    var faultCount = 0
    var migrationCount = 0
    var handoverCount = 0
    var failures: [ResultLine] = []

    mutating func add(_ line: ResultLine) {
        seedCount += 1
        faultCount += line.faultCount
        migrationCount += line.migrationCount
        handoverCount += line.handoverCount
        guard !line.violations.isEmpty else { return }
        failures.append(line)
        // At once, since the rest may take long.
        let words = "godwit-sim: seed \(line.seed): \(line.violations[0])\n"
        words.withCString { _ = Glibc.write(2, $0, strlen($0)) }
    }

    /// Prints it; the last line is the one that scripts look at.
    func write(isJSON: Bool) {
        for failure in failures.sorted(by: { $0.seed < $1.seed }) {
            if isJSON {
                print(failure.json)
            } else {
                for violation in failure.violations { print("seed \(failure.seed): \(violation)") }
            }
        }
        if isJSON {
            print(
                "{\"seeds\":\(seedCount),\"violations\":\(failures.count),\"faults\":\(faultCount),"
                    + "\"migrations\":\(migrationCount),\"handovers\":\(handoverCount)}"
            )
        } else {
            print(
                "sim: seeds=\(seedCount) violations=\(failures.count) faults=\(faultCount) migrations=\(migrationCount) "
                    + "handovers=\(handoverCount)"
            )
        }
    }
}

/// The child's side: runs seeds and tells each.
enum Worker {
    static func run(_ seeds: SeedRange, _ nodes: Int, _ defects: Set<Defect>) {
        var seed = seeds.first
        while true {
            let line = ResultLine(Simulator.run(seed: seed, nodeCount: nodes, defects: defects))
            print(line.text)
            fflush(nil)
            if seed == seeds.last { return }
            seed += 1
        }
    }
}
