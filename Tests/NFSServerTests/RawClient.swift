import Foundation
import NIOCore
import ONCRPC
import Testing

/// A client on a real socket that sends bytes and waits for bytes.
final class RawClient {
    private let descriptor: Int32
    private var stream = ByteBuffer()

    init(port: Int) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
        var timeout = timeval(tv_sec: 5, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
        let status = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        try #require(status == 0)
    }

    deinit { close(descriptor) }

    func send(_ bytes: [UInt8]) { _ = Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) }

    func send(record: ByteBuffer) {
        var framed = ByteBuffer(integer: UInt32(record.readableBytes) | 0x8000_0000)
        framed.writeImmutableBuffer(record)
        send(Array(framed.readableBytesView))
    }

    /// Bytes that have arrived within the time limit of the socket; empty at the end of the stream.
    func receive() -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: 65_536)
        let count = recv(descriptor, &buffer, buffer.count, 0)
        return Array(buffer.prefix(max(0, count)))
    }

    func arrived(withinMilliseconds: Int32) -> Bool {
        var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return Glibc.poll(&poll, 1, withinMilliseconds) == 1
    }

    /// The next record without its mark; nil when none comes within the time limit of the socket.
    func receiveRecord() -> ByteBuffer? {
        while true {
            if let record = try? RecordMarking.next(from: &stream) { return record }
            let bytes = receive()
            if bytes.isEmpty { return nil }
            stream.writeBytes(bytes)
        }
    }
}
