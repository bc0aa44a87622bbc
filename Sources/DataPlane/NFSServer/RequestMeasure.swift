package import Environment
import VolumeEngine

/// How one request is counted: of which volume it is, and what data it carried.
///
/// Its volume is that of the first object that it named, as it is for the node that executes it. A request that names none
/// (outside of volumes, or not understood) or whose answer was kept is not counted: no volume did anything for it. What it
/// costs a request: two readings of the clock, a reference, and the additions of `VolumeCounters`.
package struct RequestMeasure: Sendable {
    private var counters: VolumeCounters?
    private var kind = OperationKind.other
    private var bytes = 0

    init() {}

    /// It is about a volume, if it was not about one before.
    mutating func meet(_ volume: Volume) { if counters == nil { counters = volume.counters } }

    /// It read or wrote data.
    mutating func carry(_ kind: OperationKind, bytes: Int) {
        self.kind = kind
        self.bytes = bytes
    }

    /// Counts it, at the moment in which it is answered.
    ///
    /// - Parameter began: when its execution began, in nanoseconds of the monotonic clock.
    package func count(since began: UInt64, _ environment: Environment) {
        guard let counters else { return }
        let now = environment.monotonicNanoseconds()
        counters.count(kind, bytes: bytes, latencyNanoseconds: now > began ? now - began : 0)
    }
}
