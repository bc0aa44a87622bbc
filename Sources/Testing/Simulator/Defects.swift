import FileService
import MigrateOperation
import MigrateSource
import Replication

/// A defect that is planted to see whether the simulator finds it. Production code has none of them: the simulator puts
/// them into what it owns itself, the network, the disks and what stands between a daemon's parts.
package enum Defect: String, CaseIterable, Sendable {
    /// The destination takes the point of no return for recorded before the source has recorded it.
    case destinationFirst = "destination-first"
    /// The source opens its gate when it is asked for the point of no return, not knowing what came of it.
    case earlyRelease = "early-release"
    /// The destination's disk acknowledges data that is not durable, so that a checkpoint is before its data.
    case checkpointBeforeData = "checkpoint-before-data"
    /// A node opens an aggregate that another one has open: the lock lets everybody in.
    case locklessOpen = "lockless-open"
    /// A former owner of an aggregate does not see the epoch that is newer than its own.
    case deafOwner = "deaf-owner"
    /// The session of a node does not end with its lease.
    case endlessSession = "endless-session"
}

/// The planted defects of a run.
struct Defects {
    var planted: Set<Defect> = []

    /// An answer that nobody gave, before the call is made.
    func answerBeforeAsking(_ call: SourceCall) -> SourceReply? {
        guard planted.contains(.destinationFirst), case .pointOfNoReturn = call.request else { return nil }
        return SourceReply(.done)
    }

    /// Called when a node is asked something.
    func asked(_ call: SourceCall, _ node: Node) {
        guard planted.contains(.earlyRelease), case .pointOfNoReturn = call.request else { return }
        for service in simulation.services
        where service.node.cluster === node.cluster && service.file.svm == simulation.user.movingSVM {
            service.reopen()
        }
    }

    /// Whether the running process must not see a file: the label, from the moment on that it has the aggregate open.
    func hides(_ path: String, on disk: SimulatedDisk) -> Bool {
        guard planted.contains(.deafOwner), path.hasSuffix("/aggregate.label") else { return false }
        return disk.holder === simulation.scheduler.current && disk.isOpen
    }

}
