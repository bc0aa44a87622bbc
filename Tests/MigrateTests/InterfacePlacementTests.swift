import ClusterConfiguration
import Environment
import GroupControl
import HostNetwork
import Identity
import MigrateOperation
import StorageControl
import Testing

/// Which port an interface gets that comes from another cluster.
@Suite struct InterfacePlacementTests {
    private static let (one, two) = (ObjectUUID(high: 3, low: 1), ObjectUUID(high: 3, low: 2))
    private static let (source, stranger, router) = ("02:00:00:00:00:aa", "02:00:00:00:00:bb", "02:00:00:00:00:01")
    private static let address = "10.0.1.10"

    private let interface = LIFRecord(
        uuid: ObjectUUID(high: 5, low: 1),
        name: "lif1",
        svm: ObjectUUID(high: 2, low: 1),
        address: address,
        port: 2049,
        prefixLength: 24,
        homePort: "eth1"
    )

    private var question: InterfaceQuestion {
        var question = InterfaceQuestion(interface)
        question.holder = InterfaceHolder(hardwareAddresses: [Self.source])
        return question
    }

    private func port(
        _ name: String,
        on node: ObjectUUID = one,
        holdsVolumes: Bool = true,
        heard: [String: [String]] = [:],
        domain: BroadcastDomainRecord? = nil,
        edit: (inout NodePort) -> Void = { _ in }
    ) -> PortCandidate {
        var port = NodePort(uuid: ObjectUUID(high: 6, low: 1), name: name, hardwareAddress: "02:00:00:00:01:01")
        edit(&port)
        return PortCandidate(
            node: node,
            nodeName: node == Self.one ? "beta-01" : "beta-02",
            holdsVolumes: holdsVolumes,
            probed: ProbedPort(port, answers: heard),
            domain: domain
        )
    }

    private let bySource = [address: [source]]

    private func refusal(_ name: String, _ answer: InterfacePlacement.Answer) -> String {
        answer.decision.options.first { $0.name == name }?.refusal ?? ""
    }

    @Test func thePortWhereTheSourceAnswersIsTaken() {
        let answer = InterfacePlacement.decide(question, among: [port("eth0", heard: bySource), port("eth1")])
        #expect(answer.place == InterfacePlace(node: Self.one, port: "eth0") && answer.finding == nil)
        #expect(answer.decision.choice == "beta-01:eth0" && answer.decision.kind == .interface)
        #expect(answer.decision.options.map(\.name) == ["beta-01:eth0", "beta-01:eth1"])
        #expect(answer.decision.options[0].refusal == nil && answer.decision.options[0].detail.contains(Self.source))
        #expect(refusal("beta-01:eth1", answer) == "nobody answers there for 10.0.1.10, which the source has")
    }

    @Test func theGatewayOfTheSubnetProvesItToo() {
        var question = question
        question.subnet = SubnetRecord(
            uuid: ObjectUUID(high: 8, low: 1),
            name: "lan",
            broadcastDomain: ObjectUUID(high: 7, low: 1),
            network: "10.0.1.0/24",
            gateway: "10.0.1.1"
        )
        let answer = InterfacePlacement.decide(
            question,
            among: [port("eth0"), port("eth2", heard: ["10.0.1.1": [Self.router]])]
        )
        #expect(answer.decision.choice == "beta-01:eth2")
        #expect(refusal("beta-01:eth0", answer).contains("nor for the gateway 10.0.1.1"))
    }

    @Test func nodesWithVolumesComeFirstThenFewInterfacesThenTheName() {
        var question = question
        let far = port("eth1", on: Self.two, holdsVolumes: false, heard: bySource)
        let near = port("eth7", heard: bySource)
        #expect(InterfacePlacement.decide(question, among: [far, near]).decision.choice == "beta-01:eth7")
        let other = port("eth0", on: Self.two, heard: bySource)
        question.counts = [Self.one: 1]
        #expect(InterfacePlacement.decide(question, among: [near, other]).decision.choice == "beta-02:eth0")
        question.counts = [:]
        let named = port("eth1", on: Self.two, heard: bySource)
        #expect(InterfacePlacement.decide(question, among: [near, named]).decision.choice == "beta-02:eth1")
    }

    @Test func aVLANIsAPortLikeOthers() {
        let vlan = port("eth0.100", heard: bySource) { ($0.kind, $0.vlan, $0.parent) = ("vlan", 100, "eth0") }
        let answer = InterfacePlacement.decide(question, among: [port("eth0"), vlan])
        #expect(answer.decision.choice == "beta-01:eth0.100")
        #expect(answer.decision.options[0].detail.contains("VLAN 100 on eth0"))
    }

    @Test func amongPortsWhereTheSourceAnswersThatOfItsVLANComesFirst() {
        // As a Linux host answers: on its port, too, for an address that it has in a VLAN on it.
        let tagged = port("eth0.5", on: Self.two, holdsVolumes: false, heard: bySource) {
            ($0.kind, $0.vlan, $0.parent) = ("vlan", 5, "eth0")
        }
        let ports = [port("eth0", heard: bySource), tagged]
        var question = question
        question.holder?.vlan = 5
        let inVLAN = InterfacePlacement.decide(question, among: ports)
        #expect(inVLAN.decision.choice == "beta-02:eth0.5")
        #expect(inVLAN.decision.options[1].detail.contains("whose port is in VLAN 5"))
        question.holder?.vlan = 0
        let untagged = InterfacePlacement.decide(question, among: ports)
        #expect(untagged.decision.choice == "beta-01:eth0")
        #expect(untagged.decision.options[1].detail.contains("whose port is in no VLAN"))
        // A VLAN may come without its tag to a port of its own.
        question.holder?.vlan = 7
        #expect(InterfacePlacement.decide(question, among: [ports[0]]).decision.choice == "beta-01:eth0")
        // A source of an older version does not say.
        question.holder?.vlan = nil
        #expect(InterfacePlacement.decide(question, among: ports).decision.choice == "beta-01:eth0")
    }

    @Test func anotherHostWithTheAddressIsFoundBesideTheSource() {
        let answer = InterfacePlacement.decide(
            question,
            // On the second port the answer of one of the two was lost.
            among: [port("eth0", heard: [Self.address: [Self.source, Self.stranger]]), port("eth1", heard: bySource)]
        )
        #expect(answer.place == nil && answer.finding?.code == MigrateCode.interfaceAddress)
        #expect(answer.finding?.message.contains(Self.stranger) == true)
    }

    @Test func anotherHostElsewhereSpeaksAgainstThatPortOnly() {
        let answer = InterfacePlacement.decide(
            question,
            among: [port("eth0", heard: [Self.address: [Self.stranger]]), port("eth1", heard: bySource)]
        )
        #expect(answer.decision.choice == "beta-01:eth1")
        #expect(refusal("beta-01:eth0", answer).contains("somebody else"))
    }

    @Test func whoeverAnswersForAnInterfaceThatIsDownIsAStranger() {
        var question = question
        question.holder = InterfaceHolder(hardwareAddresses: [])
        let answer = InterfacePlacement.decide(question, among: [port("eth0", heard: bySource)])
        #expect(answer.finding?.code == MigrateCode.interfaceAddress)
    }

    @Test func aSourceThatDoesNotSayWhoItIsIsBelievedWhenOneAnswers() {
        var question = question
        question.holder = nil
        #expect(InterfacePlacement.decide(question, among: [port("eth0", heard: bySource)]).place != nil)
        let both = port("eth0", heard: [Self.address: [Self.source, Self.stranger]])
        #expect(InterfacePlacement.decide(question, among: [both]).finding?.code == MigrateCode.interfaceAddress)
    }

    private let domain = BroadcastDomainRecord(uuid: ObjectUUID(high: 7, low: 1), name: "lan")
    private let subnet = SubnetRecord(
        uuid: ObjectUUID(high: 8, low: 1),
        name: "lan-10",
        broadcastDomain: ObjectUUID(high: 7, low: 1),
        network: "10.0.1.0/24"
    )

    @Test func whereNobodyAnswersTheSubnetSaysThePort() {
        var question = question
        question.subnet = subnet
        let answer = InterfacePlacement.decide(question, among: [port("eth0"), port("eth2", domain: domain)])
        #expect(answer.decision.choice == "beta-01:eth2" && answer.decision.reason.contains("subnet 'lan-10'"))
        #expect(refusal("beta-01:eth0", answer).contains("not in the broadcast domain of subnet 'lan-10'"))
        // What is heard counts for more than what was written down.
        let heard = InterfacePlacement.decide(
            question,
            among: [port("eth0", heard: bySource), port("eth2", domain: domain)]
        )
        #expect(heard.decision.choice == "beta-01:eth0")
    }

    @Test func withoutEvidenceEachPortIsRefusedWithItsReason() {
        let answer = InterfacePlacement.decide(
            question,
            among: [
                port("eth0"), port("eth1") { $0.isUp = false }, port("eth2") { $0.isRunning = false },
                port("eth3") { $0.master = "br0" },
            ]
        )
        #expect(answer.place == nil && answer.finding?.code == MigrateCode.interfacePort)
        for words in [
            "beta-01:eth0: nobody answers there", "beta-01:eth1: it is down", "beta-01:eth2: it has no carrier",
            "beta-01:eth3: it is a member of br0",
        ] { #expect(answer.finding?.message.contains(words) == true) }
        #expect(InterfacePlacement.decide(question, among: []).finding?.message.contains("no node") == true)
    }

    @Test func aPortThatCannotBeAskedSaysWhy() {
        var mute = port("eth0")
        mute.probed.failure = "CAP_NET_RAW is missing"
        let answer = InterfacePlacement.decide(question, among: [mute])
        #expect(answer.finding?.message.contains("CAP_NET_RAW is missing") == true)
    }

    @Test func anotherIPSpaceASmallMTUAndTheHostsOwnAddressAreRefused() {
        var space = domain
        space.ipSpace = ObjectUUID(high: 9, low: 1)
        var jumbo = domain
        jumbo.mtuBytes = 9_000
        let answer = InterfacePlacement.decide(
            question,
            among: [
                port("eth0", heard: bySource, domain: space), port("eth1", heard: bySource, domain: jumbo),
                port("eth2", on: Self.two, heard: bySource),
                port("eth3", on: Self.two) { $0.addresses = ["10.0.1.10/24"] },
            ]
        )
        #expect(answer.place == nil)
        #expect(refusal("beta-01:eth0", answer).contains("another IP space"))
        #expect(refusal("beta-01:eth1", answer).contains("below the 9000"))
        #expect(refusal("beta-02:eth2", answer).contains("an address of that host already, on eth3"))
        var inSpace = question
        inSpace.ipSpace = space.ipSpace
        let found = InterfacePlacement.decide(
            inSpace,
            among: [port("eth0", heard: bySource, domain: space), port("eth1", heard: bySource)]
        )
        #expect(found.decision.choice == "beta-01:eth0")
        #expect(refusal("beta-01:eth1", found).contains("in no broadcast domain of the SVM's IP space"))
    }

    @Test func theUsersChoiceIsTakenUnlessItIsDisproved() {
        var question = question
        question.choice = PortReference(node: Self.one, name: "eth5")
        // Nobody answers anywhere: the user knows better.
        let silent = InterfacePlacement.decide(question, among: [port("eth0"), port("eth5")])
        #expect(silent.decision.choice == "beta-01:eth5" && silent.decision.reason == "the user has chosen it")
        let both = InterfacePlacement.decide(
            question,
            among: [port("eth0", heard: bySource), port("eth5", heard: bySource)]
        )
        #expect(both.decision.choice == "beta-01:eth5")
        let disproved = InterfacePlacement.decide(question, among: [port("eth0", heard: bySource), port("eth5")])
        #expect(disproved.place == nil && disproved.finding?.code == MigrateCode.interfacePort)
        #expect(disproved.finding?.message.contains("the user's choice: nobody answers there") == true)
        let absent = InterfacePlacement.decide(question, among: [port("eth0", heard: bySource)])
        #expect(absent.finding?.message.contains("no port 'eth5'") == true)
        let down = InterfacePlacement.decide(question, among: [port("eth5") { $0.isUp = false }])
        #expect(down.finding?.message.contains("it is down") == true)
        question.isChecked = false
        let unchecked = InterfacePlacement.decide(question, among: [port("eth1"), port("eth5")])
        #expect(unchecked.decision.choice == "beta-01:eth5")
    }

    @Test func withoutChecksTheNameAndThenTheSubnetCount() {
        var question = question
        question.isChecked = false
        let inSubnet = { (name: String) in self.port(name) { $0.addresses = ["10.0.1.1/24"] } }
        #expect(
            InterfacePlacement.decide(question, among: [inSubnet("eth0"), port("eth1")]).decision.choice
                == "beta-01:eth1"
        )
        let down = port("eth1") { $0.isUp = false }
        let only = InterfacePlacement.decide(question, among: [down, inSubnet("eth0"), port("eth2")])
        #expect(only.decision.choice == "beta-01:eth0")
        let several = InterfacePlacement.decide(question, among: [inSubnet("eth0"), inSubnet("eth2")])
        #expect(several.finding?.message.contains("eth0, eth2") == true)
        #expect(InterfacePlacement.decide(question, among: [port("eth0")]).finding?.code == MigrateCode.interfacePort)
    }

    @Test func portsAreTheEthernetLinksOfAHost() {
        let links = [
            HostLink(index: 1, name: "lo", isUp: true, isRunning: true, isLoopback: true),
            HostLink(index: 2, name: "eth0", hardwareAddress: HardwareAddress([2, 0, 0, 0, 0, 2]), mtuBytes: 9_000),
            HostLink(
                index: 3,
                name: "eth0.100",
                hardwareAddress: HardwareAddress([2, 0, 0, 0, 0, 2]),
                mtuBytes: 1_500,
                isUp: true,
                isRunning: true,
                kind: "vlan",
                vlan: 100,
                parentIndex: 2
            ),
            HostLink(index: 4, name: "br0", hardwareAddress: HardwareAddress([2, 0, 0, 0, 0, 4]), kind: "bridge"),
            HostLink(index: 5, name: "eth5", hardwareAddress: HardwareAddress([2, 0, 0, 0, 0, 5]), masterIndex: 4),
            HostLink(index: 6, name: "tun0", isUp: true, isRunning: true),
        ]
        let address = HostLinkAddress(linkIndex: 3, address: HostAddress(bits: 0x0a00_0101), prefixLength: 24)
        let ports = NodePort.ports(of: links, with: [address]) { _ in ObjectUUID(high: 6, low: 6) }
        #expect(ports.map(\.name) == ["br0", "eth0", "eth0.100", "eth5"])
        #expect(ports[2].vlan == 100 && ports[2].parent == "eth0" && ports[2].addresses == ["10.0.1.1/24"])
        #expect(ports.map(\.obstacle) == ["it is down", "it is down", nil, "it is a member of br0"])
    }
}
