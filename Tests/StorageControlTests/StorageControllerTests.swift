import ClusterConfiguration
import Environment
import Foundation
import Identity
import ReplicatedDatabase
import StorageControl
import Synchronization
import Testing
import VolumeEngine

@Suite("Storage controller", .serialized)
struct StorageControllerTests {
    /// A node on a directory of its own; `restart` is what a new process would do.
    private struct Node {
        let directory: String
        let database = FailingDatabase()
        var store: ConfigurationStore { ConfigurationStore(database) }

        func start(holding: Set<ObjectUUID> = []) async throws -> StorageController {
            let controller = try await OneNode.open(in: directory, on: database)
            try await controller.startServices(holding: holding)
            return controller
        }
    }

    private func withNode(_ body: (Node) async throws -> Void) async throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "godwit-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try await body(Node(directory: directory))
    }

    private func volume(_ name: String, _ svm: SVMRecord, _ controller: StorageController) async throws -> VolumeRecord
    {
        VolumeRecord(
            uuid: .random(.system),
            name: name,
            msid: .random(.system),
            svm: svm.uuid,
            aggregate: try #require(try await controller.store.snapshot().aggregates.first).uuid,
            sizeBytes: 64 << 20,
            junctionPath: "/" + name
        )
    }

    private func service(_ svm: SVMRecord, _ controller: StorageController) throws -> RecordingService {
        try #require(controller.service(of: svm.uuid) as? RecordingService)
    }

    @Test func whatIsConfiguredRunsAlsoAfterARestart() async throws {
        try await withNode { node in
            var controller = try await node.start()
            let svm = try await controller.createSVM(named: "tenant", comment: "")
            let record = try await volume("data", svm, controller)
            try await controller.createVolume(record)
            try await controller.createLIF(
                LIFRecord(uuid: .random(.system), name: "lif1", svm: svm.uuid, address: "127.0.1.1", port: 2049)
            )
            _ = try await controller.createSnapshot(of: record, named: "first")
            await controller.stop()
            controller = try await node.start()
            #expect(try service(svm, controller).volumeNames == ["data"])
            #expect(try service(svm, controller).boundEndpoints.map(\.description) == ["127.0.1.1:2049"])
            #expect(try await controller.snapshots(of: record).map(\.name) == ["first"])
            try await controller.modifyVolume(record.uuid) { $0.sizeBytes = 96 << 20 }
            #expect(try controller.openVolume(record).space().sizeBytes == 96 << 20)
            await controller.stop()
        }
    }

    /// Wherever in its start the database falls silent: the start fails, or what it could not do is done later.
    @Test func aStartWithoutTheDatabaseEndsOrIsMadeGood() async throws {
        let unserved = Mutex(0)
        for answers in 1..<10 {
            try await withNode { node in
                var controller = try await node.start()
                let svm = try await controller.createSVM(named: "tenant", comment: "")
                try await controller.createVolume(try await volume("data", svm, controller))
                await controller.stop()
                node.database.readsLeft.withLock { $0 = answers }
                let started = try? await node.start()
                node.database.readsLeft.withLock { $0 = .max }
                guard let started else { return }
                controller = started
                if controller.service(of: svm.uuid) == nil { unserved.withLock { $0 += 1 } }
                let rounds = Mutex(0)
                let waiting = Waiting { _ in
                    let round = rounds.withLock { round in
                        round += 1
                        return round
                    }
                    if round > 1 { throw CancellationError() }
                }
                await controller.retryFailures(waiting)
                #expect(try service(svm, controller).volumeNames == ["data"])
                await controller.stop()
            }
        }
        #expect(unserved.withLock { $0 } > 0)
    }

    @Test func whatTheDataPlaneRefusesIsTakenBack() async throws {
        try await withNode { node in
            let controller = try await node.start()
            let svm = try await controller.createSVM(named: "tenant", comment: "")
            var lif = LIFRecord(
                uuid: .random(.system),
                name: "lif1",
                svm: svm.uuid,
                address: "127.0.1.1",
                port: RecordingService.takenPort
            )
            await #expect { try await controller.createLIF(lif) } throws: {
                ($0 as? ManagementError)?.code == "address_in_use"
            }
            #expect(try await controller.store.snapshot().lifs.isEmpty)
            lif.port = 2049
            try await controller.createLIF(lif)
            await #expect {
                try await controller.modifyLIF(lif.uuid) { $0.port = RecordingService.takenPort }
            } throws: {
                ($0 as? ManagementError)?.code == "address_in_use"
            }
            #expect(controller.isUp(lif))
            await controller.stop()
        }
    }

    @Test func anInterruptedDeletionIsFinished() async throws {
        try await withNode { node in
            var controller = try await node.start()
            let svm = try await controller.createSVM(named: "tenant", comment: "")
            let record = try await volume("data", svm, controller)
            try await controller.createVolume(record)
            await controller.stop()
            // As if the daemon had ended right after the record was marked.
            _ = try await node.store.change(as: .user) { draft throws(ManagementError) in
                try draft.deleteSVM(svm.uuid, withContents: true)
            }
            controller = try await node.start()
            #expect(controller.volume(msid: record.msid) == nil)
            #expect(try await node.store.database.range(prefix: ConfigurationKeys.svms).records.isEmpty)
            await controller.stop()
        }
    }

    @Test func stoppedSVMsServeNobody() async throws {
        try await withNode { node in
            let controller = try await node.start()
            let svm = try await controller.createSVM(named: "tenant", comment: "")
            let face = try service(svm, controller)
            try await controller.modifySVM(svm.uuid) { $0.state = .stopped }
            #expect(face.isClosed)
            #expect(controller.service(of: svm.uuid) == nil)
            await controller.stop()
        }
    }

    /// The source's daemon starts again after its SVM has gone to another cluster and was deleted here.
    @Test func aHeldSVMThatIsGoneIsNoObstacle() async throws {
        try await withNode { node in
            let controller = try await node.start(holding: [.random(.system)])
            let svm = try await controller.createSVM(named: "tenant", comment: "")
            #expect(controller.service(of: svm.uuid) != nil)
            await controller.stop()
        }
    }

    @Test func aHeldSVMStaysHeldUntilItsOperationReleasesIt() async throws {
        try await withNode { node in
            var controller = try await node.start()
            let svm = try await controller.createSVM(named: "tenant", comment: "")
            let lif = LIFRecord(uuid: .random(.system), name: "lif1", svm: svm.uuid, address: "127.0.1.1", port: 2049)
            try await controller.createLIF(lif)
            await controller.stop()
            controller = try await node.start(holding: [svm.uuid])
            let face = try service(svm, controller)
            #expect(face.isHeld)
            #expect(face.boundEndpoints.isEmpty)
            try await controller.bindInterfaces(of: svm.uuid)
            #expect(controller.isUp(lif))
            _ = try await controller.createVolume(try await volume("data", svm, controller))
            #expect(face.isHeld)
            #expect(face.volumeNames == ["data"])
            face.reopen()
            controller.releaseService(of: svm.uuid)
            await controller.reconcile()
            #expect(!face.isClosed)
            #expect(face.boundEndpoints.count == 1)
            await controller.stop()
        }
    }

    @Test func anOperationMakesAndDeletesAnSVM() async throws {
        try await withNode { node in
            let controller = try await node.start()
            let operation = ObjectUUID.random(.system)
            let svm = SVMRecord(
                uuid: .random(.system),
                name: "moved",
                state: .stopped,
                migrateRole: .destination,
                handleKey: HandleKey(first: 1, second: 2),
                configurationLock: operation
            )
            var replica = try await volume("data", svm, controller)
            replica.isReplica = true
            let record = replica
            let policy = ExportPolicyRecord(identifier: 5, name: "default", svm: svm.uuid)
            for _ in 0..<2 {
                try await controller.change(as: .operation(operation)) { draft throws(ManagementError) in
                    try draft.putSVM(svm)
                    try draft.putExportPolicy(policy)
                    try draft.putVolume(record)
                }
            }
            #expect(try controller.openVolume(record).isReplica)
            #expect(controller.service(of: svm.uuid) == nil)
            await #expect { _ = try await controller.createSnapshot(of: record, named: "s") } throws: {
                ($0 as? ManagementError)?.code == "svm_locked"
            }
            try await controller.setReplica(false, of: svm.uuid, for: operation)
            #expect(try await controller.store.snapshot().volume(record.uuid)?.isReplica == false)
            let uuid = ObjectUUID.random(.system)
            try await controller.takeSnapshot(uuid, named: "final", ofAll: svm.uuid)
            try await controller.takeSnapshot(uuid, named: "final", ofAll: svm.uuid)
            #expect(try controller.openVolume(record).snapshots().map(\.uuid) == [uuid])
            try await controller.prepareService(of: svm.uuid)
            try await controller.deleteSVM(svm.uuid, for: operation)
            try await controller.deleteSVM(svm.uuid, for: operation)
            #expect(controller.volume(msid: record.msid) == nil)
            #expect(controller.service(of: svm.uuid) == nil)
            #expect(try await controller.store.snapshot().svms.isEmpty)
            await controller.stop()
        }
    }
}
