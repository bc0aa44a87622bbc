public import Foundation
import Glibc
import Synchronization

/// The process ids of all children that still run, so that a harness that is interrupted leaves none behind.
private let runningChildren = Mutex<[pid_t]>([])

/// Ends all children with SIGKILL, by their ids, and then the harness, when it gets SIGINT or SIGTERM.
///
/// - Returns: the sources that must be kept for as long as the program runs.
public func endChildrenOnSignal() -> [any DispatchSourceSignal] {
    [SIGINT, SIGTERM].map { number in
        signal(number, SIG_IGN)
        let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
        source.setEventHandler {
            runningChildren.withLock { for child in $0 { kill(child, SIGKILL) } }
            exit(128 + number)
        }
        source.resume()
        return source
    }
}

/// A program that was started, with its output in a file.
public final class ChildProcess {
    private let process = Process()
    private let name: String
    /// The file that holds standard output and standard error.
    public let logPath: String
    private let outputPath: String?

    /// The process id.
    public var pid: pid_t { process.processIdentifier }
    /// Whether it still runs.
    public var isRunning: Bool { process.isRunning }

    /// Starts a program.
    ///
    /// - Parameters:
    ///   - executable: an absolute path, or a name that is searched in `PATH`.
    ///   - logPath: gets standard error, and standard output too when `outputPath` is nil.
    public init(
        _ executable: String,
        _ arguments: [String],
        environment: [String: String] = [:],
        logPath: String,
        outputPath: String? = nil
    ) throws {
        name = (executable as NSString).lastPathComponent
        self.logPath = logPath
        self.outputPath = outputPath
        process.executableURL = URL(fileURLWithPath: try findExecutable(executable))
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        process.standardInput = FileHandle.nullDevice
        let log = try Self.open(logPath)
        process.standardError = log
        process.standardOutput = try outputPath.map(Self.open) ?? log
        do {
            try process.run()
        } catch {
            throw HarnessError("\(executable) could not be started: \(error)", remedy: "build it, or give its path")
        }
        let child = process.processIdentifier
        runningChildren.withLock { $0.append(child) }
    }

    private static func open(_ path: String) throws -> FileHandle {
        let descriptor = Glibc.open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else {
            throw HarnessError("\(path) cannot be written", remedy: "give a work directory that can be written")
        }
        return FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
    }

    /// Waits for the end and returns the exit status; 128 and the signal number when a signal ended it.
    @discardableResult
    public func wait() -> Int32 {
        process.waitUntilExit()
        forget()
        return process.terminationReason == .exit ? process.terminationStatus : 128 + process.terminationStatus
    }

    /// Waits at most so many seconds; nil when it still runs then.
    public func wait(seconds: Double) -> Int32? {
        let deadline = monotonicSeconds() + seconds
        while process.isRunning {
            guard monotonicSeconds() < deadline else { return nil }
            usleep(2_000)
        }
        return wait()
    }

    /// Ends it with SIGKILL, as a crash would.
    public func crash() {
        if process.isRunning { kill(process.processIdentifier, SIGKILL) }
        wait()
    }

    /// Ends it with SIGTERM, and with SIGKILL when it does not obey within ten seconds.
    public func stop() {
        if process.isRunning { kill(process.processIdentifier, SIGTERM) }
        if wait(seconds: 10) == nil { crash() }
    }

    private func forget() {
        let child = process.processIdentifier
        runningChildren.withLock { $0.removeAll { $0 == child } }
    }

    /// The last lines of the log, for error messages.
    public var logTail: String {
        let text = (try? String(contentsOfFile: logPath, encoding: .utf8)) ?? ""
        return text.split(separator: "\n").suffix(8).joined(separator: "\n")
    }
}

/// What a program that ran to its end left.
public struct CommandResult: Sendable {
    /// The exit status.
    public let status: Int32
    /// Standard output.
    public let output: String
    /// Standard error.
    public let error: String
}

/// Runs a program to its end.
///
/// - Parameter timeoutSeconds: after this it is killed, which is an error.
public func runCommand(
    _ executable: String,
    _ arguments: [String],
    environment: [String: String] = [:],
    timeoutSeconds: Double = 300
) throws -> CommandResult {
    let base = NSTemporaryDirectory() + "godwit-harness-\(getpid())-\(UInt64.random(in: 0 ... .max))"
    defer {
        unlink(base + ".out")
        unlink(base + ".err")
    }
    let child = try ChildProcess(
        executable,
        arguments,
        environment: environment,
        logPath: base + ".err",
        outputPath: base + ".out"
    )
    guard let status = child.wait(seconds: timeoutSeconds) else {
        child.crash()
        throw HarnessError(
            "'\(executable) \(arguments.joined(separator: " "))' did not end within \(timeoutSeconds) s",
            remedy: "look at the log of the server"
        )
    }
    return CommandResult(
        status: status,
        output: (try? String(contentsOfFile: base + ".out", encoding: .utf8)) ?? "",
        error: (try? String(contentsOfFile: base + ".err", encoding: .utf8)) ?? ""
    )
}

/// Runs a program to its end and throws when its exit status is not 0.
@discardableResult
public func runChecked(
    _ executable: String,
    _ arguments: [String],
    environment: [String: String] = [:],
    timeoutSeconds: Double = 300
) throws -> String {
    let result = try runCommand(
        executable,
        arguments,
        environment: environment,
        timeoutSeconds: timeoutSeconds
    )
    guard result.status == 0 else {
        throw HarnessError(
            "'\(executable) \(arguments.joined(separator: " "))' ended with \(result.status): \(result.error)",
            remedy: "mend what it says and start again"
        )
    }
    return result.output
}

/// The absolute path of a program.
public func findExecutable(_ name: String) throws -> String {
    if name.contains("/") {
        guard access(name, X_OK) == 0 else {
            throw HarnessError("there is no program '\(name)'", remedy: "build it, or give its path")
        }
        return name
    }
    let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
    let directories: [String] = path.split(separator: ":").map(String.init) + ["/usr/sbin", "/sbin"]
    for directory in directories {
        let candidate = "\(directory)/\(name)"
        if access(candidate, X_OK) == 0 { return candidate }
    }
    throw HarnessError(
        "there is no program '\(name)' on this machine",
        remedy: "install the packages of scripts/packages-bench.txt"
    )
}

/// Seconds of the monotonic clock.
public func monotonicSeconds() -> Double {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    return Double(now.tv_sec) + Double(now.tv_nsec) / 1e9
}

/// Whether something listens on a TCP port of 127.0.0.0/8.
public func isListening(address: String, port: Int) -> Bool {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    var place = sockaddr_in()
    place.sin_family = sa_family_t(AF_INET)
    place.sin_port = in_port_t(port).bigEndian
    inet_pton(AF_INET, address, &place.sin_addr)
    return withUnsafePointer(to: &place) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
        }
    }
}

/// Waits until a daemon listens, or throws with the end of its log.
public func waitUntilListening(_ child: ChildProcess, address: String, port: Int, seconds: Double) throws {
    let deadline = monotonicSeconds() + seconds
    while !isListening(address: address, port: port) {
        guard child.isRunning, monotonicSeconds() < deadline else {
            throw HarnessError(
                "nothing listens on \(address):\(port); the log says:\n\(child.logTail)",
                remedy: "see \(child.logPath)"
            )
        }
        usleep(10_000)
    }
}
