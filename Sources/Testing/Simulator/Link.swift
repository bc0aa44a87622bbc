import Replication
import VolumeEngine

/// A connection of replication: two ends, frames in order both ways, signs of life, and silence when the way is cut.
/// The times are those of PeerTransport.
final class Link {
    static let keepAliveNanoseconds: UInt64 = 500_000_000
    static let silenceNanosecondsMax: UInt64 = 3_000_000_000

    private(set) var ends: [LinkEnd] = []
    /// Frames that wait for the way to be open again, by the node that sent them.
    private var stalled: [[() -> Void]] = [[], []]
    private var lastArrival: [UInt64] = [0, 0]

    init(_ process: SimulatedProcess, at node: Node, _ other: SimulatedProcess, at otherNode: Node) {
        // In the order of the clusters.
        let isFirst = node.index < otherNode.index
        let here = LinkEnd(self, isFirst ? 0 : 1, node, process)
        let there = LinkEnd(self, isFirst ? 1 : 0, otherNode, other)
        ends = isFirst ? [here, there] : [there, here]
    }

    /// The end of a process.
    func end(of process: SimulatedProcess) -> LinkEnd? { ends.first { $0.process === process } }

    var isOver: Bool { ends.allSatisfy(\.isOver) }

    private func isCut(from side: Int) -> Bool {
        simulation.network.isCut(from: ends[side].node, to: ends[1 - side].node)
    }

    /// Brings something to the other side, behind all that was sent before.
    func send(from side: Int, bytes: Int, _ body: @escaping () -> Void) {
        let scheduler = simulation.scheduler
        // 100 MB/s.
        let travel = simulation.network.delay(from: ends[side].node, to: ends[1 - side].node) + UInt64(bytes) * 10
        let arrival = max(scheduler.now + travel, lastArrival[side] + 1)
        lastArrival[side] = arrival
        scheduler.at(arrival) { [self] in
            if isCut(from: side) || !stalled[side].isEmpty { stalled[side].append(body) } else { body() }
        }
    }

    /// A way is open again: what was sent meanwhile is sent again by the machines below.
    func deliverStalled() {
        for side in 0...1 where !stalled[side].isEmpty && !isCut(from: side) {
            let bodies = stalled[side]
            stalled[side] = []
            for body in bodies { send(from: side, bytes: 0, body) }
        }
    }

    /// Looks after both ends as long as the link lives.
    func watch() {
        simulation.scheduler.after(Self.keepAliveNanoseconds) { [self] in
            for end in ends { end.tick() }
            if !isOver { watch() }
        }
    }

    /// Whether the end of a side hears the other one now.
    func hears(_ side: Int) -> Bool {
        let other = ends[1 - side]
        return !isCut(from: 1 - side) && !other.isOver && !other.process.isPaused
    }

    /// A process has died.
    func died(_ process: SimulatedProcess, withMachine: Bool) {
        for end in ends where end.process === process {
            end.forget()
            if withMachine { continue }
            send(from: end.side, bytes: 0) { self.ends[1 - end.side].end("the connection was reset") }
        }
    }
}

/// One end of a link.
final class LinkEnd: FrameChannel, @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    /// Bytes under way before senders wait.
    static let outboundBytesMax = 1 << 20

    let side: Int
    let node: Node
    let process: SimulatedProcess
    private let link: Link
    private var inbound: [[UInt8]] = []
    private var outboundBytes = 0
    private var failure: StorageError?
    private var isClosedHere = false
    private var waiting: [Fiber] = []
    private var lastHeard = simulation.scheduler.now

    init(_ link: Link, _ side: Int, _ node: Node, _ process: SimulatedProcess) {
        self.link = link
        self.side = side
        self.node = node
        self.process = process
    }

    var isOver: Bool { failure != nil || process.isDead }

    private var peer: LinkEnd { link.ends[1 - side] }

    static func ended(_ reason: String) -> StorageError {
        StorageError(.inputOutput, "the replication link has ended: \(reason)", remedy: "look at the network")
    }

    func send(_ frame: [UInt8]) throws(StorageError) {
        while outboundBytes > Self.outboundBytesMax && failure == nil { wait() }
        if let failure { throw failure }
        outboundBytes += frame.count
        simulation.trace("frame of \(node.cluster.name): kind \(frame[0]), \(frame.count) bytes")
        simulation.faults.frameSent()
        link.send(from: side, bytes: frame.count) { [self] in
            outboundBytes -= frame.count
            wake()
            peer.arrive(frame)
        }
    }

    func receive(isWaiting: Bool) throws(StorageError) -> [UInt8]? {
        while isWaiting && inbound.isEmpty && failure == nil { wait() }
        guard !inbound.isEmpty, !isClosedHere else {
            if let failure { throw failure }
            return nil
        }
        return inbound.removeFirst()
    }

    func close() {
        guard !isClosedHere else { return }
        isClosedHere = true
        let wasOpen = failure == nil
        end("the connection was closed on this side")
        // What was sent before goes out first.
        if wasOpen { link.send(from: side, bytes: 0) { self.peer.end("the other side has closed the connection") } }
    }

    /// The end is over.
    func end(_ reason: String) {
        guard failure == nil else { return }
        failure = Self.ended(reason)
        wake()
    }

    /// Its process is gone.
    func forget() { waiting = [] }

    private func arrive(_ frame: [UInt8]) {
        guard failure == nil else { return }
        lastHeard = simulation.scheduler.now
        inbound.append(frame)
        wake()
    }

    /// Hears a sign of life, or notices that there was none for too long.
    func tick() {
        guard !isOver, !process.isPaused else { return }
        let now = simulation.scheduler.now
        if link.hears(side) {
            lastHeard = now
        } else if now - lastHeard > Link.silenceNanosecondsMax {
            end("the other side was silent for 3 seconds")
        }
    }

    private func wait() {
        guard let fiber = simulation.scheduler.fiber else { preconditionFailure("a link waits outside of a fiber") }
        waiting.append(fiber)
        simulation.scheduler.suspend()
    }

    private func wake() {
        let fibers = waiting
        waiting = []
        for fiber in fibers { simulation.scheduler.wake(fiber) }
    }
}
