import ArgumentParser
import Foundation
import Harness

/// What the rounds found, added up.
private struct Totals {
    var lost = 0
    var repeated = 0
    var staleHandles = 0
    var mismatches = 0
    var inconsistent = 0
    var failedClients = 0
    var acknowledgedWrites = 0
    var operations = 0
    var snapshots = 0
    var outageMillisecondsMax = 0

    var isClean: Bool { lost + repeated + staleHandles + mismatches + inconsistent + failedClients == 0 }

    var text: String {
        "lost=\(lost) repeated=\(repeated) stale_handles=\(staleHandles) mismatches=\(mismatches) "
            + "inconsistent=\(inconsistent) failed_clients=\(failedClients) acknowledged_writes=\(acknowledgedWrites) "
            + "operations=\(operations) snapshots=\(snapshots) outage_ms_max=\(outageMillisecondsMax)"
    }
}

/// A generator with a seed, so that the moments of a run can be had again.
private struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}

/// `crash-test`: kills the daemon under load, again and again, and checks that nothing acknowledged is gone.
@main
struct CrashCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "crash-test",
        abstract: "Kills the daemon with SIGKILL under load and checks what is left.",
        discussion: """
            A round: clients start (a journal client and a copy of a tree), the daemon is killed at a random moment and
            started again on the same data, the clients go on and verify, the journal of the round before is verified
            once more, the copied tree is compared, and the metadata of the volume is walked. Meanwhile snapshots are
            taken and deleted; those of a round go at its end, and it is walked again. In every fifth round the daemon
            is killed a second time while it recovers. The exit status is 0 only when nothing was found.
            """
    )

    @Option(help: "The directory of godwitd and godwit.") var binaries = ""
    @Option(help: "The directory of godwit-journal-client and godwit-tree.") var clients: String
    @Option(help: "A directory for data, logs and journals; it must not exist.") var work: String
    @Option(help: "How many rounds.") var rounds = 200
    @Option(help: "A line per so many rounds.") var every = 10
    @Option(help: "Seconds for which the journal client of a round works.") var seconds = 2
    @Option(help: "Seed of the random moments.") var seed: UInt64 = 1
    @Option(help: "The local tree that is copied in every round.") var tree = "/usr/include/linux"
    @Option(help: "godwit, or ganesha to try this program itself.") var server = "godwit"

    mutating func run() throws {
        let sources = endChildrenOnSignal()
        defer { _ = sources }
        do {
            guard try runRounds() else { throw ExitCode(1) }
        } catch let error as HarnessError {
            FileHandle.standardError.write(Data("crash-test: \(error)\n".utf8))
            throw ExitCode(2)
        }
    }

    private func makeServer() throws -> any CrashServer {
        switch server {
        case "godwit":
            return try GodwitCrashServer(
                GodwitServer.Layout(
                    directory: "\(work)/godwit",
                    daemonPath: "\(binaries)/godwitd",
                    commandPath: "\(binaries)/godwit"
                )
            )
        case "ganesha":
            return try GaneshaCrashServer(directory: "\(work)/ganesha")
        default:
            throw HarnessError("there is no server '\(server)'", remedy: "say --server godwit or --server ganesha")
        }
    }

    private func runRounds() throws -> Bool {
        guard !FileManager.default.fileExists(atPath: work) else {
            throw HarnessError("'\(work)' is there already", remedy: "give --work a path that does not exist")
        }
        try FileManager.default.createDirectory(atPath: work, withIntermediateDirectories: true)
        let target = try makeServer()
        defer { target.stop() }
        var random = SplitMix(state: seed)
        var totals = Totals()
        let started = monotonicSeconds()
        try target.start()
        for round in 1...rounds {
            try runRound(round, target, &random, &totals)
            if round % every == 0 {
                print("round \(round) of \(rounds), \(Int(monotonicSeconds() - started)) s: \(totals.text)")
            }
        }
        print("crash: rounds=\(rounds) \(totals.text)")
        return totals.isClean
    }

    private func address(_ target: any CrashServer) -> [String] {
        ["--url", target.url, "--port", "\(target.nfsPort)", "--mount-port", "\(target.mountPort)"]
    }

    private func runRound(
        _ round: Int,
        _ target: any CrashServer,
        _ random: inout SplitMix,
        _ totals: inout Totals
    ) throws {
        let base = "\(work)/round-\(round)"
        let journal = try ChildProcess(
            "\(clients)/godwit-journal-client",
            address(target) + [
                "--journal", "\(base).journal", "--run", "\(round)", "--duration", "\(seconds)",
            ] + (target.remembersAnswers ? [] : ["--crash-tolerant"]),
            logPath: "\(base).log",
            outputPath: "\(base).out"
        )
        let copy = try ChildProcess(
            "\(clients)/godwit-tree",
            address(target) + ["--source", tree, "--directory", "tree-\(round)", "--outstanding", "16"],
            logPath: "\(base)-tree.log"
        )
        let churn = SnapshotChurn(target, prefix: "round-\(round)")
        usleep(UInt32.random(in: 200_000...1_600_000, using: &random))
        churn.stop { target.crash() }
        totals.snapshots += churn.count
        if let failure = churn.failure {
            report(round, "snapshots beside the clients: \(failure)")
            totals.failedClients += 1
        }
        if round % 5 == 0 { try target.startAndCrash(afterSeconds: Double.random(in: 0.005...0.4, using: &random)) }
        try target.start()
        try finish(journal, "\(base).out", round, &totals)
        if copy.wait(seconds: 120) != 0 {
            copy.crash()
            report(round, "the copy of the tree failed: \(copy.logTail)")
            totals.failedClients += 1
        }
        let compared = try runCommand(
            "\(clients)/godwit-tree",
            address(target) + ["--source", tree, "--directory", "tree-\(round)", "--verify", "--exact"]
        )
        if compared.status != 0 {
            report(round, compared.error + compared.output)
            totals.mismatches += 1
        }
        if round > 1 { try verifyAgain(round - 1, target, &totals) }
        try checkVolume(round, target, &totals)
        try churn.clean()
        try checkVolume(round, target, &totals)
    }

    private func checkVolume(_ round: Int, _ target: any CrashServer, _ totals: inout Totals) throws {
        guard let found = try target.check() else { return }
        report(round, "the volume is not consistent: \(found)")
        totals.inconsistent += 1
    }

    /// Takes the result of the journal client of a round.
    private func finish(_ client: ChildProcess, _ outputPath: String, _ round: Int, _ totals: inout Totals) throws {
        let status = client.wait(seconds: Double(seconds) + 180)
        let output = (try? String(contentsOfFile: outputPath, encoding: .utf8)) ?? ""
        if status == nil { client.crash() }
        guard add(output, to: &totals, counts: true), status == 0 else {
            report(round, "the journal client ended with \(status ?? -1): \(output)\n\(client.logTail)")
            if output.isEmpty || totals.isClean { totals.failedClients += 1 }
            return
        }
    }

    /// Verifies the journal of a round that was over before the last crash.
    private func verifyAgain(_ round: Int, _ target: any CrashServer, _ totals: inout Totals) throws {
        let result = try runCommand(
            "\(clients)/godwit-journal-client",
            address(target) + ["--journal", "\(work)/round-\(round).journal", "--verify-only"]
        )
        guard add(result.output, to: &totals, counts: false), result.status == 0 else {
            report(round, "verified after one more crash: \(result.output)\(result.error)")
            if result.output.isEmpty || totals.isClean { totals.failedClients += 1 }
            return
        }
    }

    /// Adds the line "journal: name=value …" to the totals. False when there is no such line.
    private func add(_ output: String, to totals: inout Totals, counts: Bool) -> Bool {
        guard let line = output.split(separator: "\n").last(where: { $0.hasPrefix("journal: outage_ms=") }) else {
            return false
        }
        var values: [String: Int] = [:]
        for part in line.split(separator: " ") {
            let pair = part.split(separator: "=")
            if pair.count == 2 { values[String(pair[0])] = Int(pair[1]) }
        }
        totals.lost += values["lost"] ?? 0
        totals.repeated += values["repeated"] ?? 0
        totals.staleHandles += values["stale_handles"] ?? 0
        totals.mismatches += values["mismatches"] ?? 0
        if counts {
            totals.acknowledgedWrites += values["acknowledged_writes"] ?? 0
            totals.operations += values["operations"] ?? 0
            totals.outageMillisecondsMax = max(totals.outageMillisecondsMax, values["outage_ms"] ?? 0)
        }
        return true
    }

    private func report(_ round: Int, _ text: String) {
        FileHandle.standardError.write(Data("crash-test: round \(round): \(text)\n".utf8))
    }
}
