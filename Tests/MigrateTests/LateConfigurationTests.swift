import ClusterConfiguration
import ConfigurationReplication
import Environment
import GroupControl
import Identity
import MigrateOperation
import Orchestrator
import ReplicatedDatabase
import Testing

/// A baseline of the configuration that comes when its operation does not want it any more.
@Suite struct LateConfigurationTests {
    private static let operation = ObjectUUID(high: 1, low: 1)
    private static let node = ObjectUUID(high: 3, low: 1)
    private static let svm = SVMRecord(
        uuid: ObjectUUID(high: 2, low: 2),
        name: "svm",
        state: .running,
        handleKey: HandleKey(first: 1, second: 2)
    )
    private let database = InMemoryDatabase()

    /// The destination as the orchestrator with an epoch acts on it.
    private func destination(epoch: UInt64 = 1) async throws -> any DestinationStorage {
        let controller = try await MemoryCluster.make("beta", of: [Self.node], in: database)
        let executor = GroupExecutor(controller, waiting: .system)
        return DestinationGroup(Group(controller, MemoryNodes()), executor)
            .acting(as: Self.authority(epoch: epoch))
    }

    private static func authority(epoch: UInt64) -> GroupAuthority {
        GroupAuthority(operation: operation, side: .destination, epoch: epoch)
    }

    private func record(_ phase: MigrationPhase, epoch: UInt64 = 1) async throws {
        var record = DestinationRecord(
            operation: Self.operation,
            owningNode: Self.node,
            options: MigrationOptions(),
            peerName: "alpha",
            svm: MemoryCluster.description(of: Self.svm)
        )
        (record.phase, record.epoch) = (phase, epoch)
        let value = try ConfigurationCoding.encode(record)
        let key = MigrateKeys.destination(Self.operation)
        _ = try await database.transact(when: [], [.put(key: key, value: value)])
    }

    /// What comes of a baseline that was asked for when there was nothing here.
    private func replicate(_ destination: any DestinationStorage) async throws -> MigrateError.Kind? {
        let json = String(decoding: try ConfigurationCoding.encode(Self.svm), as: UTF8.self)
        let identifier = Self.svm.uuid.description
        let update = ConfigurationUpdate(kind: "svm", identifier: identifier, revision: 5, record: json)
        do {
            _ = try await destination.replicate(
                .baseline([update], revision: 5),
                asked: nil,
                of: MemoryCluster.description(of: Self.svm),
                MigrationOptions(),
                for: Self.operation
            )
            return nil
        } catch let error as MigrateError {
            return error.kind
        }
    }

    private func isHere() async throws -> Bool {
        try await ConfigurationStore(database).snapshot().svm(Self.svm.uuid) != nil
    }

    @Test func anAbortedSVMIsNotMadeAgain() async throws {
        let destination = try await destination()
        try await record(.transfer)
        #expect(try await replicate(destination) == nil)
        #expect(try await isHere())
        try await record(.aborting)
        // While it is deleted, after that, and when the operation has ended: the position is away, as at the beginning.
        try await destination.deleteSVM(MemoryCluster.description(of: Self.svm), for: Self.operation)
        #expect(try await !isHere())
        #expect(try await replicate(destination) == .fenced)
        try await record(.ended)
        #expect(try await replicate(destination) == .fenced)
        let key = MigrateKeys.destination(Self.operation)
        _ = try await database.transact(when: [], [.delete(key: key)])
        #expect(try await replicate(destination) == .fenced)
        #expect(try await !isHere())
    }

    @Test func anOrchestratorThatWasOvertakenChangesNothing() async throws {
        try await record(.setup, epoch: 2)
        let former = try await destination(epoch: 1)
        #expect(try await replicate(former) == .fenced)
        #expect(try await !isHere())
        #expect(try await replicate(former.acting(as: Self.authority(epoch: 2))) == nil)
        #expect(try await isHere())
    }
}
