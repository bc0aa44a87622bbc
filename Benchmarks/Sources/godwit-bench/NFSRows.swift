import Foundation
import Harness

/// What `godwit-load` printed.
private struct LoadReport: Decodable {
    let value: Double
    let unit: String
    let cpuMicroseconds: Double

    enum CodingKeys: String, CodingKey {
        case value, unit
        case cpuMicroseconds = "cpu_us_per_op"
    }
}

/// A server as the load generator sees it.
private struct LoadTarget {
    let url: String
    let port: Int
    let mountPort: Int
    let pid: pid_t
}

private func load(_ setting: BenchSetting, _ target: LoadTarget, _ arguments: [String]) throws -> String {
    try runChecked(
        "\(setting.clients)/godwit-load",
        ["--url", target.url, "--port", "\(target.port)", "--mount-port", "\(target.mountPort)"] + arguments,
        timeoutSeconds: 300
    )
}

/// One round; measured again when other programs took processors away from it, as often as the setting allows.
private func report(
    _ setting: BenchSetting,
    _ target: LoadTarget,
    operation: String,
    directory: String,
    outstanding: Int
) throws -> LoadReport {
    var repetition = 0
    while true {
        waitUntilQuiet(seconds: setting.quietSeconds)
        let before = UserTime(server: target.pid)
        let report = try measuredOnce(setting, target, operation, directory, outstanding)
        if UserTime(server: target.pid).foreignProcessors(since: before) <= foreignProcessorsMax { return report }
        if repetition >= setting.repetitions {
            setting.disturbances.count += 1
            return report
        }
        repetition += 1
    }
}

private func measuredOnce(
    _ setting: BenchSetting,
    _ target: LoadTarget,
    _ operation: String,
    _ directory: String,
    _ outstanding: Int
) throws -> LoadReport {
    let output = try load(
        setting,
        target,
        [
            "--operation", operation, "--directory", directory, "--outstanding", "\(outstanding)", "--seconds",
            "\(setting.seconds)", "--server-pid", "\(target.pid)",
        ]
    )
    return try JSONDecoder().decode(LoadReport.self, from: Data(output.utf8))
}

/// The rows against nfs-ganesha. Both servers run all the time, one is measured while the other is idle, and the short
/// rounds alternate, so that what drifts on the machine hits both.
func measureNFS(_ setting: BenchSetting, into results: inout Results) throws {
    // ganesha's CREATE is not durable, Godwit's is. "asis" is against ganesha as it is, "sync" against a directory with
    // synchronous updates, which is the one that counts.
    let operations = [
        ("getattr", "getattr", "load"), ("lookup", "lookup", "load"), ("read4k", "read4k", "load"),
        ("write4k-stable", "write4k-stable", "load"), ("seqread", "seqread", "load"),
        ("seqwrite-commit", "seqwrite-commit", "load"), ("create-remove-asis", "create-remove", "load"),
        ("create-remove-sync", "create-remove", "sync"), ("readdirplus", "readdirplus", "load"),
    ]
    guard operations.contains(where: { setting.wants($0.0 + "-1") || setting.wants($0.0 + "-32") }) else { return }
    let ganesha = try GaneshaServer(directory: "\(setting.work)/ganesha")
    defer { ganesha.stop() }
    try ganesha.start()
    let peer = LoadTarget(url: ganesha.url, port: ganesha.port, mountPort: ganesha.port + 1, pid: ganesha.pid)
    var own: LoadTarget?
    let godwit = try setting.layout.map { try GodwitServer($0) }
    defer { godwit?.stop() }
    if let godwit {
        try godwit.start()
        try godwit.provision()
        own = LoadTarget(
            url: godwit.url,
            port: godwit.layout.port,
            mountPort: godwit.layout.port,
            pid: godwit.pid
        )
    }
    for target in [peer] + (own.map { [$0] } ?? []) {
        for directory in ["load", "sync"] { _ = try load(setting, target, ["--prepare", "--directory", directory]) }
    }
    try runChecked("chattr", ["+D", "\(ganesha.exportPath)/sync/churn"])
    for (name, operation, directory) in operations {
        for outstanding in [1, 32] where setting.wants("\(name)-\(outstanding)") {
            var ownReports: [LoadReport] = []
            var peerReports: [LoadReport] = []
            for _ in 0..<setting.rounds {
                if let own {
                    ownReports.append(
                        try report(
                            setting,
                            own,
                            operation: operation,
                            directory: directory,
                            outstanding: outstanding
                        )
                    )
                }
                peerReports.append(
                    try report(setting, peer, operation: operation, directory: directory, outstanding: outstanding)
                )
            }
            results.add(
                "\(name)-\(outstanding)",
                unit: peerReports[0].unit,
                isTime: false,
                godwit: median(ownReports.map(\.value)),
                peer: directory == "sync" ? "ganesha (sync dir)" : "ganesha",
                peerValue: median(peerReports.map(\.value)),
                godwitCPU: median(ownReports.map(\.cpuMicroseconds)),
                peerCPU: median(peerReports.map(\.cpuMicroseconds))
            )
        }
    }
}
