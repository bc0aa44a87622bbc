import AsyncHTTPClient
import ClusterConfiguration
import ClusterService
import Environment
import Glibc
import Hummingbird
import Identity
import MigrateOperation
import NIOCore
import ReplicatedDatabase
import Saga
import TestKit
import Testing

/// A source that answers `hold` with an attachment and everything else with an error.
private struct AnsweringSource: SourceCluster {
    func send(_ call: SourceCall) async throws -> SourceReply {
        guard case .hold = call.request else {
            throw MigrateError(.commitRecovered, code: "1", "recovered", remedy: "again")
        }
        return SourceReply(
            .held([WindowStage(name: "hold", durationMicroseconds: 7)], lastAnswers: []),
            attachment: [UInt8](repeating: 0xa5, count: 100_000)
        )
    }
}

private let operation = ObjectUUID(high: 1, low: 2)

/// Serves the cluster service on a free port of loopback and lets a client with a passphrase use it.
private func withService(
    clientPassphrase: String,
    _ body: @escaping @Sendable (any SourceCluster) async throws -> Void
) async throws {
    func store(_ passphrase: String, port: Int) async throws -> ConfigurationStore {
        let store = ConfigurationStore(InMemoryDatabase())
        let record = ClusterPeerRecord(
            uuid: ObjectUUID(high: 3, low: 4),
            name: "peer",
            service: NetworkEndpoint(address: "127.0.0.1", port: port),
            passphrase: passphrase
        )
        _ = try await store.change(as: .system) { draft throws(ManagementError) in try draft.putPeer(record) }
        return store
    }
    let router = Router(context: BasicRequestContext.self)
    ClusterServiceRoutes(source: AnsweringSource(), store: try await store("a long passphrase", port: 1)).register(
        on: router
    )
    let (ports, found) = AsyncStream.makeStream(of: Int.self)
    let application = Application(
        responder: router.buildResponder(),
        configuration: ApplicationConfiguration(address: .hostname("127.0.0.1", port: 0)),
        onServerRunning: { channel in found.yield(channel.localAddress?.port ?? 0) }
    )
    try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { try await application.run() }
        for await port in ports {
            let directory = PeerDirectory(
                client: .shared,
                scheme: "http",
                store: try await store(clientPassphrase, port: port)
            )
            try await body(directory.sourceCluster(peerName: "peer"))
            break
        }
        group.cancelAll()
    }
}

@Suite struct ClusterServiceTests {
    @Test func answersCarryTheirAttachment() async throws {
        try await withService(clientPassphrase: "a long passphrase") { source in
            let snapshot = OperationSnapshot(uuid: operation, name: "final")
            let reply = try await source.send(
                SourceCall(
                    operation: operation,
                    epoch: 1,
                    request: .hold(attempt: 1, snapshot: snapshot, drainMilliseconds: 9, since: [])
                )
            )
            #expect(reply.answer == .held([WindowStage(name: "hold", durationMicroseconds: 7)], lastAnswers: []))
            #expect(reply.attachment == [UInt8](repeating: 0xa5, count: 100_000))
        }
    }

    @Test func errorsKeepTheirKind() async throws {
        try await withService(clientPassphrase: "a long passphrase") { source in
            await #expect(throws: MigrateError(.commitRecovered, code: "1", "recovered", remedy: "again")) {
                try await source.send(SourceCall(operation: operation, epoch: 1, request: .pointOfNoReturn(attempt: 1)))
            }
        }
    }

    @Test func strangersAreRefused() async throws {
        try await withService(clientPassphrase: "another passphrase") { source in
            do {
                _ = try await source.send(SourceCall(operation: operation, epoch: 1, request: .status))
                Issue.record("a stranger was answered")
            } catch let error as MigrateError {
                #expect(error.kind == .notAuthenticated)
            }
        }
    }

    @Test func silenceIsUnreachable() async throws {
        let store = ConfigurationStore(InMemoryDatabase())
        let record = ClusterPeerRecord(
            uuid: operation,
            name: "peer",
            service: NetworkEndpoint(address: "127.0.0.1", port: 1),
            passphrase: "a long passphrase"
        )
        _ = try await store.change(as: .system) { draft throws(ManagementError) in try draft.putPeer(record) }
        let source = try await PeerDirectory(client: .shared, scheme: "http", store: store).sourceCluster(
            peerName: "peer"
        )
        do {
            _ = try await source.send(SourceCall(operation: operation, epoch: 1, request: .status))
            Issue.record("nobody answered, and there was an answer")
        } catch let error as MigrateError {
            #expect(error.kind == .unreachable)
        }
    }

    @Test func crashPointsNeedATestCluster() throws {
        #expect(throws: MigrateError.self) {
            _ = try CrashTesting.crashPoints(setting: "lock:before", isAllowed: false)
        }
        #expect(throws: MigrateError.self) { _ = try CrashTesting.crashPoints(setting: "lock", isAllowed: true) }
        _ = try CrashTesting.crashPoints(setting: nil, isAllowed: false)
        #expect(throws: MigrateError.self) { _ = try CrashTesting.waitPoints(directory: "/", isAllowed: false) }
        _ = try CrashTesting.waitPoints(directory: nil, isAllowed: false)
    }

    @Test func aStepWaitsWhileItsFileIsThere() async throws {
        let directory = try TemporaryDirectory.make()
        defer { TemporaryDirectory.remove(directory) }
        let points = try CrashTesting.waitPoints(directory: directory, isAllowed: true)
        // Nothing says to wait here.
        try await points.reached("lock", .before)
        let wait = directory + "/lock:before.wait"
        close(open(wait, O_CREAT | O_WRONLY, 0o644))
        async let passed: Void = points.reached("lock", .before)
        while access(directory + "/lock:before.reached", F_OK) != 0 { try await Task.sleep(for: .milliseconds(1)) }
        unlink(wait)
        try await passed
    }
}
