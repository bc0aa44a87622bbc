import Bytes
import ClusterConfiguration
import Environment
import FileService
import Foundation
import HostNetwork
import Identity
import Logging
import NetworkModule
import Replication
import StorageControl
import Synchronization

/// The face of an SVM to NFS clients: what the controller wants, done with the rooms of the data plane.
final class NFSClientService: ClientService {
    private let service: SVMFileService
    /// What other nodes forward to this one.
    let forwarded: ForwardedConnections
    private let threads: NetworkThreads
    private let environment: Environment
    private let logger: Logger
    /// What marks of exports are told apart by.
    private let face: UInt64
    private let network: (any HostNetwork)?
    private let listening = Mutex(Listening())

    private struct Bound {
        var listener: NFSListener
        /// Nil for an address of the loopback.
        var link: String?
    }

    private struct Listening {
        var bound: [NetworkEndpoint: Bound] = [:]
        /// The connections of addresses that are frozen or have left.
        var frozen: [NetworkEndpoint: [TransportConnection]] = [:]
        /// The connections that addresses had where they come from.
        var expected: Set<TransportConnection> = []
    }

    /// - Parameter network: the network of the host; nil serves addresses of the loopback only.
    init(
        _ svm: SVMRecord,
        threads: NetworkThreads,
        network: (any HostNetwork)?,
        environment: Environment,
        logger: Logger
    ) {
        self.network = network
        service = SVMFileService(svm: svm.uuid, handleKey: Self.key(svm))
        forwarded = ForwardedConnections(service: service) { term in
            logger.notice(
                "a node that has lost LIF \(term.lif) of SVM '\(svm.name)' still forwards requests for it: refused (term \(term.number))"
            )
        }
        self.threads = threads
        self.environment = environment
        face = environment.randomBits()
        self.logger = logger
    }

    private static func key(_ svm: SVMRecord) -> SipHashKey {
        SipHashKey(first: svm.handleKey.first, second: svm.handleKey.second)
    }

    // MARK: Configuration

    func configure(_ configuration: ServiceConfiguration) {
        forwarded.learn(configuration.terms)
        let policies = Dictionary(
            configuration.exportPolicies.map { ($0.name, Self.policy($0)) },
            uniquingKeysWith: { first, _ in first }
        )
        let volumes = configuration.volumes.compactMap { record, volume in
            record.junctionPath.map { path in
                // A policy that is missing lets nobody in.
                ExportedVolume(
                    volume: volume,
                    path: path,
                    policy: policies[record.exportPolicy] ?? ExportPolicy(rules: [])
                )
            }
        }
        let remotes = configuration.remotes.compactMap { record, node in
            record.junctionPath.map { path in
                RemoteVolume(
                    msid: record.msid,
                    path: path,
                    policy: policies[record.exportPolicy] ?? ExportPolicy(rules: []),
                    target: node.flatMap(Self.target)
                )
            }
        }
        let unreachable = service.configure(
            handleKey: Self.key(configuration.svm),
            volumes: volumes,
            remotes: remotes
        )
        for path in unreachable {
            logger.warning(
                "the junction \(path) cannot be reached: its parent directory does not exist in the volume above"
            )
        }
    }

    private static func target(_ node: NodeRecord) -> ForwardingTarget? {
        guard let endpoint = node.interconnect, let secret = node.interconnectSecret else { return nil }
        return ForwardingTarget(address: endpoint.address, port: endpoint.port, secret: [UInt8](secret.utf8))
    }

    private static func policy(_ record: ExportPolicyRecord) -> ExportPolicy {
        func includesSystem(_ securities: [ExportSecurity]) -> Bool {
            securities.contains(.any) || securities.contains(.sys)
        }
        let rules = record.rules.sorted { $0.index < $1.index }.map { rule in
            FileService.ExportRule(
                clients: rule.clients.compactMap(ClientMatch.init),
                allowsRead: includesSystem(rule.readOnlyRule),
                allowsWrite: includesSystem(rule.readWriteRule),
                allowsSuperuser: includesSystem(rule.superuser),
                anonymousUser: rule.anonymousUser
            )
        }
        return ExportPolicy(rules: rules)
    }

    // MARK: Listening

    var boundEndpoints: [NetworkEndpoint] {
        listening.withLock { $0.bound.keys.sorted { ($0.address, $0.port) < ($1.address, $1.port) } }
    }

    private var listeners: [NFSListener] { listening.withLock { $0.bound.values.map(\.listener) } }

    var connectionCount: Int { listeners.reduce(0) { $0 + $1.connectionCount } }

    var answerAges: [ClientAnswers] {
        listeners.flatMap(\.answerAges).map { ages in
            ClientAnswers(
                client: ages.client,
                firstMicroseconds: ages.firstMicroseconds,
                lastMicroseconds: ages.lastMicroseconds
            )
        }
    }

    func term(at endpoint: NetworkEndpoint) -> LIFTerm? { listening.withLock { $0.bound[endpoint]?.listener.term } }

    func bind(_ endpoint: NetworkEndpoint, on link: String?, for term: LIFTerm) async throws {
        // What other nodes forwarded before the LIF came here is old by the first request that comes here.
        _ = forwarded.admit(term)
        let bound = listening.withLock { state in
            state.bound[endpoint]?.link = link
            return state.bound[endpoint]
        }
        if let bound { return bound.listener.begin(term) }
        do {
            // Shared, so that at a cutover on one machine the other cluster's daemon may listen before this one stops. An
            // address with a link is on one host at a time.
            let listener = try await NFSListener.bind(
                address: endpoint.address,
                port: endpoint.port,
                service: service,
                term: term,
                threads: threads,
                environment: environment,
                isShared: link == nil,
                isAddressAwaited: link != nil
            )
            listening.withLock { $0.bound[endpoint] = Bound(listener: listener, link: link) }
        } catch {
            throw ManagementError(
                .conflict,
                "address_in_use",
                "\(endpoint) cannot be listened on: \(error)",
                remedy: "free the port, or give the LIF another address or port"
            )
        }
    }

    func unbind(_ endpoint: NetworkEndpoint) async {
        guard let bound = listening.withLock({ $0.bound.removeValue(forKey: endpoint) }) else { return }
        await bound.listener.close()
    }

    // MARK: Addresses with a link

    func arrive(at endpoint: NetworkEndpoint) {
        let (bound, known) = listening.withLock { state in
            let known = state.expected.filter { $0.isAt(endpoint) }
            state.expected.subtract(known)
            return (state.bound[endpoint], known.sorted { ($0.remote, $0.remotePort) < ($1.remote, $1.remotePort) })
        }
        guard let bound, let link = bound.link, let network else { return }
        let logger = logger
        bound.listener.arrive(network, on: link, known: known) { error in
            logger.error("clients are not told that \(endpoint) is here: \(error)")
        }
    }

    func freeze(_ endpoints: [NetworkEndpoint]) async {
        for endpoint in endpoints {
            guard let bound = listening.withLock({ $0.bound[endpoint] }), bound.link != nil else { continue }
            await bound.listener.freeze()
            let connections = bound.listener.connections
            listening.withLock { $0.frozen[endpoint] = connections }
        }
    }

    func abandon(_ endpoint: NetworkEndpoint) async {
        guard let bound = listening.withLock({ $0.bound.removeValue(forKey: endpoint) }) else { return }
        await bound.listener.abandon()
    }

    func connections(at endpoint: NetworkEndpoint) -> [TransportConnection] {
        let (bound, frozen) = listening.withLock { ($0.bound[endpoint], $0.frozen[endpoint]) }
        if let frozen { return frozen }
        guard let bound, bound.link != nil else { return [] }
        return bound.listener.connections
    }

    func expect(_ connections: [TransportConnection]) { listening.withLock { $0.expected.formUnion(connections) } }

    func close() async {
        service.gate.move(to: .closed)
        for endpoint in boundEndpoints { await unbind(endpoint) }
        forwarded.close()
    }

    // MARK: Gate

    func hold() { service.gate.move(to: .held) }

    func drained(withinMilliseconds milliseconds: UInt64) async -> Bool {
        let deadline = environment.monotonicNanoseconds() + milliseconds * 1_000_000
        while service.gate.inside > 0 {
            guard environment.monotonicNanoseconds() < deadline else { return false }
            try? await Task.sleep(nanoseconds: 200_000)
        }
        for listener in listeners {
            guard await listener.flushed(deadline: deadline, environment: environment) else { return false }
        }
        return true
    }

    func executed(withinMilliseconds milliseconds: UInt64) async -> Bool {
        let deadline = environment.monotonicNanoseconds() + milliseconds * 1_000_000
        for listener in listeners { listener.acknowledgeAnswers() }
        while service.gate.executing > 0 {
            guard environment.monotonicNanoseconds() < deadline else { return false }
            try? await Task.sleep(nanoseconds: 200_000)
        }
        return await forwarded.flushed(deadline: deadline, environment: environment)
    }

    func answered(withinMilliseconds milliseconds: UInt64) async -> Bool {
        let deadline = environment.monotonicNanoseconds() + milliseconds * 1_000_000
        for listener in listeners {
            guard await listener.tookAnswers(deadline: deadline, environment: environment),
                await listener.flushed(deadline: deadline, environment: environment)
            else { return false }
        }
        return true
    }

    var executingCount: Int { service.gate.executing }

    func reopen() {
        service.gate.move(to: .open)
        let frozen = listening.withLock { state in
            defer { state.frozen = [:] }
            return state.frozen.keys.compactMap { state.bound[$0]?.listener }
        }
        for listener in frozen { listener.thaw() }
        for listener in listeners { listener.runHeld() }
        forwarded.runHeld()
    }

    // MARK: Protocol state

    func exportProtocolState(since marks: [ProtocolStateMark]) -> (state: [UInt8], mark: ProtocolStateMark) {
        let since = marks.first { $0.face == face }?.position ?? 0
        let (replies, addedCount) = service.duplicateRequests.export(since: since)
        let endpoints = listening.withLock { Set($0.bound.keys).union($0.frozen.keys) }
        let state = ProtocolState(replies: replies, connections: endpoints.flatMap { connections(at: $0) })
        return (state.bytes, ProtocolStateMark(face: face, position: addedCount))
    }

    func importProtocolState(_ state: [UInt8]) throws {
        if state.isEmpty { return }
        do {
            let state = try ProtocolState(state)
            try service.duplicateRequests.import(state.replies)
            // Those of all nodes of the source; one that has ended since is woken in vain.
            listening.withLock { $0.expected.formUnion(state.connections) }
        } catch {
            throw ManagementError(
                .failed,
                "protocol_state_damaged",
                "the protocol state of the SVM cannot be taken over: \(error)",
                remedy: "let the operation return to its transfer phase and try the cutover again"
            )
        }
    }
}

extension TransportConnection {
    /// Whether its own end is a LIF's.
    fileprivate func isAt(_ endpoint: NetworkEndpoint) -> Bool {
        Int(localPort) == endpoint.port && local == HostAddress(endpoint.address)
    }
}
