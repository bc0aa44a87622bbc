package import ClusterConfiguration
package import Identity
package import MigrateOperation

/// A port that an interface could be on.
package struct PortCandidate: Equatable, Sendable {
    /// The node.
    package var node: ObjectUUID
    /// Its name.
    package var nodeName: String
    /// Whether volumes of the SVM go to that node.
    package var holdsVolumes: Bool
    /// The port, and who answered there.
    package var probed: ProbedPort
    /// The broadcast domain that it is in; nil when it is in none.
    package var domain: BroadcastDomainRecord?

    /// Makes a candidate.
    package init(
        node: ObjectUUID,
        nodeName: String,
        holdsVolumes: Bool,
        probed: ProbedPort,
        domain: BroadcastDomainRecord? = nil
    ) {
        self.node = node
        self.nodeName = nodeName
        self.holdsVolumes = holdsVolumes
        self.probed = probed
        self.domain = domain
    }

    /// As `node:port`.
    package var name: String { "\(nodeName):\(probed.port.name)" }
}

/// An interface that comes from another cluster, and what is known of where it may go.
package struct InterfaceQuestion: Equatable, Sendable {
    /// The interface as the source has it, with an address of a host.
    package var interface: LIFRecord
    /// Who holds its address; nil when the source does not say.
    package var holder: InterfaceHolder?
    /// The IP space of the SVM here; nil is `Default`.
    package var ipSpace: ObjectUUID?
    /// The subnet of that IP space with the address; nil when none is described.
    package var subnet: SubnetRecord?
    /// Where the user wants it; nil for anywhere.
    package var choice: PortReference?
    /// Whether the network was asked.
    package var isChecked = true
    /// How many interfaces of the SVM are on each node already.
    package var counts: [ObjectUUID: Int] = [:]

    /// Makes a question.
    package init(_ interface: LIFRecord) { self.interface = interface }
}

/// Chooses a port for an interface that comes from another cluster [168-169]: pure.
///
/// In this order: what the user wants, where the network was heard to reach the interface's subnet, what an administrator
/// has said of subnets and broadcast domains. Without asking the network: the port of the source's name on a node, or else
/// the node's only one with an address in the subnet. Among several nodes those with volumes come first.
package enum InterfacePlacement {
    /// The choice with its reason, and what speaks against the operation when there is none.
    package struct Answer: Equatable, Sendable {
        /// Where it goes; nil when it can go nowhere.
        package var place: InterfacePlace?
        /// Why it can go nowhere; nil when it can.
        package var finding: PrecheckFinding?
        /// Everything that was looked at.
        package var decision: PlacementDecision
    }

    /// What is held of one candidate.
    struct Verdict {
        var candidate: PortCandidate
        /// What was found, for people.
        var words: String
        /// Why not; nil when it can be.
        var refusal: String?
        /// Whether the reason is the address, not the port.
        var isAddress = false
        /// Whether the subnet was heard there.
        var isProved = false
    }

    /// Decides.
    package static func decide(_ question: InterfaceQuestion, among candidates: [PortCandidate]) -> Answer {
        let heard = candidates.map { InterfaceEvidence.hear(question, $0, candidates) }
        let stranger = question.isChecked ? heard.compactMap(\.strangerBesideSource).first : nil
        var (verdicts, reason) = judge(question, heard)
        if let stranger {
            for index in verdicts.indices where verdicts[index].refusal == nil { verdicts[index].refusal = stranger }
            return answer(question, verdicts, nil, stranger, isAddress: true)
        }
        if let choice = question.choice {
            reason = choose(choice, question, &verdicts)
            guard reason == byChoice else { return answer(question, verdicts, nil, reason) }
            let chosen = verdicts.first {
                $0.candidate.node == choice.node && $0.candidate.probed.port.name == choice.name
            }
            return answer(question, verdicts, chosen, reason)
        }
        let best = ordered(question, verdicts.filter { $0.refusal == nil }).first
        return answer(question, verdicts, best, reason, isAddress: verdicts.contains(where: \.isAddress))
    }

    private static let byChoice = "the user has chosen it"

    /// What each port is good for, and what the best of them is chosen for.
    private static func judge(_ question: InterfaceQuestion, _ heard: [InterfaceEvidence]) -> ([Verdict], String) {
        guard question.isChecked else {
            return (heard.map { named(question, $0, heard) }, "it has the name or the subnet of the source's port")
        }
        if heard.contains(where: \.isProved) {
            let verdicts = heard.map { evidence in
                var verdict = evidence.verdict
                if verdict.refusal == nil, !evidence.isProved { verdict.refusal = evidence.silence }
                return verdict
            }
            return (verdicts, "the network of \(question.network) answers there")
        }
        let domain = question.subnet.map { "broadcast domain of subnet '\($0.name)'" }
        let verdicts = heard.map { evidence in
            var verdict = evidence.verdict
            guard verdict.refusal == nil else { return verdict }
            if let domain, evidence.candidate.domain?.uuid == question.subnet?.broadcastDomain {
                verdict.words += ", in the \(domain)"
            } else {
                let also = domain.map { ", and it is not in the \($0)" } ?? ", and no subnet here has that address"
                verdict.refusal = evidence.silence + also
            }
            return verdict
        }
        return (verdicts, domain.map { "nobody answers anywhere, and it is in the \($0)" } ?? "")
    }

    /// Without asking the network.
    private static func named(
        _ question: InterfaceQuestion,
        _ evidence: InterfaceEvidence,
        _ all: [InterfaceEvidence]
    ) -> Verdict {
        var verdict = evidence.verdict
        guard verdict.refusal == nil else { return verdict }
        let (wanted, own) = (question.interface.currentPort ?? "", evidence.candidate)
        if own.probed.port.name == wanted {
            verdict.words += ", it has the name of the source's port"
            return verdict
        }
        let usable = all.filter { $0.verdict.refusal == nil && $0.candidate.node == own.node }.map(\.candidate)
        let inSubnet = usable.filter { question.isNeighbour($0.probed.port) }.map(\.probed.port.name)
        if usable.contains(where: { $0.probed.port.name == wanted }) {
            verdict.refusal = "another port of the node has the name of the source's, '\(wanted)'"
        } else if !inSubnet.contains(own.probed.port.name) {
            verdict.refusal = "it is not named '\(wanted)' and has no address in \(question.network)"
        } else if inSubnet.count > 1 {
            verdict.refusal =
                "several ports of the node have addresses in \(question.network): "
                + inSubnet.joined(separator: ", ")
        } else {
            verdict.words += ", it has an address in \(question.network)"
        }
        return verdict
    }

    /// Takes what the user wants, if it can be.
    ///
    /// - Returns: `byChoice`, or why it cannot be.
    private static func choose(
        _ choice: PortReference,
        _ question: InterfaceQuestion,
        _ verdicts: inout [Verdict]
    ) -> String {
        let index = verdicts.firstIndex {
            $0.candidate.node == choice.node && $0.candidate.probed.port.name == choice.name
        }
        guard let index else { return "there is no port '\(choice.name)' on the chosen node, or the node is down" }
        let name = verdicts[index].candidate.name
        guard let refusal = verdicts[index].refusal else { return byChoice }
        // The port is fit, and only nothing was heard there: that is no proof as long as nothing is heard anywhere.
        let isFit =
            InterfaceEvidence.basicRefusal(question, verdicts[index].candidate, verdicts.map(\.candidate)) == nil
        let isDisproved = question.isChecked && verdicts.contains(where: \.isProved)
        guard isFit, !verdicts[index].isAddress, !isDisproved else { return "\(name), the user's choice: \(refusal)" }
        verdicts[index].refusal = nil
        return byChoice
    }

    /// Best first: in the source's VLAN, with volumes, with few interfaces of the SVM, with the name of the source's port.
    ///
    /// The VLAN counts most: a Linux host answers for its addresses on all its links, so that the source is also heard on
    /// the port that a VLAN is on, where the clients of the VLAN are not.
    private static func ordered(_ question: InterfaceQuestion, _ verdicts: [Verdict]) -> [Verdict] {
        verdicts.sorted { left, right in
            let ranks = [left, right].map { verdict in
                (
                    question.isOfSourceVLAN(verdict.candidate.probed.port) ? 0 : 1,
                    verdict.candidate.holdsVolumes ? 0 : 1, question.counts[verdict.candidate.node] ?? 0,
                    verdict.candidate.probed.port.name == question.interface.currentPort ? 0 : 1, verdict.candidate.name
                )
            }
            return ranks[0] < ranks[1]
        }
    }

    private static func answer(
        _ question: InterfaceQuestion,
        _ verdicts: [Verdict],
        _ chosen: Verdict?,
        _ reason: String,
        isAddress: Bool = false
    ) -> Answer {
        let fit = ordered(question, verdicts.filter { $0.refusal == nil })
        let refused = ordered(question, verdicts.filter { $0.refusal != nil })
        let first = fit.filter { $0.candidate == chosen?.candidate }
        let options = (first + fit.filter { $0.candidate != chosen?.candidate } + refused).map {
            PlacementOption(name: $0.candidate.name, detail: $0.words, refusal: $0.refusal)
        }
        var answer = Answer(
            decision: PlacementDecision(
                kind: .interface,
                name: question.interface.name,
                options: options,
                choice: chosen?.candidate.name,
                reason: chosen == nil && reason.isEmpty ? "no port can take it" : reason
            )
        )
        if let chosen {
            answer.place = InterfacePlace(node: chosen.candidate.node, port: chosen.candidate.probed.port.name)
        } else {
            answer.finding = finding(question, refused, reason, isAddress: isAddress)
            answer.decision.reason = answer.finding?.message ?? reason
        }
        return answer
    }

    private static func finding(
        _ question: InterfaceQuestion,
        _ refused: [Verdict],
        _ reason: String,
        isAddress: Bool
    ) -> PrecheckFinding {
        let interface = "interface '\(question.interface.name)' (\(question.subnetText))"
        if isAddress {
            let reasons = refused.filter(\.isAddress).map { "\($0.candidate.name): \($0.refusal ?? "")" }
            return PrecheckFinding(
                code: MigrateCode.interfaceAddress,
                "\(interface) cannot come here: \(reasons.isEmpty ? reason : reasons.joined(separator: "; "))",
                remedy: "take the address away from whoever else has it, or give the interface another one"
            )
        }
        let all = refused.map { "\($0.candidate.name): \($0.refusal ?? "")" }
        let why =
            question.choice != nil
            ? reason : all.isEmpty ? "no node that is up has an Ethernet port" : all.joined(separator: "; ")
        let name = question.interface.name
        return PrecheckFinding(
            code: MigrateCode.interfacePort,
            "\(interface) has no port here: \(why)",
            remedy:
                "connect a port with \(question.network), or describe it (godwit broadcast-domain create, godwit subnet "
                + "create), or choose a port (--lif \(name)=NODE:PORT), or leave the checks out (--no-network-checks)"
        )
    }
}

extension InterfaceQuestion {
    /// The address with its prefix.
    var subnetText: String { "\(interface.address)/\(interface.prefixLength ?? 32)" }

    /// The network that the address is in, for people.
    var network: String {
        guard let address = IPv4Address(interface.address) else { return subnetText }
        return IPv4Network(of: address, prefixLength: interface.prefixLength ?? 32).description
    }

    /// Whether a port has the VLAN of the source's port, or neither is one; true when the source does not say.
    func isOfSourceVLAN(_ port: NodePort) -> Bool { holder?.vlan.map { $0 == port.vlan ?? 0 } ?? true }

    /// Whether a port has an address of the host in the network.
    func isNeighbour(_ port: NodePort) -> Bool {
        port.addresses.contains { text in
            let parts = text.split(separator: "/")
            guard parts.count == 2, let address = IPv4Address(String(parts[0])), let length = Int(parts[1]) else {
                return false
            }
            return length == interface.prefixLength
                && IPv4Network(of: address, prefixLength: length).description == network
        }
    }
}
