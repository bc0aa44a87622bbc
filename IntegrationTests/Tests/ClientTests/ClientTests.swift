import Foundation
import Harness
import Testing

/// Whether this machine can run the peer that the clients are tried against.
private let canRun =
    getuid() == 0 && ProcessInfo.processInfo.environment["GODWIT_CLIENTS"] != nil
    && (try? findExecutable("ganesha.nfsd")) != nil

/// The clients against a server that is not ours: they find nothing where nothing is wrong, and they find what is.
@Suite(.serialized, .enabled(if: canRun, "needs root, nfs-ganesha, and GODWIT_CLIENTS, the directory of the clients"))
final class ClientTests {
    private let directory: String
    private let server: GaneshaServer
    private let clients = ProcessInfo.processInfo.environment["GODWIT_CLIENTS"] ?? ""

    init() throws {
        directory = NSTemporaryDirectory() + "godwit-clients-\(UUID().uuidString)"
        server = try GaneshaServer(directory: directory, port: 20690)
        try server.start()
    }

    deinit {
        server.stop()
        try? FileManager.default.removeItem(atPath: directory)
    }

    private var address: [String] {
        ["--url", server.url, "--port", "\(server.port)", "--mount-port", "\(server.port + 1)"]
    }

    private var journal: [String] { ["--journal", "\(directory)/journal"] }

    private func journalClient(_ arguments: [String]) throws -> CommandResult {
        try runCommand("\(clients)/godwit-journal-client", address + journal + arguments)
    }

    private func treeClient(_ arguments: [String]) throws -> CommandResult {
        try runCommand("\(clients)/godwit-tree", address + ["--source", "\(directory)/source"] + arguments)
    }

    private func worker(_ name: String) -> String { "\(server.exportPath)/journal-7/worker-0/\(name)" }

    private func writeJournal() throws {
        let result = try journalClient(["--run", "7", "--workers", "1", "--duration", "1"])
        #expect(result.status == 0)
        #expect(result.output.contains("lost=0 repeated=0 stale_handles=0 mismatches=0"))
        #expect(try journalClient(["--verify-only"]).status == 0)
    }

    @Test func aRemovedNameIsLost() throws {
        try writeJournal()
        let name = try #require(
            try FileManager.default.contentsOfDirectory(atPath: worker("")).first { $0.hasPrefix("name-") }
        )
        #expect(rename(worker(name), "\(directory)/taken-away") == 0)
        // The server would still answer from its cache.
        server.crash()
        try server.start()
        let result = try journalClient(["--verify-only"])
        #expect(result.status == 1)
        #expect(result.output.contains(" lost=1 "))
    }

    @Test func aChangedByteIsAMismatch() throws {
        try writeJournal()
        let file = try #require(FileHandle(forUpdatingAtPath: worker("held-0")))
        try file.seek(toOffset: 5_000)
        try file.write(contentsOf: Data([1, 2, 3]))
        try file.close()
        let result = try journalClient(["--verify-only"])
        #expect(result.status == 1)
        #expect(result.output.contains(" mismatches=1"))
    }

    @Test func anOldRecordIsLost() throws {
        try writeJournal()
        #expect(truncate(worker("held-0"), 0) == 0)
        let result = try journalClient(["--verify-only"])
        #expect(result.status == 1)
        #expect(!result.output.contains(" lost=0 "))
    }

    @Test func theJournalClientGoesOnAfterACrash() throws {
        let client = try ChildProcess(
            "\(clients)/godwit-journal-client",
            address + journal + ["--duration", "3"],
            logPath: "\(directory)/client.log",
            outputPath: "\(directory)/client.out"
        )
        usleep(1_000_000)
        server.crash()
        try server.start()
        #expect(client.wait(seconds: 60) == 0)
        let output = try String(contentsOfFile: "\(directory)/client.out", encoding: .utf8)
        #expect(output.contains("lost=0 repeated=0 stale_handles=0 mismatches=0"))
        #expect(try String(contentsOfFile: client.logPath, encoding: .utf8).contains("connections_lost=4"))
    }

    @Test func theTreeClientFindsEveryKindOfDifference() throws {
        try FileManager.default.createDirectory(atPath: "\(directory)/source/below", withIntermediateDirectories: true)
        for name in ["same", "below/other"] {
            try Data(repeating: 0x41, count: 300_000).write(to: URL(fileURLWithPath: "\(directory)/source/\(name)"))
        }
        try FileManager.default.createSymbolicLink(
            atPath: "\(directory)/source/link",
            withDestinationPath: "below/other"
        )
        #expect(try treeClient([]).status == 0)
        let clean = try treeClient(["--verify", "--exact"])
        #expect(clean.output == "files_verified=3 mismatches=0\n")
        let file = try #require(FileHandle(forUpdatingAtPath: "\(directory)/source/below/other"))
        try file.seek(toOffset: 299_999)
        try file.write(contentsOf: Data([1]))
        try file.close()
        #expect(chmod("\(directory)/source/same", 0o600) == 0)
        try Data().write(to: URL(fileURLWithPath: "\(directory)/source/below/new"))
        let found = try treeClient(["--verify", "--exact"])
        #expect(found.status == 1)
        // The byte, the mode, the missing file, and the number of entries in its directory.
        #expect(found.output.contains("mismatches=4"))
    }
}
