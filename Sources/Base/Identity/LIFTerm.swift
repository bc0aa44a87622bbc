/// A LIF during the time that one node of its cluster serves it.
///
/// A term ends when the LIF moves to another node, and does not come back: a LIF that returns to a node begins another one.
package struct LIFTerm: Hashable, Sendable {
    /// The LIF.
    package var lif: ObjectUUID
    /// How often the LIF had moved between nodes when the term began.
    package var number: UInt64

    /// Makes a term.
    package init(lif: ObjectUUID, number: UInt64) {
        self.lif = lif
        self.number = number
    }
}
