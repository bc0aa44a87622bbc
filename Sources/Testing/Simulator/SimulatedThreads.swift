import FileIO

/// Threads and monitors of the simulated world: fibers of the scheduler.
final class SimulatedThreads: ThreadSubstitute {
    func start(name: String, _ body: @escaping @Sendable () -> Void) { simulation.scheduler.start(body) }

    func pause(nanoseconds: UInt64) { simulation.scheduler.sleep(nanoseconds) }

    func makeMonitor() -> any MonitorSubstitute { SimulatedMonitor() }
}

/// A lock and a condition between fibers.
final class SimulatedMonitor: MonitorSubstitute, @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    private final class Waiter {
        let fiber: Fiber
        var isWoken = false
        init(_ fiber: Fiber) { self.fiber = fiber }
    }

    private var isHeld = false
    private var entering: [Fiber] = []
    private var waiters: [Waiter] = []

    private var scheduler: Scheduler { simulation.scheduler }

    func lock() {
        while isHeld {
            guard let fiber = scheduler.fiber else {
                preconditionFailure("a monitor is contended outside of a fiber")
            }
            entering.append(fiber)
            scheduler.suspend()
        }
        isHeld = true
    }

    func unlock() {
        isHeld = false
        if !entering.isEmpty { scheduler.wake(entering.removeFirst()) }
    }

    func wait(nanoseconds: UInt64?) {
        guard let fiber = scheduler.fiber else { preconditionFailure("a monitor is waited for outside of a fiber") }
        let waiter = Waiter(fiber)
        waiters.append(waiter)
        if let nanoseconds {
            scheduler.after(nanoseconds, in: fiber.process) { [self] in
                guard !waiter.isWoken else { return }
                wake(waiter)
                waiters.removeAll { $0 === waiter }
            }
        }
        unlock()
        scheduler.suspend()
        lock()
    }

    func wake(all: Bool) {
        let woken = all ? waiters[...] : waiters.prefix(1)
        for waiter in woken { wake(waiter) }
        waiters.removeFirst(woken.count)
    }

    private func wake(_ waiter: Waiter) {
        waiter.isWoken = true
        scheduler.wake(waiter.fiber)
    }
}
