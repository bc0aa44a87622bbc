import FileService
import Identity
import NFSServer
import NIOCore
import ONCRPC
import VolumeEngine

/// A connection of a client to the face of an SVM, or one of another node that forwards what a client sends. What becomes
/// of a request is decided by `NFSServer`, as in a daemon; what is done then is what NFSConnection does.
final class ClientConnection: @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    let client: ClientAddress
    let service: SimulatedService
    /// The LIF's that the client came to.
    let term: LIFTerm
    private(set) var isClosed = false
    /// Whether another node serves the LIF by now.
    private var isOvertaken = false
    /// When it answered first and last, by the clock of its node.
    private(set) var firstAnswer: UInt64?
    private(set) var lastAnswer: UInt64?
    /// The client's own connection, when another node forwards what comes over it.
    private let origin: ClientConnection?
    private let context: ClientContext
    private var held: [ByteBuffer] = []
    /// Requests for volumes that no node can be asked for at present.
    private var parked: [ByteBuffer] = []
    private var links: [InterconnectLink] = []
    private var forwardedCount = 0
    private var isPlaceCheckScheduled = false
    /// Answers that are on their way to the node that forwards.
    fileprivate(set) var underWayCount = 0
    private let onAnswer: (ByteBuffer) -> Void
    private let onClose: () -> Void
    /// How often it is looked whether what waits for another node should go elsewhere by now.
    private static let placeCheckNanoseconds: UInt64 = 100_000_000

    init(
        client: ClientAddress,
        service: SimulatedService,
        term: LIFTerm,
        for origin: ClientConnection? = nil,
        onAnswer: @escaping (ByteBuffer) -> Void,
        onClose: @escaping () -> Void
    ) {
        self.client = client
        self.service = service
        self.term = term
        self.origin = origin
        self.onAnswer = onAnswer
        self.onClose = onClose
        context = ClientContext(service: service.file, client: client, isForwarded: origin != nil)
    }

    private var gate: RequestGate { service.file.gate }

    /// Whether another node forwards what comes.
    var isForwarded: Bool { origin != nil }

    /// Whether the client has given up what it sent here.
    var isAbandoned: Bool { isClosed || origin?.isClosed == true }

    /// A record arrives at the server.
    func receive(_ record: ByteBuffer) {
        guard !isClosed else { return }
        simulation.scheduler.start(in: service.process) { [self] in admit(record) }
    }

    private func admit(_ record: ByteBuffer) {
        // The node that forwards must not wait for what is dropped.
        guard !isAbandoned else { return closeByServer() }
        if isOvertaken { return }
        guard gate.enter() else {
            if gate.current == .held { held.append(record) }
            return
        }
        simulation.invariants.admitted(service)
        refresh()
        let context = ClientContext(copying: context)
        context.refresh()
        var output = ByteBuffer()
        let outcome = NFSServer.execute(record, context, .blocking, isClaimed: false, into: &output) { [self] cached in
            var reply = ByteBuffer()
            let start = RecordMarking.begin(in: &reply)
            reply.writeBytes(cached.bytes)
            RecordMarking.finish(from: start, in: &reply)
            let answer = reply
            gate.rejoin()
            if let volume = cached.volume {
                volume.whenDurable(cached.ticket) { [self] _ in complete(answer) }
            } else {
                complete(answer)
            }
        }
        let answer = output
        switch outcome {
        case .answered: complete(answer)
        case .answeredWhenDurable(let volume, let ticket): volume.whenDurable(ticket) { [self] _ in complete(answer) }
        case .elsewhere(let target): forward(record, to: target)
        case .misdirected:
            gate.leave()
            closeByServer()
        case .wouldBlock, .none, .malformed: gate.leave()
        }
    }

    private func complete(_ answer: ByteBuffer) {
        lastAnswer = service.node.clock.monotonic
        firstAnswer = firstAnswer ?? lastAnswer
        if !isClosed { onAnswer(answer) }
        gate.leave()
    }

    /// The gate was opened.
    func runHeld() {
        let records = held
        held = []
        for record in records { receive(record) }
    }

    // MARK: Other nodes

    /// Takes a new namespace over; links to nodes that it does not name any more end when all is answered.
    private func refresh() {
        guard !links.isEmpty, context.refresh() else { return }
        let targets = context.forwardingTargets
        for link in links where !targets.contains(link.target) { link.endWhenAnswered() }
    }

    private func forward(_ record: ByteBuffer, to target: ForwardingTarget?) {
        guard !isClosed else { return gate.leave() }
        schedulePlaceCheck()
        guard let target else { return park(record) }
        forwardedCount += 1
        gate.beginForwarding()
        links.removeAll(where: \.isEnded)
        let known = links.first { $0.target == target }
        let link = known ?? InterconnectLink(self, to: target)
        if known == nil { links.append(link) }
        link.send(record)
    }

    /// Whether an answer of another node has come that was not passed on.
    var hasUntakenAnswers: Bool { links.contains { $0.untakenCount > 0 } }

    /// Whether an answer has not come yet to the node that forwards, which lives.
    var hasUnheardAnswers: Bool { underWayCount > 0 && !isClosed && origin?.service.process.isDead == false }

    /// Another node has answered.
    func takeForwarded(_ answer: ByteBuffer) {
        forwardedCount -= 1
        gate.endForwarding()
        complete(answer)
    }

    /// Another node has not answered and will not.
    func takeLost(_ record: ByteBuffer) {
        forwardedCount -= 1
        gate.endForwarding()
        park(record)
    }

    private func park(_ record: ByteBuffer) {
        gate.leave()
        guard !isClosed else { return }
        parked.append(record)
        schedulePlaceCheck()
    }

    private func schedulePlaceCheck() {
        guard !isPlaceCheckScheduled, !isClosed else { return }
        isPlaceCheckScheduled = true
        simulation.scheduler.after(Self.placeCheckNanoseconds, in: service.process) { [self] in checkPlaces() }
    }

    private func checkPlaces() {
        isPlaceCheckScheduled = false
        guard !isClosed else { return }
        refresh()
        let records = parked
        parked = []
        for record in records { receive(record) }
        if forwardedCount > 0 { schedulePlaceCheck() }
    }

    /// Begins nothing more, and ends.
    func overtake() {
        isOvertaken = true
        simulation.scheduler.after(Self.overtakenNanoseconds, in: service.process) { [self] in closeByServer() }
    }

    private static let overtakenNanoseconds: UInt64 = 200_000_000

    // MARK: The end

    /// The server or its machine closes the connection.
    func closeByServer() { ended(isSilent: false) }

    /// The connection is over on this side.
    ///
    /// - Parameter isSilent: whether the other side is told nothing, since the machine has died.
    func ended(isSilent: Bool) {
        guard !isClosed else { return }
        finish()
        if !isSilent { onClose() }
    }

    /// The client has gone; nobody waits for answers any more.
    func closeByClient() { finish() }

    private func finish() {
        isClosed = true
        held = []
        parked = []
        for link in links { link.endWhenAnswered() }
        links = []
    }
}

/// A link of one client's connection to a node that holds what it asks for: what ForwardingLink, the handshake and the
/// acceptor of the other node do together.
final class InterconnectLink: @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    let target: ForwardingTarget
    private let owner: ClientConnection
    private let other: Node?
    private var remote: ClientConnection?
    /// The same, as soon as the other side has it.
    private var accepted: ClientConnection?
    /// Answers that have come to this node's machine and not to its daemon.
    private(set) var untakenCount = 0
    private var outstanding: [(xid: UInt32, record: ByteBuffer)] = []
    private var unsent: [ByteBuffer] = []
    private var isEnding = false
    private(set) var isEnded = false
    private var lastArrival: [UInt64] = [0, 0]
    private var lastHeard = simulation.scheduler.now
    /// Nanoseconds within which a connection is made or given up, and after which silence is an end.
    private static let connectNanoseconds: UInt64 = 1_000_000_000
    private static let silenceNanosecondsMax: UInt64 = 5_000_000_000

    init(_ owner: ClientConnection, to target: ForwardingTarget) {
        self.owner = owner
        self.target = target
        other = simulation.nodes.first { $0.address == target.address }
        connect()
    }

    private var node: Node { owner.service.node }

    private func connect() {
        guard let other else { return later { self.end() } }
        toOther { [self] in
            guard let process = other.process, !process.isDead,
                let service = simulation.services.first(where: {
                    $0.process === process && $0.file.svm == owner.service.file.svm
                })
            else { return toOwner { self.end() } }
            // A process that is stopped accepts when it goes on.
            simulation.scheduler.after(0, in: process) { [self] in accept(service) }
        }
        simulation.scheduler.after(Self.connectNanoseconds, in: owner.service.process) { [self] in
            if remote == nil { end() }
        }
        watch()
    }

    private func accept(_ service: SimulatedService) {
        guard !isEnded, remote == nil else { return }
        guard service.admit(owner.term) else { return toOwner { self.end() } }
        let connection = ClientConnection(
            client: owner.client,
            service: service,
            term: owner.term,
            for: owner,
            onAnswer: { [self] answer in passOn(answer) },
            onClose: { [self] in toOwner { self.end() } }
        )
        accepted = connection
        service.accept(connection)
        toOwner { [self] in
            guard !isEnded else { return connection.closeByClient() }
            remote = connection
            let records = unsent
            unsent = []
            for record in records { deliver(record) }
        }
    }

    /// Sends a request, as soon as the link is open.
    func send(_ record: ByteBuffer) {
        guard !isEnded else { return owner.takeLost(record) }
        isEnding = false
        outstanding.append((record.getInteger(at: record.readerIndex, as: UInt32.self) ?? 0, record))
        if remote == nil { unsent.append(record) } else { deliver(record) }
    }

    private func deliver(_ record: ByteBuffer) { toOther { self.remote?.receive(record) } }

    /// Brings an answer to the node that forwards; its machine acknowledges it even while the daemon stands still.
    private func passOn(_ answer: ByteBuffer) {
        guard let other else { return }
        let connection = remote ?? accepted
        connection?.underWayCount += 1
        ordered(1, other, node, nil) { [self] in
            connection?.underWayCount -= 1
            untakenCount += 1
            later {
                self.untakenCount -= 1
                self.answered(answer)
            }
        }
    }

    private func answered(_ answer: ByteBuffer) {
        guard !isEnded else { return }
        let xid = answer.getInteger(at: answer.readerIndex + 4, as: UInt32.self)
        guard let index = outstanding.firstIndex(where: { $0.xid == xid }) else { return end() }
        outstanding.remove(at: index)
        owner.takeForwarded(answer)
        if isEnding && outstanding.isEmpty { end() }
    }

    /// Ends the link once everything is answered: the node that has executed a request is the only one that knows the
    /// answer.
    func endWhenAnswered() {
        isEnding = true
        if outstanding.isEmpty { end() }
    }

    private func end() {
        guard !isEnded else { return }
        isEnded = true
        if let remote { toOther { remote.closeByClient() } }
        let records = outstanding.map(\.record)
        outstanding = []
        for record in records { owner.takeLost(record) }
    }

    /// Notices a node that has vanished without a word.
    private func watch() {
        simulation.scheduler.after(1_000_000_000, in: owner.service.process) { [self] in
            guard !isEnded, let other else { return }
            let network = simulation.network
            let isSilent =
                network.isCut(from: node, to: other) || network.isCut(from: other, to: node)
                || remote?.service.process.hasLostMachine == true
            let now = simulation.scheduler.now
            if !isSilent { lastHeard = now }
            if now - lastHeard >= Self.silenceNanosecondsMax { return end() }
            watch()
        }
    }

    // MARK: Messages

    private func later(_ body: @escaping () -> Void) {
        simulation.scheduler.after(0, in: owner.service.process, body)
    }

    /// Brings something to the other node, behind all that was sent before.
    private func toOther(_ body: @escaping () -> Void) {
        if let other { ordered(0, node, other, nil, body) }
    }

    private func toOwner(_ body: @escaping () -> Void) {
        if let other { ordered(1, other, node, owner.service.process, body) }
    }

    private func ordered(
        _ way: Int,
        _ from: Node,
        _ to: Node,
        _ process: SimulatedProcess?,
        _ body: @escaping () -> Void
    ) {
        let now = simulation.scheduler.now
        let arrival = max(now + simulation.network.delay(from: from, to: to), lastArrival[way] + 1)
        lastArrival[way] = arrival
        simulation.network.transmit(from: from, to: to, at: arrival, in: process, body)
    }
}
