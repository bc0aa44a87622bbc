import ClusterConfiguration
import GroupControl
import Identity
import MigrateOperation
import MigrateSource

/// A call that somebody waits for.
protocol AnyExchange: AnyObject {
    /// Nobody waits any more.
    var isOver: Bool { get }
    /// The process that works on it.
    var target: SimulatedProcess? { get }
    /// The machine of the one that works on it resets the connection.
    func reset()
}

/// A call from a node to another one, whoever waits for its answer, and what it is to fail.
private final class Exchange<Reply: Sendable>: AnyExchange, @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    let from: Node
    let to: Node
    let caller: SimulatedProcess
    let unreachable: @Sendable (String) -> MigrateError
    var target: SimulatedProcess?
    private var continuation: UnsafeContinuation<Reply, any Error>?

    init(
        from: Node,
        _ caller: SimulatedProcess,
        to: Node,
        _ unreachable: @escaping @Sendable (String) -> MigrateError,
        _ continuation: UnsafeContinuation<Reply, any Error>
    ) {
        self.from = from
        self.to = to
        self.caller = caller
        self.unreachable = unreachable
        self.continuation = continuation
    }

    var isOver: Bool { continuation == nil }

    func finish(_ result: Result<Reply, any Error>) {
        guard let continuation else { return }
        self.continuation = nil
        simulation.scheduler.run(as: caller) { continuation.resume(with: result) }
    }

    func fail(_ reason: String) { finish(.failure(unreachable(reason))) }

    func reset() { answer(.failure(unreachable("the connection was reset"))) }

    func answer(_ result: Result<Reply, any Error>) {
        let network = simulation.network
        var result = network.breaks(from: to, to: from) ? .failure(unreachable("the connection was reset")) : result
        // What is no answer of the protocol comes as a broken connection.
        if let failure = result.failure, !(failure is MigrateError) {
            result = .failure(unreachable("the connection broke"))
        }
        let settled = result
        network.transmit(from: to, to: from, in: caller) { self.finish(settled) }
    }
}

/// Where a call that was cut short finds its exchange.
private final class ExchangeBox<Reply: Sendable>: @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    var exchange: Exchange<Reply>?
}

extension Network {
    /// Nanoseconds after which a connection that nobody answers is given up.
    private static let connectNanoseconds: UInt64 = 2_000_000_000

    /// Makes a call to another node; the answer, or that there was none in the call's time. It may arrive twice.
    ///
    /// - Parameters:
    ///   - unreachable: the error of a call that was not answered, for a reason.
    ///   - serve: answers it at the other node.
    func exchange<Reply: Sendable>(
        _ name: String,
        from node: Node,
        _ process: SimulatedProcess,
        to other: Node,
        patienceMilliseconds: UInt64,
        unreachable: @escaping @Sendable (String) -> MigrateError,
        serve: @escaping @Sendable (Node) async throws -> Reply
    ) async throws -> Reply {
        let box = ExchangeBox<Reply>()
        return try await withTaskCancellationHandler {
            try await withUnsafeThrowingContinuation { continuation in
                let exchange = Exchange(from: node, process, to: other, unreachable, continuation)
                box.exchange = exchange
                begin(exchange, name, patienceMilliseconds, serve)
                if Task.isCancelled { exchange.finish(.failure(CancellationError())) }
            }
        } onCancel: {
            box.exchange?.finish(.failure(CancellationError()))
        }
    }

    private func begin<Reply: Sendable>(
        _ exchange: Exchange<Reply>,
        _ name: String,
        _ patienceMilliseconds: UInt64,
        _ serve: @escaping @Sendable (Node) async throws -> Reply
    ) {
        let scheduler = simulation.scheduler
        let (node, other) = (exchange.from, exchange.to)
        exchanges.removeAll { $0.isOver }
        exchanges.append(exchange)
        if node.cluster.isShared && isCut(from: node, to: other) {
            scheduler.after(Self.connectNanoseconds, in: exchange.caller) { exchange.fail("connect timed out") }
            return
        }
        scheduler.after(node.clock.worldNanoseconds(patienceMilliseconds * 1_000_000), in: exchange.caller) {
            exchange.fail("no answer in time")
        }
        if breaks(from: node, to: other) {
            scheduler.after(delay(from: node, to: other), in: exchange.caller) {
                exchange.fail("the connection was reset")
            }
        }
        let duplicateOneIn = direction(from: node, to: other).duplicateOneIn
        let copies = duplicateOneIn > 0 && generator.oneIn(duplicateOneIn) ? 2 : 1
        for _ in 0..<copies {
            transmit(from: node, to: other, in: nil) { self.arrive(exchange, name, serve) }
        }
    }

    private func arrive<Reply: Sendable>(
        _ exchange: Exchange<Reply>,
        _ name: String,
        _ serve: @escaping @Sendable (Node) async throws -> Reply
    ) {
        let node = exchange.to
        guard let process = node.process, !process.isDead, node.isUp else {
            return exchange.answer(.failure(exchange.unreachable("connection refused")))
        }
        exchange.target = process
        simulation.trace("\(node.name) is asked \(name)")
        // A process that is stopped finds the call when it goes on.
        simulation.scheduler.after(0, in: process) {
            node.spawn {
                let result: Result<Reply, any Error>
                do { result = .success(try await serve(node)) } catch { result = .failure(error) }
                if let failure = result.failure { simulation.trace("\(node.name) refuses \(name): \(failure)") }
                exchange.answer(result)
            }
        }
    }
}

/// The one peer of a cluster, as one process knows it.
final class SimulatedDirectory: SourceClusterDirectory, @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    private let node: Node
    private let process: SimulatedProcess
    /// The node of the peer that answered last.
    private var preferred: Node?

    init(node: Node, process: SimulatedProcess) {
        self.node = node
        self.process = process
    }

    func sourceCluster(peerName: String) async throws -> any SourceCluster {
        SimulatedPeer(directory: self, node: node, process: process)
    }

    /// The nodes of the peer, the one first that answered last. Their addresses are in its record: the peer tells them.
    fileprivate var endpoints: [Node] {
        let all = simulation.clusters[1 - node.cluster.index].nodes
        guard let preferred else { return all }
        return [preferred] + all.filter { $0 !== preferred }
    }

    fileprivate func answered(_ node: Node) { preferred = node }
}

/// The other cluster, over the simulated network: whoever of its nodes answers passes a call on to the one that it is for.
struct SimulatedPeer: SourceCluster, @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    let directory: SimulatedDirectory
    let node: Node
    let process: SimulatedProcess

    func send(_ call: SourceCall) async throws -> SourceReply {
        if let reply = simulation.defects.answerBeforeAsking(call) {
            node.spawn { _ = try? await sendToAny(call) }
            return reply
        }
        return try await sendToAny(call)
    }

    private func sendToAny(_ call: SourceCall) async throws -> SourceReply {
        var failure = Self.unreachable("it has no address")
        for endpoint in directory.endpoints {
            do {
                let reply = try await send(call, to: endpoint)
                directory.answered(endpoint)
                return reply
            } catch let error as MigrateError where error.kind == .unreachable {
                failure = error
            }
        }
        throw failure
    }

    private func send(_ call: SourceCall, to endpoint: Node) async throws -> SourceReply {
        try await simulation.network.exchange(
            call.request.shortName,
            from: node,
            process,
            to: endpoint,
            patienceMilliseconds: call.request.patienceMilliseconds,
            unreachable: Self.unreachable,
            serve: { other in
                simulation.defects.asked(call, other)
                guard let source = other.source else { throw CancellationError() }
                return try await source.send(call)
            }
        )
    }

    @Sendable private static func unreachable(_ reason: String) -> MigrateError {
        MigrateError(.unreachable, code: MigrateCode.peerUnreachable, "the peer does not answer: \(reason)", remedy: "")
    }
}

/// The nodes of the own cluster, over the simulated network.
struct SimulatedNodes: GroupNodeDirectory, @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    let node: Node
    let process: SimulatedProcess
    let own: GroupExecutor

    func node(_ uuid: ObjectUUID) async throws -> any GroupNode {
        if node.record?.uuid == uuid { return own }
        guard let other = node.cluster.nodes.first(where: { $0.record?.uuid == uuid }) else {
            throw MigrateError(.nodeAway, "node \(uuid) is not in this cluster", remedy: "")
        }
        return SimulatedGroupNode(node: node, process: process, other: other)
    }
}

/// Another node of the own cluster.
private struct SimulatedGroupNode: GroupNode, @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    let node: Node
    let process: SimulatedProcess
    let other: Node

    func send(_ call: GroupCall) async throws -> GroupReply {
        let step = "\(call.step)".prefix { $0 != "(" }
        let name = other.name
        return try await simulation.network.exchange(
            "to \(step)",
            from: node,
            process,
            to: other,
            patienceMilliseconds: call.step.patienceMilliseconds,
            unreachable: { MigrateError(.nodeAway, "node '\(name)' does not answer: \($0)", remedy: "") },
            serve: { other in
                guard let executor = other.executor else { throw CancellationError() }
                return try await executor.send(call)
            }
        )
    }
}
