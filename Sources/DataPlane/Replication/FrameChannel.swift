package import VolumeEngine

/// An ordered, reliable way for frames between the two ends of a replication. One thread sends, one thread receives.
package protocol FrameChannel: AnyObject, Sendable {
    /// Queues a frame of at most `FrameLimits.frameBytesMax` bytes; waits while too much is under way. Throws when the
    /// channel has ended.
    func send(_ frame: [UInt8]) throws(StorageError)
    /// The next frame. Waits for it, or returns nil at once when none is there and `isWaiting` is false. Throws when the
    /// channel has ended and everything that came before has been taken.
    func receive(isWaiting: Bool) throws(StorageError) -> [UInt8]?
    /// Ends the channel for good: both directions, without waiting for what is under way; idempotent.
    func close()
}

/// Limits of a replication link, on both ends.
package enum FrameLimits {
    /// Bytes of a frame.
    package static let frameBytesMax = 8 << 20
    /// Bytes of records that a frame is filled with: few enough that the copies on its way find it in the processor's
    /// cache.
    package static let recordsBytes = 256 << 10
    /// Bytes of records between two durable positions.
    package static let checkpointBytes = 64 << 20
    /// Records between two durable positions.
    package static let checkpointRecords: UInt64 = 200_000
    /// Bytes of commits that wait for the link.
    package static let commitBacklogBytesMax = 256 << 20
    /// Nanoseconds that a commit may stay unconfirmed while the mirror is in sync.
    package static let confirmationNanosecondsMax: UInt64 = 10_000_000_000
    /// Snapshots of a volume that a message may name.
    package static let snapshotsMax = 4096
}

extension FrameChannel {
    /// Waits for the next message.
    func receiveMessage() throws(StorageError) -> ReplicationMessage {
        guard let frame = try receive(isWaiting: true) else {
            preconditionFailure("a channel that was to wait returned without a frame")
        }
        return try ReplicationMessage.decode(frame)
    }

    func send(_ message: ReplicationMessage) throws(StorageError) { try send(message.encoded) }
}
