import Foundation
import Glibc
import JSON
import NFSTypes
import TestKit
import Testing

/// Statistics and placement by the real daemon and the real command.
@Suite("Statistics of daemons", .serialized)
struct StatisticsDaemonTests {
    /// A client of NFS that knows as much of XDR (RFC 4506) as it needs.
    private final class SmallClient {
        private let descriptor: Int32
        private var xid: UInt32 = 1

        init(_ address: String, port: Int) throws {
            descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            var target = sockaddr_in()
            target.sin_family = sa_family_t(AF_INET)
            target.sin_port = in_port_t(port).bigEndian
            target.sin_addr.s_addr = inet_addr(address)
            var timeout = timeval(tv_sec: 10, tv_usec: 0)
            setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
            let status = withUnsafePointer(to: &target) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
            try #require(status == 0)
        }

        deinit { close(descriptor) }

        static func word(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(value >> (24 - 8 * $0) & 0xff) } }

        static func opaque(_ bytes: [UInt8]) -> [UInt8] {
            word(UInt32(bytes.count)) + bytes + [UInt8](repeating: 0, count: -bytes.count & 3)
        }

        /// Calls as user 0; returns what is behind the status of an accepted and successful call.
        func call(_ program: UInt32, _ procedure: UInt32, _ arguments: [UInt8]) throws -> [UInt8] {
            xid += 1
            let credential: [UInt32] = [1, 20, 0, 0, 0, 0, 0, 0, 0]
            let head: [UInt32] = [xid, 0, 2, program, 3, procedure] + credential
            let record = head.flatMap(Self.word) + arguments
            let bytes = Self.word(UInt32(record.count) | 0x8000_0000) + record
            try #require(send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count)
            let mark = try receive(4)
            let answer = try receive(Int(mark.reduce(0 as UInt32) { $0 << 8 | UInt32($1) } & 0x7fff_ffff))
            try #require(answer.count >= 28 && answer[24..<28].allSatisfy { $0 == 0 }, "the call failed: \(answer)")
            return Array(answer[28...])
        }

        private func receive(_ count: Int) throws -> [UInt8] {
            var bytes: [UInt8] = []
            while bytes.count < count {
                var part = [UInt8](repeating: 0, count: count - bytes.count)
                let got = recv(descriptor, &part, part.count, 0)
                try #require(got > 0, "the connection ended, or nothing came")
                bytes += part[..<got]
            }
            return bytes
        }

        /// The handle at a junction.
        func mount(_ path: String) throws -> [UInt8] {
            let answer = try call(Mount3.program, 1, Self.opaque(Array(path.utf8)))
            return Array(answer[4..<(4 + Int(answer[3]))])
        }

        /// Makes a file, writes into it and reads it back; returns how many requests that were.
        func work(in directory: [UInt8], _ name: String) throws -> Int {
            let made = try call(
                NFS3.program,
                8,
                Self.opaque(directory) + Self.opaque(Array(name.utf8)) + Self.word(0)
                    + [UInt8](repeating: 0, count: 24)
            )
            let handle = Self.opaque(Array(made[8..<(8 + Int(made[7]))]))
            let data = [UInt8](repeating: 1, count: 8_192)
            _ = try call(
                NFS3.program,
                7,
                handle + [0, 0, 0, 0, 0, 0, 0, 0] + Self.word(8_192) + Self.word(2) + Self.opaque(data)
            )
            _ = try call(NFS3.program, 6, handle + [0, 0, 0, 0, 0, 0, 0, 0] + Self.word(8_192))
            return 3
        }
    }

    private func json(_ run: CommandRun) throws -> JSONValue {
        #expect(run.status == 0, "\(run.output)")
        return try JSONValue(parsing: [UInt8](run.output.utf8))
    }

    private func records(_ value: JSONValue) -> [JSONValue] { value.values(at: "records") }

    private func number(_ record: JSONValue?, _ path: String) -> Double? {
        switch record?[path: path] {
        case .int(let value)?: Double(value)
        case .double(let value)?: value
        default: nil
        }
    }

    private func serve(_ daemon: LocalDaemon, _ address: String, _ port: Int) throws {
        for arguments in [
            ["svm", "create", "--name", "shop"],
            ["volume", "create", "--svm", "shop", "--name", "data", "--size", "1G", "--junction-path", "/data"]
                + ["--aggregate", "aggr1"],
            ["export-policy", "rule", "add", "--svm", "shop", "--policy", "default", "--clients", "127.0.0.0/8"]
                + ["--superuser", "any"],
            ["lif", "create", "--svm", "shop", "--name", "lif1", "--address", address, "--port", "\(port)"],
        ] {
            let run = try daemon.run(arguments)
            try #require(run.status == 0, "\(arguments): \(run.output)")
        }
    }

    @Test func loadShowsUpInStatisticsAndPlacementIsExplained() async throws {
        let alpha = try await LocalDaemon(
            "alpha",
            aggregates: ["name: aggr1, directory: DIR/aggr1, capacity: 2G"],
            rest: "statistics: {interval: 1}"
        )
        let port = FreePorts.take(1)
        try serve(alpha, "127.0.0.1", port)
        let client = try SmallClient("127.0.0.1", port: port)
        let root = try client.mount("/data")
        // Samples are of a second: as many as are needed until one has been written of the load.
        var volume: JSONValue?
        let deadline = Date() + 30
        var round = 0
        while Date() < deadline {
            round += 1
            for index in 0..<20 { _ = try client.work(in: root, "file-\(round)-\(index)") }
            let shown = try json(try alpha.godwit("statistics", "show", "--volume", "data", "--json"))
            volume = records(shown).first
            if let iops = number(volume, "iops.write"), iops > 0 { break }
        }
        #expect(volume?[path: "type"]?.plain == "volume" && volume?[path: "svm.name"]?.plain == "shop")
        #expect((number(volume, "iops.read") ?? 0) > 0 && (number(volume, "iops.other") ?? 0) > 0)
        #expect((number(volume, "throughput.write") ?? 0) > 0)
        let p50 = try #require(number(volume, "latency.p50_us"))
        let p99 = try #require(number(volume, "latency.p99_us"))
        #expect(p50 > 0 && p99 >= p50)
        let aggregates = records(try json(try alpha.godwit("statistics", "show", "--aggregate", "*", "--json")))
        #expect(aggregates.count == 1)
        #expect((number(aggregates.first, "utilization_percent") ?? 0) > 0)
        #expect(aggregates.first?[path: "headroom.unknown"] != nil)
        let table = try alpha.godwit("statistics", "show").output
        #expect(table.contains("HEADROOM") && table.contains("shop:data") && table.contains("aggr1"))
        #expect(try alpha.godwit("statistics", "show", "--aggregate", "a", "--svm", "s").status != 0)

        // The destination looks at the load that the source has measured, and tells what it looked at.
        let beta = try await LocalDaemon(
            "beta",
            aggregates: [
                "name: fast, directory: DIR/fast, capacity: 1G, tier: performance",
                "name: large, directory: DIR/large, capacity: 4G, tier: capacity",
                "name: plain, directory: DIR/plain, capacity: 2G",
            ]
        )
        try peer(alpha, "beta", beta)
        try peer(beta, "alpha", alpha)
        let check = ["svm", "migrate", "start", "--svm", "shop", "--source-cluster", "alpha", "--check-only"]
        let job = try json(try beta.run(check + ["--json"]))
        let decision = try #require(job.values(at: "godwit.placements").first)
        #expect(decision[path: "kind"]?.plain == "volume" && decision[path: "name"]?.plain == "data")
        #expect(decision[path: "choice"]?.plain == "large")
        #expect(decision[path: "reason"]?.plain.contains("IOPS") == true)
        #expect(decision.values(at: "options.name").map(\.plain) == ["large", "plain", "fast"])
        let chosen = try beta.run(check + ["--tier", "performance"])
        #expect(chosen.status == 0)
        #expect(chosen.output.contains("its tier is 'capacity', and 'performance' is asked for"))
        #expect(chosen.output.contains("volume data: fast, it is the only one that qualifies"))
        let refused = try beta.run(check + ["--tier", "capacity", "--aggr-list", "fast"])
        #expect(refused.status != 0)
        #expect(refused.output.contains("it is not among the aggregates that may be used"))
        #expect(refused.output.contains("remedy: free space, add an aggregate"))
        #expect(try beta.run(check + ["--tier", "slow"]).output.contains("give performance, capacity or any"))
        #expect(try beta.godwit("aggregate", "show").output.contains("capacity"))
    }

    private func peer(_ daemon: LocalDaemon, _ name: String, _ other: LocalDaemon) throws {
        let run = try daemon.godwit(
            "cluster",
            "peer",
            "create",
            "--name",
            name,
            "--address",
            "127.0.0.1:\(other.managementPort)",
            "--passphrase",
            "a long passphrase"
        )
        try #require(run.status == 0, "\(run.output)")
    }
}
