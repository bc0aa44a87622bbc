import MigrateOperation
import MigrateSource
import Replication
import Synchronization
import VolumeEngine

/// The network between the two clusters: each direction on its own may be slow, lossy or cut.
final class Network: @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    /// One direction.
    struct Direction {
        /// Nothing gets through.
        var isCut = false
        /// Nanoseconds that a message takes at most.
        var delayNanosecondsMax: UInt64 = 400_000
        /// One in so many messages meets lost packets; 0 is none.
        var lossOneIn = 0
        /// One in so many calls arrives twice; 0 is none.
        var duplicateOneIn = 0
    }

    private(set) var directions = [Direction(), Direction()]
    /// The listeners of replication, by node.
    private var listeners: [Int: (process: SimulatedProcess, source: ReplicationSource)] = [:]
    private var links: [Link] = []
    private var exchanges: [Exchange] = []
    /// What waits for a way to be open again, by the node that sent it.
    private var stalled: [[() -> Void]] = [[], []]
    private var generator: Generator

    init(generator: Generator) { self.generator = generator }

    /// Changes the way from a node to the other one.
    func change(from node: Int, _ body: (inout Direction) -> Void) {
        body(&directions[node])
        guard !directions[node].isCut else { return }
        for link in links { link.deliverStalled(from: node) }
        let bodies = stalled[node]
        stalled[node] = []
        for body in bodies { transmit(from: node, in: nil, body) }
    }

    /// Nanoseconds that a message takes now.
    func delay(from node: Int) -> UInt64 { 20_000 + generator.within(0...directions[node].delayNanosecondsMax) }

    /// Brings a message to the other side as TCP does: lost packets are sent again, and what is sent while the way is
    /// cut arrives when it is open again.
    private func transmit(from node: Int, in process: SimulatedProcess?, _ body: @escaping () -> Void) {
        var travel = delay(from: node)
        if directions[node].lossOneIn > 0 {
            var timeOut: UInt64 = 200_000_000
            while generator.oneIn(directions[node].lossOneIn), timeOut < 10_000_000_000 {
                travel += timeOut
                timeOut *= 2
            }
        }
        simulation.scheduler.after(travel, in: process) { [self] in
            if directions[node].isCut { stalled[node].append(body) } else { body() }
        }
    }

    /// Whether the network breaks a connection just now: a box on the way forgets it.
    private func breaks(from node: Int) -> Bool {
        directions[node].lossOneIn > 0 && generator.oneIn(4 * directions[node].lossOneIn)
    }

    // MARK: Calls between clusters

    /// A call and whoever waits for its answer.
    final class Exchange: @unchecked Sendable {
        // Proof of Sendable: the simulator is one thread.
        let caller: SimulatedProcess
        var target: SimulatedProcess?
        private var continuation: UnsafeContinuation<SourceReply, any Error>?

        init(_ caller: SimulatedProcess, _ continuation: UnsafeContinuation<SourceReply, any Error>) {
            self.caller = caller
            self.continuation = continuation
        }

        var isOver: Bool { continuation == nil }

        func finish(_ result: Result<SourceReply, any Error>) {
            guard let continuation else { return }
            self.continuation = nil
            simulation.scheduler.run(as: caller) { continuation.resume(with: result) }
        }
    }

    static func unreachable(_ reason: String) -> MigrateError {
        MigrateError(.unreachable, code: MigrateCode.peerUnreachable, "the peer does not answer: \(reason)", remedy: "")
    }

    /// Makes a call to the other cluster; the answer, or that there was none in the call's time.
    func call(_ call: SourceCall, from node: Node, _ process: SimulatedProcess) async throws -> SourceReply {
        let box = ExchangeBox()
        return try await withTaskCancellationHandler {
            try await withUnsafeThrowingContinuation { continuation in
                let exchange = Exchange(process, continuation)
                box.exchange = exchange
                begin(exchange, call, from: node)
                if Task.isCancelled { exchange.finish(.failure(CancellationError())) }
            }
        } onCancel: {
            box.exchange?.finish(.failure(CancellationError()))
        }
    }

    private final class ExchangeBox: @unchecked Sendable {
        // Proof of Sendable: the simulator is one thread.
        var exchange: Exchange?
    }

    private func begin(_ exchange: Exchange, _ call: SourceCall, from node: Node) {
        let scheduler = simulation.scheduler
        exchanges.removeAll { $0.isOver }
        exchanges.append(exchange)
        let patience = call.request.patienceMilliseconds * 1_000_000
        scheduler.after(node.clock.worldNanoseconds(patience), in: exchange.caller) {
            exchange.finish(.failure(Self.unreachable("no answer in time")))
        }
        if breaks(from: node.index) {
            scheduler.after(delay(from: node.index), in: exchange.caller) {
                exchange.finish(.failure(Self.unreachable("the connection was reset")))
            }
        }
        let other = simulation.nodes[1 - node.index]
        let copies =
            directions[node.index].duplicateOneIn > 0 && generator.oneIn(directions[node.index].duplicateOneIn) ? 2 : 1
        for _ in 0..<copies {
            transmit(from: node.index, in: nil) { self.arrive(exchange, call, at: other) }
        }
    }

    private func arrive(_ exchange: Exchange, _ call: SourceCall, at node: Node) {
        guard let process = node.process, !process.isDead, let source = node.source, node.isUp else {
            return answer(exchange, from: node.index, .failure(Self.unreachable("connection refused")))
        }
        exchange.target = process
        simulation.trace("\(node.name) is asked \(call.request.shortName)")
        // A process that is stopped finds the call when it goes on.
        simulation.scheduler.after(0, in: process) {
            node.spawn {
                simulation.defects.asked(call, node)
                let result: Result<SourceReply, any Error>
                do { result = .success(try await source.send(call)) } catch { result = .failure(error) }
                if let failure = result.failure {
                    simulation.trace("\(node.name) refuses \(call.request.shortName): \(failure)")
                }
                self.answer(exchange, from: node.index, result)
            }
        }
    }

    private func answer(_ exchange: Exchange, from node: Int, _ result: Result<SourceReply, any Error>) {
        var result = breaks(from: node) ? .failure(Self.unreachable("the connection was reset")) : result
        // What is no answer of the protocol comes as a broken connection.
        if let failure = result.failure, !(failure is MigrateError) {
            result = .failure(Self.unreachable("the connection broke"))
        }
        let settled = result
        transmit(from: node, in: exchange.caller) { exchange.finish(settled) }
    }

    // MARK: Replication

    /// Serves replication of a node.
    func listen(_ node: Int, _ process: SimulatedProcess, _ source: ReplicationSource) {
        listeners[node] = (process, source)
    }

    /// Serves it no more.
    func endListening(_ node: Int) { listeners[node] = nil }

    /// Opens a link from a node to the other one; the caller waits.
    func connect(from node: Int, _ process: SimulatedProcess) throws(StorageError) -> LinkEnd {
        let scheduler = simulation.scheduler
        let other = 1 - node
        guard !directions[node].isCut, !directions[other].isCut else {
            scheduler.sleep(5_000_000_000)
            throw LinkEnd.ended("connect timed out")
        }
        scheduler.sleep(delay(from: node) + delay(from: other))
        guard let listener = listeners[other], !listener.process.isDead else {
            throw LinkEnd.ended("connection refused")
        }
        let link = Link(process, at: node, listener.process)
        links.removeAll { $0.isOver }
        links.append(link)
        let end = link.ends[other]
        scheduler.start(in: listener.process) { [source = listener.source] in source.serve(end) }
        link.watch()
        return link.ends[node]
    }

    /// Breaks every link of replication at once.
    func breakLinks() {
        for link in links where !link.isOver { link.ends.forEach { $0.end("the connection was reset") } }
    }

    /// A process has died: its machine resets its connections. When the machine died as well nobody says anything, and
    /// who waits for an answer waits as long as he will.
    func died(_ process: SimulatedProcess, at node: Int, withMachine: Bool) {
        if let listener = listeners[node], listener.process === process { listeners[node] = nil }
        for link in links where !link.isOver { link.died(process, withMachine: withMachine) }
        if withMachine { return }
        for exchange in exchanges where !exchange.isOver && exchange.target === process {
            answer(exchange, from: node, .failure(Self.unreachable("the connection was reset")))
        }
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
