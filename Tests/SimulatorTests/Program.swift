import Foundation

/// The simulator as a program of its own: a run takes its whole process over.
enum Program {
    struct Outcome {
        var lines: [String]
        var status: Int32
        /// The last line, which scripts look at.
        var summary: String { lines.last ?? "" }
    }

    /// Where the build has put it: beside this test.
    static let path = Bundle.main.executableURL!.deletingLastPathComponent().appending(path: "godwit-sim")

    /// Runs it with arguments.
    static func run(_ arguments: String...) throws -> Outcome {
        let process = Process()
        process.executableURL = path
        process.arguments = arguments
        let output = Pipe()
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        let data = try output.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        let lines = String(decoding: data, as: UTF8.self).split(separator: "\n").map(String.init)
        return Outcome(lines: lines, status: process.terminationStatus)
    }
}
