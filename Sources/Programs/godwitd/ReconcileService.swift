import Environment
import ServiceLifecycle
import StorageControl

/// Tries again what failed to become as it is configured, until the daemon ends.
struct ReconcileService: Service {
    let controller: StorageController

    func run() async throws {
        await cancelWhenGracefulShutdown { await controller.retryFailures(.system) }
    }
}

/// Follows what other nodes change in the configuration, until the daemon ends.
struct ConfigurationWatchService: Service {
    let controller: StorageController

    func run() async throws {
        await cancelWhenGracefulShutdown { await controller.followConfiguration(.system) }
    }
}

/// Keeps open the aggregates that this node owns, until the daemon ends.
struct OwnershipService: Service {
    let controller: StorageController

    func run() async throws {
        await cancelWhenGracefulShutdown { await controller.keepAggregates(.system) }
    }
}

/// Stands in for nodes that are down, until the daemon ends.
struct FailoverService: Service {
    let controller: StorageController

    func run() async throws {
        await cancelWhenGracefulShutdown { await controller.watchNodes(.system) }
    }
}
