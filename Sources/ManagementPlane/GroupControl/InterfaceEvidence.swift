import ClusterConfiguration
import MigrateOperation

/// What the network says of a port as the place of an interface: pure.
struct InterfaceEvidence {
    /// The port.
    var candidate: PortCandidate
    /// What is held of it before any port is compared with another.
    var verdict: InterfacePlacement.Verdict
    /// Whether a host of the interface's subnet was heard.
    var isProved: Bool { verdict.isProved }
    /// Why it is not proved, where nothing else speaks against it.
    var silence = ""
    /// Set where both the source and somebody else have the address: that is true of every port.
    var strangerBesideSource: String?

    /// Looks at a port.
    static func hear(
        _ question: InterfaceQuestion,
        _ candidate: PortCandidate,
        _ all: [PortCandidate]
    ) -> InterfaceEvidence {
        var evidence = InterfaceEvidence(
            candidate: candidate,
            verdict: InterfacePlacement.Verdict(candidate: candidate, words: words(of: candidate))
        )
        if let refusal = basicRefusal(question, candidate, all) {
            evidence.verdict.refusal = refusal.words
            evidence.verdict.isAddress = refusal.isAddress
            return evidence
        }
        guard question.isChecked else { return evidence }
        if let failure = candidate.probed.failure {
            evidence.silence = "it could not be asked there who answers: \(failure)"
            return evidence
        }
        evidence.listen(question)
        return evidence
    }

    /// What speaks against a port whatever is heard there.
    static func basicRefusal(
        _ question: InterfaceQuestion,
        _ candidate: PortCandidate,
        _ all: [PortCandidate]
    ) -> (words: String, isAddress: Bool)? {
        let port = candidate.probed.port
        if let obstacle = port.obstacle { return (obstacle, false) }
        if candidate.domain == nil, question.ipSpace != nil {
            return ("it is in no broadcast domain of the SVM's IP space", false)
        }
        if candidate.domain?.ipSpace != question.ipSpace {
            return ("it is in another IP space than the SVM", false)
        }
        if let domain = candidate.domain, port.mtuBytes < domain.mtuBytes {
            return (
                "its MTU of \(port.mtuBytes) bytes is below the \(domain.mtuBytes) of broadcast domain '\(domain.name)'",
                false
            )
        }
        let holder = all.first { other in
            other.node == candidate.node
                && other.probed.port.addresses.contains { $0.hasPrefix("\(question.interface.address)/") }
        }
        return holder.map { other in
            let (address, link) = (question.interface.address, other.probed.port.name)
            return (
                "\(address) is an address of that host already, on \(link) (ip address del \(address) dev \(link))",
                true
            )
        }
    }

    /// Compares who answered with who should.
    private mutating func listen(_ question: InterfaceQuestion) {
        let address = question.interface.address
        let answers = candidate.probed.answers[address] ?? []
        let gateway = question.subnet?.gateway.flatMap { gateway in
            candidate.probed.answers[gateway]?.first.map { (gateway, $0) }
        }
        // A source that does not say who holds the address is believed to be the one that answers, if it is one.
        let expected = question.holder?.hardwareAddresses ?? (answers.count == 1 ? answers : [])
        let strangers = answers.filter { !expected.contains($0) }
        let source = answers.first { expected.contains($0) }
        if let stranger = strangers.first {
            let words =
                "\(address) is in use by somebody else on the network of \(candidate.name): \(stranger) answers for it"
            verdict.refusal = words
            verdict.isAddress = true
            if source != nil { strangerBesideSource = words }
        } else if let source {
            verdict.words += ", the source answers for \(address) (\(source))"
            if let vlan = question.holder?.vlan, !question.isOfSourceVLAN(candidate.probed.port) {
                verdict.words += vlan == 0 ? ", whose port is in no VLAN" : ", whose port is in VLAN \(vlan)"
            }
            verdict.isProved = true
        } else if let (router, hardware) = gateway {
            verdict.words += ", the gateway \(router) answers (\(hardware))"
            verdict.isProved = true
        } else {
            let router = question.subnet?.gateway.map { "the gateway \($0)" }
            silence =
                question.holder?.hardwareAddresses.isEmpty == true
                ? "the interface is down at the source" + (router.map { ", and \($0) does not answer there" } ?? "")
                : "nobody answers there for \(address), which the source has" + (router.map { ", nor for \($0)" } ?? "")
        }
    }

    private static func words(of candidate: PortCandidate) -> String {
        let port = candidate.probed.port
        var words = candidate.holdsVolumes ? "its node gets volumes" : "its node gets no volume"
        if let vlan = port.vlan { words += ", VLAN \(vlan)" + (port.parent.map { " on \($0)" } ?? "") }
        if let domain = candidate.domain { words += ", in broadcast domain '\(domain.name)'" }
        return words
    }
}
