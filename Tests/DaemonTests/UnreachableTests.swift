import Foundation
import Testing

/// The command line and a daemon that is not there.
@Suite(.serialized) struct UnreachableTests {
    /// Far above what the command waits (2 s for a connection, 8 s for an answer), since the machine may be busy, and far
    /// below the minutes that a change is given.
    private static let patienceSeconds = 60.0

    private struct Outcome {
        var status: Int32
        var errors: String
        var seconds: Double
    }

    private func godwit(_ port: Int, _ arguments: [String]) throws -> Outcome {
        let process = Process()
        let tests = URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent()
        process.executableURL = tests.appending(path: "godwit")
        process.arguments = arguments + ["--server", "http://127.0.0.1:\(port)"]
        let errors = Pipe()
        process.standardError = errors
        process.standardOutput = FileHandle.nullDevice
        let start = ContinuousClock.now
        try process.run()
        let text = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        let time = (ContinuousClock.now - start).components
        return Outcome(
            status: process.terminationStatus,
            errors: text,
            seconds: Double(time.seconds) + Double(time.attoseconds) / 1e18
        )
    }

    @Test func aDaemonThatIsNotThereIsToldAtOnce() throws {
        // A port that is taken and on which nobody listens: no other test can get it meanwhile.
        let socket = try ListeningSocket(isListening: false)
        defer { socket.close() }
        for arguments in [["svm", "show"], ["svm", "create", "--name", "tenant"]] {
            let outcome = try godwit(socket.port, arguments)
            #expect(outcome.status != 0)
            #expect(outcome.errors.contains("does not answer"))
            #expect(outcome.errors.contains("remedy: check that godwitd runs there"))
            #expect(outcome.seconds < Self.patienceSeconds, "it took \(outcome.seconds) s")
        }
    }

    /// The socket is open, as of a daemon that hangs or is stopped, and nobody answers.
    @Test func aDaemonThatIsSilentIsToldSoon() throws {
        let socket = try ListeningSocket()
        defer { socket.close() }
        let outcome = try godwit(socket.port, ["svm", "show"])
        #expect(outcome.status != 0)
        #expect(outcome.errors.contains("remedy:"))
        #expect(outcome.seconds < Self.patienceSeconds, "it took \(outcome.seconds) s")
    }
}
