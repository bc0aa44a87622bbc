import ArgumentParser
import Glibc
import Simulator

/// Runs the simulator: two clusters with the production code on a simulated clock, network and disks.
struct SimulatorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "godwit-sim",
        abstract: "Move an SVM between two simulated clusters while everything goes wrong.",
        discussion: """
            A run is decided by its seed alone: the same seed gives the same trace. The status is 1 when an invariant was
            broken, and the seeds are named.
            """
    )

    @Option(help: "Run one seed.") var seed: UInt64?
    @Option(help: "Run seeds, such as 1..10000, in child processes.") var seeds: SeedRange?
    @Flag(help: "Print what happens in the seed, a line for each event.") var trace = false
    @Flag(help: "Leave faults out of the failing seed while it still fails.") var minimize = false
    @Flag(help: "Print results as JSON.") var json = false
    @Option(help: "Nodes of each cluster.") var nodes = 3
    @Option(help: "Child processes at a time.") var jobs = 2
    @Option(
        help: ArgumentHelp(
            "Plant a defect, to see that it is found: \(Defect.allCases.map(\.rawValue).joined(separator: ", "))."
        )
    )
    var defect: String?
    @Flag(help: "Stop at the first seed that fails.") var untilFailure = false
    @Option(help: ArgumentHelp("Keep these faults of the seed only, by their numbers, such as 0,2.")) var keep: String?
    @Flag(help: .hidden) var worker = false

    mutating func validate() throws {
        guard (seed == nil) != (seeds == nil) else {
            throw ValidationError("give --seed N for one run, or --seeds A..B for many")
        }
        if let defect, Defect(rawValue: defect) == nil {
            let names = Defect.allCases.map(\.rawValue).joined(separator: ", ")
            throw ValidationError("there is no defect '\(defect)'; there are \(names)")
        }
        guard (1...9).contains(nodes) else { throw ValidationError("--nodes must be from 1 to 9") }
        guard jobs > 0 else { throw ValidationError("--jobs must be at least 1") }
        guard seed != nil || !(trace || minimize || keep != nil) else {
            throw ValidationError("--trace, --minimize and --keep need --seed")
        }
    }

    private var defects: Set<Defect> { Set(defect.flatMap(Defect.init).map { [$0] } ?? []) }

    mutating func run() throws {
        if let seeds {
            if worker { return Worker.run(seeds, nodes, defects) }
            let campaign = Campaign(
                seeds: seeds,
                nodes: nodes,
                defect: defect,
                jobs: jobs,
                stopsAtFailure: untilFailure
            )
            let summary = campaign.run()
            summary.write(isJSON: json)
            if !summary.failures.isEmpty { throw ExitCode(1) }
        } else if let seed {
            try runOne(seed)
        }
    }

    private func runOne(_ seed: UInt64) throws {
        var kept = try keptFaults()
        if minimize { kept = Minimizer.minimize(seed, nodes, defects, kept) }
        let sink: ((String) -> Void)? = trace ? { print($0) } : nil
        let result = Simulator.run(seed: seed, nodeCount: nodes, keeping: kept, defects: defects, sink: sink)
        let line = ResultLine(result)
        if json {
            print(line.json)
        } else {
            for (number, fault) in result.faults.enumerated() where kept?.contains(number) ?? true {
                print("fault \(number): \(fault)")
            }
            for violation in result.violations { print("violation: \(violation)") }
            print(
                "sim: seed=\(seed) violations=\(result.violations.count) faults=\(result.faultCount) "
                    + "migrations=\(result.migrationCount) handovers=\(result.handoverCount) operations=\(result.clientOperationCount) "
                    + "steps=\(result.stepCount) seconds=\(result.worldNanoseconds / 1_000_000_000) "
                    + "digest=\(String(result.digest, radix: 16))"
            )
        }
        if !result.violations.isEmpty { throw ExitCode(1) }
    }

    private func keptFaults() throws -> [Int]? {
        guard let keep else { return nil }
        return try keep.split(separator: ",").map { part in
            guard let number = Int(part), number >= 0 else {
                throw ValidationError("--keep takes numbers of faults such as 0,2, not '\(keep)'")
            }
            return number
        }
    }
}

/// Seeds from a first to a last one.
struct SeedRange: ExpressibleByArgument {
    var first: UInt64
    var last: UInt64

    init(first: UInt64, last: UInt64) {
        self.first = first
        self.last = last
    }

    init?(argument: String) {
        guard let dots = argument.firstRange(of: ".."), let first = UInt64(argument[..<dots.lowerBound]),
            let last = UInt64(argument[dots.upperBound...]), first <= last
        else { return nil }
        self.init(first: first, last: last)
    }

    var text: String { "\(first)..\(last)" }
}

/// The entry point: the process is taken over before anything else of Swift's concurrency runs in it.
@main struct Main {
    static func main() {
        // A seed that ends its process is told by its parent; nobody reads thousands of stacks.
        setenv("SWIFT_BACKTRACE", "enable=no", 0)
        guard Simulator.start(CommandLine.unsafeArgv) else {
            print("godwit-sim: this Swift runtime has no hook for its jobs; build with Swift 6.3")
            exit(1)
        }
        SimulatorCommand.main()
    }
}
