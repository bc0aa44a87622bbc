import FileIO

/// A disk: it outlives processes. That of an aggregate is reached by all nodes of its cluster; the one that has the lock is
/// the one whose page cache holds what is not synchronised. What another one writes, the label, is durable at once.
///
/// What was written and not synchronised is at the mercy of a crash: each page on its own is lost, kept, or torn at a
/// sector. Names follow the rules of a journalling file system (ext4, XFS): after a crash some first part of the changes
/// of names is there, and what `synchronizeDirectory` was called for is.
final class SimulatedDisk {
    static let pageBytes = 4096
    static let sectorBytes = 512

    private enum NameChange {
        case linked(String, before: DiskFile?)
        case unlinked(String, DiskFile)
        case made(String)
        case removed(String)
    }

    private(set) var files: [String: DiskFile] = [:]
    private var directories: Set<String> = []
    private var unsynced: [NameChange] = []
    /// The databases, by folder.
    var stores: [String: OrderedStore] = [:]
    var generator: Generator
    /// Nanoseconds that making something durable takes at most.
    var latencyNanosecondsMax: UInt64 = 800_000
    /// No data can be written.
    var isFull = false
    /// Whether it is not as fast as usual, or full.
    var isDisturbed: Bool { isFull || latencyNanosecondsMax > 1_000_000 }
    /// Writes so far: what a crash at a disk write counts.
    private(set) var writeCount: UInt64 = 0
    /// Acknowledges `fdatasync` of data without doing it: only for a planted defect.
    var forgetsToSynchronize = false
    /// Who has the lock.
    private(set) var holder: SimulatedProcess?
    /// The open file that the lock was taken with.
    private var lockFile: ObjectIdentifier?
    /// Whether the holder has opened what the lock protects.
    var isOpen = false
    /// The node that had it last.
    private var lastNode: Node?
    /// Who touched the disk last.
    private var lastToucher: SimulatedProcess?

    init(generator: Generator) { self.generator = generator }

    /// Counts something that reaches the disk, and ends the process there when the faults say so.
    func touched() {
        writeCount += 1
        lastToucher = simulation.scheduler.current
        simulation.faults.diskWritten(self)
    }

    /// Lets the caller wait for the disk.
    func wait() {
        simulation.scheduler.sleep(20_000 + generator.within(0...latencyNanosecondsMax))
    }

    // MARK: The lock

    /// Whether what is written now comes from another machine than the one that has the disk open.
    private var isForeign: Bool {
        guard let holder else { return false }
        return holder !== simulation.scheduler.current
    }

    /// Whether what is written now need not be synchronised.
    fileprivate var isDurableAtOnce: Bool { isForeign }

    /// Gives the lock to the running process; false when another one has it.
    func lock(with file: ObjectIdentifier) -> Bool {
        let process = simulation.scheduler.current
        if let holder {
            guard simulation.defects.planted.contains(.locklessOpen), holder !== process else { return false }
        }
        holder = process
        lockFile = file
        isOpen = false
        if let node = process.node {
            // Another machine reads from the disk: what the former one had written is there by then.
            if let lastNode, lastNode !== node {
                becomeDurable()
                simulation.handoverCount += 1
            }
            lastNode = node
        }
        return true
    }

    /// An open file is closed: the lock that was taken with it is free.
    func closed(_ file: ObjectIdentifier) { if lockFile == file { (holder, lockFile) = (nil, nil) } }

    /// Something of an aggregate is written: only who has the lock may do that.
    func aggregateWritten() {
        let process = simulation.scheduler.current
        guard let holder, holder !== process, process.node != nil else { return }
        simulation.violation("\(process.name) writes into an aggregate that \(holder.name) has open")
    }

    private func becomeDurable() {
        unsynced = []
        for path in files.keys { files[path]!.becomeDurable() }
        for path in stores.keys { stores[path]!.becomeDurable() }
    }

    // MARK: Names

    private func note(_ changes: NameChange...) { if !isDurableAtOnce { unsynced += changes } }

    func open(_ path: String, _ mode: File.Mode) throws(FileIOError) -> DiskFile {
        if let file = files[path] { return file }
        guard mode == .readWrite else { throw FileIOError(operation: "open", path: path, number: 2) }
        let file = DiskFile(disk: self, path: path)
        files[path] = file
        note(.linked(path, before: nil))
        return file
    }

    func makeDirectories(_ path: String) {
        var prefix = ""
        for component in path.split(separator: "/") {
            prefix += "/" + component
            if directories.insert(prefix).inserted { note(.made(prefix)) }
        }
    }

    func list(_ path: String) throws(FileIOError) -> [String] {
        guard directories.contains(path) else { throw FileIOError(operation: "opendir", path: path, number: 2) }
        let prefix = path + "/"
        let paths = files.keys.filter { $0.hasPrefix(prefix) } + directories.filter { $0.hasPrefix(prefix) }
        return paths.map { String($0.dropFirst(prefix.count)) }.filter { !$0.contains("/") }.sorted()
    }

    func exists(_ path: String) -> Bool {
        files[path] != nil || directories.contains(path) || stores[path] != nil
    }

    func remove(_ path: String) {
        guard let file = files.removeValue(forKey: path) else { return }
        note(.unlinked(path, file))
    }

    func rename(_ path: String, to newPath: String) throws(FileIOError) {
        guard let file = files.removeValue(forKey: path) else {
            throw FileIOError(operation: "rename", path: path, number: 2)
        }
        note(.unlinked(path, file), .linked(newPath, before: files[newPath]))
        files[newPath] = file
    }

    func removeDirectory(_ path: String) {
        if directories.remove(path) != nil { note(.removed(path)) }
    }

    func synchronizeNames() {
        touched()
        wait()
        if !isForeign { unsynced = [] }
    }

    /// All that there is becomes durable.
    func forgetNothing() { unsynced = [] }

    // MARK: Crash

    /// The lock of a process goes with it, and what it was writing is written or not.
    func processDied(_ process: SimulatedProcess) {
        guard isOf(process) else { return }
        (holder, lockFile) = (nil, nil)
        for path in stores.keys.sorted() { stores[path]!.processDied(&generator) }
    }

    /// Whether what is not synchronised is in the page cache of a process's machine.
    func isOf(_ process: SimulatedProcess) -> Bool {
        if let holder { return holder === process }
        return lastToucher === process || process.node?.disk === self && process.node?.cluster.isShared == false
    }

    /// Gives the memory of all files back.
    func clear() {
        for path in files.keys { files[path]!.clear() }
        for path in stores.keys { stores[path]!.clear() }
        (files, stores, unsynced) = ([:], [:], [])
    }

    /// Loses what a crash loses.
    func crash() {
        var kept = generator.below(unsynced.count + 1)
        // A rename is one change.
        if kept > 0, kept < unsynced.count, case .unlinked(_, let file) = unsynced[kept - 1],
            case .linked(let path, _) = unsynced[kept], files[path] === file
        {
            kept += 1
        }
        for change in unsynced[kept...].reversed() {
            switch change {
            case .linked(let path, let before): files[path] = before
            case .unlinked(let path, let file): files[path] = file
            case .made(let path): directories.remove(path)
            case .removed(let path): directories.insert(path)
            }
        }
        unsynced = []
        for path in files.keys.sorted() { files[path]!.crash(&generator) }
        for path in stores.keys.sorted() { stores[path]!.crash(&generator) }
    }
}

/// The bytes of a file: what its readers see, and what of it is durable.
final class DiskFile: FileSubstitute, @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    private unowned let disk: SimulatedDisk
    /// Whether only who has the lock may write it.
    private let isOfAggregate: Bool
    private var pages: [[UInt8]?] = []
    private var count = 0
    /// Pages that were written since they were last durable, with what is durable of them.
    private var dirty: [Int: [UInt8]?] = [:]
    private var durableCount = 0

    init(disk: SimulatedDisk, path: String) {
        self.disk = disk
        isOfAggregate = path.hasSuffix("/journal") || path.contains("/segments/")
    }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) -> Int {
        let end = min(offset + buffer.count, count)
        guard offset < end else { return 0 }
        var position = offset
        while position < end {
            let page = position / SimulatedDisk.pageBytes
            let within = position % SimulatedDisk.pageBytes
            let length = min(SimulatedDisk.pageBytes - within, end - position)
            let part = UnsafeMutableRawBufferPointer(
                rebasing: buffer[position - offset..<position - offset + length]
            )
            if let bytes = pages[page] {
                bytes.withUnsafeBytes {
                    part.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[within..<within + length]))
                }
            } else {
                part.initializeMemory(as: UInt8.self, repeating: 0)
            }
            position += length
        }
        return end - offset
    }

    func readCached(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) -> Bool {
        !disk.generator.oneIn(8) && read(into: buffer, at: offset) == buffer.count
    }

    func write(_ buffer: UnsafeRawBufferPointer, at offset: Int) throws(FileIOError) {
        disk.touched()
        if isOfAggregate { disk.aggregateWritten() }
        var position = offset
        if disk.isFull {
            // What is there already can be written over.
            let range = offset / SimulatedDisk.pageBytes...(offset + max(1, buffer.count) - 1) / SimulatedDisk.pageBytes
            guard range.allSatisfy({ $0 < pages.count && pages[$0] != nil }) else {
                throw FileIOError(operation: "pwrite", path: "", number: 28)
            }
        }
        while position < offset + buffer.count {
            let page = position / SimulatedDisk.pageBytes
            let within = position % SimulatedDisk.pageBytes
            let length = min(SimulatedDisk.pageBytes - within, offset + buffer.count - position)
            let source = UnsafeRawBufferPointer(rebasing: buffer[position - offset..<position - offset + length])
            change(page) { bytes in
                bytes.withUnsafeMutableBytes {
                    UnsafeMutableRawBufferPointer(rebasing: $0[within..<within + length]).copyMemory(from: source)
                }
            }
            position += length
        }
        count = max(count, offset + buffer.count)
        if disk.isDurableAtOnce { durableCount = max(durableCount, count) }
    }

    /// All that is written is durable.
    func becomeDurable() { (dirty, durableCount) = ([:], max(durableCount, count)) }

    private func change(_ page: Int, _ body: (inout [UInt8]) -> Void) {
        while pages.count <= page { pages.append(nil) }
        if dirty[page] == nil && !disk.isDurableAtOnce { dirty[page] = .some(pages[page]) }
        var bytes = pages[page] ?? [UInt8](repeating: 0, count: SimulatedDisk.pageBytes)
        pages[page] = nil
        body(&bytes)
        pages[page] = bytes
    }

    func punchHole(at offset: Int, count: Int) {
        disk.touched()
        if isOfAggregate { disk.aggregateWritten() }
        let first = (offset + SimulatedDisk.pageBytes - 1) / SimulatedDisk.pageBytes
        let end = min((offset + count) / SimulatedDisk.pageBytes, pages.count)
        guard first < end else { return }
        for page in first..<end where pages[page] != nil {
            if dirty[page] == nil { dirty[page] = .some(pages[page]) }
            pages[page] = nil
        }
    }

    func synchronizeData() {
        disk.touched()
        if disk.forgetsToSynchronize { return }
        // What is written while the disk is at work is not part of it.
        let (present, size) = (dirty.keys.map { ($0, pages[$0]) }, count)
        disk.wait()
        for (page, bytes) in present {
            if pages[page] == bytes { dirty[page] = nil } else { dirty[page] = .some(bytes) }
        }
        durableCount = max(durableCount, size)
    }

    func lockExclusively() throws(FileIOError) { preconditionFailure("an open file is locked") }

    /// Locks it for an open file.
    func lock(with open: ObjectIdentifier) throws(FileIOError) {
        guard disk.lock(with: open) else { throw FileIOError(operation: "flock", path: "", number: 11) }
    }

    func closed(_ open: ObjectIdentifier) { disk.closed(open) }

    func size() -> Int { count }

    /// Gives its memory back.
    func clear() { (pages, dirty) = ([], [:]) }

    /// Loses what a crash loses.
    func crash(_ generator: inout Generator) {
        for page in dirty.keys.sorted() {
            let durable = dirty[page]!
            switch generator.below(3) {
            case 0: pages[page] = durable
            case 1: break
            default: tear(page, durable, &generator)
            }
        }
        dirty = [:]
        while let last = pages.last, last == nil, pages.count * SimulatedDisk.pageBytes > durableCount {
            pages.removeLast()
        }
        count = max(durableCount, min(count, pages.count * SimulatedDisk.pageBytes))
        durableCount = count
    }

    private func tear(_ page: Int, _ durable: [UInt8]?, _ generator: inout Generator) {
        let zeros = [UInt8](repeating: 0, count: SimulatedDisk.pageBytes)
        var bytes = pages[page] ?? zeros
        let old = durable ?? zeros
        var sector = 0
        while sector < SimulatedDisk.pageBytes {
            if generator.oneIn(2) {
                bytes.replaceSubrange(
                    sector..<sector + SimulatedDisk.sectorBytes,
                    with: old[sector..<sector + SimulatedDisk.sectorBytes]
                )
            }
            sector += SimulatedDisk.sectorBytes
        }
        pages[page] = bytes
    }
}

/// One open file of a process; its lock goes with it.
final class OpenDiskFile: FileSubstitute, @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    private let file: DiskFile
    private var holdsLock = false

    init(_ file: DiskFile) { self.file = file }

    deinit { if holdsLock { file.closed(ObjectIdentifier(self)) } }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) -> Int { file.read(into: buffer, at: offset) }
    func readCached(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) -> Bool {
        file.readCached(into: buffer, at: offset)
    }
    func write(_ buffer: UnsafeRawBufferPointer, at offset: Int) throws(FileIOError) {
        try file.write(buffer, at: offset)
    }
    func synchronizeData() { file.synchronizeData() }
    func punchHole(at offset: Int, count: Int) { file.punchHole(at: offset, count: count) }
    func lockExclusively() throws(FileIOError) {
        try file.lock(with: ObjectIdentifier(self))
        holdsLock = true
    }
    func size() -> Int { file.size() }
}

/// The file systems of all nodes: the first component of a path is the node.
final class SimulatedFileSystem: FileSystemSubstitute {
    private func disk(_ path: String) throws(FileIOError) -> SimulatedDisk {
        guard let disk = simulation.disk(of: path) else {
            throw FileIOError(operation: "open", path: path, number: 2)
        }
        return disk
    }

    func open(_ path: String, _ mode: File.Mode) throws(FileIOError) -> any FileSubstitute {
        let disk = try disk(path)
        guard !simulation.defects.hides(path, on: disk) else {
            throw FileIOError(operation: "open", path: path, number: 2)
        }
        return OpenDiskFile(try disk.open(path, mode))
    }
    func makeDirectories(_ path: String) throws(FileIOError) { try disk(path).makeDirectories(path) }
    func list(_ path: String) throws(FileIOError) -> [String] { try disk(path).list(path) }
    func exists(_ path: String) -> Bool {
        guard let disk = simulation.disk(of: path) else { return false }
        return disk.exists(path) && !simulation.defects.hides(path, on: disk)
    }
    func remove(_ path: String) throws(FileIOError) { try disk(path).remove(path) }
    func rename(_ path: String, to newPath: String) throws(FileIOError) { try disk(path).rename(path, to: newPath) }
    func removeDirectory(_ path: String) throws(FileIOError) { try disk(path).removeDirectory(path) }
    func synchronizeDirectory(_ path: String) throws(FileIOError) { try disk(path).synchronizeNames() }
    func availableBytes(_ path: String) throws(FileIOError) -> UInt64 { try disk(path).isFull ? 0 : 1 << 40 }
}
