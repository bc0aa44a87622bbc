import CSimulation
import FileIO

/// What came of a seed.
package struct RunResult: Sendable {
    /// The seed.
    package var seed: UInt64
    /// What was broken; empty when nothing was.
    package var violations: [String]
    /// Faults that happened.
    package var faultCount: Int
    /// Operations that came to an end.
    package var migrationCount: Int
    /// Aggregates that went from one node to another.
    package var handoverCount: Int
    /// Answered operations of clients.
    package var clientOperationCount: UInt64
    /// Steps of the scheduler.
    package var stepCount: UInt64
    /// A digest of every step.
    package var digest: UInt64
    /// Nanoseconds of the world's clock.
    package var worldNanoseconds: UInt64
    /// The faults that could happen, in words, in the order of the list that `keeping` of `run` speaks of.
    package var faults: [String]
}

/// Runs seeds, one after the other, in this process.
package enum Simulator {
    nonisolated(unsafe) private static var thread: OpaquePointer!

    /// Takes this process over: from now on every task of Swift runs in the simulated world. Call it first.
    ///
    /// - Returns: Whether this Swift runtime can be taken over.
    package static func start(_ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> Bool {
        godwit_fix_addresses_and_hashes(arguments)
        thread = godwit_fiber_of_thread()
        SystemThread.substitute = SimulatedThreads()
        FileSystem.substitute = SimulatedFileSystem()
        return godwit_take_jobs { simulation.scheduler.enqueue(job: $0!) } == 0
    }

    /// Runs a seed.
    ///
    /// - Parameters:
    ///   - nodeCount: nodes of each cluster.
    ///   - keeping: the faults to keep, by their place in the list; nil for all.
    ///   - defects: what is planted.
    ///   - sink: gets each line of the trace.
    package static func run(
        seed: UInt64,
        nodeCount: Int,
        keeping: [Int]? = nil,
        defects: Set<Defect> = [],
        sink: ((String) -> Void)? = nil
    ) -> RunResult {
        let make = { (faults: [Fault]?) in
            Simulation(
                seed: seed,
                nodeCount: nodeCount,
                faults: faults,
                defects: defects,
                thread: thread,
                sink: sink
            )
        }
        let whole = make(nil)
        let all = whole.faults.all
        let run = keeping.map { kept in make(kept.map { all[$0] }) } ?? whole
        simulation = run
        run.build()
        run.run()
        return RunResult(
            seed: seed,
            violations: run.invariants.violations,
            faultCount: run.faults.appliedCount,
            migrationCount: run.user.endedCount,
            handoverCount: run.handoverCount,
            clientOperationCount: run.clients.reduce(0) { $0 + $1.answered },
            stepCount: run.scheduler.stepCount,
            digest: run.scheduler.digest,
            worldNanoseconds: run.scheduler.now,
            faults: all.map { "\($0)" }
        )
    }
}
