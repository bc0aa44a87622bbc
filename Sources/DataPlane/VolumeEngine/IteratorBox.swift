import RocksStore

/// Carries an iterator out of the lock under which it was made.
final class IteratorBox: @unchecked Sendable {
    // Proof of Sendable: made and used by one thread within one call.
    var iterator: RocksIterator?

    /// Runs `body` on the iterator, which must have been set.
    func use<Outcome, Failure: Error>(
        _ body: (borrowing RocksIterator) throws(Failure) -> Outcome
    ) throws(Failure) -> Outcome {
        precondition(iterator != nil)
        return try body(iterator!)
    }
}
