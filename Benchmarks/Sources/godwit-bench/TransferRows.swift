import Foundation
import Harness

/// The rows of replication and snapshots.
func measureTransfers(_ setting: BenchSetting, into results: inout Results) throws {
    let baselines = ["baseline-many-files", "baseline-vs-durable-rsync", "baseline-vs-cat"]
    let incremental = "incremental-10-of-\(setting.manyFiles)"
    if (baselines + [incremental]).contains(where: setting.wants) {
        let daemon = try RsyncDaemon(directory: try made("\(setting.work)/rsync"))
        defer { daemon.stop() }
        if baselines.contains(where: setting.wants) { try measureBaseline(setting, daemon, &results) }
        if setting.wants(incremental) { try measureIncremental(setting, daemon, incremental, &results) }
    }
    if setting.wants("snapshot-create-1-vs-\(setting.manyFiles)") { try measureSnapshots(setting, &results) }
}

private func made(_ directory: String) throws -> String {
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    return directory
}

/// Two clusters that are peers; the source has the SVM.
private struct Pair {
    let source: GodwitServer
    let destination: GodwitServer

    /// Starts a pair in directories of its own; nil when only the peers are measured.
    init?(_ setting: BenchSetting, _ name: String) throws {
        guard var layout = setting.layout else { return nil }
        layout.directory = "\(setting.work)/\(name)"
        layout.cluster = "alpha"
        source = try GodwitServer(layout)
        layout.cluster = "beta"
        layout.managementPort += 10
        layout.replicationPort += 10
        layout.port += 10
        destination = try GodwitServer(layout)
        do {
            try source.start()
            try destination.start()
            try source.provision()
            try source.peer(with: destination)
        } catch {
            stop()
            throw error
        }
    }

    func stop() {
        destination.stop()
        source.stop()
    }
}

private func fill(_ setting: BenchSetting, _ server: GodwitServer, _ tree: String, volume: String) throws {
    try runChecked(
        "\(setting.clients)/godwit-tree",
        [
            "--url", "nfs://\(server.layout.address)/\(volume)", "--port", "\(server.layout.port)", "--source", tree,
            "--directory", "tree",
        ],
        timeoutSeconds: 900
    )
}

/// The first transfer of a tree of many files, against rsync and against what no transfer can beat. Every round goes
/// into new directories: ext4 makes files slowly where many have just been removed.
private func measureBaseline(_ setting: BenchSetting, _ daemon: RsyncDaemon, _ results: inout Results) throws {
    let tree = try MadeTree.make("\(setting.work)/many-files", count: setting.files, size: 16 << 10)
    let megabytes = Double(tree.bytes) / 1e6
    var own: [Double] = []
    var peer: [Double] = []
    var durablePeer: [Double] = []
    var limit: [Double] = []
    for round in 0..<setting.rounds {
        if let pair = try Pair(setting, "baseline-\(round)") {
            defer { pair.stop() }
            try fill(setting, pair.source, tree.path, volume: GodwitServer.volume)
            waitUntilQuiet(seconds: setting.quietSeconds)
            try pair.destination.startMigrate(from: pair.source)
            // The daemon tells how long it took: to ask often would only take the processors from it.
            let progress = try pair.destination.waitForTransfers(1, seconds: 600, everyMilliseconds: 200)
            own.append(megabytes / (Double(progress.baselineMilliseconds) / 1e3))
        }
        waitUntilQuiet(seconds: setting.quietSeconds)
        let seconds = try daemon.synchronize(tree.path, to: "baseline-\(round)")
        peer.append(megabytes / seconds)
        // Ours is on the disk when it ends.
        durablePeer.append(megabytes / (seconds + (try daemon.settle())))
        limit.append(
            megabytes / (try copyThroughLoopback(files: tree.files, to: "\(setting.work)/cat-\(round)"))
        )
    }
    results.add(
        "baseline-many-files",
        unit: "MB/s",
        isTime: false,
        godwit: median(own),
        peer: "rsync",
        peerValue: median(peer)
    )
    results.add(
        "baseline-vs-durable-rsync",
        unit: "MB/s",
        isTime: false,
        godwit: median(own),
        peer: "rsync, one sync",
        peerValue: median(durablePeer)
    )
    results.add(
        "baseline-vs-cat",
        unit: "MB/s",
        isTime: false,
        godwit: median(own),
        peer: "cat, one fsync",
        peerValue: median(limit)
    )
}

/// The transfer after ten changes among many files. The operation is paused while the files change, so that one transfer
/// carries all of them.
private func measureIncremental(
    _ setting: BenchSetting,
    _ daemon: RsyncDaemon,
    _ name: String,
    _ results: inout Results
) throws {
    let tree = try MadeTree.make("\(setting.work)/incremental", count: setting.manyFiles, size: 1 << 10)
    _ = try daemon.synchronize(tree.path, to: "incremental")
    let pair = try Pair(setting, "incremental-clusters")
    defer { pair?.stop() }
    if let pair {
        try fill(setting, pair.source, tree.path, volume: GodwitServer.volume)
        try pair.destination.startMigrate(from: pair.source)
        _ = try pair.destination.waitForTransfers(2, seconds: 900, everyMilliseconds: 200)
    }
    var own: [Double] = []
    var peer: [Double] = []
    for round in 1...setting.rounds {
        let changes = "\(setting.work)/changes-\(round)"
        try tree.changeTen(round: round, copyTo: changes)
        if let pair { own.append(try incrementalSeconds(setting, pair, changes)) }
        waitUntilQuiet(seconds: setting.quietSeconds)
        peer.append(try daemon.synchronize(tree.path, to: "incremental"))
    }
    results.add(name, unit: "s", isTime: true, godwit: median(own), peer: "rsync", peerValue: median(peer))
}

private func incrementalSeconds(_ setting: BenchSetting, _ pair: Pair, _ changes: String) throws -> Double {
    try pair.destination.setMigratePaused(true)
    let before = try pair.destination.transferProgress()
    try fill(setting, pair.source, changes, volume: GodwitServer.volume)
    waitUntilQuiet(seconds: setting.quietSeconds)
    try pair.destination.setMigratePaused(false)
    // The pause may have cut a transfer short, which is ended first: two of them, from start to end, hold the changes.
    let after = try pair.destination.waitForTransfers(before.transfers + 2, seconds: 60, everyMilliseconds: 5)
    guard after.bytes >= before.bytes + 10 * 4096 else {
        throw HarnessError("two transfers did not bring ten changes", remedy: "see \(pair.destination.logPath)")
    }
    // The interface counts whole milliseconds.
    return Double(max(1, after.milliseconds - before.milliseconds)) / 1e3
}

/// A snapshot of a volume with one file against one of a volume with many, in turn.
private func measureSnapshots(_ setting: BenchSetting, _ results: inout Results) throws {
    let name = "snapshot-create-1-vs-\(setting.manyFiles)"
    guard var layout = setting.layout else {
        results.omit(name, "it compares Godwit with itself, and only the peers are measured")
        return
    }
    layout.directory = "\(setting.work)/snapshots"
    layout.cluster = "snapshots"
    let server = try GodwitServer(layout)
    defer { server.stop() }
    try server.start()
    try server.provision()
    try server.makeVolume("one", size: "1G")
    let single = try MadeTree.make("\(setting.work)/one-file", count: 1, size: 1 << 10)
    let many = try MadeTree.make("\(setting.work)/snapshot-files", count: setting.manyFiles, size: 1 << 10)
    try fill(setting, server, single.path, volume: "one")
    try fill(setting, server, many.path, volume: GodwitServer.volume)
    var withOne: [Double] = []
    var withMany: [Double] = []
    for round in 0..<11 {
        withOne.append(try server.snapshotSeconds(volume: "one", name: "round-\(round)"))
        withMany.append(try server.snapshotSeconds(volume: GodwitServer.volume, name: "round-\(round)"))
    }
    results.add(
        name,
        unit: "s",
        isTime: true,
        godwit: median(withMany),
        peer: "Godwit, 1 file",
        peerValue: median(withOne)
    )
}
