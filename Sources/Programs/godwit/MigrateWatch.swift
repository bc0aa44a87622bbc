import Glibc
import JSON

/// Follows an operation until it ends or waits for the user: phase, a bar per volume, rate and lag.
struct MigrateWatch {
    let client: Client
    let uuid: String
    let json: Bool

    /// How often the operation is read.
    private static let intervalMilliseconds = 200
    /// States in which nothing more happens by itself.
    private static let finalStates: Set<String> = [
        "migrate_complete", "migrate_complete_with_warnings", "migrate_failed", "setup_configuration_failed",
        "migrate_aborted", "cleanup_failed", "migrate_paused", "migrate_pause_failed", "migrate_abort_failed",
    ]

    /// Prints what happens.
    ///
    /// - Throws: `CommandError` when the operation failed.
    func run() async throws {
        // A terminal shows one picture that changes; a file gets a line for each change.
        let isTerminal = isatty(STDOUT_FILENO) == 1
        var drawn = 0
        var told = ""
        while true {
            let record = try await client.get("\(MigrateCommand.path)/\(uuid)")
            let state = record[path: "state"]?.plain ?? ""
            if !json {
                if isTerminal {
                    drawn = Self.redraw(Self.picture(record), over: drawn)
                } else {
                    let line = Self.line(record)
                    if line != told {
                        print(line)
                        // Who reads a file or a pipe wants to know it when it happens.
                        fflush(nil)
                    }
                    told = line
                }
            }
            if Self.finalStates.contains(state) || Self.waitsForUser(record, state) {
                return try finish(record, state)
            }
            try await Task.sleep(for: .milliseconds(Self.intervalMilliseconds))
        }
    }

    private static func waitsForUser(_ record: JSONValue, _ state: String) -> Bool {
        switch state {
        case "ready_for_cutover": record[path: "auto_cutover"]?.plain == "false"
        case "ready_for_source_cleanup": record[path: "auto_source_cleanup"]?.plain == "false"
        default: false
        }
    }

    private func finish(_ record: JSONValue, _ state: String) throws {
        if json {
            print(record.text)
        } else {
            for line in Self.details(record) { print(line) }
        }
        guard state.hasSuffix("failed") || state == "migrate_aborted" else { return }
        throw CommandError(
            name: state,
            message: "the migrate operation is in state \(state)",
            remedy: record.values(at: "messages.message").last?.plain ?? "look at its messages"
        )
    }

    // MARK: - Text

    private static func redraw(_ lines: [String], over drawn: Int) -> Int {
        // Up over the last picture, and clear what is below.
        var text = drawn > 0 ? "\u{1b}[\(drawn)A\u{1b}[J" : ""
        text += lines.joined(separator: "\n") + "\n"
        print(text, terminator: "")
        fflush(nil)
        return lines.count
    }

    private static func line(_ record: JSONValue) -> String {
        let state = record[path: "state"]?.plain ?? "?"
        let phase = record[path: "godwit.phase"]?.plain ?? "?"
        let step = record[path: "godwit.step"].map { " \($0.plain)" } ?? ""
        let transfers = record[path: "godwit.transfers"]?.plain ?? "0"
        return "\(state)  phase=\(phase)\(step)  transfers=\(transfers)"
    }

    private static func picture(_ record: JSONValue) -> [String] {
        var lines = [
            "SVM \(record[path: "source.svm.name"]?.plain ?? "?") from \(record[path: "source.cluster.name"]?.plain ?? "?")",
            line(record),
        ]
        lines += volumes(record).map(bar)
        return lines
    }

    private static func volumes(_ record: JSONValue) -> [JSONValue] {
        guard case .array(let volumes)? = record[path: "godwit.volumes"] else { return [] }
        return volumes
    }

    private static func number(_ value: JSONValue?) -> Double {
        switch value {
        case .int(let number)?: Double(number)
        case .double(let number)?: number
        default: 0
        }
    }

    private static func bar(_ volume: JSONValue) -> String {
        let width = 30
        let name = volume[path: "name"]?.plain ?? "?"
        let state = volume[path: "transfer_state"]?.plain ?? "?"
        let done = number(volume[path: "current_bytes"])
        let expected = number(volume[path: "current_bytes_expected"])
        let isComplete = number(volume[path: "transfers"]) > 0 && state != "Transferring"
        let part = isComplete ? 1 : expected > 0 ? min(1, done / expected) : 0
        let filled = Int(part * Double(width))
        let drawing = String(repeating: "#", count: filled) + String(repeating: ".", count: width - filled)
        let lag = volume[path: "last_transfer_milliseconds"].map { "lag \($0.plain) ms" } ?? ""
        let padded = name + String(repeating: " ", count: max(0, 16 - name.count))
        return "  \(padded) [\(drawing)] \(Int(part * 100))%  \(formatBytes(volume[path: "bytes_transferred"]))  "
            + "\(rate(volume))  \(state)  \(lag)"
    }

    private static func rate(_ volume: JSONValue) -> String {
        let milliseconds = number(volume[path: "transfer_milliseconds"])
        guard milliseconds > 0 else { return "-" }
        let tenths = (number(volume[path: "bytes_transferred"]) / 100_000 / milliseconds * 1_000).rounded()
        return "\(tenths / 10) MB/s"
    }

    /// Volumes, stages of the outage and messages of an operation.
    static func details(_ record: JSONValue) -> [String] {
        var lines = [line(record)] + volumes(record).map(bar)
        if case .array(let stages)? = record[path: "godwit.window"], !stages.isEmpty {
            let parts = stages.map { "\($0[path: "name"]?.plain ?? "?")=\($0[path: "milliseconds"]?.plain ?? "?")" }
            lines.append(
                "  window \(record[path: "godwit.window_ms"]?.plain ?? "?") ms: \(parts.joined(separator: " "))"
            )
        }
        if let predicted = record[path: "godwit.predicted_outage_ms"]?.plain {
            let held = record[path: "godwit.outage.hold_ms"].map { ", measured \($0.plain) ms" } ?? ""
            let gap = record[path: "godwit.outage.longest_gap_ms"].map { ", longest client gap \($0.plain) ms" } ?? ""
            lines.append("  outage: predicted \(predicted) ms\(held)\(gap)")
        }
        if let revision = record[path: "godwit.configuration.revision"]?.plain {
            let time = record[path: "godwit.configuration.applied_time"].map { " at \($0.plain)" } ?? ""
            let failure = record[path: "godwit.configuration.last_failure"].map { ", stands still: \($0.plain)" } ?? ""
            lines.append("  configuration: revision \(revision) applied\(time)\(failure)")
        }
        if case .array(let pairs)? = record[path: "godwit.node_pairs"] {
            lines += pairs.map { pair in
                "  from node \(pair[path: "source"]?.plain ?? "?") to \(pair[path: "destination"]?.plain ?? "?"): "
                    + formatBytes(pair[path: "bytes"])
            }
        }
        lines.append("  volumes verified on both sides: \(record[path: "godwit.volumes_verified"]?.plain ?? "0")")
        lines += record.values(at: "messages.message").map { "  message: \($0.plain)" }
        return lines
    }
}
