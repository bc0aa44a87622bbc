/// Waits. The control plane never sleeps by itself, so that the simulator can own the time.
package struct Waiting: Sendable {
    /// Waits for so many nanoseconds; throws `CancellationError` when the waiting task is cancelled.
    package let nanoseconds: @Sendable (UInt64) async throws -> Void

    /// Makes it out of its function.
    package init(nanoseconds: @escaping @Sendable (UInt64) async throws -> Void) {
        self.nanoseconds = nanoseconds
    }

    /// Waits for so many milliseconds.
    package func milliseconds(_ count: UInt64) async throws {
        try await nanoseconds(count * 1_000_000)
    }

    /// By the machine's own clock.
    package static let system = Waiting { try await Task.sleep(for: .nanoseconds(Int64(clamping: $0))) }
}
