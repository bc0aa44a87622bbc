import ClusterConfiguration
import Identity
import StorageControl

/// The administrator of the SVM that moves: gives an export policy of it one rule after another on the cluster where it was
/// made. Whatever was acknowledged must be where the SVM is in the end.
final class Configurer: @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    private static let policy: UInt64 = 4_242

    private var generator: Generator
    private var isBusy = false
    /// The number of the last change that was acknowledged, and of the last one that was tried.
    private var acknowledged: UInt32 = 0
    private var attempted: UInt32 = 0

    init(generator: Generator) { self.generator = generator }

    /// Begins to change.
    func begin() {
        let pause = simulation.isSlow ? 5_000_000_000 : generator.within(200_000_000...2_000_000_000)
        simulation.scheduler.after(pause) { [self] in
            defer { begin() }
            if !isBusy && !simulation.isHealing { change() }
        }
    }

    private func change() {
        let up = simulation.clusters[0].nodes.filter { $0.isUp && !$0.isIsolated && $0.process?.isPaused == false }
        guard !up.isEmpty else { return }
        let node = up[generator.below(up.count)]
        guard let process = node.process, let controller = node.controller else { return }
        isBusy = true
        attempted += 1
        let number = attempted
        node.spawn { [self] in
            do {
                try await put(number, controller)
                acknowledged = number
            } catch {
                simulation.trace("the administrator of the SVM hears: \(error)")
            }
            ended(number)
        }
        let before = process.onDeath
        process.onDeath = { [self] in
            ended(number)
            before()
        }
    }

    /// A process may die long after its change.
    private func ended(_ number: UInt32) { if number == attempted { isBusy = false } }

    private func put(_ number: UInt32, _ controller: StorageController) async throws {
        let svm = simulation.user.movingSVM
        let rule = ExportRule(index: 1, clients: ["0.0.0.0/0"], anonymousUser: number)
        try await controller.change(as: .user) { draft throws(ManagementError) in
            try draft.putExportPolicy(
                ExportPolicyRecord(identifier: Self.policy, name: "moving", svm: svm, rules: [rule])
            )
        }
    }

    /// Looks at the cluster that has the SVM.
    func inspect(_ serving: ConfigurationSnapshot) {
        let found = serving.exportPolicy(Self.policy)?.rules.first?.anonymousUser ?? 0
        guard found < acknowledged || found > attempted else { return }
        simulation.violation(
            "the export policy has change \(found): \(acknowledged) was acknowledged, \(attempted) was the last one"
        )
    }
}
