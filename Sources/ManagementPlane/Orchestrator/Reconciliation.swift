import ClusterConfiguration
import Environment
import Identity
import Logging
import MigrateOperation

/// Brings what the destination has of the SVM in line with what the source has now [159]: volumes, export policies and
/// interfaces that were made, changed or deleted since it was described last.
enum Reconciliation {
    /// Asks the source and mends the difference; changes nothing when there is none.
    static func run(_ migration: Migration, isForced: Bool = false) async throws {
        guard case .description(let found, _) = try await migration.askAgain(.refresh).answer else {
            throw Migration.strangeAnswer("refresh")
        }
        let record = migration.record
        var svm = found
        svm.volumes = try await place(found, record, migration)
        svm.destinationIPSpace = record.svm.destinationIPSpace
        let isChanged = !isSame(record.svm, svm) || !record.baselineLost.isEmpty
        guard isChanged || isForced else { return }
        svm.interfaces = try await placeInterfaces(svm, record, migration)
        let gone = record.svm.volumes.filter { old in
            !svm.volumes.contains { $0.uuid == old.uuid && $0.msid == old.msid }
                || record.baselineLost.contains(old.msid.description)
        }
        try await migration.storage.stopMirrors(gone.map(\.msid), of: record.svm)
        if isChanged {
            migration.log.notice("the configuration of the SVM has changed on the source and is taken over")
        }
        // First the storage, then the record: after a crash in between the difference is found again.
        try await migration.storage.removeVolumes(gone, of: svm, for: migration.operation)
        try await migration.storage.removeAbsent(svm, for: migration.operation)
        try await migration.storage.createSVM(svm, for: migration.operation)
        try await migration.storage.createVolumes(svm, for: migration.operation)
        try await migration.storage.createInterfaces(svm, for: migration.operation)
        let placed = svm
        try await migration.update { record in
            record.svm = placed
            record.baselineLost = []
            for volume in gone { record.progress[volume.msid.description] = nil }
        }
    }

    /// Volumes that the destination has stay where they are; only new ones are placed.
    private static func place(
        _ found: SVMDescription,
        _ record: DestinationRecord,
        _ migration: Migration
    ) async throws -> [VolumeDescription] {
        let known = Dictionary(
            record.svm.volumes.map { ($0.msid, $0.destinationAggregate) },
            uniquingKeysWith: { first, _ in first }
        )
        var volumes = found.volumes.map { volume in
            var volume = volume
            volume.destinationAggregate = known[volume.msid] ?? nil
            return volume
        }
        let new = volumes.filter { $0.destinationAggregate == nil }
        if new.isEmpty { return volumes }
        let (findings, placed) = try await migration.storage.place(new, record.options)
        try refuse(findings)
        for volume in placed {
            guard let index = volumes.firstIndex(where: { $0.msid == volume.msid }) else { continue }
            volumes[index] = volume
        }
        return volumes
    }

    /// Interfaces that were placed stay where they are; only new ones are placed.
    private static func placeInterfaces(
        _ svm: SVMDescription,
        _ record: DestinationRecord,
        _ migration: Migration
    ) async throws -> [InterfaceDescription] {
        var svm = svm
        for index in svm.interfaces.indices {
            let new = svm.interfaces[index]
            svm.interfaces[index].destination =
                record.svm.interfaces.first { $0.name == new.name && $0.address == new.address }?.destination
        }
        let placed = try await migration.storage.placeInterfaces(of: svm, record.options)
        try refuse(placed.findings)
        return placed.interfaces
    }

    private static func refuse(_ findings: [PrecheckFinding]) throws(MigrateError) {
        guard let first = findings.first else { return }
        throw MigrateError(
            .refused,
            code: first.code,
            findings.map(\.message).joined(separator: "; "),
            remedy: findings.map(\.remedy).joined(separator: "; ")
        )
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
            && left.volumes.map(\.destinationAggregate) == right.volumes.map(\.destinationAggregate)
    }
}
