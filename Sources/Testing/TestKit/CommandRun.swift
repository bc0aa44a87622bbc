package import Foundation

/// A program that was run to its end.
package struct CommandRun {
    /// Its exit status.
    package let status: Int32
    /// What it wrote to standard output and standard error.
    package let output: String

    /// Runs a program and waits for it.
    package init(_ program: URL, _ arguments: [String]) throws {
        let process = Process()
        process.executableURL = program
        process.arguments = arguments
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        try process.run()
        output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        status = process.terminationStatus
    }
}
