import ClusterConfiguration
import GroupControl
import Identity
package import MigrateOperation
import StorageControl

// Where interfaces go.
extension DestinationGroup {
    /// How long answers are collected. On the links of a server room they come within one millisecond; the rest is for those
    /// that are lost, each address being asked for three times.
    private static let probeMilliseconds: UInt64 = 600

    /// Chooses a port for each interface that has no place and is not here yet, after asking the networks of all nodes that
    /// are up.
    package func placeInterfaces(
        of svm: SVMDescription,
        _ options: MigrationOptions
    ) async throws -> (findings: [PrecheckFinding], interfaces: [InterfaceDescription], decisions: [PlacementDecision])
    {
        let snapshot = try await group.controller.store.snapshot()
        let up = try await group.controller.namesOfNodesUp()
        let here = snapshot.lifs(of: svm.uuid)
        var svm = svm
        for index in svm.interfaces.indices {
            // A place on a node that is down meanwhile is chosen anew.
            guard let place = svm.interfaces[index].destination else { continue }
            if snapshot.node(place.node).map({ up.contains($0.name) }) != true {
                svm.interfaces[index].destination = nil
            }
        }
        let new = svm.configuration.interfaces.filter { interface in
            Self.needsPlace(interface, here)
                && svm.interfaces.first { $0.name == interface.name }?.destination == nil
        }
        var result = InterfacePlaces(svm: svm, snapshot: snapshot, here: here)
        result.refuseUnknown(options.interfaces ?? [])
        let holders = Self.nodes(of: svm.volumes, snapshot, own: group.controller.node.uuid)
        result.place(onLoopback: new.filter { $0.place == nil }, holders, options)
        let onHosts = new.filter { $0.place != nil }
        if !onHosts.isEmpty {
            let questions = onHosts.map { result.question($0, options) }
            let nodes = snapshot.nodes.filter { up.contains($0.name) }
            let (candidates, silent) = try await candidates(for: questions, on: nodes, holders, snapshot)
            for question in questions { result.place(question, candidates, silent) }
        }
        return (result.findings, result.svm.interfaces, result.decisions)
    }

    /// Whether an interface is not here yet, or has come to another network: an address that changes from the loopback to a
    /// host, or to another subnet, needs another port.
    static func needsPlace(_ interface: LIFRecord, _ here: [LIFRecord]) -> Bool {
        !here.contains {
            $0.uuid == interface.uuid && $0.address == interface.address && $0.prefixLength == interface.prefixLength
                && (interface.place == nil || $0.homePort != nil)
        }
    }

    /// What the name of an option ends with that stands for all ports of a node which could not be asked.
    static let silentSuffix = ":*"

    /// Asks nodes for their ports, and for who answers there.
    ///
    /// - Returns: the ports, and the nodes that could not be asked as options that are refused.
    private func candidates(
        for questions: [InterfaceQuestion],
        on nodes: [NodeRecord],
        _ holders: [ObjectUUID],
        _ snapshot: ConfigurationSnapshot
    ) async throws -> (candidates: [PortCandidate], silent: [PlacementOption]) {
        let asked = questions.filter(\.isChecked).flatMap {
            [$0.interface.address, $0.subnet?.gateway].compactMap { $0 }
        }
        let step = GroupStep.probePorts(
            addresses: Set(asked).sorted(),
            withinMilliseconds: Self.probeMilliseconds
        )
        let answers = await withTaskGroup(of: (NodeRecord, Result<GroupReply, any Error>).self) { tasks in
            for node in nodes {
                tasks.addTask {
                    do {
                        let part = Group.Part(node: node.uuid, step: step)
                        return (node, .success(try await group.ask(part, of: ObjectUUID(high: 0, low: 0))))
                    } catch {
                        return (node, .failure(error))
                    }
                }
            }
            var answers: [(node: NodeRecord, result: Result<GroupReply, any Error>)] = []
            for await answer in tasks { answers.append(answer) }
            return answers.sorted { $0.node.name < $1.node.name }
        }
        var (candidates, silent): ([PortCandidate], [PlacementOption]) = ([], [])
        for (node, result) in answers {
            do {
                guard case .ports(let ports) = try result.get().answer else { throw Group.strangeAnswer(step) }
                candidates += ports.map { probed in
                    PortCandidate(
                        node: node.uuid,
                        nodeName: node.name,
                        holdsVolumes: holders.contains(node.uuid),
                        probed: probed,
                        domain: snapshot.broadcastDomain(of: PortReference(node: node.uuid, name: probed.port.name))
                    )
                }
            } catch let error as CancellationError {
                throw error
            } catch let error as MigrateError where error.kind == .fenced {
                throw error
            } catch {
                silent.append(PlacementOption(name: node.name + Self.silentSuffix, detail: "", refusal: "\(error)"))
            }
        }
        return (candidates, silent)
    }
}

/// The interfaces of an SVM as they find their places, one after another: pure.
struct InterfacePlaces {
    var svm: SVMDescription
    let snapshot: ConfigurationSnapshot
    var findings: [PrecheckFinding] = []
    var decisions: [PlacementDecision] = []
    /// Where interfaces are or will be, by name.
    private var nodes: [String: ObjectUUID]

    /// Begins with those that are here, or have a place.
    init(svm: SVMDescription, snapshot: ConfigurationSnapshot, here: [LIFRecord]) {
        self.svm = svm
        self.snapshot = snapshot
        nodes = Dictionary(
            here.compactMap { lif in lif.homeNode.map { (lif.name, $0) } }
                + svm.interfaces.compactMap { interface in interface.destination.map { (interface.name, $0.node) } },
            uniquingKeysWith: { first, _ in first }
        )
    }

    /// A choice for an interface that the SVM does not have is a mistake.
    mutating func refuseUnknown(_ choices: [InterfaceChoice]) {
        for choice in choices where !svm.interfaces.contains(where: { $0.name == choice.interface }) {
            let names = svm.interfaces.map { "'\($0.name)'" }.joined(separator: ", ")
            findings.append(
                PrecheckFinding(
                    code: MigrateCode.interfacePort,
                    "SVM '\(svm.name)' has no interface '\(choice.interface)' to choose a port for",
                    remedy: "name one of \(names)"
                )
            )
        }
    }

    /// Places addresses of the loopback, evenly over the nodes with volumes.
    mutating func place(onLoopback interfaces: [LIFRecord], _ holders: [ObjectUUID], _ options: MigrationOptions) {
        let places = DestinationPrecheck.place(svm.interfaces.map(\.name), keeping: nodes, on: holders)
        for interface in interfaces {
            guard let node = places[interface.name] else { continue }
            if options.interfaces?.contains(where: { $0.interface == interface.name }) == true {
                findings.append(
                    PrecheckFinding(
                        code: MigrateCode.interfacePort,
                        "interface '\(interface.name)' is in 127.0.0.0/8, whose addresses are on no port",
                        remedy: "leave its --lif out"
                    )
                )
            }
            settle(interface.name, InterfacePlace(node: node, port: nil))
            let name = "\(snapshot.node(node)?.name ?? ""):lo"
            decisions.append(
                PlacementDecision(
                    kind: .interface,
                    name: interface.name,
                    options: [PlacementOption(name: name, detail: "the loopback of a node that gets volumes")],
                    choice: name,
                    reason: "\(interface.address) is of the loopback and needs no port"
                )
            )
        }
    }

    /// What is asked for an interface with an address of a host.
    func question(_ interface: LIFRecord, _ options: MigrationOptions) -> InterfaceQuestion {
        var question = InterfaceQuestion(interface)
        question.holder = svm.interfaces.first { $0.name == interface.name }?.holder
        question.ipSpace = svm.destinationIPSpace
        question.subnet = snapshot.subnet(containing: interface.address, in: svm.destinationIPSpace)
        question.choice = options.interfaces?.first { $0.interface == interface.name }.map {
            PortReference(node: $0.node, name: $0.port)
        }
        // For one that is down on the source nobody answers; without a description of its subnet the names count.
        let isAskable = interface.isEnabled || question.subnet != nil
        question.isChecked = options.skipsNetworkChecks != true && isAskable
        return question
    }

    /// Places an interface with an address of a host.
    mutating func place(_ question: InterfaceQuestion, _ candidates: [PortCandidate], _ silent: [PlacementOption]) {
        var question = question
        question.counts = Dictionary(nodes.values.map { ($0, 1) }, uniquingKeysWith: +)
        var answer = InterfacePlacement.decide(question, among: candidates)
        answer.decision.options += silent
        decisions.append(answer.decision)
        if var finding = answer.finding {
            for option in silent { finding.message += "; \(option.name): \(option.refusal ?? "")" }
            findings.append(finding)
        }
        if let place = answer.place { settle(question.interface.name, place) }
    }

    private mutating func settle(_ name: String, _ place: InterfacePlace) {
        guard let index = svm.interfaces.firstIndex(where: { $0.name == name }) else { return }
        svm.interfaces[index].destination = place
        nodes[name] = place.node
    }
}
