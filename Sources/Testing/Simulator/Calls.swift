import MigrateOperation

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

    // MARK: Between clusters

    /// Makes a call to the other cluster.
    func call(_ call: SourceCall, from node: Node, _ process: SimulatedProcess) async throws -> SourceReply {
        try await exchange(
            call.request.shortName,
            from: node,
            process,
            to: simulation.clusters[1 - node.cluster.index].contact,
            patienceMilliseconds: call.request.patienceMilliseconds,
            unreachable: { reason in
                MigrateError(
                    .unreachable,
                    code: MigrateCode.peerUnreachable,
                    "the peer does not answer: \(reason)",
                    remedy: ""
                )
            },
            serve: { other in
                simulation.defects.asked(call, other)
                guard let source = other.source else { throw CancellationError() }
                return try await source.send(call)
            }
        )
    }
}
