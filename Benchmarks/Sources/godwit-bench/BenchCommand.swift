import ArgumentParser
import Foundation
import Harness

/// `godwit-bench`: Godwit beside its peers.
@main
struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "godwit-bench",
        abstract: "Measures Godwit and its peers in turn on one machine.",
        discussion: "Needs root, for nfs-ganesha, and the packages of scripts/packages-bench.txt."
    )

    @Option(help: "The directory of godwitd and godwit.") var binaries: String
    @Option(help: "The directory of godwit-load and godwit-tree.") var clients: String
    @Option(help: "A directory on ext4 for the data of all servers; it must not exist.") var work: String
    @Option(help: "Where the results go.") var output = "Benchmarks/results/latest.json"
    @Option(help: "Rounds per row; the median counts.") var rounds = 3
    @Option(help: "Seconds per round.") var seconds = 3
    @Option(help: "Times that a round is measured again when other programs disturb it.") var repetitions = 3
    @Option(help: "Seconds to wait for a quiet machine before each round.") var quietSeconds = 10.0
    @Option(help: "Only the rows whose name begins with this.") var only = ""
    @Option(help: "Files of the many-files tree.") var files = 20_000
    @Option(help: "Files of the tree for incrementals and snapshots.") var manyFiles = 100_000
    @Flag(help: "Measure the peers alone, to try the harness without Godwit.") var peersOnly = false

    mutating func run() throws {
        let sources = endChildrenOnSignal()
        defer { _ = sources }
        do {
            try measure()
        } catch let error as HarnessError {
            FileHandle.standardError.write(Data("godwit-bench: \(error)\n".utf8))
            throw ExitCode(1)
        }
    }

    private func measure() throws {
        guard getuid() == 0 else {
            throw HarnessError("nfs-ganesha needs root", remedy: "run this as root")
        }
        guard !FileManager.default.fileExists(atPath: work) else {
            throw HarnessError("'\(work)' is there already", remedy: "give --work a path that does not exist")
        }
        for program in ["ganesha.nfsd", "rpcbind", "rsync", "chattr"] { _ = try findExecutable(program) }
        try FileManager.default.createDirectory(atPath: work, withIntermediateDirectories: true)
        var layout = GodwitServer.Layout(
            directory: "\(work)/godwit",
            daemonPath: "\(binaries)/godwitd",
            commandPath: "\(binaries)/godwit"
        )
        layout.cluster = "bench"
        let setting = BenchSetting(
            work: work,
            clients: clients,
            rounds: rounds,
            seconds: seconds,
            repetitions: repetitions,
            quietSeconds: quietSeconds,
            only: only,
            files: files,
            manyFiles: manyFiles,
            layout: peersOnly ? nil : layout
        )
        var results = Results()
        // First: ext4 does not give out inodes that were freed a short while ago and looks long for others, which would
        // make rsync slow after the rows that remove files.
        try measureTransfers(setting, into: &results)
        try measureNFS(setting, into: &results)
        results.disturbedRounds = setting.disturbances.count
        results.printTable()
        try results.write(to: output)
    }
}

/// Counts rounds that other programs disturbed.
final class Disturbances {
    var count = 0
}

/// What all measurements need to know.
struct BenchSetting {
    let work: String
    let clients: String
    let rounds: Int
    let seconds: Int
    let repetitions: Int
    let quietSeconds: Double
    let only: String
    let files: Int
    let manyFiles: Int
    /// Rounds that were disturbed every time.
    let disturbances = Disturbances()
    /// Nil when only the peers are measured.
    let layout: GodwitServer.Layout?

    func wants(_ row: String) -> Bool { only.isEmpty || row.hasPrefix(only) }
}
