import Identity
import MigrateOperation
import PeerTransport
import Environment
import Replication
import StorageControl
import Synchronization
import VolumeEngine

/// The incoming mirrors of a node.
final class MirrorTable: Sendable {
    /// A volume that is fetched.
    private struct Mirror {
        let replicator: VolumeReplicator
        let volume: Volume
        let source: VolumeSource
    }

    /// A transfer that was begun; who asks for the same again finds it.
    private struct Transfer {
        let number: UInt64
        let snapshot: ObjectUUID
        /// Nil while it runs.
        var result: Result<TransferStatistics, any Error>?
    }

    private struct State {
        var mirrors: [VolumeMSID: Mirror] = [:]
        var transfers: [VolumeMSID: Transfer] = [:]
        var nextNumber: UInt64 = 0
    }

    private enum Turn {
        case begin(UInt64)
        case ended(Result<TransferStatistics, any Error>)
        case wait
    }

    private static let pollMillisecondsMax: UInt64 = 16

    private let controller: StorageController
    private let waiting: Waiting
    private let state = Mutex(State())

    init(_ controller: StorageController, _ waiting: Waiting) {
        self.controller = controller
        self.waiting = waiting
    }

    /// What a mirror is doing.
    func status(of volume: VolumeMSID) -> VolumeMirrorStatus {
        guard let mirror = state.withLock({ $0.mirrors[volume] }) else { return .idle }
        let (state, current, failure) = mirror.replicator.status
        return VolumeMirrorStatus(state: state, transfer: current, failure: failure)
    }

    /// Begins a transfer, or finds the one that was begun, and waits for its end for a while.
    ///
    /// - Returns: how far it is, and whether it is done.
    func transfer(
        _ flow: VolumeFlow,
        into volume: Volume,
        upTo snapshot: ObjectUUID,
        throttleBytesPerSecond: UInt64,
        waitMilliseconds: UInt64
    ) async throws -> (status: VolumeMirrorStatus, isDone: Bool) {
        let deadline = controller.environment.monotonicNanoseconds() + waitMilliseconds * 1_000_000
        var pauseMilliseconds: UInt64 = 1
        while true {
            switch turn(flow.msid, snapshot) {
            case .begin(let number):
                do {
                    let replicator = try await replicator(flow, volume)
                    begin(number, flow.msid, replicator, snapshot, throttleBytesPerSecond)
                } catch {
                    end(number, flow.msid, .failure(error))
                }
                continue
            case .ended(let result):
                let statistics = try result.get()
                return (VolumeMirrorStatus(state: .idle, transfer: statistics, failure: nil), true)
            case .wait: break
            }
            guard controller.environment.monotonicNanoseconds() < deadline else {
                return (status(of: flow.msid), false)
            }
            try await waiting.milliseconds(pauseMilliseconds)
            pauseMilliseconds = min(pauseMilliseconds * 2, Self.pollMillisecondsMax)
        }
    }

    private func turn(_ msid: VolumeMSID, _ snapshot: ObjectUUID) -> Turn {
        state.withLock { state in
            if let transfer = state.transfers[msid] {
                // One that runs up to another snapshot is a former master's: its end is waited for.
                guard let result = transfer.result else { return .wait }
                if transfer.snapshot == snapshot {
                    // A success is told as often as it is asked for, a failure once: then it is tried again.
                    if case .failure = result { state.transfers[msid] = nil }
                    return .ended(result)
                }
            }
            state.nextNumber += 1
            state.transfers[msid] = Transfer(number: state.nextNumber, snapshot: snapshot)
            return .begin(state.nextNumber)
        }
    }

    private func begin(
        _ number: UInt64,
        _ msid: VolumeMSID,
        _ replicator: VolumeReplicator,
        _ snapshot: ObjectUUID,
        _ throttleBytesPerSecond: UInt64
    ) {
        controller.pool.start { [self] in
            let result = Result<TransferStatistics, any Error> {
                try replicator.transfer(upTo: snapshot, throttleBytesPerSecond: throttleBytesPerSecond)
            }
            end(number, msid, result)
        }
    }

    private func end(_ number: UInt64, _ msid: VolumeMSID, _ result: Result<TransferStatistics, any Error>) {
        state.withLock { state in
            if state.transfers[msid]?.number == number { state.transfers[msid]?.result = result }
        }
    }

    /// Begins the synchronous stream of a volume; one that runs already is no error.
    func startSynchronous(_ flow: VolumeFlow, into volume: Volume) async throws {
        let replicator = try await replicator(flow, volume)
        let state = replicator.status.state
        if state == .transitioning || state == .inSync { return }
        try await controller.pool.run { try replicator.startSynchronous() }
    }

    /// Ends what runs; nothing more is applied on return.
    func stop(_ volume: VolumeMSID) async throws {
        guard let mirror = state.withLock({ $0.mirrors.removeValue(forKey: volume) }) else { return }
        try await controller.pool.run { mirror.replicator.stop() }
    }

    /// What fetches a volume. When another node has taken the volume over on the source, or this one here, the replicator of
    /// before is of no use any more.
    private func replicator(_ flow: VolumeFlow, _ volume: Volume) async throws -> VolumeReplicator {
        let current = state.withLock { $0.mirrors[flow.msid] }
        if let current {
            if current.volume === volume && current.source == flow.source { return current.replicator }
            try await stop(flow.msid)
        }
        let made = VolumeReplicator(
            volume: volume,
            source: flow.source.endpoint,
            secret: [UInt8](flow.source.secret.utf8),
            environment: controller.environment,
            transport: controller.transport
        )
        return state.withLock { state in
            if let other = state.mirrors[flow.msid] { return other.replicator }
            state.mirrors[flow.msid] = Mirror(replicator: made, volume: volume, source: flow.source)
            return made
        }
    }
}
