import Environment
import Logging
import MigrateOperation

/// The job that waits for a peer that does not answer [170]: before the cutover an operation is in no hurry, so it waits
/// for as long as it takes, with growing waits, and goes on where it was.
enum PeerHealth {
    static let waitMillisecondsMin: UInt64 = 200
    static let waitMillisecondsMax: UInt64 = 10_000

    /// Returns when the source answers.
    /// - Throws: `.interrupted` when a user asks for a pause or an abort meanwhile.
    static func waitForSource(_ migration: Migration) async throws {
        var backOff = BackOff(minMilliseconds: waitMillisecondsMin, maxMilliseconds: waitMillisecondsMax)
        var isTold = false
        while true {
            try migration.record.requireNotInterrupted()
            do {
                _ = try await migration.ask(.probe(answerBytes: 0))
                if isTold { migration.log.notice("the source answers again") }
                return
            } catch let error as MigrateError where error.kind == .unreachable || error.kind == .nodeAway {
                if !isTold {
                    isTold = true
                    migration.log.warning("the operation waits for its source: \(error)")
                    try await migration.update {
                        $0.say(MigrateCode.peerUnreachable, "the operation waits for its source: \(error)")
                    }
                }
                try await migration.waitInterruptibly(milliseconds: backOff.next(migration.environment))
            }
        }
    }
}

/// What is done about a failure before the cutover.
enum FailureVerdict: Equatable {
    /// The source does not answer: wait for it, however long it takes.
    case waitForPeer
    /// A node of one of the clusters does not answer: it comes back, or its partner takes its place.
    case waitForNode
    /// It may succeed when it is tried again.
    case tryAgain
    /// Trying again is of no use.
    case giveUp

    /// Judges an error; unknown ones are taken for intermittent.
    init(_ error: (any Error)?) {
        guard let error = error as? MigrateError else {
            self = .tryAgain
            return
        }
        switch error.kind {
        case .unreachable: self = .waitForPeer
        case .nodeAway: self = .waitForNode
        case .failed, .interrupted: self = .tryAgain
        case .fenced, .notFound, .refused, .pastPointOfNoReturn, .commitRecovered, .wrongVersion, .notAuthenticated,
            .notInThisVersion, .invalid, .baselineLost:
            self = .giveUp
        }
    }
}
