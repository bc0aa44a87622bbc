/// A rule about the text of a source file.
struct TidyRule: Sendable {
    /// What is wrong when it is broken.
    var words: String
    /// Where it holds: the path begins with one of these.
    var folders: [String]
    /// Texts that may not stand in a line of code.
    var forbidden: [String]
}

/// The rules of the house that a compiler does not check.
enum TidyRules {
    static let linesOfFileMax = 600
    static let linesOfFunctionMax = 80

    /// The floors whose decisions must be the same in a simulation: 3 to 5.
    static let decidingFloors = ["Sources/DataPlane/", "Sources/ControlPlane/", "Sources/ManagementPlane/"]

    // The forbidden words are put together out of halves, so that this file does not break its own rules.
    static let rules = [
        TidyRule(
            words: "takes time, chance or a task from somewhere else than Environment",
            folders: decidingFloors,
            forbidden: [
                "Date" + "()", "UUID" + "()", "Task" + " {", "Task" + "{", "Task" + ".detached", "Task" + ".sleep",
                "SystemRandomNumber" + "Generator",
            ]
        ),
        TidyRule(
            words: "imports Foundation into the data plane",
            folders: ["Sources/DataPlane/"],
            forbidden: ["import " + "Foundation"]
        ),
        TidyRule(
            words: "forces what may fail",
            folders: ["Sources/", "Tests/", "Benchmarks/Sources/", "IntegrationTests/Sources/"],
            forbidden: ["try" + "! ", " as" + "! "]
        ),
        TidyRule(
            words: "leaves work undone",
            folders: ["Sources/", "Tests/", "Benchmarks/Sources/", "IntegrationTests/Sources/"],
            forbidden: ["TO" + "DO", "FIX" + "ME"]
        ),
        TidyRule(
            words: "names a path of one machine",
            folders: ["Sources/", "Tests/", "Benchmarks/Sources/", "IntegrationTests/Sources/"],
            forbidden: ["\"/wo" + "rk/", "/home" + "/", "/ro" + "ot/"]
        ),
    ]

    /// What a file breaks, a sentence for each.
    static func violations(in file: Repository.SourceFile) -> [String] {
        var found: [String] = []
        for rule in rules where rule.folders.contains(where: { file.path.hasPrefix($0) }) {
            for (index, line) in file.lines.enumerated() {
                for text in rule.forbidden where holds(line, text) {
                    found.append("\(file.path):\(index + 1) \(rule.words): '\(text)'")
                }
            }
        }
        if file.lines.count > linesOfFileMax { found.append("\(file.path) has \(file.lines.count) lines") }
        return found + longFunctions(in: file) + unprovedSendables(in: file)
    }

    /// Whether `text` stands in the line as words of its own: `group.addTask {` is not `Task {`.
    private static func holds(_ line: String, _ text: String) -> Bool {
        var rest = line[...]
        while let range = rest.firstRange(of: text) {
            let before = range.lowerBound > line.startIndex ? line[line.index(before: range.lowerBound)] : " "
            let startsWithWord = text.first.map { $0.isLetter } ?? false
            if !startsWithWord || !(before.isLetter || before.isNumber) { return true }
            rest = rest[range.upperBound...]
        }
        return false
    }

    /// A function ends at the brace of its own indentation; the formatter sees to it that there is one.
    private static func longFunctions(in file: Repository.SourceFile) -> [String] {
        var found: [String] = []
        for (index, line) in file.lines.enumerated() {
            let code = line.drop { $0 == " " }
            let isFunction = code.hasPrefix("func ") || code.contains(" func ") || code.hasPrefix("init(")
            guard isFunction, !code.hasPrefix("//"), !code.hasPrefix("\""), !code.hasSuffix("}") else { continue }
            let end = String(line.prefix { $0 == " " }) + "}"
            guard let length = file.lines[index...].firstIndex(of: end).map({ $0 - index + 1 }) else { continue }
            if length > linesOfFunctionMax { found.append("\(file.path):\(index + 1) a function of \(length) lines") }
        }
        return found
    }

    /// Whoever says that a type is safe where the compiler cannot see it writes down why, beside it.
    private static func unprovedSendables(in file: Repository.SourceFile) -> [String] {
        guard file.path.hasPrefix("Sources/") else { return [] }
        return file.lines.indices.filter { index in
            let nearby = file.lines[max(0, index - 4)...min(file.lines.count - 1, index + 4)]
            return file.lines[index].contains("@unchecked " + "Sendable") && !nearby.contains { $0.contains("Proof") }
        }.map { "\(file.path):\($0 + 1) is unchecked without its proof" }
    }
}
