import Foundation
import Testing

/// The simulator is honest: a seed is one run, what is planted is found, and what was found once stays found.
@Suite(.serialized) struct SimulatorTests {
    @Test func aSeedHasOneTrace() throws {
        for (seed, nodes) in [("3", "3"), ("17", "1"), ("46", "3")] {
            let first = try Program.run("--seed", seed, "--nodes", nodes, "--trace")
            let second = try Program.run("--seed", seed, "--nodes", nodes, "--trace")
            #expect(first.lines.count > 100)
            #expect(first.lines == second.lines)
        }
        let other = try Program.run("--seed", "4", "--trace")
        #expect(try other.lines != Program.run("--seed", "3", "--trace").lines)
    }

    /// Seeds do not know of each other, whatever ran before them in the same process.
    @Test func aSeedIsTheSameAmongOthers() throws {
        let alone = try Program.run("--seed", "12", "--json")
        let among = try Program.run("--seeds", "10..12", "--worker")
        let digest = try #require(alone.summary.firstMatch(of: /"digest":"([0-9a-f]+)"/)?.1)
        #expect(among.lines.count == 3)
        #expect(among.summary.split(separator: "\t")[6] == digest)
    }

    /// Production code has none of these; the simulator plants them into its own network, disks and go-betweens.
    @Test(arguments: [
        (defect: "destination-first", nodes: "1", words: "both clusters"),
        (defect: "early-release", nodes: "1", words: "both clusters"),
        (defect: "checkpoint-before-data", nodes: "1", words: ""),
        (defect: "early-release", nodes: "3", words: "both clusters"),
        // An aggregate that two nodes have open shows at its lock, or where both serve it.
        (defect: "lockless-open", nodes: "3", words: "has open|both execute"),
        (defect: "deaf-owner", nodes: "3", words: "has not opened it"),
        (defect: "endless-session", nodes: "3", words: "nobody has taken over"),
    ])
    func aPlantedDefectIsFound(_ planted: (defect: String, nodes: String, words: String)) throws {
        let (defect, nodes) = (planted.defect, planted.nodes)
        let outcome = try Program.run(
            "--seeds",
            "1..999",
            "--nodes",
            nodes,
            "--defect",
            defect,
            "--until-failure"
        )
        #expect(outcome.status == 1, "\(defect) was not found in 999 seeds: \(outcome.summary)")
        let words = planted.words.split(separator: "|")
        let isTold = outcome.lines.contains { line in words.contains { line.contains($0) } }
        #expect(words.isEmpty || isTold, "\(outcome.lines)")
        let found = outcome.lines.first.flatMap { $0.split(separator: " ").dropFirst().first } ?? ""
        let seed = String(found.prefix { $0 != ":" })
        // Without the defect the same seed is whole.
        #expect(try Program.run("--seed", seed, "--nodes", nodes).status == 0)
    }

    /// Bugs of the product that the simulator has found, by the seed that found each.
    @Test(arguments: [
        (seed: "1", bug: "the snapshot of the synchronous stream stayed on the destination"),
        (seed: "35", bug: "a source whose SVM was deleted could not start again"),
        (seed: "48", bug: "a replica kept records of data that a full disk had refused"),
        (seed: "145", bug: "the same, met by an increment"),
    ])
    func aFoundBugStaysFixed(_ found: (seed: String, bug: String)) throws {
        let outcome = try Program.run("--seed", found.seed, "--nodes", "1")
        #expect(outcome.status == 0, "\(found.bug) again: \(outcome.lines)")
    }

    @Test func aFailureIsMinimised() throws {
        let outcome = try Program.run(
            "--seeds",
            "1..999",
            "--nodes",
            "1",
            "--defect",
            "checkpoint-before-data",
            "--until-failure"
        )
        let line = try #require(outcome.lines.first)
        let seed = String(line.split(separator: " ")[1].prefix { $0 != ":" })
        let whole = try Program.run("--seed", seed, "--nodes", "1", "--defect", "checkpoint-before-data")
        let small = try Program.run("--seed", seed, "--nodes", "1", "--defect", "checkpoint-before-data", "--minimize")
        #expect(small.status == 1)
        let count = { (outcome: Program.Outcome) in outcome.lines.count { $0.hasPrefix("fault ") } }
        #expect(count(small) >= 1 && count(small) <= count(whole))
    }

    @Test func badInputIsRefusedWithARemedy() throws {
        #expect(try Program.run().status == 64)
        #expect(try Program.run("--seeds", "9..1").status == 64)
        #expect(try Program.run("--seed", "1", "--nodes", "0").status == 64)
        #expect(try Program.run("--seed", "1", "--defect", "nonesuch").status == 64)
        #expect(try Program.run("--seeds", "1..2", "--trace").status == 64)
    }

    /// What RocksStore calls of RocksDB is what the simulator has its own of: a function that it lacked would be the real
    /// one, with a database that is none.
    @Test func everyStoreFunctionIsReplaced() throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let folder = root.appending(path: "Sources/DataPlane/RocksStore")
        var called: Set<Substring> = []
        for name in try FileManager.default.contentsOfDirectory(atPath: folder.path) {
            let text = try String(contentsOf: folder.appending(path: name), encoding: .utf8)
            for match in text.matches(of: /rocksdb_[a-z_0-9]+/) { called.insert(match.output) }
        }
        let replaced = try String(
            contentsOf: root.appending(path: "Sources/Testing/Simulator/StoreFunctions.swift"),
            encoding: .utf8
        )
        let isConstant = { (name: Substring) in
            name.hasSuffix("_recovery") || name.hasSuffix("_compression") || name == "rocksdb_disable"
        }
        let missing = called.filter { $0 != "rocksdb_options_set_compression" ? !isConstant($0) : true }
            .filter { !replaced.contains("@c(\($0))") }
        #expect(called.count > 40)
        #expect(missing.sorted() == [])
    }
}
