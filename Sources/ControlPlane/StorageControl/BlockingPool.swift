import Dispatch

/// Threads for calls that wait for a disk or another cluster, so that the cooperative pool never does.
package struct BlockingPool: Sendable {
    private let execute: @Sendable (@escaping @Sendable () -> Void) -> Void

    /// A pool of its own threads.
    package init() {
        let queue = DispatchQueue(label: "godwit.blocking", attributes: .concurrent)
        execute = { body in queue.async(execute: body) }
    }

    /// A pool whose threads somebody else has: `execute` runs what it is given beside its caller.
    package init(execute: @escaping @Sendable (@escaping @Sendable () -> Void) -> Void) { self.execute = execute }

    /// Begins a blocking call on a thread of the pool.
    package func start(_ body: @escaping @Sendable () -> Void) { execute(body) }

    /// Runs a blocking call on a thread of the pool and returns what it returns.
    package func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            execute { continuation.resume(with: Result(catching: body)) }
        }
    }
}
