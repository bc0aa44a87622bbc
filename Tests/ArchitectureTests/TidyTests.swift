import Testing

/// The rules of the house that a compiler does not check.
struct TidyTests {
    @Test func theTreeIsTidy() throws {
        let folders = ["Sources", "Tests", "Benchmarks/Sources", "IntegrationTests/Sources"]
        let files = try Repository.swiftFiles(below: folders)
        #expect(files.count > 100)
        #expect(files.flatMap(TidyRules.violations(in:)) == [])
    }

    /// Each rule finds what is planted.
    @Test(arguments: [
        "    let now = Date" + "()", "    Task" + " { await run() }", "    try await Task" + ".sleep(for: .seconds(1))",
        "import " + "Foundation", "    let value = try" + "! read()", "    // TO" + "DO: later",
        "final class Box: @unchecked " + "Sendable {",
    ])
    func aPlantedLineIsFound(line: String) {
        let file = Repository.SourceFile(path: "Sources/DataPlane/VolumeEngine/Planted.swift", lines: [line])
        #expect(TidyRules.violations(in: file).count == 1)
    }

    @Test func whatOnlyLooksAlikeIsAllowed() {
        let lines = ["    group.addTask" + " { await run() }", "    validate" + "Date" + "()"]
        let file = Repository.SourceFile(path: "Sources/DataPlane/VolumeEngine/Fine.swift", lines: lines)
        #expect(TidyRules.violations(in: file) == [])
    }

    @Test func longFilesAndFunctionsAreFound() {
        let body = [String](repeating: "        work()", count: 650)
        let lines = ["    func long() {"] + body + ["    }"]
        let file = Repository.SourceFile(path: "Sources/Base/Bytes/Long.swift", lines: lines)
        #expect(TidyRules.violations(in: file).count == 2)
    }
}
