import Foundation
import Glibc
import Harness

/// A tree of files that was made for a measurement.
struct MadeTree {
    let path: String
    let files: [String]
    let bytes: Int

    /// Makes `count` files of `size` bytes that no compression makes smaller, 200 to a directory.
    static func make(_ path: String, count: Int, size: Int) throws -> MadeTree {
        var random = SystemRandomNumberGenerator()
        var block = Data(count: size + 8 * count)
        for index in stride(from: 0, to: block.count - 8, by: 8) {
            let word = random.next()
            block.withUnsafeMutableBytes { $0.storeBytes(of: word, toByteOffset: index, as: UInt64.self) }
        }
        var files: [String] = []
        for number in 0..<count {
            let directory = "\(path)/directory-\(number / 200)"
            if number % 200 == 0 {
                try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
            }
            let file = "\(directory)/file-\(number)"
            guard write(block, from: 8 * number, count: size, to: file) else {
                throw HarnessError("\(file) could not be made", remedy: "look whether the disk is full")
            }
            files.append(file)
        }
        return MadeTree(path: path, files: files, bytes: count * size)
    }

    /// Writes part of a block into a new file, without the rename and the flush that Foundation would add.
    private static func write(_ block: Data, from start: Int, count: Int, to path: String) -> Bool {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        return block.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress! + start, count) == count }
    }

    /// Changes ten files that lie far apart, and puts copies of only these into another tree.
    func changeTen(round: Int, copyTo directory: String) throws {
        let step = max(1, files.count / 10)
        for number in stride(from: round, to: files.count, by: step).prefix(10) {
            let file = files[number]
            let text = Data("changed in round \(round): \(file)\n".utf8) + Data(repeating: 0x61, count: 4096)
            try text.write(to: URL(fileURLWithPath: file))
            let copy = directory + file.dropFirst(path.count)
            try FileManager.default.createDirectory(
                atPath: (copy as NSString).deletingLastPathComponent,
                withIntermediateDirectories: true
            )
            try text.write(to: URL(fileURLWithPath: copy))
        }
    }
}
