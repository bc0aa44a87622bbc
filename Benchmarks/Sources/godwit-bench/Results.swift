import Foundation
import Harness

/// A measured row: Godwit, its peer, and how far ahead Godwit is.
struct Row: Codable {
    let name: String
    let unit: String
    let godwit: Double?
    let peer: String
    let peerValue: Double?
    /// Above 1: Godwit is ahead, whether the unit is one of speed or of time.
    let ratio: Double?
    let godwitCPU: Double?
    let peerCPU: Double?

    enum CodingKeys: String, CodingKey {
        case name, unit, godwit, peer, ratio
        case peerValue = "peer_value"
        case godwitCPU = "godwit_cpu_us_per_op"
        case peerCPU = "peer_cpu_us_per_op"
    }

    /// Writes every field, those without a value as null.
    func encode(to encoder: any Encoder) throws {
        var fields = encoder.container(keyedBy: CodingKeys.self)
        try fields.encode(name, forKey: .name)
        try fields.encode(unit, forKey: .unit)
        try fields.encode(godwit, forKey: .godwit)
        try fields.encode(peer, forKey: .peer)
        try fields.encode(peerValue, forKey: .peerValue)
        try fields.encode(ratio, forKey: .ratio)
        try fields.encode(godwitCPU, forKey: .godwitCPU)
        try fields.encode(peerCPU, forKey: .peerCPU)
    }
}

/// A row that could not be measured, and why.
struct Omission: Codable {
    let name: String
    let reason: String
}

/// All rows of a run.
struct Results: Codable {
    var rows: [Row] = []
    var omitted: [Omission] = []
    /// Rounds that count although other programs used the processors during them.
    var disturbedRounds = 0

    /// Takes a row; `isTime` when less is better.
    mutating func add(
        _ name: String,
        unit: String,
        isTime: Bool,
        godwit: Double?,
        peer: String,
        peerValue: Double?,
        godwitCPU: Double? = nil,
        peerCPU: Double? = nil
    ) {
        var ratio: Double?
        if let godwit, let peerValue, godwit > 0, peerValue > 0 {
            ratio = isTime ? peerValue / godwit : godwit / peerValue
        }
        rows.append(
            Row(
                name: name,
                unit: unit,
                godwit: godwit,
                peer: peer,
                peerValue: peerValue,
                ratio: ratio,
                godwitCPU: godwitCPU,
                peerCPU: peerCPU
            )
        )
        print(line(rows[rows.count - 1]))
    }

    mutating func omit(_ name: String, _ reason: String) {
        omitted.append(Omission(name: name, reason: reason))
        print("\(name): not measured: \(reason)")
    }

    private func column(_ value: Double?, _ digits: Int, _ width: Int) -> String {
        let text = value.map { String(format: "%.\(digits)f", $0) } ?? "-"
        return String(repeating: " ", count: max(0, width - text.count)) + text
    }

    private func line(_ row: Row) -> String {
        let name = row.name.padding(toLength: 30, withPad: " ", startingAt: 0)
        let unit = row.unit.padding(toLength: 10, withPad: " ", startingAt: 0)
        let peer = row.peer.padding(toLength: 18, withPad: " ", startingAt: 0)
        let digits = row.unit == "s" || row.unit == "ratio" ? 3 : 0
        return name + unit + column(row.godwit, digits, 12) + "  " + peer + column(row.peerValue, digits, 12)
            + column(row.ratio, 2, 9) + column(row.godwitCPU, 1, 10) + column(row.peerCPU, 1, 10)
    }

    func printTable() {
        print(
            "\n" + "row".padding(toLength: 30, withPad: " ", startingAt: 0)
                + "unit".padding(toLength: 10, withPad: " ", startingAt: 0) + "      godwit  "
                + "peer".padding(toLength: 18, withPad: " ", startingAt: 0)
                + "  peer value    ratio  us CPU/op  of peer"
        )
        for row in rows { print(line(row)) }
        let ratios = rows.compactMap(\.ratio)
        if !ratios.isEmpty {
            let ahead = ratios.count { $0 >= 1.3 }
            print(
                "\(ratios.count) ratios: lowest \(String(format: "%.2f", ratios.min() ?? 0)), \(ahead) at 1.3 or better, "
                    + "\(omitted.count) rows not measured, \(disturbedRounds) rounds disturbed by other programs"
            )
        }
    }

    func write(to path: String) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        let directory = (path as NSString).deletingLastPathComponent
        if !directory.isEmpty {
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        }
        try encoder.encode(self).write(to: URL(fileURLWithPath: path))
        print("results: \(path)")
    }
}

/// The middle value, nil of none.
func median(_ values: [Double]) -> Double? {
    let sorted = values.sorted()
    guard !sorted.isEmpty else { return nil }
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}
