import ClusterConfiguration
import Environment
import Identity
import Logging
import MigrateOperation

/// Brings what the destination has of the SVM in line with what the source has now [159]. Its configuration comes through the
/// stream; what is not configuration, such as the nodes that hold the volumes and what is in use, is described anew.
enum Reconciliation {
    /// Applies what the stream has left, and mends the record.
    ///
    /// - Parameter isForced: compares with everything that the source has, at the beginning and after a pause.
    static func run(_ migration: Migration, isForced: Bool = false) async throws {
        // First the description, then the stream: a volume that is in the first and not here after the second is gone.
        guard case .description(var svm, _) = try await migration.askAgain(.refresh).answer else {
            throw Migration.strangeAnswer("refresh")
        }
        let record = migration.record
        let lost = record.svm.volumes.filter { record.baselineLost.contains($0.msid.description) }
        if !lost.isEmpty {
            try await migration.storage.stopMirrors(lost.map(\.msid), of: record.svm)
            try await migration.storage.removeVolumes(lost, of: record.svm, for: migration.operation)
        }
        svm.volumes = withKnownPlaces(svm.volumes, record)
        svm.interfaces = withKnownPlaces(svm.interfaces, record)
        svm.destinationIPSpace = record.svm.destinationIPSpace
        try await ConfigurationStream.catchUp(migration, svm, isWhole: isForced || !lost.isEmpty)
        let places = try await migration.storage.placements(of: svm)
        svm.volumes = svm.volumes.compactMap { volume in
            guard let aggregate = places[volume.uuid] else { return nil }
            var volume = volume
            volume.destinationAggregate = aggregate
            return volume
        }
        let found = svm
        guard !isSame(record.svm, found) || !lost.isEmpty else { return }
        // Whoever recorded a new volume may have ended before its node had made it.
        let new = found.volumes.map(\.uuid).filter { uuid in !record.svm.volumes.contains { $0.uuid == uuid } }
        if !new.isEmpty { try await migration.storage.settle(new, of: found) }
        migration.log.notice("the SVM has changed on the source, and the record is mended")
        let gone = record.svm.volumes.filter { old in
            lost.contains(old) || !found.volumes.contains { $0.uuid == old.uuid && $0.msid == old.msid }
        }
        try await migration.update { record in
            record.svm = found
            for volume in lost { record.baselineLost.remove(volume.msid.description) }
            for volume in gone { record.progress[volume.msid.description] = nil }
        }
    }

    /// Makes sure that what is here is exactly what was transferred, when nothing can change any more.
    /// - Throws: `.failed` with the name of a volume that the source did not describe.
    static func requireComplete(_ migration: Migration) async throws {
        let svm = migration.record.svm
        let places = try await migration.storage.placements(of: svm)
        let missing = places.keys.filter { uuid in !svm.volumes.contains { $0.uuid == uuid } }.sorted()
        guard let first = missing.first else { return }
        throw MigrateError(
            .failed,
            "volume \(first) of SVM '\(svm.name)' is here and was not transferred: the source does not describe it",
            remedy: "the cutover is tried again; look at the volumes and events of the source"
        )
    }

    /// Volumes stay where they are, or where the pre-check has placed them.
    private static func withKnownPlaces(
        _ volumes: [VolumeDescription],
        _ record: DestinationRecord
    ) -> [VolumeDescription] {
        let known = Dictionary(
            record.svm.volumes.map { ($0.msid, $0.destinationAggregate) },
            uniquingKeysWith: { first, _ in first }
        )
        return volumes.map { volume in
            var volume = volume
            volume.destinationAggregate = known[volume.msid] ?? nil
            return volume
        }
    }

    /// Interfaces stay where the pre-check has placed them; the stream places those that are made later.
    private static func withKnownPlaces(
        _ interfaces: [InterfaceDescription],
        _ record: DestinationRecord
    ) -> [InterfaceDescription] {
        interfaces.map { interface in
            var interface = interface
            interface.destination =
                record.svm.interfaces.first { $0.name == interface.name && $0.address == interface.address }?
                .destination
            return interface
        }
    }

    /// Whether two descriptions ask for the same objects. Locks, roles and what is in use do not count.
    static func isSame(_ left: SVMDescription, _ right: SVMDescription) -> Bool {
        func essence(_ svm: SVMDescription) -> SVMConfiguration {
            var configuration = svm.configuration
            configuration.svm.configurationLock = nil
            configuration.svm.migrateRole = .none
            return configuration
        }
        return essence(left) == essence(right) && left.services == right.services
            && left.volumes.map(\.source) == right.volumes.map(\.source)
            && left.volumes.map(\.uuid) == right.volumes.map(\.uuid)
            && left.volumes.map(\.destinationAggregate) == right.volumes.map(\.destinationAggregate)
    }
}
