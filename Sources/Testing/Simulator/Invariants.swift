import FileService

/// What must hold after every step.
struct Invariants {
    private(set) var violations: [String] = []

    /// Says what is broken; the same words are kept once.
    mutating func violated(_ words: String) {
        if violations.count < 20, !violations.contains(words) { violations.append(words) }
    }

    /// A request was let in: no other cluster may be letting requests in at this moment.
    func admitted(_ service: SimulatedService) {
        for other in simulation.services where other.node !== service.node && other.file.svm == service.file.svm {
            if !other.process.isDead && other.file.gate.current == .open {
                simulation.violation(
                    "both clusters serve the SVM: \(service.node.name) let a request in while the gate of \(other.node.name) was open"
                )
            }
        }
    }

    /// After a step: at most one gate is open.
    func check() {
        var open: Node?
        for service in simulation.services where !service.process.isDead && service.file.gate.current == .open {
            if let other = open, other !== service.node {
                simulation.violation("the gates of both clusters are open")
            }
            open = service.node
        }
    }
}
