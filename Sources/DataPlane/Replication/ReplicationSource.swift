package import Environment
import FileIO
package import Identity
package import VolumeEngine

/// The source's side of all replication of a node: which streams run, and what state each volume's mirror is in.
package final class ReplicationSource: @unchecked Sendable {
    // Proof of Sendable: `streams`, `states` and `isStopped` are touched inside `monitor` only.

    private struct Stream {
        var number: Int
        var msid: VolumeMSID
        var isSynchronous: Bool
        var channel: any FrameChannel
    }

    private let monitor = Monitor()
    private let environment: Environment
    private let find: @Sendable (VolumeMSID) -> Volume?
    private var streams: [Stream] = []
    private var nextNumber = 0
    private var states: [VolumeMSID: MirrorState] = [:]
    private var isStopped = false

    /// Serves the volumes that `volume` finds.
    package init(environment: Environment, volume: @escaping @Sendable (VolumeMSID) -> Volume?) {
        self.environment = environment
        find = volume
    }

    /// Serves one destination on the calling thread until its stream ends; closes the channel.
    package func serve(_ channel: any FrameChannel) {
        defer { channel.close() }
        do throws(StorageError) {
            guard case .request(let request) = try channel.receiveMessage() else {
                throw StorageError(
                    .damaged,
                    "the destination did not begin with a request",
                    remedy: "run the same version on both clusters"
                )
            }
            try serve(request, channel)
        } catch { refuse(channel, error) }
    }

    private func serve(_ request: ReplicationRequest, _ channel: any FrameChannel) throws(StorageError) {
        guard let volume = find(request.msid) else {
            throw StorageError(
                .notFound,
                "this node has no volume \(request.msid)",
                remedy: "ask the node that owns the volume's aggregate"
            )
        }
        let number = try begin(request, channel)
        defer { end(number) }
        let session = SourceSession(volume: volume, channel: channel, environment: environment) { [self] state in
            monitor.locked { states[request.msid] = state }
        }
        do throws(StorageError) {
            try session.run(request)
        } catch {
            // The stream stays listed until its mirror is detached, so that a successor waits for that.
            refuse(channel, error)
        }
    }

    /// Tells the destination why; it may be gone already.
    private func refuse(_ channel: any FrameChannel, _ error: StorageError) {
        try? channel.send(ReplicationMessage.refused(error))
    }

    /// Lists a stream; a synchronous one takes the place of the one before.
    private func begin(_ request: ReplicationRequest, _ channel: any FrameChannel) throws(StorageError) -> Int {
        let isSynchronous = request.mode == .synchronous
        return try monitor.locked { () throws(StorageError) in
            if isSynchronous {
                let isBefore = { (stream: Stream) in stream.msid == request.msid && stream.isSynchronous }
                for stream in streams where isBefore(stream) { stream.channel.close() }
                while streams.contains(where: isBefore) { monitor.wait() }
            }
            guard !isStopped else {
                throw StorageError(
                    .conflict,
                    "the node is stopping its replication",
                    remedy: "try again when the node runs"
                )
            }
            nextNumber += 1
            streams.append(
                Stream(number: nextNumber, msid: request.msid, isSynchronous: isSynchronous, channel: channel)
            )
            return nextNumber
        }
    }

    private func end(_ number: Int) {
        monitor.locked {
            streams.removeAll { $0.number == number }
            monitor.broadcast()
        }
    }

    /// The state of a volume's outgoing mirror: `.inSync` when each acknowledged write is on both sides.
    package func mirrorState(of msid: VolumeMSID) -> MirrorState { monitor.locked { states[msid] ?? .idle } }

    /// Ends a volume's outgoing streams; returns when the volume's clients no longer wait for a mirror.
    package func disconnect(_ msid: VolumeMSID) { disconnect { $0 == msid } }

    /// Ends every stream and refuses new ones.
    package func stop() {
        monitor.locked { isStopped = true }
        disconnect { _ in true }
    }

    private func disconnect(where isMeant: (VolumeMSID) -> Bool) {
        monitor.locked {
            for stream in streams where isMeant(stream.msid) { stream.channel.close() }
            while streams.contains(where: { isMeant($0.msid) }) { monitor.wait() }
        }
    }
}
