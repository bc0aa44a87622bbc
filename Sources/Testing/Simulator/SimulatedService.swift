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
    private var terms: [NetworkEndpoint: LIFTerm] = [:]
    private var fence = ForwardingFence()
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
        simulation.invariants.gatesChanged()
    }

    private static func key(_ svm: SVMRecord) -> SipHashKey {
        SipHashKey(first: svm.handleKey.first, second: svm.handleKey.second)
    }

    /// Whether requests that come now are executed here.
    var isExecuting: Bool {
        guard !process.isDead, file.gate.current == .open else { return false }
        return !node.cluster.isShared || !volumes.isEmpty
    }

    /// The volumes whose requests it executes while its gate is open.
    private(set) var volumes: [VolumeMSID] = []

    // MARK: ClientService

    func configure(_ configuration: ServiceConfiguration) {
        fence.learn(configuration.terms)
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
        let remotes = configuration.remotes.compactMap { record, node in
            record.junctionPath.map {
                RemoteVolume(msid: record.msid, path: $0, policy: policy, target: node.flatMap(Self.target))
            }
        }
        file.configure(handleKey: Self.key(configuration.svm), volumes: volumes, remotes: remotes)
        self.volumes = volumes.map(\.volume.msid)
        simulation.invariants.gatesChanged()
    }

    private static func target(_ node: NodeRecord) -> ForwardingTarget? {
        guard let endpoint = node.interconnect, let secret = node.interconnectSecret else { return nil }
        return ForwardingTarget(address: endpoint.address, port: endpoint.port, secret: [UInt8](secret.utf8))
    }

    func term(at endpoint: NetworkEndpoint) -> LIFTerm? { terms[endpoint] }

    func bind(_ endpoint: NetworkEndpoint, on link: String?, for term: LIFTerm) async throws {
        _ = admit(term)
        for connection in connections where !connection.isForwarded && connection.term.lif == term.lif {
            if connection.term != term { connection.closeByServer() }
        }
        terms[endpoint] = term
        if !boundEndpoints.contains(endpoint) { boundEndpoints.append(endpoint) }
        simulation.trace("\(node.name) listens on \(endpoint)")
    }

    func unbind(_ endpoint: NetworkEndpoint) async {
        guard boundEndpoints.contains(endpoint) else { return }
        boundEndpoints.removeAll { $0 == endpoint }
        terms[endpoint] = nil
        simulation.trace("\(node.name) no longer listens on \(endpoint)")
        for connection in connections where !connection.isForwarded { connection.closeByServer() }
        connections.removeAll(where: \.isClosed)
    }

    func hold() {
        simulation.trace("\(node.name) holds its gate")
        file.gate.move(to: .held)
        simulation.invariants.gatesChanged()
    }

    func drained(withinMilliseconds milliseconds: UInt64) async -> Bool {
        let deadline = node.clock.monotonic + milliseconds * 1_000_000
        while file.gate.inside > 0 {
            guard node.clock.monotonic < deadline else { return false }
            await simulation.delay(200_000, process)
        }
        return true
    }

    func executed(withinMilliseconds milliseconds: UInt64) async -> Bool {
        let deadline = node.clock.monotonic + milliseconds * 1_000_000
        while file.gate.executing > 0 || connections.contains(where: \.hasUnheardAnswers) {
            guard node.clock.monotonic < deadline else { return false }
            await simulation.delay(200_000, process)
        }
        return true
    }

    func answered(withinMilliseconds milliseconds: UInt64) async -> Bool {
        let deadline = node.clock.monotonic + milliseconds * 1_000_000
        while connections.contains(where: \.hasUntakenAnswers) {
            guard node.clock.monotonic < deadline else { return false }
            await simulation.delay(200_000, process)
        }
        return true
    }

    var executingCount: Int { file.gate.executing }

    func reopen() {
        simulation.trace("\(node.name) opens its gate")
        file.gate.move(to: .open)
        simulation.invariants.gatesChanged()
        for connection in connections { connection.runHeld() }
    }

    func close() async {
        file.gate.move(to: .closed)
        simulation.invariants.gatesChanged()
        for endpoint in boundEndpoints { await unbind(endpoint) }
        for connection in connections { connection.closeByServer() }
        connections = []
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

    /// Its process has died: the machine resets the connections, unless it died as well.
    func died() {
        for connection in connections {
            connection.ended(isSilent: node.cluster.isShared && process.hasLostMachine)
        }
        connections = []
    }

    /// Ends what other nodes forward from earlier terms of a LIF; false when this is one of those.
    func admit(_ term: LIFTerm) -> Bool {
        switch fence.admit(term) {
        case .refused: return false
        case .admitted: return true
        case .admittedAsFirst:
            for connection in connections where connection.isForwarded && fence.isOver(connection.term) {
                connection.overtake()
            }
            return true
        }
    }

    /// The term of the LIF that a client comes to.
    var servedTerm: LIFTerm? { boundEndpoints.first.flatMap { terms[$0] } }

    /// A client connects, or another node in its name.
    func accept(_ connection: ClientConnection) {
        connections.removeAll { $0.isClosed }
        // A client that connects anew has given its old connection up; what came over that and has not begun is dropped.
        for old in connections where old.client == connection.client && old.isForwarded == connection.isForwarded {
            if !connection.isForwarded || old.isAbandoned { old.closeByServer() }
        }
        connections.append(connection)
    }
}
