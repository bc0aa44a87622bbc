import Dispatch

/// Threads for calls that wait for a disk or another cluster, so that the cooperative pool never does.
package struct BlockingPool: Sendable {
    private let queue = DispatchQueue(label: "godwit.blocking", attributes: .concurrent)

    /// A pool of its own threads.
    package init() {}

    /// Runs a blocking call on a thread of the pool and returns what it returns.
    package func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            queue.async { continuation.resume(with: Result(catching: body)) }
        }
    }
}
