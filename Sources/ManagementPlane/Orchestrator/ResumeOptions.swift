package import ClusterConfiguration
package import Identity
package import MigrateOperation
import StorageControl

/// What a resume may choose anew; nil keeps what the operation has.
package struct ResumeOptions: Equatable, Sendable {
    /// Whether the cutover begins by itself.
    package var isAutoCutover: Bool?
    /// Whether the source is deleted by itself.
    package var isAutoSourceCleanup: Bool?
    /// Limit of all transfers together; 0 is unlimited.
    package var throttleBytesPerSecond: UInt64?
    /// Aggregates for volumes that are not here yet.
    package var aggregates: [ObjectUUID]?
    /// The tier of aggregates for volumes that are not here yet; nil inside stands for any.
    package var tier: AggregateTier??
    /// The IP space for an SVM that is not here yet.
    package var ipSpace: ObjectUUID?
    /// Where the user wants interfaces that are not here yet; those that are not named keep the choice that they have.
    package var interfaces: [InterfaceChoice]?
    /// Whether the networks are asked about interfaces that are not here yet.
    package var checksNetwork: Bool?

    /// Keeps everything.
    package init() {}

    /// Whether something is chosen about places.
    var isAboutPlaces: Bool { isAboutVolumes || ipSpace != nil || interfaces != nil || checksNetwork != nil }
    fileprivate var isAboutVolumes: Bool { aggregates != nil || tier != nil }
}

/// What the destination has of an SVM already: all that stays where it is.
package struct ObjectsHere: Equatable, Sendable {
    /// The SVM; nil when it is not here.
    package var svm: SVMRecord?
    /// Its volumes, without those that are being deleted.
    package var volumes: Set<ObjectUUID> = []
    /// Its interfaces.
    package var interfaces: [LIFRecord] = []

    /// Nothing.
    package init() {}
}

extension DestinationRecord {
    /// Takes what a resume chooses about places: for whatever is not here yet the places of the pre-check are forgotten, and
    /// setup finds others.
    ///
    /// - Parameters:
    ///   - source: the SVM as the source has it now.
    ///   - here: what of it is here.
    /// - Throws: `.refused` for a choice about something that is here already and would have to move for it.
    package mutating func choosePlaces(
        _ choice: ResumeOptions,
        _ source: SVMDescription,
        _ here: ObjectsHere
    ) throws(MigrateError) {
        try chooseVolumePlaces(choice, source, here)
        try chooseIPSpace(choice, here)
        try chooseInterfacePlaces(choice, source, here)
    }

    private mutating func chooseVolumePlaces(
        _ choice: ResumeOptions,
        _ source: SVMDescription,
        _ here: ObjectsHere
    ) throws(MigrateError) {
        guard choice.isAboutVolumes else { return }
        let lost = baselineLost
        // What has lost its baseline is deleted and made anew.
        let isHere = { (volume: VolumeDescription) in
            here.volumes.contains(volume.uuid) && !lost.contains(volume.msid.description)
        }
        guard source.volumes.contains(where: { !isHere($0) }) else {
            throw Self.tooLate(
                "all volumes of SVM '\(svm.name)' are here already, and stay on their aggregates",
                "resume it without a choice of aggregates and tier (--aggr-list, --tier)"
            )
        }
        if let aggregates = choice.aggregates { options.aggregates = aggregates }
        if let tier = choice.tier { options.tier = tier }
        for index in svm.volumes.indices where !isHere(svm.volumes[index]) {
            svm.volumes[index].destinationAggregate = nil
        }
    }

    private mutating func chooseIPSpace(_ choice: ResumeOptions, _ here: ObjectsHere) throws(MigrateError) {
        guard let ipSpace = choice.ipSpace else { return }
        let reference = ipSpace == IPSpaceRecord.standard.uuid ? nil : ipSpace
        guard here.svm == nil || here.svm?.ipSpace == reference else {
            throw Self.tooLate(
                "SVM '\(svm.name)' is here already, in another IP space",
                "resume it without a choice of an IP space (--ipspace)"
            )
        }
        options.ipSpace = ipSpace
        guard svm.destinationIPSpace != reference else { return }
        svm.destinationIPSpace = reference
        for index in svm.interfaces.indices { svm.interfaces[index].destination = nil }
    }

    private mutating func chooseInterfacePlaces(
        _ choice: ResumeOptions,
        _ source: SVMDescription,
        _ here: ObjectsHere
    ) throws(MigrateError) {
        let new = source.configuration.interfaces.filter { DestinationGroup.needsPlace($0, here.interfaces) }
        for wanted in choice.interfaces ?? [] {
            try requireChoosable(wanted, new, source, here)
            options.interfaces = (options.interfaces ?? []).filter { $0.interface != wanted.interface } + [wanted]
        }
        if let checks = choice.checksNetwork {
            guard checks || !new.isEmpty else {
                throw Self.tooLate(
                    "all interfaces of SVM '\(svm.name)' are here already, and stay on their ports",
                    "resume it without --no-network-checks"
                )
            }
            options.skipsNetworkChecks = checks ? nil : true
        }
        for index in svm.interfaces.indices {
            let name = svm.interfaces[index].name
            let isChosen = choice.interfaces?.contains { $0.interface == name } == true
            guard isChosen || choice.checksNetwork != nil, new.contains(where: { $0.name == name }) else { continue }
            svm.interfaces[index].destination = nil
        }
    }

    /// Whether an interface can still go where a user wants it, or is there.
    private func requireChoosable(
        _ wanted: InterfaceChoice,
        _ new: [LIFRecord],
        _ source: SVMDescription,
        _ here: ObjectsHere
    ) throws(MigrateError) {
        guard let found = source.configuration.interfaces.first(where: { $0.name == wanted.interface }) else {
            let names = source.configuration.interfaces.map { "'\($0.name)'" }.joined(separator: ", ")
            throw MigrateError(
                .invalid,
                code: MigrateCode.interfacePort,
                "SVM '\(svm.name)' has no interface '\(wanted.interface)' to choose a port for",
                remedy: "name one of \(names)"
            )
        }
        guard found.place != nil else {
            throw MigrateError(
                .invalid,
                code: MigrateCode.interfacePort,
                "interface '\(found.name)' is in 127.0.0.0/8, whose addresses are on no port",
                remedy: "leave its --lif out"
            )
        }
        if new.contains(where: { $0.uuid == found.uuid }) { return }
        let now = here.interfaces.first { $0.uuid == found.uuid }
        guard now?.homeNode != wanted.node || now?.homePort != wanted.port else { return }
        throw Self.tooLate(
            "interface '\(found.name)' is here already, on port '\(now?.homePort ?? "")'",
            "resume it without its --lif, and move it when it serves here (godwit lif modify --home-node --home-port)"
        )
    }

    private static func tooLate(_ what: String, _ remedy: String) -> MigrateError {
        MigrateError(
            .refused,
            code: MigrateCode.placedAlready,
            what,
            remedy: "\(remedy), or abort the operation and start it anew"
        )
    }
}
