/// Why a part of a migrate operation was refused or did not succeed.
package struct MigrateError: Error, Codable, Equatable, Sendable, CustomStringConvertible {
    /// The kinds of failure; what a caller does next depends on them.
    package enum Kind: String, Codable, Equatable, Sendable {
        /// Nobody answered, or too late: it may or may not have happened. Ask again.
        case unreachable
        /// A node of the cluster that was asked does not answer: it may or may not have happened, and its partner may take
        /// its place. Ask again.
        case nodeAway
        /// A caller with a newer epoch has taken the operation over: stop.
        case fenced
        /// The operation, SVM, volume or snapshot is not there.
        case notFound
        /// The call does not fit the state: asking again does not help.
        case refused
        /// The point of no return has been recorded: there is no way back.
        case pastPointOfNoReturn
        /// The commit was given up: the source serves and the point of no return is refused.
        case commitRecovered
        /// The other side speaks another version of the protocol.
        case wrongVersion
        /// The peer's secret does not match.
        case notAuthenticated
        /// Part of the product that this version does not have.
        case notInThisVersion
        /// Bad input of the user.
        case invalid
        /// The storage below failed; the same call may succeed later.
        case failed
        /// A user asked for a pause or an abort: what runs ends here.
        case interrupted
        /// Source and replica have no snapshot in common any more: only a new baseline helps.
        case baselineLost
    }

    /// The kind.
    package var kind: Kind
    /// The number that the REST interface reports.
    package var code: String
    /// What is wrong.
    package var message: String
    /// How to mend it.
    package var remedy: String

    /// Makes an error.
    package init(_ kind: Kind, code: String = "13172746", _ message: String, remedy: String) {
        self.kind = kind
        self.code = code
        self.message = message
        self.remedy = remedy
    }

    /// What is wrong and how to mend it, in one line.
    package var description: String { "\(message) (\(remedy))" }
}

/// Something that a pre-check found [126]: all findings are reported together.
package struct PrecheckFinding: Codable, Equatable, Sendable {
    /// A stable number for programs.
    package var code: String
    /// What is wrong.
    package var message: String
    /// How to mend it.
    package var remedy: String

    /// Makes a finding.
    package init(code: String, _ message: String, remedy: String) {
        self.code = code
        self.message = message
        self.remedy = remedy
    }
}

/// The numbers of the findings and refusals, in one place so that none is used twice.
package enum MigrateCode {
    /// Start failed for a reason that has no number of its own.
    package static let startFailed = "13172746"
    /// No such operation.
    package static let unknownOperation = "13172783"
    /// The action does not fit the state of the operation.
    package static let wrongState = "13173746"
    /// The property or the action is not in this version.
    package static let notInThisVersion = "13173758"
    /// The source SVM does not exist.
    package static let unknownSVM = "13174001"
    /// The source SVM is not running.
    package static let svmNotRunning = "13174002"
    /// The source SVM already takes part in a migrate operation.
    package static let svmInMigrate = "13174003"
    /// The peer cluster is unknown.
    package static let unknownPeer = "13174004"
    /// The peer cluster does not answer.
    package static let peerUnreachable = "13174005"
    /// The two clusters do not speak the same version.
    package static let wrongVersion = "13174006"
    /// The destination has an SVM of that name or identity.
    package static let svmCollision = "13174007"
    /// The destination has a volume of that identity.
    package static let volumeCollision = "13174008"
    /// No aggregate of the destination has the space.
    package static let noCapacity = "13174009"
    /// An address of the SVM cannot be used on the destination.
    package static let interfaceAddress = "13174010"
    /// The SVM has no volume.
    package static let noVolumes = "13174011"
    /// The integrity check found a difference.
    package static let integrity = "13174012"
    /// The source uses a kind of configuration or a feature that the destination does not have.
    package static let unknownFeature = "13174013"
    /// The clocks of the two clusters differ too much.
    package static let clockSkew = "13174014"
    /// The network between the clusters is too slow for a short outage.
    package static let roundTrip = "13174015"
    /// The outage that is predicted is longer than the hold budget.
    package static let predictedOutage = "13174016"
    /// The source and the replica of a volume have no snapshot in common.
    package static let baselineLost = "13174017"
    /// An aggregate, volume or other object of the destination filled up or broke.
    package static let storageRefused = "13174018"
    /// The source knows nothing of the operation any more.
    package static let sourceRecordLost = "13174019"
    /// No port of the destination can take an interface of the SVM.
    package static let interfacePort = "13174030"
    /// A choice of places comes too late: what it is about is there already.
    package static let placedAlready = "13174031"
    /// A pause failed.
    package static let pauseFailed = "13173739"
    /// An abort failed.
    package static let abortFailed = "13173740"
    /// The operation failed.
    package static let migrateFailed = "13173741"
    /// The abort is not possible in this state.
    package static let abortRefused = "13173738"
}
