import ServiceLifecycle

/// What runs as long as the daemon does, and is cancelled when it ends.
struct BackgroundService: Service {
    let body: @Sendable () async throws -> Void

    func run() async throws { try await cancelWhenGracefulShutdown { try await body() } }
}
