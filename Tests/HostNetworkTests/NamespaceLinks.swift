import Foundation

/// Two ends of a cable: a pair of veth links, one of them in a network namespace of its own. They go with the last reference.
///
/// Only root can make them; without root the tests say so and skip.
final class NamespaceLinks {
    /// The end in the namespace of the tests.
    let near: String
    /// The end in the other namespace, which is held open by a process.
    let far: String
    private let holder: Process

    static var isPossible: Bool { getuid() == 0 && run("ip", ["link", "show"]) == 0 }
    static let reason = "network links can only be made by root (and with iproute2)"

    init() throws {
        let number = String(ProcessInfo.processInfo.processIdentifier % 10_000) + String(Self.next())
        (near, far) = ("gwn\(number)", "gwf\(number)")
        holder = Process()
        holder.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        holder.arguments = ["unshare", "--net", "sleep", "600"]
        try holder.run()
        usleep(200_000)
        try Self.require("ip", ["link", "add", near, "type", "veth", "peer", "name", far])
        try Self.require("ip", ["link", "set", far, "netns", String(holder.processIdentifier)])
        try Self.require("ip", ["link", "set", near, "up"])
        try inside("ip", "link", "set", far, "up")
    }

    deinit {
        // The signals that a thread of the tests blocks are blocked in what it starts: only this one always arrives.
        kill(holder.processIdentifier, SIGKILL)
        holder.waitUntilExit()
        _ = Self.run("ip", ["link", "del", near])
    }

    /// Runs a command in the other namespace.
    func inside(_ command: String...) throws {
        try Self.require("nsenter", ["--net", "--target", String(holder.processIdentifier)] + command)
    }

    /// What a command in the other namespace prints.
    func output(_ command: String...) -> String {
        Self.output("nsenter", ["--net", "--target", String(holder.processIdentifier)] + command)
    }

    /// Starts a command in the other namespace.
    func start(_ command: String...) throws -> Process {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["nsenter", "--net", "--target", String(holder.processIdentifier)] + command
        try process.run()
        return process
    }

    static func require(_ command: String, _ arguments: [String]) throws {
        let status = run(command, arguments)
        if status != 0 {
            throw CommandFailure(description: "\(command) \(arguments.joined(separator: " ")): \(status)")
        }
    }

    static func output(_ command: String, _ arguments: [String]) -> String {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = [command] + arguments
        let pipe = Pipe()
        process.standardOutput = pipe
        guard (try? process.run()) != nil else { return "" }
        let data = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return String(decoding: data, as: UTF8.self)
    }

    private static func run(_ command: String, _ arguments: [String]) -> Int32 {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = [command] + arguments
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        guard (try? process.run()) != nil else { return -1 }
        process.waitUntilExit()
        return process.terminationStatus
    }

    private nonisolated(unsafe) static var counter = 0
    private static let lock = NSLock()
    private static func next() -> Int {
        lock.withLock {
            counter += 1
            return counter
        }
    }
}

struct CommandFailure: Error, CustomStringConvertible {
    var description: String
}
