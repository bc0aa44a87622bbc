internal import CLinux
internal import Glibc

/// Stands in for the threads of the operating system: the simulator runs everything that would be a thread of its own,
/// and everything that waits, one at a time and in an order that a seed decides.
package protocol ThreadSubstitute: AnyObject, Sendable {
    /// Starts `body` beside the caller.
    func start(name: String, _ body: @escaping @Sendable () -> Void)
    /// Lets the caller wait.
    func pause(nanoseconds: UInt64)
    /// An unlocked monitor.
    func makeMonitor() -> any MonitorSubstitute
}

/// Stands in for the lock and the condition of a `Monitor`.
package protocol MonitorSubstitute: AnyObject, Sendable {
    /// Waits for the lock and takes it.
    func lock()
    /// Gives the lock back.
    func unlock()
    /// Gives the lock back, waits for a signal or until the time is over (nil: for ever), and takes the lock again.
    func wait(nanoseconds: UInt64?)
    /// Wakes one that waits, or all.
    func wake(all: Bool)
}

/// A thread of the operating system, for work that waits for disks: never the cooperative pool, never an event loop.
package enum SystemThread {
    private final class Body {
        let name: String
        let run: @Sendable () -> Void
        init(name: String, run: @escaping @Sendable () -> Void) {
            self.name = name
            self.run = run
        }
    }

    // Set by the simulator before anything else runs, and never by a daemon: what is asked of it is one load and one
    // branch beside a system call.
    /// What stands in for threads; nil for those of the operating system.
    package nonisolated(unsafe) static var substitute: (any ThreadSubstitute)?

    /// Starts a detached thread with a name of at most 15 bytes.
    package static func start(name: String, _ run: @escaping @Sendable () -> Void) {
        if let substitute { return substitute.start(name: name, run) }
        var thread = pthread_t()
        let body = Unmanaged.passRetained(Body(name: name, run: run))
        let status = pthread_create(
            &thread,
            nil,
            { argument in
                let body = Unmanaged<Body>.fromOpaque(argument!).takeRetainedValue()
                godwit_set_thread_name(body.name)
                body.run()
                return nil
            },
            body.toOpaque()
        )
        precondition(status == 0, "the system gave no thread: error \(status)")
        pthread_detach(thread)
    }

    /// Lets the calling thread wait.
    package static func pause(milliseconds: UInt32) {
        if let substitute { return substitute.pause(nanoseconds: UInt64(milliseconds) * 1_000_000) }
        usleep(milliseconds * 1000)
    }
}

/// A lock with a condition: threads wait until something changes under it.
package final class Monitor: @unchecked Sendable {
    // Proof of Sendable: the two pointers are set once, and pthread functions on them are thread-safe; so is a substitute.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private let substitute = SystemThread.substitute?.makeMonitor()

    /// An unlocked monitor.
    package init() {
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    /// Runs `body` under the lock.
    package func locked<Outcome, Failure: Error>(_ body: () throws(Failure) -> Outcome) throws(Failure) -> Outcome {
        if let substitute {
            substitute.lock()
            defer { substitute.unlock() }
            return try body()
        }
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return try body()
    }

    /// Waits, within `locked`, until another thread signals; may return without a reason.
    package func wait() {
        if let substitute { return substitute.wait(nanoseconds: nil) }
        pthread_cond_wait(condition, mutex)
    }

    /// Waits, within `locked`, until another thread signals or the time is over.
    package func wait(milliseconds: Int) {
        if let substitute { return substitute.wait(nanoseconds: UInt64(milliseconds) * 1_000_000) }
        var deadline = timespec()
        clock_gettime(CLOCK_MONOTONIC, &deadline)
        let nanoseconds = deadline.tv_nsec + (milliseconds % 1000) * 1_000_000
        deadline.tv_sec += milliseconds / 1000 + nanoseconds / 1_000_000_000
        deadline.tv_nsec = nanoseconds % 1_000_000_000
        pthread_cond_timedwait(condition, mutex, &deadline)
    }

    /// Wakes one waiting thread.
    package func signal() {
        if let substitute { return substitute.wake(all: false) }
        pthread_cond_signal(condition)
    }

    /// Wakes every waiting thread.
    package func broadcast() {
        if let substitute { return substitute.wake(all: true) }
        pthread_cond_broadcast(condition)
    }
}

/// Where one thread waits until another one calls it, before or after it has come.
package final class Parking: @unchecked Sendable {
    // Proof of Sendable: `isCalled` is touched under `monitor` only.
    private let monitor = Monitor()
    private var isCalled = false

    /// Nobody waits and nobody has called.
    package init() {}

    /// Waits for one call.
    package func stay() {
        monitor.locked {
            while !isCalled { monitor.wait() }
            isCalled = false
        }
    }

    /// Calls the thread.
    package func leave() {
        monitor.locked { isCalled = true }
        // After the lock, or the thread would wake up only to wait for it.
        monitor.signal()
    }
}
