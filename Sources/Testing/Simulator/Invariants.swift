import FileService
import Identity

/// What must hold after every step.
final class Invariants {
    private(set) var violations: [String] = []
    /// Something of what the gates let through has changed since the last look.
    private var isGateChanged = true

    /// Says what is broken; the same words are kept once.
    func violated(_ words: String) {
        if violations.count < 20, !violations.contains(words) { violations.append(words) }
    }

    /// A gate was moved, or there are other volumes behind it.
    func gatesChanged() { isGateChanged = true }

    /// A request was let in: no other cluster may be letting requests in at this moment.
    func admitted(_ service: SimulatedService) {
        for other in simulation.services
        where other.node.cluster !== service.node.cluster && other.file.svm == service.file.svm {
            if other.isExecuting && service.isExecuting {
                simulation.violation(
                    "both clusters serve the SVM: \(service.node.name) let a request in while the gate of "
                        + "\(other.node.name) was open"
                )
            }
        }
    }

    /// After a step: what can be executed can be executed at one place.
    func check() {
        guard isGateChanged else { return }
        isGateChanged = false
        let executing = simulation.services.filter(\.isExecuting)
        for (index, service) in executing.enumerated() {
            for other in executing[..<index] where other.file.svm == service.file.svm {
                if other.node.cluster !== service.node.cluster {
                    simulation.violation("the gates of both clusters are open")
                }
                let common = service.volumes.first { other.volumes.contains($0) }
                if let common, other.process !== service.process {
                    simulation.violation(
                        "\(other.node.name) and \(service.node.name) both execute requests for volume \(common)"
                    )
                }
            }
        }
    }
}
