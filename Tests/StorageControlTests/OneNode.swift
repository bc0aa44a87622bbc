import ClusterConfiguration
import Environment
import Identity
import Logging
import ReplicatedDatabase
import Replication
import StorageControl
import Synchronization
import VolumeEngine

/// A face that keeps what it was told, and refuses addresses that are marked as taken.
final class RecordingService: ClientService {
    private struct State {
        var configuration: ServiceConfiguration?
        var endpoints: [NetworkEndpoint] = []
        var terms: [NetworkEndpoint: LIFTerm] = [:]
        var isHeld = false
        var isClosed = false
    }

    static let takenPort = 9
    private let state = Mutex(State())

    var boundEndpoints: [NetworkEndpoint] { state.withLock { $0.endpoints } }
    var isHeld: Bool { state.withLock { $0.isHeld } }
    var isClosed: Bool { state.withLock { $0.isClosed } }
    var volumeNames: [String] { state.withLock { $0.configuration?.volumes.map(\.record.name) ?? [] } }

    func configure(_ configuration: ServiceConfiguration) { state.withLock { $0.configuration = configuration } }
    func bind(_ endpoint: NetworkEndpoint, on link: String?, for term: LIFTerm) async throws {
        guard endpoint.port != Self.takenPort else {
            throw ManagementError(.conflict, "address_in_use", "\(endpoint) is taken", remedy: "use another port")
        }
        state.withLock { state in
            if !state.endpoints.contains(endpoint) { state.endpoints.append(endpoint) }
            state.terms[endpoint] = term
        }
    }
    func term(at endpoint: NetworkEndpoint) -> LIFTerm? { state.withLock { $0.terms[endpoint] } }
    func unbind(_ endpoint: NetworkEndpoint) async { state.withLock { $0.endpoints.removeAll { $0 == endpoint } } }
    var connectionCount: Int { 0 }
    var answerAges: [ClientAnswers] { [] }
    func hold() { state.withLock { $0.isHeld = true } }
    func drained(withinMilliseconds: UInt64) async -> Bool { true }
    var executingCount: Int { 0 }
    func reopen() { state.withLock { $0.isHeld = false } }
    func close() async {
        state.withLock { state in
            state.isClosed = true
            state.endpoints = []
        }
    }
    func exportProtocolState(since marks: [ProtocolStateMark]) -> (state: [UInt8], mark: ProtocolStateMark) {
        ([], ProtocolStateMark(face: 0, position: 0))
    }
    func importProtocolState(_ state: [UInt8]) throws {}
}

/// A database that can be away, or answers so many reads and then no more until it is told to.
final class FailingDatabase: ReplicatedDatabase {
    /// Whether nothing is answered.
    let isAway = Mutex(false)
    /// The reads that are answered.
    let readsLeft = Mutex(Int.max)
    private let database = InMemoryDatabase()

    private func answer(isRead: Bool) throws(DatabaseError) {
        let isSilent = readsLeft.withLock { left in
            if isRead && left > 0 { left -= 1 }
            return isRead && left == 0
        }
        if isSilent || isAway.withLock({ $0 }) { throw DatabaseError(.unavailable, "nobody answers") }
    }

    func get(_ key: String) async throws(DatabaseError) -> DatabaseRecord? {
        try answer(isRead: true)
        return try await database.get(key)
    }
    func range(prefix: String) async throws(DatabaseError) -> (records: [DatabaseRecord], revision: Int64) {
        try answer(isRead: true)
        return try await database.range(prefix: prefix)
    }
    func transact(
        when conditions: [DatabaseCondition],
        _ changes: [DatabaseChange]
    ) async throws(DatabaseError) -> TransactionOutcome {
        try answer(isRead: false)
        return try await database.transact(when: conditions, changes)
    }
    func watch(prefix: String, after revision: Int64) -> AsyncThrowingStream<WatchEvent, any Error> {
        database.watch(prefix: prefix, after: revision)
    }
}

/// A cluster of one node.
enum OneNode {
    /// The controller of the node as a new process makes it, with an aggregate in a directory; nothing is served yet.
    static func open(
        in directory: String,
        on database: any ReplicatedDatabase,
        _ environment: Environment = .system,
        tier: AggregateTier? = nil
    ) async throws -> StorageController {
        let store = ConfigurationStore(database)
        let endpoint = NetworkEndpoint(address: "127.0.0.1", port: 1)
        let node = try await StorageController.register(
            clusterName: "alpha",
            nodeName: "alpha-01",
            management: endpoint,
            replication: endpoint,
            in: store,
            environment: environment
        )
        let controller = StorageController(
            store: store,
            node: node,
            environment: environment,
            logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }),
            makeService: { _ in RecordingService() }
        )
        try await controller.open([
            AggregateSetting(
                name: "aggr1",
                directory: directory + "/aggr1",
                capacityBytes: 1 << 30,
                tier: tier
            )
        ])
        return controller
    }
}
