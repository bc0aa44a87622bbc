import Environment
import Foundation
import Glibc
import Identity
import TestKit
import Testing
import VolumeEngine

/// Runs the real daemon on bad input: a clear message with a remedy on standard error, and the right exit status.
@Suite("Bad input", .serialized)
struct BadInputTests {
    private struct Outcome {
        let status: Int32
        let errors: String
    }

    /// A directory with a configuration file that is good when nothing else is done to it.
    private struct Setup {
        let directory: String
        var port = 1

        func configuration() -> String {
            """
            cluster: {name: alpha}
            node: {name: alpha-01}
            data_directory: \(directory)/data
            management: {address: 127.0.0.1, port: \(port)}
            replication: {address: 127.0.0.1, port: \(port + 1)}
            aggregates:
              - {name: aggr1, directory: \(directory)/aggr1, capacity: 1G}
            """
        }

        func run(_ configuration: String, _ arguments: String...) throws -> Outcome {
            let file = directory + "/godwitd.yaml"
            try Data(configuration.utf8).write(to: URL(filePath: file))
            let tests = URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent()
            let process = Process()
            process.executableURL = tests.appending(path: "godwitd")
            process.arguments = ["--config", file] + arguments
            let errors = Pipe()
            process.standardError = errors
            process.standardOutput = FileHandle.nullDevice
            try process.run()
            let text = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
            process.waitUntilExit()
            return Outcome(status: process.terminationStatus, errors: text)
        }
    }

    private func withSetup(_ body: (inout Setup) throws -> Void) throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "godwit-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        var setup = Setup(directory: directory.path)
        setup.port = FreePorts.take(2)
        try body(&setup)
    }

    @Test func aGoodFilePassesTheCheck() throws {
        try withSetup { setup in
            let outcome = try setup.run(setup.configuration(), "--check-config")
            #expect(outcome.status == 0)
        }
    }

    @Test func anUnknownKeyIsNamedWithTheNearestOne() throws {
        try withSetup { setup in
            let outcome = try setup.run(setup.configuration().replacing("management", with: "managment"))
            #expect(outcome.status == 78)
            #expect(outcome.errors.contains("unknown key 'managment' (did you mean 'management'?"))
        }
    }

    @Test func aPortInUseIsNamed() throws {
        try withSetup { setup in
            let socket = try ListeningSocket()
            defer { socket.close() }
            setup.port = socket.port
            let outcome = try setup.run(setup.configuration())
            #expect(outcome.status == 1)
            #expect(outcome.errors.contains("cannot listen on 127.0.0.1:\(socket.port)"))
            #expect(outcome.errors.contains("management.port"))
        }
    }

    @Test func aDataDirectoryInUseIsRefused() throws {
        try withSetup { setup in
            try FileManager.default.createDirectory(
                atPath: setup.directory + "/data",
                withIntermediateDirectories: true
            )
            let descriptor = open(setup.directory + "/data/godwitd.lock", O_RDWR | O_CREAT, 0o600)
            try #require(descriptor >= 0 && flock(descriptor, LOCK_EX | LOCK_NB) == 0)
            defer { close(descriptor) }
            let outcome = try setup.run(setup.configuration())
            #expect(outcome.status == 1)
            #expect(outcome.errors.contains("is in use by another godwitd"))
        }
    }

    @Test func anAggregateOfAnotherNodeIsRefused() throws {
        try withSetup { setup in
            let owner = ObjectUUID.random(.system)
            let aggregate = try Aggregate.open(
                directory: setup.directory + "/aggr1",
                options: AggregateOptions(node: owner, capacityBytes: 1 << 30),
                environment: .system
            )
            aggregate.close()
            let outcome = try setup.run(setup.configuration())
            #expect(outcome.status == 1)
            #expect(outcome.errors.contains("belongs to node \(owner)"))
            #expect(outcome.errors.contains("aggregate 'aggr1'"))
        }
    }

    @Test func anAggregateOfAnotherFormatIsRefused() throws {
        try withSetup { setup in
            let directory = setup.directory + "/aggr1"
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
            let label = "godwit aggregate 1\nuuid \(ObjectUUID.random(.system))\nnode \(ObjectUUID.random(.system))\n"
            try Data(label.utf8).write(to: URL(filePath: directory + "/aggregate.label"))
            let outcome = try setup.run(setup.configuration())
            #expect(outcome.status == 1)
            #expect(outcome.errors.contains("has format version 1, and this program writes 2"))
            #expect(outcome.errors.contains("an empty directory"))
        }
    }
}

/// A socket that has a port of the kernel's choice, and listens on it unless told otherwise.
final class ListeningSocket {
    let port: Int
    private let descriptor: CInt

    init(isListening: Bool = true) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let descriptor = descriptor
        let isReady = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
                bind(descriptor, generic, length) == 0 && (!isListening || listen(descriptor, 1) == 0)
                    && getsockname(descriptor, generic, &length) == 0
            }
        }
        try #require(isReady)
        port = Int(UInt16(bigEndian: address.sin_port))
    }

    func close() { Glibc.close(descriptor) }
}
