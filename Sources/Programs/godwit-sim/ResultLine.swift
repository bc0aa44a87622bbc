import Simulator

/// The result of a seed as a line: what a child process tells its parent, and what `--json` prints.
struct ResultLine {
    var seed: UInt64
    var violations: [String]
    var faultCount: Int
    var migrationCount: Int
    var handoverCount: Int
    var operationCount: UInt64
    var stepCount: UInt64
    var digest: UInt64

    init(_ result: RunResult) {
        seed = result.seed
        violations = result.violations
        faultCount = result.faultCount
        migrationCount = result.migrationCount
        handoverCount = result.handoverCount
        operationCount = result.clientOperationCount
        stepCount = result.stepCount
        digest = result.digest
    }

    /// Reads what `text` wrote; nil when it is not that.
    init?(text: Substring) {
        let fields = text.split(separator: "\t", omittingEmptySubsequences: false)
        guard fields.count >= 7, let seed = UInt64(fields[0]), let faultCount = Int(fields[1]),
            let migrationCount = Int(fields[2]), let handoverCount = Int(fields[3]),
            let operationCount = UInt64(fields[4]), let stepCount = UInt64(fields[5]),
            let digest = UInt64(fields[6], radix: 16)
        else { return nil }
        (self.seed, self.faultCount, self.migrationCount) = (seed, faultCount, migrationCount)
        self.handoverCount = handoverCount
        (self.operationCount, self.stepCount, self.digest) = (operationCount, stepCount, digest)
        violations = fields[7...].map(String.init)
    }

    /// Fields separated by tabs, the violations last.
    var text: String {
        let words = violations.map { $0.replacing("\t", with: " ").replacing("\n", with: " ") }
        let numbers = [
            "\(seed)", "\(faultCount)", "\(migrationCount)", "\(handoverCount)", "\(operationCount)", "\(stepCount)",
        ]
        return (numbers + [String(digest, radix: 16)] + words).joined(separator: "\t")
    }

    var json: String {
        let words = violations.map { "\"" + Self.escaped($0) + "\"" }.joined(separator: ",")
        return "{\"seed\":\(seed),\"violations\":[\(words)],\"faults\":\(faultCount),\"migrations\":\(migrationCount),"
            + "\"handovers\":\(handoverCount),\"operations\":\(operationCount),\"steps\":\(stepCount),\"digest\":\"\(String(digest, radix: 16))\"}"
    }

    private static func escaped(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case let other where other.value < 0x20:
                let digits = String(other.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}
