package import Environment
import FileIO
package import Identity
package import VolumeEngine

/// The destination's side of one volume's replication, over channels that `connect` opens.
package final class ReplicationDestination: @unchecked Sendable {
    // Proof of Sendable: every variable is touched inside `monitor` only.

    private let volume: Volume
    private let environment: Environment
    private let connect: @Sendable () throws(StorageError) -> any FrameChannel
    private let monitor = Monitor()
    private var state = MirrorState.idle
    private var statistics = TransferStatistics()
    private var failure: String?
    private var channel: (any FrameChannel)?
    private var isRunning = false
    private var isStopping = false
    private var startNanoseconds: UInt64 = 0

    /// Replicates into `volume`; `connect` opens an authenticated channel to the source and may block.
    package init(
        volume: Volume,
        environment: Environment,
        connect: @escaping @Sendable () throws(StorageError) -> any FrameChannel
    ) {
        self.volume = volume
        self.environment = environment
        self.connect = connect
    }

    /// Transfers every snapshot of the source up to and including `snapshot`; blocks.
    package func transfer(
        upTo snapshot: ObjectUUID,
        throttleBytesPerSecond: UInt64
    ) throws(StorageError) -> TransferStatistics {
        try begin(.transferring)
        do throws(StorageError) {
            try run(.transfer, snapshot, throttleBytesPerSecond)
            end(.idle, nil)
        } catch {
            end(.idle, error)
            throw error
        }
        return status.current
    }

    /// Begins the synchronous stream on a thread of its own.
    package func startSynchronous() throws(StorageError) {
        try begin(.transitioning)
        SystemThread.start(name: "mirror") { [self] in
            do throws(StorageError) {
                try run(.synchronous, ObjectUUID(high: 0, low: 0), 0)
                end(.outOfSync, Self.sourceEnded)
            } catch { end(.outOfSync, error) }
        }
    }

    private static let sourceEnded = StorageError(
        .conflict,
        "the source has ended the synchronous stream",
        remedy: "start the synchronous stream again"
    )

    /// The state, the progress of the running or the last transfer, and why the last one failed.
    package var status: (state: MirrorState, current: TransferStatistics, failure: String?) {
        monitor.locked {
            var current = statistics
            if isRunning { current.durationNanoseconds = environment.monotonicNanoseconds() - startNanoseconds }
            return (state, current, failure)
        }
    }

    /// Ends whatever runs; returns when nothing more will be applied. Idempotent.
    package func stop() {
        monitor.locked {
            guard isRunning else { return }
            isStopping = true
            channel?.close()
            while isRunning { monitor.wait() }
        }
    }

    private func begin(_ next: MirrorState) throws(StorageError) {
        try monitor.locked { () throws(StorageError) in
            guard !isRunning else {
                throw StorageError(
                    .conflict,
                    "a transfer or a synchronous stream into volume \(volume.msid) runs already",
                    remedy: "wait for its end, or stop it"
                )
            }
            isRunning = true
            isStopping = false
            state = next
            statistics = TransferStatistics()
            failure = nil
            startNanoseconds = environment.monotonicNanoseconds()
        }
    }

    private func end(_ next: MirrorState, _ error: StorageError?) {
        monitor.locked {
            // A stream that was ended on purpose has not failed.
            state = isStopping ? .idle : next
            failure = isStopping ? nil : error?.description
            statistics.durationNanoseconds = environment.monotonicNanoseconds() - startNanoseconds
            isRunning = false
            isStopping = false
            channel = nil
            monitor.broadcast()
        }
    }

    private func run(
        _ mode: ReplicationRequest.Mode,
        _ target: ObjectUUID,
        _ throttleBytesPerSecond: UInt64
    ) throws(StorageError) {
        let opened = try connect()
        defer { opened.close() }
        let isWanted = monitor.locked { () -> Bool in
            channel = opened
            return !isStopping
        }
        guard isWanted else {
            throw StorageError(.conflict, "the transfer was stopped", remedy: "start it again")
        }
        let session = DestinationSession(
            volume: volume,
            channel: opened,
            reports: DestinationSession.Reports(
                applied: { [self] records, bytes in
                    monitor.locked {
                        statistics.records += UInt64(records)
                        statistics.bytes += UInt64(bytes)
                    }
                },
                expected: { [self] bytes in monitor.locked { statistics.bytesExpected = bytes } },
                inSync: { [self] in monitor.locked { state = .inSync } }
            )
        )
        try session.run(mode, target: target, throttleBytesPerSecond: throttleBytesPerSecond)
    }
}
