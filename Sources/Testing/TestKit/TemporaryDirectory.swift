import FileIO
import Foundation

/// Folders for tests, under the system's temporary directory.
package enum TemporaryDirectory {
    /// Makes an empty folder.
    package static func make() throws -> String {
        let path = NSTemporaryDirectory() + "godwit-test-" + UUID().uuidString
        try FileSystem.makeDirectories(path)
        return path
    }

    /// Copies what is in a folder into another one, file by file.
    package static func copy(_ source: String, to target: String) throws {
        try FileManager.default.removeItem(atPath: target)
        try FileManager.default.copyItem(atPath: source, toPath: target)
    }

    /// Deletes a folder with everything in it.
    package static func remove(_ path: String) { try? FileManager.default.removeItem(atPath: path) }
}
