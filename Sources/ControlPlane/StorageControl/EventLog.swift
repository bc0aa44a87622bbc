import ClusterConfiguration
import Environment
import Identity
import Logging
import Synchronization
package import VolumeEngine

/// The newest events of this node, in memory and in the log of the daemon.
package final class EventLog: Sendable {
    /// How many events are kept.
    package static let eventsMax = 1_000

    private struct State {
        var events: [RecordedEvent] = []
        var next: UInt64 = 1
    }

    private let state = Mutex(State())
    private let environment: Environment
    private let logger: Logger

    init(environment: Environment, logger: Logger) {
        self.environment = environment
        self.logger = logger
    }

    /// The events kept, oldest first.
    package var events: [RecordedEvent] { state.withLock { $0.events } }

    /// Records an event; may be called on any thread.
    package func record(name: String, severity: String, _ message: String) {
        let time = environment.wallClockNanoseconds()
        state.withLock { state in
            let event = RecordedEvent(
                index: state.next,
                timeNanoseconds: time,
                name: name,
                severity: severity,
                message: message
            )
            state.events.append(event)
            state.next += 1
            if state.events.count > Self.eventsMax { state.events.removeFirst() }
        }
        logger.log(level: severity == "notice" ? .notice : .error, "\(message)", metadata: ["event": "\(name)"])
    }

    /// Records what an aggregate tells.
    package func record(_ event: StorageEvent) {
        switch event {
        case .checksumMismatch(let volume, let inode, let offset, let segment):
            record(
                name: "storage.block.checksumMismatch",
                severity: "alert",
                "a damaged block was read: volume MSID \(volume), inode \(inode.rawValue), offset \(offset), segment "
                    + "file \(segment); the client was given an I/O error; restore the file from a snapshot or a copy"
            )
        case .spaceExhausted(let volume):
            record(
                name: "storage.space.exhausted",
                severity: "error",
                "volume MSID \(volume) could not be written for lack of space; delete files or snapshots, or resize"
            )
        case .failure(let volume, let reason):
            record(
                name: "storage.volume.failed",
                severity: "error",
                "volume MSID \(volume): \(reason); look into the log and check the disk of its aggregate"
            )
        }
    }
}
