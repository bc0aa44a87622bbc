import Foundation
import Glibc
import Synchronization

/// Reads files one after the other, sends their bytes through a loopback socket, writes them into one file and makes
/// that durable with one fsync: what no transfer of these files can beat.
///
/// - Returns: the seconds from the first read to the end of the fsync.
public func copyThroughLoopback(files: [String], to destination: String) throws -> Double {
    var pair: (listener: Int32, port: in_port_t) = (socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0), 0)
    defer { close(pair.listener) }
    var place = sockaddr_in()
    place.sin_family = sa_family_t(AF_INET)
    place.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isBound = withUnsafeMutablePointer(to: &place) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            bind(pair.listener, $0, length) == 0 && listen(pair.listener, 1) == 0
                && getsockname(pair.listener, $0, &length) == 0
        }
    }
    guard isBound else { throw HarnessError("no loopback socket could be made", remedy: "look at the limits") }
    pair.port = place.sin_port
    let target = open(destination, O_WRONLY | O_CREAT | O_EXCL, 0o644)
    guard target >= 0 else { throw HarnessError("\(destination) cannot be made", remedy: "give a new directory") }
    defer { close(target) }
    let started = monotonicSeconds()
    let port = pair.port
    let failed = Mutex(false)
    let sender = Thread {
        if !sendFiles(files, port: port) { failed.withLock { $0 = true } }
    }
    sender.start()
    let incoming = accept(pair.listener, nil, nil)
    defer { close(incoming) }
    let isWhole = pump(from: incoming, to: target)
    guard isWhole, fsync(target) == 0, !failed.withLock({ $0 }) else {
        throw HarnessError("the copy through loopback broke", remedy: "look whether the disk is full")
    }
    return monotonicSeconds() - started
}

private func sendFiles(_ files: [String], port: in_port_t) -> Bool {
    let outgoing = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(outgoing) }
    var place = sockaddr_in()
    place.sin_family = sa_family_t(AF_INET)
    place.sin_port = port
    place.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
    let isConnected = withUnsafePointer(to: &place) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            connect(outgoing, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
        }
    }
    guard isConnected else { return false }
    for file in files {
        let source = open(file, O_RDONLY)
        guard source >= 0 else { return false }
        defer { close(source) }
        guard pump(from: source, to: outgoing) else { return false }
    }
    return true
}

/// Moves bytes until the end of the source. False on an error.
private func pump(from source: Int32, to target: Int32) -> Bool {
    withUnsafeTemporaryAllocation(byteCount: 1 << 20, alignment: 4096) { buffer in
        while true {
            let count = read(source, buffer.baseAddress, buffer.count)
            guard count >= 0 else { return false }
            if count == 0 { return true }
            var done = 0
            while done < count {
                let written = write(target, buffer.baseAddress! + done, count - done)
                guard written > 0 else { return false }
                done += written
            }
        }
    }
}
