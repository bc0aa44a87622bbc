internal import CLinux
internal import Glibc

/// A system call on a file failed.
package struct FileIOError: Error, Equatable, CustomStringConvertible {
    /// The system call.
    package var operation: String
    /// The file.
    package var path: String
    /// The error number (errno).
    package var number: Int32

    /// Whether there was no space left.
    package var isNoSpace: Bool { number == ENOSPC || number == EDQUOT }
    /// Whether the file does not exist.
    package var isNotFound: Bool { number == ENOENT }
    /// Whether another process holds the lock.
    package var isLocked: Bool { number == EWOULDBLOCK }

    /// Makes an error.
    package init(operation: String, path: String, number: Int32) {
        self.operation = operation
        self.path = path
        self.number = number
    }

    /// The call, the file and the reason.
    package var description: String { "\(operation) \(path): \(String(cString: strerror(number)))" }
}

/// Stands in for the file systems of the machine: the simulator's disks lose and tear what was not synchronised.
package protocol FileSystemSubstitute: AnyObject, Sendable {
    /// Opens a file.
    func open(_ path: String, _ mode: File.Mode) throws(FileIOError) -> any FileSubstitute
    /// Makes a directory and its parents.
    func makeDirectories(_ path: String) throws(FileIOError)
    /// The names in a directory, sorted.
    func list(_ path: String) throws(FileIOError) -> [String]
    /// Whether something is there.
    func exists(_ path: String) -> Bool
    /// Deletes a file; absent is no error.
    func remove(_ path: String) throws(FileIOError)
    /// Renames a file; what had the new name goes.
    func rename(_ path: String, to newPath: String) throws(FileIOError)
    /// Deletes an empty directory; absent is no error.
    func removeDirectory(_ path: String) throws(FileIOError)
    /// Makes the names of a directory durable.
    func synchronizeDirectory(_ path: String) throws(FileIOError)
    /// Bytes that are left.
    func availableBytes(_ path: String) throws(FileIOError) -> UInt64
}

/// Stands in for the descriptor of an open file.
package protocol FileSubstitute: AnyObject, Sendable {
    /// Reads; fewer bytes only at the end of the file.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(FileIOError) -> Int
    /// Reads what is in memory; false when not all of it is.
    func readCached(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) -> Bool
    /// Writes the whole buffer.
    func write(_ buffer: UnsafeRawBufferPointer, at offset: Int) throws(FileIOError)
    /// Makes written data durable.
    func synchronizeData() throws(FileIOError)
    /// Makes a range zeros and gives its space back.
    func punchHole(at offset: Int, count: Int) throws(FileIOError)
    /// Takes the file's lock, or fails with `isLocked`.
    func lockExclusively() throws(FileIOError)
    /// Bytes of the file.
    func size() throws(FileIOError) -> Int
}

/// An open file; closed with its last owner.
///
/// `pread`, `pwrite` and `fdatasync` are thread-safe, so that one `File` may be shared.
package final class File: Sendable {
    /// How a file is opened.
    package enum Mode: Sendable {
        /// For reading; must exist.
        case read
        /// For reading and writing; made when missing.
        case readWrite
    }

    /// Where it is.
    package let path: String
    private let descriptor: Int32
    // A nil check before a system call costs nothing that can be measured.
    private let substitute: (any FileSubstitute)?

    /// Opens a file.
    package init(path: String, _ mode: Mode) throws(FileIOError) {
        if let fileSystem = FileSystem.substitute {
            substitute = try fileSystem.open(path, mode)
            descriptor = -1
            self.path = path
            return
        }
        substitute = nil
        let flags = mode == .read ? O_RDONLY : O_RDWR | O_CREAT
        let descriptor = godwit_open(path, flags, 0o600)
        guard descriptor >= 0 else { throw FileIOError(operation: "open", path: path, number: errno) }
        self.path = path
        self.descriptor = descriptor
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    /// Reads up to the whole buffer at `offset`; fewer bytes only at the end of the file.
    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(FileIOError) -> Int {
        if let substitute { return try substitute.read(into: buffer, at: offset) }
        var done = 0
        while done < buffer.count {
            let count = pread(descriptor, buffer.baseAddress! + done, buffer.count - done, off_t(offset + done))
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { throw FileIOError(operation: "pread", path: path, number: errno) }
            if count == 0 { break }
            done += count
        }
        return done
    }

    /// Reads the whole buffer at `offset` if all of it is in the page cache; false otherwise.
    package func readCached(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) -> Bool {
        if let substitute { return substitute.readCached(into: buffer, at: offset) }
        return godwit_pread_nowait(descriptor, buffer.baseAddress, buffer.count, off_t(offset)) == buffer.count
    }

    /// Writes the whole buffer at `offset`.
    package func write(_ buffer: UnsafeRawBufferPointer, at offset: Int) throws(FileIOError) {
        if let substitute { return try substitute.write(buffer, at: offset) }
        var done = 0
        while done < buffer.count {
            let count = pwrite(descriptor, buffer.baseAddress! + done, buffer.count - done, off_t(offset + done))
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { throw FileIOError(operation: "pwrite", path: path, number: errno) }
            done += count
        }
    }

    /// Makes written data durable (fdatasync).
    package func synchronizeData() throws(FileIOError) {
        if let substitute { return try substitute.synchronizeData() }
        guard fdatasync(descriptor) == 0 else { throw FileIOError(operation: "fdatasync", path: path, number: errno) }
    }

    /// Starts to write dirty pages of a range back, without waiting.
    package func startWriteback(at offset: Int, count: Int) {
        if substitute != nil { return }
        _ = godwit_start_writeback(descriptor, off_t(offset), off_t(count))
    }

    /// Gives the space of a range back; it reads as zeros afterwards.
    package func punchHole(at offset: Int, count: Int) throws(FileIOError) {
        if let substitute { return try substitute.punchHole(at: offset, count: count) }
        guard godwit_punch_hole(descriptor, off_t(offset), off_t(count)) == 0 else {
            throw FileIOError(operation: "fallocate(PUNCH_HOLE)", path: path, number: errno)
        }
    }

    /// Takes the file's lock for this process, or fails at once with `isLocked`.
    package func lockExclusively() throws(FileIOError) {
        if let substitute { return try substitute.lockExclusively() }
        guard godwit_lock_exclusively(descriptor) == 0 else {
            throw FileIOError(operation: "flock", path: path, number: errno)
        }
    }

    /// Bytes of the file.
    package func size() throws(FileIOError) -> Int {
        if let substitute { return try substitute.size() }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw FileIOError(operation: "fstat", path: path, number: errno) }
        return Int(status.st_size)
    }
}

/// What is done with directories and whole files.
package enum FileSystem {
    // Set by the simulator before anything else runs, and never by a daemon.
    /// What stands in for the machine's file systems; nil for those.
    package nonisolated(unsafe) static var substitute: (any FileSystemSubstitute)?

    /// Makes a directory and its parents (mkdir -p).
    package static func makeDirectories(_ path: String) throws(FileIOError) {
        if let substitute { return try substitute.makeDirectories(path) }
        var prefix = path.hasPrefix("/") ? "" : "."
        for component in path.split(separator: "/") {
            prefix += "/" + component
            if mkdir(prefix, 0o700) != 0 && errno != EEXIST {
                throw FileIOError(operation: "mkdir", path: prefix, number: errno)
            }
        }
    }

    /// The names in a directory, sorted, without "." and "..".
    package static func list(_ path: String) throws(FileIOError) -> [String] {
        if let substitute { return try substitute.list(path) }
        guard let directory = opendir(path) else { throw FileIOError(operation: "opendir", path: path, number: errno) }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    /// Whether something is there.
    package static func exists(_ path: String) -> Bool { substitute?.exists(path) ?? (access(path, F_OK) == 0) }

    /// Deletes a file; absent is no error.
    package static func remove(_ path: String) throws(FileIOError) {
        if let substitute { return try substitute.remove(path) }
        if unlink(path) != 0 && errno != ENOENT { throw FileIOError(operation: "unlink", path: path, number: errno) }
    }

    /// Renames a file within its directory; what had the new name goes.
    package static func rename(_ path: String, to newPath: String) throws(FileIOError) {
        if let substitute { return try substitute.rename(path, to: newPath) }
        guard Glibc.rename(path, newPath) == 0 else {
            throw FileIOError(operation: "rename", path: path, number: errno)
        }
    }

    /// Deletes an empty directory; absent is no error.
    package static func removeDirectory(_ path: String) throws(FileIOError) {
        if let substitute { return try substitute.removeDirectory(path) }
        if rmdir(path) != 0 && errno != ENOENT { throw FileIOError(operation: "rmdir", path: path, number: errno) }
    }

    /// Makes names that were added to or removed from a directory durable.
    package static func synchronizeDirectory(_ path: String) throws(FileIOError) {
        if let substitute { return try substitute.synchronizeDirectory(path) }
        let descriptor = godwit_open(path, O_RDONLY | O_DIRECTORY, 0)
        guard descriptor >= 0 else { throw FileIOError(operation: "open", path: path, number: errno) }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw FileIOError(operation: "fsync", path: path, number: errno) }
    }

    /// The whole content of a small file.
    package static func readAll(_ path: String) throws(FileIOError) -> [UInt8] {
        let file = try File(path: path, .read)
        var bytes = [UInt8](repeating: 0, count: try file.size())
        let outcome = bytes.withUnsafeMutableBytes { buffer in
            Result { () throws(FileIOError) in try file.read(into: buffer, at: 0) }
        }
        let count = try outcome.get()
        return [UInt8](bytes.prefix(count))
    }

    /// Writes a small file so that after a crash it is there whole or not at all.
    ///
    /// - Parameter writer: tells this writer from others that may write the same file at the same moment: none of them may
    ///   give its name to what another one has half written.
    package static func writeAtomically(
        _ bytes: [UInt8],
        to path: String,
        writer: String = "new"
    ) throws(FileIOError) {
        let temporary = path + "." + writer
        try remove(temporary)
        do {
            let file = try File(path: temporary, .readWrite)
            let outcome = bytes.withUnsafeBytes { buffer in
                Result { () throws(FileIOError) in try file.write(buffer, at: 0) }
            }
            try outcome.get()
            try file.synchronizeData()
        }
        try rename(temporary, to: path)
        let slash = path.lastIndex(of: "/")
        try synchronizeDirectory(slash.map { String(path[..<$0]) } ?? ".")
    }

    /// Bytes that the file system under `path` has left for this process.
    package static func availableBytes(_ path: String) throws(FileIOError) -> UInt64 {
        if let substitute { return try substitute.availableBytes(path) }
        var status = statvfs()
        guard statvfs(path, &status) == 0 else { throw FileIOError(operation: "statvfs", path: path, number: errno) }
        return UInt64(status.f_bavail) * UInt64(status.f_frsize)
    }
}
