import CSimulation

/// The one thread of the simulated world: its clock, what is ready to run, and what will happen when.
///
/// Jobs of the Swift runtime and pieces of simulated threads lie in one list; the seed says which is next. When the
/// list is empty the clock jumps to the next event.
final class Scheduler {
    /// What can run now.
    struct Ready {
        enum Kind {
            case job(UnsafeMutableRawPointer)
            case fiber(Fiber)
        }
        var process: SimulatedProcess
        var kind: Kind
    }

    private struct Event {
        var time: UInt64
        var number: UInt64
        var process: SimulatedProcess
        var body: () -> Void
    }

    /// Nanoseconds of the world's clock.
    private(set) var now: UInt64 = 1_000_000_000
    /// Chance of the interleaving.
    var generator: Generator
    /// The process whose code runs.
    private(set) var current: SimulatedProcess
    /// The process of what belongs to no daemon.
    let world = SimulatedProcess("world")
    /// Steps so far.
    private(set) var stepCount: UInt64 = 0
    /// A digest of every step: two runs of one seed have the same.
    private(set) var digest: UInt64 = 0xcbf2_9ce4_8422_2325

    private var ready: [Ready] = []
    private var events: [Event] = []
    private var nextNumber: UInt64 = 0
    private var idle: [Fiber] = []
    private var running: Fiber?
    private let thread: OpaquePointer

    init(generator: Generator, thread: OpaquePointer) {
        self.generator = generator
        self.thread = thread
        current = world
    }

    // MARK: What is to come

    /// Does something at a time, in the name of a process: not at all when it is dead by then, later when it is paused.
    func at(_ time: UInt64, in process: SimulatedProcess? = nil, _ body: @escaping () -> Void) {
        nextNumber += 1
        var index = events.count
        let event = Event(time: max(time, now), number: nextNumber, process: process ?? world, body: body)
        events.append(event)
        while index > 0 {
            let parent = (index - 1) / 2
            guard Self.isBefore(event, events[parent]) else { break }
            events[index] = events[parent]
            index = parent
        }
        events[index] = event
    }

    /// The same, from now on.
    func after(_ nanoseconds: UInt64, in process: SimulatedProcess? = nil, _ body: @escaping () -> Void) {
        at(now &+ nanoseconds, in: process, body)
    }

    private static func isBefore(_ left: Event, _ right: Event) -> Bool {
        (left.time, left.number) < (right.time, right.number)
    }

    private func takeEvent() -> Event {
        let first = events[0]
        let last = events.removeLast()
        guard !events.isEmpty else { return first }
        var index = 0
        while true {
            var child = 2 * index + 1
            guard child < events.count else { break }
            if child + 1 < events.count, Self.isBefore(events[child + 1], events[child]) { child += 1 }
            guard Self.isBefore(events[child], last) else { break }
            events[index] = events[child]
            index = child
        }
        events[index] = last
        return first
    }

    /// A job that the Swift runtime gave away.
    func enqueue(job: UnsafeMutableRawPointer) {
        // The jobs of a dead process stay where they are for ever, with all that they hold, like its memory.
        if !current.isDead { ready.append(Ready(process: current, kind: .job(job))) }
    }

    /// Runs a body beside the caller, on a stack of its own.
    func start(in process: SimulatedProcess? = nil, _ body: @escaping @Sendable () -> Void) {
        let process = process ?? current
        guard !process.isDead else { return }
        let fiber = fiber(for: process)
        fiber.work = .body(body)
        ready.append(Ready(process: process, kind: .fiber(fiber)))
    }

    /// Runs a body now in the name of a process, on the stack of the caller.
    func run(as process: SimulatedProcess, _ body: () -> Void) {
        guard !process.isDead else { return }
        let before = current
        current = process
        body()
        current = before
    }

    // MARK: Fibers

    /// The fiber that runs; nil between steps.
    var fiber: Fiber? { running }

    private func fiber(for process: SimulatedProcess) -> Fiber {
        let fiber = idle.popLast() ?? Fiber(process: process)
        fiber.process = process
        fiber.index = process.fibers.count
        process.fibers.append(fiber)
        return fiber
    }

    /// A fiber has done its work.
    func finished(_ fiber: Fiber) {
        let fibers = fiber.process.fibers
        let last = fibers[fibers.count - 1]
        last.index = fiber.index
        fiber.process.fibers[fiber.index] = last
        fiber.process.fibers.removeLast()
        idle.append(fiber)
        godwit_fiber_switch(fiber.handle, thread)
    }

    /// Leaves the running fiber until somebody wakes it.
    func suspend() {
        guard let fiber = running else { preconditionFailure("something that waits was called outside of a fiber") }
        godwit_fiber_switch(fiber.handle, thread)
    }

    /// Makes a fiber that has left ready again.
    func wake(_ fiber: Fiber) { ready.append(Ready(process: fiber.process, kind: .fiber(fiber))) }

    /// Lets the running fiber wait.
    func sleep(_ nanoseconds: UInt64) {
        guard let fiber = running else { preconditionFailure("something that waits was called outside of a fiber") }
        after(nanoseconds, in: fiber.process) { self.wake(fiber) }
        suspend()
    }

    /// Ends a process: what it was doing is never finished. Returns only when another process runs.
    func kill(_ process: SimulatedProcess) {
        process.die()
        let fibers = process.fibers
        process.fibers = []
        for fiber in fibers where fiber !== running { godwit_fiber_destroy(fiber.handle) }
        if let running, running.process === process { godwit_fiber_switch(running.handle, thread) }
    }

    /// Stops a process as SIGSTOP does.
    func pause(_ process: SimulatedProcess) { process.isPaused = true }

    /// Lets a stopped process go on.
    func resume(_ process: SimulatedProcess) {
        process.isPaused = false
        ready += process.parked
        process.parked = []
        let events = process.parkedEvents
        process.parkedEvents = []
        for body in events { at(now, in: process, body) }
    }

    // MARK: Running

    /// Makes one step; false when nothing will ever happen again.
    func step() -> Bool {
        if !ready.isEmpty {
            let index = generator.below(ready.count)
            let next = ready[index]
            ready.swapAt(index, ready.count - 1)
            ready.removeLast()
            execute(next)
            return true
        }
        guard !events.isEmpty else { return false }
        let event = takeEvent()
        now = max(now, event.time)
        guard !event.process.isDead else { return true }
        if event.process.isPaused {
            event.process.parkedEvents.append(event.body)
            return true
        }
        note(1)
        run(as: event.process, event.body)
        return true
    }

    private func execute(_ item: Ready) {
        let process = item.process
        guard !process.isDead else { return }
        guard !process.isPaused else {
            process.parked.append(item)
            return
        }
        let fiber: Fiber
        switch item.kind {
        case .fiber(let ready): fiber = ready
        case .job(let job):
            fiber = self.fiber(for: process)
            fiber.work = .job(job)
        }
        process.stepCount += 1
        // Code takes time.
        now += 500 + generator.within(0...1_500)
        note(2)
        current = process
        running = fiber
        godwit_fiber_switch(thread, fiber.handle)
        running = nil
        current = world
        // The stack of a process that died on it is free only now.
        if process.isDead && !idle.contains(where: { $0 === fiber }) { godwit_fiber_destroy(fiber.handle) }
        simulation.stepped(process)
    }

    private func note(_ kind: UInt64) {
        stepCount += 1
        mix(now ^ kind)
    }

    /// Mixes a value into the digest of the run.
    func mix(_ value: UInt64) { digest = (digest ^ value) &* 0x0000_0100_0000_01b3 }
}
