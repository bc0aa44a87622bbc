import ArgumentParser
import JSON

/// `godwit statistics …`
struct StatisticsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "statistics",
        abstract: "What clients ask of volumes and aggregates.",
        subcommands: [Show.self]
    )
    static let path = "/api/private/godwit/statistics"

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Shows load, latency and headroom, as measured in the last five samples.",
            discussion: """
                A sample is a minute when nothing else is configured. Headroom is what is left of the load up to which \
                latency grows less than load; it is known once an aggregate was seen beyond that point.
                """
        )
        @OptionGroup var options: GlobalOptions
        @Option(help: "Only volumes of this name; * stands for anything.") var volume: String?
        @Option(help: "Only aggregates of this name; * stands for anything.") var aggregate: String?
        @Option(help: "Only volumes of this SVM.") var svm: String?

        func run() async throws {
            guard volume == nil || aggregate == nil, aggregate == nil || svm == nil else {
                throw CommandError(
                    message: "--aggregate cannot be given together with --volume or --svm",
                    remedy: "ask for the aggregates and for the volumes one after the other"
                )
            }
            let type = aggregate != nil ? "aggregate" : volume != nil || svm != nil ? "volume" : nil
            let records = try await options.client.records(
                StatisticsCommand.path,
                [("type", type), ("name", aggregate ?? volume), ("svm.name", svm)]
            )
            options.show(records, StatisticsCommand.columns)
        }
    }

    /// The columns of the table.
    static var columns: [Column] {
        [
            Column("TYPE", "type"),
            Column("OBJECT") { record in
                let name = record[path: "name"]?.plain ?? "-"
                return record[path: "svm.name"].map { "\($0.plain):\(name)" } ?? name
            },
            Column("NODE", "node.name"), Column("IOPS") { number($0, "iops.total") },
            Column("READ") { number($0, "iops.read") }, Column("WRITE") { number($0, "iops.write") },
            Column("OTHER") { number($0, "iops.other") },
            Column("BYTES/S") { record in
                guard let bytes = value(record, "throughput.total") else { return "-" }
                return formatBytes(.int(Int64(bytes)))
            },
            Column("P50 MS") { milliseconds($0, "latency.p50_us") },
            Column("P95 MS") { milliseconds($0, "latency.p95_us") },
            Column("P99 MS") { milliseconds($0, "latency.p99_us") },
            Column("USED") { percent($0, "utilization_percent") },
            Column("HEADROOM") { percent($0, "headroom.percent") },
        ]
    }

    private static func value(_ record: JSONValue, _ path: String) -> Double? {
        switch record[path: path] {
        case .int(let value)?: Double(value)
        case .double(let value)?: value
        default: nil
        }
    }

    private static func number(_ record: JSONValue, _ path: String) -> String {
        value(record, path).map { decimal($0, $0 < 10 ? 10 : 1) } ?? "-"
    }

    private static func milliseconds(_ record: JSONValue, _ path: String) -> String {
        value(record, path).map { decimal($0 / 1_000, 100) } ?? "-"
    }

    private static func percent(_ record: JSONValue, _ path: String) -> String {
        value(record, path).map { decimal($0, 1) + "%" } ?? "-"
    }

    /// A number in steps of one by `parts`.
    private static func decimal(_ value: Double, _ parts: Double) -> String {
        let rounded = (value * parts).rounded() / parts
        return parts == 1 ? "\(Int64(min(max(rounded, -1e15), 1e15)))" : "\(rounded)"
    }
}
