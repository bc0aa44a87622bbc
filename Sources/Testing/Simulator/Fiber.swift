import CSimulation

/// What runs on a stack of its own: a job of the Swift runtime, or what would be a thread in a daemon.
final class Fiber {
    enum Work {
        case job(UnsafeMutableRawPointer)
        case body(@Sendable () -> Void)
        case none
    }

    static let stackBytes = 512 << 10

    var handle: OpaquePointer!
    var work = Work.none
    /// Whose code runs on it.
    var process: SimulatedProcess
    /// Its place among the fibers of its process.
    var index = 0

    init(process: SimulatedProcess) {
        self.process = process
        let argument = Unmanaged.passRetained(self).toOpaque()
        handle = godwit_fiber_create(Self.stackBytes, { Fiber.enter($0!) }, argument)
    }

    private static func enter(_ argument: UnsafeMutableRawPointer) {
        // The fiber lives as long as its stack: it is never given back while this function is on it.
        let fiber = Unmanaged<Fiber>.fromOpaque(argument).takeUnretainedValue()
        while true {
            switch fiber.work {
            case .job(let job): godwit_run_job(job)
            case .body(let body): body()
            case .none: preconditionFailure("a fiber without work was woken")
            }
            fiber.work = .none
            simulation.scheduler.finished(fiber)
        }
    }
}

/// A process of the simulated world: a daemon from its start to its end, or the world itself.
final class SimulatedProcess: @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    let name: String
    /// The node that it runs on; nil for the world.
    let node: Node?
    /// Nothing of it runs any more.
    private(set) var isDead = false
    /// It was stopped like with SIGSTOP: the world goes on without it.
    var isPaused = false
    /// It died because its machine did.
    var hasLostMachine = false
    /// What would run if it were not paused.
    var parked: [Scheduler.Ready] = []
    /// What happened to it meanwhile.
    var parkedEvents: [() -> Void] = []
    /// Jobs and pieces of threads that have run.
    var stepCount: UInt64 = 0
    /// The fibers that are its own now.
    var fibers: [Fiber] = []
    /// Told once, when it dies.
    var onDeath: () -> Void = {}

    init(_ name: String, node: Node? = nil) {
        self.name = name
        self.node = node
    }

    /// Ends it between two of its instructions.
    func die() {
        guard !isDead else { return }
        isDead = true
        parked = []
        parkedEvents = []
        onDeath()
    }
}
