import Simulator

/// Leaves faults out of a failing seed while it still fails.
enum Minimizer {
    /// The numbers of the faults that are needed; all that there were when the seed does not fail.
    static func minimize(_ seed: UInt64, _ nodes: Int, _ defects: Set<Defect>, _ start: [Int]?) -> [Int]? {
        let whole = Simulator.run(seed: seed, nodeCount: nodes, keeping: start, defects: defects)
        var kept = start ?? Array(whole.faults.indices)
        guard !whole.violations.isEmpty else { return start }
        // Large parts first, then one after the other, until no single one can be left out.
        var size = max(1, kept.count / 2)
        while true {
            var position = 0
            var isSmaller = false
            while position < kept.count {
                let part = position..<min(position + size, kept.count)
                var rest = kept
                rest.removeSubrange(part)
                if Simulator.run(seed: seed, nodeCount: nodes, keeping: rest, defects: defects).violations.isEmpty {
                    position = part.upperBound
                } else {
                    kept = rest
                    isSmaller = true
                }
            }
            if size == 1 && !isSmaller { return kept }
            size = max(1, size / 2)
        }
    }
}
