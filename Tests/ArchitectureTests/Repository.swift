import Foundation

/// The tree that the tests look at.
enum Repository {
    /// The root of the package.
    static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    /// A source file: its path from the root, and its lines.
    struct SourceFile {
        var path: String
        var lines: [String]
    }

    /// Why the manifest could not be read.
    struct ManifestError: Error {
        var words: String
    }

    /// All Swift files below the given folders, by path.
    static func swiftFiles(below folders: [String]) throws -> [SourceFile] {
        var files: [SourceFile] = []
        for folder in folders {
            for path in FileManager.default.subpaths(atPath: root.appending(path: folder).path) ?? [] {
                guard path.hasSuffix(".swift") else { continue }
                let text = try String(contentsOf: root.appending(path: "\(folder)/\(path)"), encoding: .utf8)
                files.append(SourceFile(path: "\(folder)/\(path)", lines: text.components(separatedBy: "\n")))
            }
        }
        return files.sorted { $0.path < $1.path }
    }

    /// The targets of the package, as `swift package dump-package` tells them. That verb reads the manifest only, so it
    /// does not wait for the build that runs this test.
    static func rooms() throws -> [Room] {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        // A scratch folder of its own: the test runner holds the lock of the usual one.
        let scratch = FileManager.default.temporaryDirectory.appendingPathComponent("godwit-manifest-\(getpid())")
        defer { try? FileManager.default.removeItem(at: scratch) }
        process.arguments = [
            "swift", "package", "--package-path", root.path, "--scratch-path", scratch.path, "dump-package",
        ]
        let output = Pipe()
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        let data = try output.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw ManifestError(words: "swift package dump-package ended with \(process.terminationStatus)")
        }
        return try decode(data)
    }

    private static func decode(_ data: Data) throws -> [Room] {
        guard let manifest = try JSONSerialization.jsonObject(with: data) as? [String: Any],
            let targets = manifest["targets"] as? [[String: Any]]
        else { throw ManifestError(words: "the manifest has no targets") }
        return try targets.filter { $0["type"] as? String != "test" }.map { target in
            guard let name = target["name"] as? String, let path = target["path"] as? String,
                let dependencies = target["dependencies"] as? [[String: Any]]
            else { throw ManifestError(words: "a target without name, path or dependencies: \(target)") }
            // A target of this package is "byName" or "target"; products of other packages are "product".
            let names = dependencies.compactMap { dependency in
                ((dependency["byName"] ?? dependency["target"]) as? [Any])?.first as? String
            }
            return Room(name: name, path: path, dependencies: names)
        }
    }
}
