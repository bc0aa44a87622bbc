import ArgumentParser
import JSON

/// Names a volume, or all volumes of an SVM.
struct VolumesSelection: ParsableArguments {
    @Option(help: "The SVM.") var svm: String
    @Option(help: "The volume; all volumes of the SVM when it is left out.") var volume: String?

    /// The records of the volumes, by name.
    func records(_ options: GlobalOptions) async throws -> [JSONValue] {
        let records = try await options.client.records(
            VolumeCommand.path,
            [("svm.name", svm), ("name", volume)]
        )
        guard records.isEmpty else { return records }
        _ = try await SVMCommand.uuid(svm, options)
        throw CommandError(
            name: "not_found",
            message: volume.map { "there is no volume '\($0)' in SVM '\(svm)'" } ?? "SVM '\(svm)' has no volumes",
            remedy: "list what is there with 'godwit volume show'"
        )
    }
}

/// `godwit snapshot …`
struct SnapshotCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "snapshot",
        abstract: "Snapshots of volumes.",
        subcommands: [Create.self, Show.self, Delete.self, Restore.self]
    )

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Takes a snapshot of a volume, or of all volumes of an SVM at once."
        )
        @OptionGroup var options: GlobalOptions
        @OptionGroup var volumes: VolumesSelection
        @Option(help: "The name of the snapshot.") var name: String
        @Flag(help: "A snapshot of that name that is there already is no error.") var okIfExists = false

        func run() async throws {
            let body = JSONValue.fields(["name": .string(name)])
            try await forgiving(okIfExists, "_exists") {
                guard volumes.volume != nil else {
                    let uuid = try await SVMCommand.uuid(volumes.svm, options)
                    let answer = try await options.client.post("/api/private/godwit/svms/\(uuid)/snapshots", body)
                    options.done("snapshot '\(name)' taken of all volumes of SVM '\(volumes.svm)'", answer)
                    return
                }
                for record in try await volumes.records(options) {
                    options.done(
                        "snapshot '\(name)' taken",
                        try await options.client.post(SnapshotCommand.path(record), body)
                    )
                }
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Shows snapshots, oldest first.")
        @OptionGroup var options: GlobalOptions
        @OptionGroup var volumes: VolumesSelection

        func run() async throws {
            var found: [JSONValue] = []
            for record in try await volumes.records(options) {
                found += try await options.client.records(SnapshotCommand.path(record))
            }
            options.show(
                found,
                [
                    Column("VOLUME", "volume.name"), Column("SNAPSHOT", "name"), Column("CREATED", "create_time"),
                    Column("HELD BY", "owners"), Column("UUID", "uuid"),
                ]
            )
        }
    }

    struct Delete: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Deletes a snapshot of a volume, or of all volumes of an SVM."
        )
        @OptionGroup var options: GlobalOptions
        @OptionGroup var volumes: VolumesSelection
        @Option(help: "The name of the snapshot.") var name: String
        @Flag(help: "That there is none is no error.") var okIfAbsent = false

        func run() async throws {
            for record in try await volumes.records(options) {
                try await forgiving(okIfAbsent, "not_found") {
                    let path = SnapshotCommand.path(record)
                    let volume = record[path: "name"]?.plain ?? ""
                    let snapshot = try await options.client.record(
                        path,
                        [("name", name)],
                        "snapshot '\(name)' of volume '\(volume)'"
                    )
                    try await options.client.delete("\(path)/\(snapshot[path: "uuid"]?.plain ?? "")")
                    options.done("snapshot '\(name)' of volume '\(volume)' deleted")
                }
            }
        }
    }

    struct Restore: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Makes a volume what it was when the snapshot was taken.",
            discussion: "What was written since is lost, and newer snapshots are deleted."
        )
        @OptionGroup var options: GlobalOptions
        @OptionGroup var volumes: VolumesSelection
        @Option(help: "The name of the snapshot.") var name: String

        func run() async throws {
            let records = try await volumes.records(options)
            // All must have it before the first one is changed.
            for record in records {
                _ = try await options.client.record(
                    SnapshotCommand.path(record),
                    [("name", name)],
                    "snapshot '\(name)' of volume '\(record[path: "name"]?.plain ?? "")'"
                )
            }
            let body = JSONValue.fields(["restore_to": .fields(["snapshot": .fields(["name": .string(name)])])])
            for record in records {
                try await options.client.patch("\(VolumeCommand.path)/\(record[path: "uuid"]?.plain ?? "")", body)
                options.done("volume '\(record[path: "name"]?.plain ?? "")' restored to '\(name)'")
            }
        }
    }

    private static func path(_ volume: JSONValue) -> String {
        "\(VolumeCommand.path)/\(volume[path: "uuid"]?.plain ?? "")/snapshots"
    }
}
