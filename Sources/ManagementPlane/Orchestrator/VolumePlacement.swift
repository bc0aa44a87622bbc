package import ClusterConfiguration
package import Identity
package import MigrateOperation
package import Performance

/// An aggregate of the destination that volumes might go to.
package struct AggregateCandidate: Equatable, Sendable {
    /// Its identity.
    package var aggregate: ObjectUUID
    /// Its name.
    package var name: String
    /// Bytes that are free.
    package var availableBytes: UInt64
    /// What it is for; nil when nobody says.
    package var tier: AggregateTier?
    /// What load it can take on.
    package var headroom: Headroom
    /// Why no volume may go there, whatever it needs: it is not in the user's list, its node is down. Nil when one may.
    package var refusal: String?

    /// Makes a candidate.
    package init(
        aggregate: ObjectUUID,
        name: String,
        availableBytes: UInt64,
        tier: AggregateTier? = nil,
        headroom: Headroom = .unknown(.tooFewSamples),
        refusal: String? = nil
    ) {
        self.aggregate = aggregate
        self.name = name
        self.availableBytes = availableBytes
        self.tier = tier
        self.headroom = headroom
        self.refusal = refusal
    }
}

/// Chooses an aggregate for each volume [164-167]: pure.
///
/// Refused are aggregates that the user does not want, of another tier than is asked for, without the space (the whole
/// size when it is guaranteed, else what is used and an overhead), or without the headroom for the busiest load that the
/// volume had. Performance alone never stops a migrate: when headroom is all that is missing everywhere, the aggregate that
/// has the most of it is taken. Among those that qualify the best has the most headroom, in quarters of the
/// optimum and only where all of them were measured; then the most free space, in sixteenths of the largest; then the
/// fewest volumes of the SVM; then the first name. Encryption is no criterion: volumes are not encrypted so far.
package struct VolumePlacement {
    /// What of the free space of the largest aggregate is taken for the same.
    package static let spaceSteps: UInt64 = 16
    /// What of the optimal load is taken for the same.
    package static let headroomSteps: Double = 4
    /// Percent of what a thin volume uses that are needed besides: what is packed on the source (deferred small writes,
    /// blocks that snapshots share) may be less so here.
    package static let efficiencyOverheadPercent: UInt64 = 5

    private var candidates: [AggregateCandidate]
    private var counts: [Int]
    private let tier: AggregateTier?
    private let step: UInt64

    /// How an aggregate compares to the others, for one volume; the greater one is the better one.
    private struct Merit: Comparable {
        var headroom: Int
        var space: UInt64
        /// Negative, so that fewer are better.
        var volumes: Int

        static func < (left: Merit, right: Merit) -> Bool {
            (left.headroom, left.space, left.volumes) < (right.headroom, right.space, right.volumes)
        }
    }

    /// What a volume needs.
    private struct Need {
        var bytes: UInt64
        /// Requests per second; nil when they are not known or none.
        var load: Double?
        var words: String

        init(_ volume: VolumeDescription) {
            let space: String
            if volume.isSpaceGuaranteed {
                bytes = volume.sizeBytes
                space = "its size, which is guaranteed"
            } else {
                let overhead = volume.usedBytes / 100 * VolumePlacement.efficiencyOverheadPercent
                let (sum, isTooLarge) = volume.usedBytes.addingReportingOverflow(overhead)
                bytes = isTooLarge ? .max : sum
                space = "what it uses and \(VolumePlacement.efficiencyOverheadPercent) %"
            }
            load = volume.busiestOperationsPerSecond.flatMap { $0 > 0 ? $0 : nil }
            words = "it needs \(VolumePlacement.words(bytes: bytes)) (\(space))"
            if let load { words += " and had up to \(VolumePlacement.words(load: load))" }
        }
    }

    private init(_ candidates: [AggregateCandidate], tier: AggregateTier?) {
        self.candidates = candidates
        self.tier = tier
        counts = candidates.map { _ in 0 }
        let usable = candidates.filter { $0.refusal == nil }
        step = max(1, (usable.map(\.availableBytes).max() ?? 0) / Self.spaceSteps)
    }

    /// Places volumes, the largest first, so that small ones do not take the place of large ones.
    ///
    /// - Parameters:
    ///   - candidates: all aggregates, by name.
    ///   - tier: the only one that is wanted; nil for any.
    /// - Returns: a finding for each volume without a place; the volumes with their aggregates and what was decided about
    ///   each, in their order.
    package static func place(
        _ volumes: [VolumeDescription],
        on candidates: [AggregateCandidate],
        tier: AggregateTier? = nil
    ) -> (findings: [PrecheckFinding], volumes: [VolumeDescription], decisions: [PlacementDecision]) {
        var placement = VolumePlacement(candidates, tier: tier)
        var findings: [PrecheckFinding] = []
        var placed: [ObjectUUID: ObjectUUID] = [:]
        var decisions: [ObjectUUID: PlacementDecision] = [:]
        let needs = volumes.map { (volume: $0, need: Need($0)) }
        for (volume, need) in needs.sorted(by: { ($1.need.bytes, $0.volume.name) < ($0.need.bytes, $1.volume.name) }) {
            let (decision, choice) = placement.decide(volume.name, need)
            decisions[volume.uuid] = decision
            guard let choice else {
                findings.append(placement.finding(volume.name, need, decision))
                continue
            }
            placed[volume.uuid] = placement.candidates[choice].aggregate
            placement.take(need, at: choice)
        }
        let result = volumes.map { volume in
            var volume = volume
            volume.destinationAggregate = placed[volume.uuid]
            return volume
        }
        return (findings, result, volumes.compactMap { decisions[$0.uuid] })
    }

    private mutating func take(_ need: Need, at index: Int) {
        candidates[index].availableBytes -= need.bytes
        counts[index] += 1
        if let load = need.load { candidates[index].headroom = candidates[index].headroom.taking(load) }
    }

    // MARK: One volume

    private func decide(_ name: String, _ need: Need) -> (decision: PlacementDecision, choice: Int?) {
        let refusals = candidates.map { refusal($0, need) }
        let shortages = candidates.map { shortage($0, need) }
        let possible = candidates.indices.filter { refusals[$0] == nil }
        let ample = possible.filter { shortages[$0] == nil }
        let qualified = ample.isEmpty ? possible : ample
        let isMeasured = need.load != nil && qualified.allSatisfy { candidates[$0].headroom.part != nil }
        let merits = candidates.indices.map { merit($0, need, isMeasured) }
        let ordered = qualified.sorted { merits[$0] == merits[$1] ? $0 < $1 : merits[$0] > merits[$1] }
        let refused = candidates.indices.filter { !qualified.contains($0) }
        let options =
            ordered.map { PlacementOption(name: candidates[$0].name, detail: detail($0)) }
            + refused.map { index in
                PlacementOption(
                    name: candidates[index].name,
                    detail: detail(index),
                    refusal: refusals[index] ?? shortages[index]
                )
            }
        let choice = ordered.first
        let reason =
            choice == nil
            ? "no aggregate qualifies"
            : Self.reason(ordered.map { merits[$0] }, isShort: ample.isEmpty)
        return (
            PlacementDecision(
                kind: .volume,
                name: name,
                options: options,
                choice: choice.map { candidates[$0].name },
                reason: "\(reason); \(need.words)"
            ),
            choice
        )
    }

    private func refusal(_ candidate: AggregateCandidate, _ need: Need) -> String? {
        if let refusal = candidate.refusal { return refusal }
        if let tier, candidate.tier != tier {
            let own = candidate.tier.map { "its tier is '\($0.rawValue)'" } ?? "its tier is not configured"
            return "\(own), and '\(tier.rawValue)' is asked for"
        }
        guard candidate.availableBytes < need.bytes else { return nil }
        return
            "\(Self.words(bytes: candidate.availableBytes)) are free, and \(Self.words(bytes: need.bytes)) are needed"
    }

    private func shortage(_ candidate: AggregateCandidate, _ need: Need) -> String? {
        guard let load = need.load, let free = candidate.headroom.freeOperationsPerSecond, load > free else {
            return nil
        }
        return "it has headroom for \(Self.words(load: free)), and the volume had up to \(Self.words(load: load))"
    }

    private func merit(_ index: Int, _ need: Need, _ isMeasured: Bool) -> Merit {
        let part = isMeasured ? candidates[index].headroom.taking(need.load ?? 0).part ?? 0 : 0
        let bounded = min(max(part, -1_000), 1)
        return Merit(
            headroom: Int((bounded * Self.headroomSteps).rounded(.down)),
            space: candidates[index].availableBytes / step,
            volumes: -counts[index]
        )
    }

    /// Why the first one is the best.
    private static func reason(_ merits: [Merit], isShort: Bool) -> String {
        let short = "no aggregate has the headroom for it"
        guard merits.count > 1 else {
            return isShort ? "\(short), and only this one has all else" : "it is the only one that qualifies"
        }
        let (first, second) = (merits[0], merits[1])
        let words =
            if first.headroom != second.headroom {
                "it has the most headroom"
            } else if first.space != second.space {
                "it has the most free space"
            } else if first.volumes != second.volumes {
                "others have about as much room and more volumes of the SVM"
            } else {
                "others are as good and come later by name"
            }
        return isShort ? "\(short); \(words)" : words
    }

    private func detail(_ index: Int) -> String {
        let candidate = candidates[index]
        var words = "\(Self.words(bytes: candidate.availableBytes)) free"
        if let tier = candidate.tier { words += ", tier \(tier.rawValue)" }
        switch candidate.headroom {
        case .known(let optimal, let operational):
            let percent = Int(((candidate.headroom.part ?? 0) * 100).rounded())
            words += ", headroom \(percent) % (\(Self.words(load: operational)) of \(Self.words(load: optimal)))"
        case .unknown(let obstacle): words += ", headroom unknown (\(obstacle.rawValue))"
        }
        if counts[index] > 0 { words += ", takes \(counts[index]) other volumes of the SVM" }
        return words
    }

    private func finding(_ name: String, _ need: Need, _ decision: PlacementDecision) -> PrecheckFinding {
        let reasons = decision.options.prefix(8).map { "'\($0.name)': \($0.refusal ?? "")" }
        let words = reasons.isEmpty ? "there is none" : reasons.joined(separator: "; ")
        return PrecheckFinding(
            code: MigrateCode.noCapacity,
            "no aggregate has \(need.bytes) bytes for volume '\(name)' (\(words))",
            remedy: "free space, add an aggregate, or name other aggregates" + (tier == nil ? "" : " or another tier")
        )
    }

    // MARK: Words

    private static func words(bytes: UInt64) -> String {
        let units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
        var amount = Double(bytes)
        var unit = 0
        while amount >= 1_024, unit < units.count - 1 {
            amount /= 1_024
            unit += 1
        }
        let tenths = (amount * 10).rounded(.down) / 10
        let number = tenths == tenths.rounded() ? "\(UInt64(tenths))" : "\(tenths)"
        return "\(number) \(units[unit])"
    }

    private static func words(load: Double) -> String { "\(UInt64(min(max(load, 0), 1e15).rounded())) IOPS" }
}
