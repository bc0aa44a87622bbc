import Bytes
import ClusterConfiguration
import Environment
import FileService
import Foundation
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
    private let listeners = Mutex<[NetworkEndpoint: NFSListener]>([:])

    init(_ svm: SVMRecord, threads: NetworkThreads, environment: Environment, logger: Logger) {
        service = SVMFileService(svm: svm.uuid, handleKey: Self.key(svm))
        forwarded = ForwardedConnections(service: service)
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
        listeners.withLock { $0.keys.sorted { ($0.address, $0.port) < ($1.address, $1.port) } }
    }

    var connectionCount: Int { listeners.withLock { $0.values.reduce(0) { $0 + $1.connectionCount } } }

    var answerAges: [ClientAnswers] {
        listeners.withLock { $0.values.flatMap(\.answerAges) }.map { ages in
            ClientAnswers(
                client: ages.client,
                firstMicroseconds: ages.firstMicroseconds,
                lastMicroseconds: ages.lastMicroseconds
            )
        }
    }

    func bind(_ endpoint: NetworkEndpoint) async throws {
        if listeners.withLock({ $0[endpoint] != nil }) { return }
        do {
            // Shared, so that at a cutover on one machine the other cluster's daemon may listen before this one stops.
            let listener = try await NFSListener.bind(
                address: endpoint.address,
                port: endpoint.port,
                service: service,
                threads: threads,
                environment: environment,
                isShared: true
            )
            listeners.withLock { $0[endpoint] = listener }
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
        guard let listener = listeners.withLock({ $0.removeValue(forKey: endpoint) }) else { return }
        await listener.close()
    }

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
        for listener in listeners.withLock({ Array($0.values) }) {
            guard await listener.flushed(deadline: deadline, environment: environment) else { return false }
        }
        return true
    }

    func executed(withinMilliseconds milliseconds: UInt64) async -> Bool {
        let deadline = environment.monotonicNanoseconds() + milliseconds * 1_000_000
        while service.gate.executing > 0 {
            guard environment.monotonicNanoseconds() < deadline else { return false }
            try? await Task.sleep(nanoseconds: 200_000)
        }
        return await forwarded.flushed(deadline: deadline, environment: environment)
    }

    func answered(withinMilliseconds milliseconds: UInt64) async -> Bool {
        let deadline = environment.monotonicNanoseconds() + milliseconds * 1_000_000
        for listener in listeners.withLock({ Array($0.values) }) {
            guard await listener.tookAnswers(deadline: deadline, environment: environment),
                await listener.flushed(deadline: deadline, environment: environment)
            else { return false }
        }
        return true
    }

    var executingCount: Int { service.gate.inside }

    func reopen() {
        service.gate.move(to: .open)
        for listener in listeners.withLock({ Array($0.values) }) { listener.runHeld() }
        forwarded.runHeld()
    }

    // MARK: Protocol state

    func exportProtocolState(since marks: [ProtocolStateMark]) -> (state: [UInt8], mark: ProtocolStateMark) {
        let since = marks.first { $0.face == face }?.position ?? 0
        let (state, addedCount) = service.duplicateRequests.export(since: since)
        return (state, ProtocolStateMark(face: face, position: addedCount))
    }

    func importProtocolState(_ state: [UInt8]) throws {
        if state.isEmpty { return }
        do { try service.duplicateRequests.import(state) } catch {
            throw ManagementError(
                .failed,
                "protocol_state_damaged",
                "the protocol state of the SVM cannot be taken over: \(error)",
                remedy: "let the operation return to its transfer phase and try the cutover again"
            )
        }
    }
}
