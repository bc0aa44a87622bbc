import MigrateOperation
import MigrateSource
import Replication
import Synchronization
import VolumeEngine

/// The network: between the two clusters each direction on its own may be slow, lossy or cut, and so may the network
/// inside of each cluster. A node that is isolated hears nobody.
final class Network: @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    /// One direction.
    struct Direction: Equatable {
        /// Nothing gets through.
        var isCut = false
        /// Nanoseconds that a message takes at most.
        var delayNanosecondsMax: UInt64 = 400_000
        /// One in so many messages meets lost packets; 0 is none.
        var lossOneIn = 0
        /// One in so many calls arrives twice; 0 is none.
        var duplicateOneIn = 0
    }

    /// What was sent and waits for its way to be open again.
    private struct Stalled {
        var from: Node
        var to: Node
        var process: SimulatedProcess?
        var body: () -> Void
    }

    /// From a cluster to the other one.
    private var directions = [Direction(), Direction()]
    /// Between the nodes of a cluster.
    private var interconnects = [Direction(), Direction()]
    /// The listeners of replication, by address.
    private var listeners: [String: (node: Node, process: SimulatedProcess, source: ReplicationSource)] = [:]
    private var links: [Link] = []
    var exchanges: [any AnyExchange] = []
    private var stalled: [Stalled] = []
    var generator: Generator

    init(generator: Generator) { self.generator = generator }

    /// Changes the way from a cluster to the other one.
    func change(from cluster: Int, _ body: (inout Direction) -> Void) {
        body(&directions[cluster])
        waysChanged()
    }

    /// Changes the network between the nodes of a cluster.
    func change(inside cluster: Int, _ body: (inout Direction) -> Void) {
        body(&interconnects[cluster])
        waysChanged()
    }

    /// Cuts a node off from everybody, or joins it again.
    func isolate(_ node: Node, _ isIsolated: Bool) {
        node.isIsolated = isIsolated
        waysChanged()
    }

    private func waysChanged() {
        for link in links { link.deliverStalled() }
        let waiting = stalled
        stalled = waiting.filter { isCut(from: $0.from, to: $0.to) }
        for message in waiting where !isCut(from: message.from, to: message.to) {
            transmit(from: message.from, to: message.to, in: message.process, message.body)
        }
    }

    func direction(from: Node, to: Node) -> Direction {
        from.cluster === to.cluster ? interconnects[from.cluster.index] : directions[from.cluster.index]
    }

    /// Whether nothing gets from a node to another one.
    func isCut(from: Node, to: Node) -> Bool {
        if from === to { return false }
        return direction(from: from, to: to).isCut || from.isIsolated || to.isIsolated
    }

    /// Nanoseconds that a message takes now.
    func delay(from: Node, to: Node) -> UInt64 {
        20_000 + generator.within(0...direction(from: from, to: to).delayNanosecondsMax)
    }

    /// Brings a message to another node as TCP does: lost packets are sent again, and what is sent while the way is
    /// cut arrives when it is open again.
    func transmit(from: Node, to: Node, in process: SimulatedProcess?, _ body: @escaping () -> Void) {
        var travel = delay(from: from, to: to)
        let direction = direction(from: from, to: to)
        if direction.lossOneIn > 0 {
            var timeOut: UInt64 = 200_000_000
            while generator.oneIn(direction.lossOneIn), timeOut < 10_000_000_000 {
                travel += timeOut
                timeOut *= 2
            }
        }
        simulation.scheduler.after(travel, in: process) { [self] in
            if isCut(from: from, to: to) {
                stalled.append(Stalled(from: from, to: to, process: process, body: body))
            } else {
                body()
            }
        }
    }

    /// The same at a time that keeps the order of a connection; packets are not lost.
    func transmit(
        from: Node,
        to: Node,
        at arrival: UInt64,
        in process: SimulatedProcess?,
        _ body: @escaping () -> Void
    ) {
        simulation.scheduler.at(arrival, in: process) { [self] in
            if isCut(from: from, to: to) {
                stalled.append(Stalled(from: from, to: to, process: process, body: body))
            } else {
                body()
            }
        }
    }

    /// Whether the network breaks a connection just now: a box on the way forgets it.
    func breaks(from: Node, to: Node) -> Bool {
        let direction = direction(from: from, to: to)
        return direction.lossOneIn > 0 && generator.oneIn(4 * direction.lossOneIn)
    }

    // MARK: Replication

    /// Serves replication of a node.
    func listen(_ node: Node, _ process: SimulatedProcess, _ source: ReplicationSource) {
        listeners[node.address] = (node, process, source)
    }

    /// Serves it no more.
    func endListening(_ node: Node) { listeners[node.address] = nil }

    /// Opens a link from a node to one of the other cluster; the caller waits.
    func connect(
        from node: Node,
        _ process: SimulatedProcess,
        to endpoint: PeerEndpoint
    ) throws(StorageError) -> LinkEnd {
        let scheduler = simulation.scheduler
        guard let other = simulation.nodes.first(where: { $0.address == endpoint.address }) else {
            throw LinkEnd.ended("no route to \(endpoint.address)")
        }
        guard !isCut(from: node, to: other), !isCut(from: other, to: node) else {
            scheduler.sleep(5_000_000_000)
            throw LinkEnd.ended("connect timed out")
        }
        scheduler.sleep(delay(from: node, to: other) + delay(from: other, to: node))
        guard let listener = listeners[endpoint.address], !listener.process.isDead else {
            throw LinkEnd.ended("connection refused")
        }
        let link = Link(process, at: node, listener.process, at: listener.node)
        links.removeAll { $0.isOver }
        links.append(link)
        guard let end = link.end(of: listener.process), let own = link.end(of: process) else {
            throw LinkEnd.ended("a node connects to itself")
        }
        scheduler.start(in: listener.process) { [source = listener.source] in source.serve(end) }
        link.watch()
        return own
    }

    /// Breaks every link of replication at once.
    func breakLinks() {
        for link in links where !link.isOver { link.ends.forEach { $0.end("the connection was reset") } }
    }

    /// A process has died: its machine resets its connections. When the machine died as well nobody says anything, and
    /// who waits for an answer waits as long as he will.
    func died(_ process: SimulatedProcess, at node: Node, withMachine: Bool) {
        if let listener = listeners[node.address], listener.process === process { listeners[node.address] = nil }
        for link in links where !link.isOver { link.died(process, withMachine: withMachine) }
        if withMachine { return }
        for exchange in exchanges where !exchange.isOver && exchange.target === process { exchange.reset() }
    }
}

extension Result {
    /// The failure, if it is one.
    var failure: Failure? {
        if case .failure(let failure) = self { failure } else { nil }
    }
}

extension SourceRequest {
    /// Its name in a trace.
    var shortName: String {
        let text = "\(self)"
        return String(text.prefix { $0 != "(" })
    }
}
