import ArgumentParser
import JSON

/// Names a volume.
struct VolumeSelection: ParsableArguments {
    @Option(help: "The SVM.") var svm: String
    @Option(name: [.customLong("volume"), .customLong("name")], help: "The volume.") var name: String

    /// The record of the volume.
    func record(_ options: GlobalOptions) async throws -> JSONValue {
        try await options.client.record(
            VolumeCommand.path,
            [("svm.name", svm), ("name", name)],
            "volume '\(name)' in SVM '\(svm)'"
        )
    }

    /// The path of the volume.
    func path(_ options: GlobalOptions) async throws -> String {
        "\(VolumeCommand.path)/\(try await record(options)[path: "uuid"]?.plain ?? "")"
    }
}

/// `godwit volume …`
struct VolumeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "volume",
        abstract: "Volumes.",
        subcommands: [Create.self, Show.self, Modify.self, Delete.self, Scrub.self, Check.self]
    )
    static let path = "/api/storage/volumes"

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Makes a volume.")
        @OptionGroup var options: GlobalOptions
        @OptionGroup var volume: VolumeSelection
        @Option(help: "Its size.") var size: Size
        @Option(help: "The aggregate that holds it; may be left out when there is only one.") var aggregate: String?
        @Option(help: "Where clients find it, such as /data.") var junctionPath: String?
        @Option(help: "The export policy (default: default).") var exportPolicy: String?
        @Option(help: "Whether its space is set aside: none or volume (default: none).") var guarantee: String?
        @Option(help: "Free text.") var comment: String?
        @Flag(help: "A volume of that name that is there already is no error.") var okIfExists = false

        func run() async throws {
            let body = JSONValue.fields([
                "name": .string(volume.name), "svm": .fields(["name": .string(volume.svm)]),
                "size": .int(size.bytes),
                "aggregates": aggregate.map { .array([.fields(["name": .string($0)])]) },
                "nas": VolumeCommand.nas(junctionPath, exportPolicy),
                "guarantee": guarantee.map { .fields(["type": .string($0)]) },
                "comment": comment.map { .string($0) },
            ])
            try await forgiving(okIfExists, "volume_exists") {
                options.done(
                    "volume '\(volume.name)' made",
                    try await options.client.post(VolumeCommand.path, body)
                )
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Shows volumes.")
        @OptionGroup var options: GlobalOptions
        @Option(help: "Only those of this SVM.") var svm: String?
        @Option(name: [.customLong("volume"), .customLong("name")], help: "Only this one; * stands for anything.")
        var name: String?

        func run() async throws {
            let records = try await options.client.records(
                VolumeCommand.path,
                [("svm.name", svm), ("name", name)]
            )
            options.show(
                records,
                [
                    Column("SVM", "svm.name"), Column("VOLUME", "name"), Column("STATE", "state"),
                    Column("TYPE", "type"), Column("SIZE", bytes: "size"), Column("USED", bytes: "space.used"),
                    Column("AVAILABLE", bytes: "space.available"), Column("FILES", "files.used"),
                    Column("SNAPSHOTS", "snapshot_count"), Column("JUNCTION", "nas.path"),
                    Column("AGGREGATE", "aggregates.name"), Column("POLICY", "nas.export_policy.name"),
                ]
            )
        }
    }

    struct Modify: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Changes a volume.")
        @OptionGroup var options: GlobalOptions
        @OptionGroup var volume: VolumeSelection
        @Option(help: "Its new name.") var newName: String?
        @Option(help: "Its size.") var size: Size?
        @Option(help: "Where clients find it; empty takes it out of the namespace.") var junctionPath: String?
        @Option(help: "The export policy.") var exportPolicy: String?
        @Option(help: "Whether its space is set aside: none or volume.") var guarantee: String?
        @Option(help: "online or offline.") var state: String?
        @Option(help: "Free text.") var comment: String?

        func run() async throws {
            let body = JSONValue.fields([
                "name": newName.map { .string($0) }, "size": size.map { .int($0.bytes) },
                "nas": VolumeCommand.nas(junctionPath, exportPolicy),
                "guarantee": guarantee.map { .fields(["type": .string($0)]) }, "state": state.map { .string($0) },
                "comment": comment.map { .string($0) },
            ])
            try await options.client.patch(try await volume.path(options), body)
            options.done("volume '\(volume.name)' changed")
        }
    }

    struct Delete: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Deletes a volume with all its data and snapshots, for ever."
        )
        @OptionGroup var options: GlobalOptions
        @OptionGroup var volume: VolumeSelection
        @Flag(help: "That there is none is no error.") var okIfAbsent = false

        func run() async throws {
            try await forgiving(okIfAbsent, "not_found") {
                try await options.client.delete(try await volume.path(options))
                options.done("volume '\(volume.name)' deleted")
            }
        }
    }

    struct Scrub: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Reads and verifies every block of a volume.",
            discussion: "Exit status 1 when damage was found; 'godwit event show' lists it."
        )
        @OptionGroup var options: GlobalOptions
        @OptionGroup var volume: VolumeSelection

        func run() async throws { try await VolumeCommand.runJob("scrub", volume, options) }
    }

    struct Check: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Walks all metadata of a volume and tells what is not as it should be.",
            discussion: "Exit status 1 when something was found."
        )
        @OptionGroup var options: GlobalOptions
        @OptionGroup var volume: VolumeSelection

        func run() async throws { try await VolumeCommand.runJob("check", volume, options) }
    }

    private static func nas(_ junctionPath: String?, _ exportPolicy: String?) -> JSONValue? {
        guard junctionPath != nil || exportPolicy != nil else { return nil }
        return .fields([
            "path": junctionPath.map { .string($0) },
            "export_policy": exportPolicy.map { .fields(["name": .string($0)]) },
        ])
    }

    private static func runJob(
        _ verb: String,
        _ volume: VolumeSelection,
        _ options: GlobalOptions
    ) async throws {
        let uuid = try await volume.record(options)[path: "uuid"]?.plain ?? ""
        let answer = try await options.client.post("/api/private/godwit/volumes/\(uuid)/\(verb)", .object([]))
        let job = try await options.client.wait(for: answer) { if !options.json { printError($0) } }
        options.done("volume '\(volume.name)': \(job[path: "message"]?.plain ?? "")", job)
    }
}
