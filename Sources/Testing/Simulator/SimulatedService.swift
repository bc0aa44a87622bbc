import Bytes
import ClusterConfiguration
import Environment
import FileService
import Identity
import Replication
import NFSServer
import NIOCore
import ONCRPC
import StorageControl
import VolumeEngine

/// The face of an SVM to the simulated clients: the production's gate, duplicate request cache, namespace and procedures
/// behind connections that are lists of records.
final class SimulatedService: ClientService, @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    let file: SVMFileService
    let node: Node
    let process: SimulatedProcess
    /// Tells this face from one before it.
    private let face: UInt64
    private(set) var boundEndpoints: [NetworkEndpoint] = []
    private var connections: [ClientConnection] = []

    var connectionCount: Int { connections.count { !$0.isClosed } }

    var answerAges: [ClientAnswers] {
        let now = node.clock.monotonic
        return connections.compactMap { connection in
            guard let first = connection.firstAnswer, let last = connection.lastAnswer else { return nil }
            return ClientAnswers(
                client: "\(connection.client):\(connection.client.rawValue & 0xffff)",
                firstMicroseconds: (now - first) / 1_000,
                lastMicroseconds: (now - last) / 1_000
            )
        }
    }

    init(_ svm: SVMRecord, node: Node, process: SimulatedProcess) {
        self.node = node
        self.process = process
        face = node.environment.randomBits()
        file = SVMFileService(svm: svm.uuid, handleKey: Self.key(svm))
        simulation.services.append(self)
    }

    private static func key(_ svm: SVMRecord) -> SipHashKey {
        SipHashKey(first: svm.handleKey.first, second: svm.handleKey.second)
    }

    /// Whether a request that comes now would be executed.
    var isServing: Bool { !process.isDead && file.gate.current == .open && !boundEndpoints.isEmpty }

    // MARK: ClientService

    func configure(_ configuration: ServiceConfiguration) {
        let policy = ExportPolicy(rules: [
            FileService.ExportRule(
                clients: [ClientMatch("0.0.0.0/0")!],
                allowsRead: true,
                allowsWrite: true,
                allowsSuperuser: true
            )
        ])
        let volumes = configuration.volumes.compactMap { record, volume in
            record.junctionPath.map { ExportedVolume(volume: volume, path: $0, policy: policy) }
        }
        file.configure(handleKey: Self.key(configuration.svm), volumes: volumes)
    }

    func bind(_ endpoint: NetworkEndpoint, on link: String?) async throws {
        if !boundEndpoints.contains(endpoint) { boundEndpoints.append(endpoint) }
        simulation.trace("\(node.name) listens on \(endpoint)")
    }

    func unbind(_ endpoint: NetworkEndpoint) async {
        guard boundEndpoints.contains(endpoint) else { return }
        boundEndpoints.removeAll { $0 == endpoint }
        simulation.trace("\(node.name) no longer listens on \(endpoint)")
        for connection in connections { connection.closeByServer() }
        connections = []
    }

    func hold() {
        simulation.trace("\(node.name) holds its gate")
        file.gate.move(to: .held)
    }

    func drained(withinMilliseconds milliseconds: UInt64) async -> Bool {
        let deadline = node.clock.monotonic + milliseconds * 1_000_000
        while file.gate.inside > 0 {
            guard node.clock.monotonic < deadline else { return false }
            await simulation.delay(200_000, process)
        }
        return true
    }

    var executingCount: Int { file.gate.inside }

    func reopen() {
        simulation.trace("\(node.name) opens its gate")
        file.gate.move(to: .open)
        for connection in connections { connection.runHeld() }
    }

    func close() async {
        file.gate.move(to: .closed)
        for endpoint in boundEndpoints { await unbind(endpoint) }
        simulation.services.removeAll { $0 === self }
    }

    func exportProtocolState(since marks: [ProtocolStateMark]) -> (state: [UInt8], mark: ProtocolStateMark) {
        let since = marks.first { $0.face == face }?.position ?? 0
        let (state, addedCount) = file.duplicateRequests.export(since: since)
        return (state, ProtocolStateMark(face: face, position: addedCount))
    }

    func importProtocolState(_ state: [UInt8]) throws {
        if !state.isEmpty { try file.duplicateRequests.import(state) }
    }

    // MARK: Connections

    /// Its process has died: the machine resets the connections.
    func died() {
        for connection in connections { connection.closeByServer() }
        connections = []
    }

    /// A client connects.
    func accept(_ connection: ClientConnection) {
        connections.removeAll { $0.isClosed }
        // A client that connects anew has given its old connection up; what came over that and has not begun is dropped.
        for old in connections where old.client == connection.client { old.closeByServer() }
        connections.append(connection)
    }
}

/// A connection of a client to the face of an SVM.
final class ClientConnection: @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    let client: ClientAddress
    let service: SimulatedService
    private(set) var isClosed = false
    /// When it answered first and last, by the clock of its node.
    private(set) var firstAnswer: UInt64?
    private(set) var lastAnswer: UInt64?
    private let context: ClientContext
    private var held: [ByteBuffer] = []
    private let onAnswer: (ByteBuffer) -> Void
    private let onClose: () -> Void

    init(
        client: ClientAddress,
        service: SimulatedService,
        onAnswer: @escaping (ByteBuffer) -> Void,
        onClose: @escaping () -> Void
    ) {
        self.client = client
        self.service = service
        self.onAnswer = onAnswer
        self.onClose = onClose
        context = ClientContext(service: service.file, client: client)
    }

    private var gate: RequestGate { service.file.gate }

    /// A record arrives at the server.
    func receive(_ record: ByteBuffer) {
        guard !isClosed else { return }
        simulation.scheduler.start(in: service.process) { [self] in admit(record) }
    }

    private func admit(_ record: ByteBuffer) {
        guard !isClosed else { return }
        guard gate.enter() else {
            if gate.current == .held { held.append(record) }
            return
        }
        simulation.invariants.admitted(service)
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
        case .elsewhere, .misdirected: preconditionFailure("a simulated cluster has one node")
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

    /// The server or its machine closes the connection.
    func closeByServer() {
        guard !isClosed else { return }
        isClosed = true
        held = []
        onClose()
    }

    /// The client has gone; nobody waits for answers any more.
    func closeByClient() {
        isClosed = true
        held = []
    }
}
