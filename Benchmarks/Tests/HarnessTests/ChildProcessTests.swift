import Foundation
import Harness
import Testing

@Suite struct ChildProcessTests {
    @Test func outputAndStatusComeBack() throws {
        let result = try runCommand("sh", ["-c", "echo out; echo err >&2; exit 3"])
        #expect(result.status == 3)
        #expect(result.output == "out\n")
        #expect(result.error == "err\n")
    }

    @Test func aFailingCommandIsAnErrorWithItsMessage() {
        #expect(throws: HarnessError.self) { try runChecked("sh", ["-c", "echo broken >&2; exit 1"]) }
    }

    @Test func aMissingProgramIsNamedWithARemedy() throws {
        let error = #expect(throws: HarnessError.self) { try findExecutable("no-such-program-of-godwit") }
        #expect(try #require(error).description.contains("packages-bench.txt"))
    }

    @Test func aCrashEndsAChildAtOnce() throws {
        let child = try ChildProcess("sleep", ["1000"], logPath: NSTemporaryDirectory() + "harness-crash.log")
        child.crash()
        #expect(!child.isRunning)
    }
}
