import Bytes
import Environment
import FileService
import Identity
import NFSTypes
import NIOCore
import NetworkModule
import TestKit
import Testing
import VolumeEngine
import XDR

/// Two nodes of a cluster: the first has the address of the SVM and the volume `/a`, the second holds `/b` and `/a/deep`.
final class TwoNodes {
    static let key = SipHashKey(first: 1, second: 2)
    static let secret = [UInt8]("a secret of the second node".utf8)
    let threads = NetworkThreads()
    let a: TestVolume
    let b: TestVolume
    let deep: TestVolume
    let first: SVMFileService
    let second: SVMFileService
    let forwarded: ForwardedConnections
    private(set) var interconnect: InterconnectListener
    let listener: NFSListener
    let client: RawClient
    private var xid: UInt32 = 1000

    /// - Parameter environment: the first node's.
    init(secret: [UInt8] = TwoNodes.secret, environment: Environment = .system) async throws {
        a = try TestVolume(msid: 7)
        b = try TestVolume(msid: 8)
        deep = try TestVolume(msid: 9)
        let svm = ObjectUUID.random(.system)
        first = SVMFileService(svm: svm, handleKey: Self.key)
        second = SVMFileService(svm: svm, handleKey: Self.key)
        let forwarded = ForwardedConnections(service: second)
        self.forwarded = forwarded
        interconnect = try await Self.listen(0, threads, svm, forwarded)
        listener = try await NFSListener.bind(
            address: "127.0.0.1",
            port: 0,
            service: first,
            term: TestServer.term,
            threads: threads,
            environment: environment,
            isShared: false
        )
        client = try RawClient(port: listener.port)
        configureFirst(secret: secret)
        configureSecond()
    }

    private static func listen(
        _ port: Int,
        _ threads: NetworkThreads,
        _ svm: ObjectUUID,
        _ forwarded: ForwardedConnections
    ) async throws -> InterconnectListener {
        try await InterconnectListener.bind(
            address: "127.0.0.1",
            port: port,
            secret: secret,
            threads: threads,
            environment: .system,
            find: { $0 == svm ? forwarded : nil }
        )
    }

    func configureFirst(secret: [UInt8] = TwoNodes.secret, isSecondGone: Bool = false) {
        first.configure(
            handleKey: Self.key,
            volumes: [ExportedVolume(volume: a.volume, path: "/a", policy: TestServer.open)],
            remotes: remotes(secret: secret, isSecondGone: isSecondGone)
        )
    }

    /// The volumes of the second node, as others see them.
    func remotes(secret: [UInt8] = TwoNodes.secret, isSecondGone: Bool = false) -> [RemoteVolume] {
        let target =
            isSecondGone ? nil : ForwardingTarget(address: "127.0.0.1", port: interconnect.port, secret: secret)
        return [(b, "/b"), (deep, "/a/deep")].map { volume, path in
            RemoteVolume(msid: volume.volume.msid, path: path, policy: TestServer.open, target: target)
        }
    }

    func configureSecond(withoutB: Bool = false) {
        let own = [ExportedVolume(volume: deep.volume, path: "/a/deep", policy: TestServer.open)]
        second.configure(
            handleKey: Self.key,
            volumes: withoutB
                ? own : own + [ExportedVolume(volume: b.volume, path: "/b", policy: TestServer.open)],
            remotes: [RemoteVolume(msid: a.volume.msid, path: "/a", policy: TestServer.open, target: nil)]
        )
    }

    /// The second node goes.
    func stopSecond() async {
        await interconnect.close()
        forwarded.close()
    }

    /// It comes back.
    func startSecond() async throws {
        interconnect = try await Self.listen(interconnect.port, threads, second.svm, forwarded)
    }

    func send(_ procedure: NFS3.Procedure, _ arguments: (inout ByteBuffer) -> Void) {
        xid += 1
        client.send(record: TestServer.call(NFS3.program, procedure.rawValue, xid: xid, arguments))
    }

    /// The status of the next answer, and the rest of it.
    func answer() throws -> (status: UInt32, rest: ByteBuffer) {
        var answer = try #require(client.receiveRecord())
        #expect(answer.readInteger(as: UInt32.self) == xid)
        answer.moveReaderIndex(forwardBy: 20)
        let status = answer.readInteger(as: UInt32.self)
        return (try #require(status), answer)
    }

    func nfs(
        _ procedure: NFS3.Procedure,
        _ arguments: (inout ByteBuffer) -> Void
    ) throws -> (status: UInt32, rest: ByteBuffer) {
        send(procedure, arguments)
        return try answer()
    }

    func mount(_ path: String) throws -> [UInt8] {
        xid += 1
        client.send(record: TestServer.call(Mount3.program, 1, xid: xid) { $0.writeXDROpaque(path.utf8) })
        var (status, rest) = try answer()
        try #require(status == 0, "MOUNT of \(path)")
        return try Self.handle(&rest)
    }

    static func handle(_ buffer: inout ByteBuffer) throws -> [UInt8] {
        let count = buffer.readInteger(as: UInt32.self)
        let bytes = buffer.readBytes(length: Int(try #require(count)))
        return try #require(bytes)
    }

    func lookup(_ name: String, in directory: [UInt8]) throws -> (handle: [UInt8], hasAttributes: Bool) {
        var (status, rest) = try nfs(.lookup) {
            $0.writeXDROpaque(directory)
            $0.writeXDROpaque(name.utf8)
        }
        try #require(status == 0, "LOOKUP of \(name)")
        return (try Self.handle(&rest), rest.readInteger(as: UInt32.self) == 1)
    }

    static func create(_ name: String, in directory: [UInt8]) -> (inout ByteBuffer) -> Void {
        {
            $0.writeXDROpaque(directory)
            $0.writeXDROpaque(name.utf8)
            // GUARDED: an execution too many would be NFS3ERR_EXIST.
            $0.writeXDR(1 as UInt32)
            $0.writeXDRZeros(words: 6)
        }
    }

    func createdHandle(_ answer: (status: UInt32, rest: ByteBuffer)) throws -> [UInt8] {
        try #require(answer.status == 0)
        var rest = answer.rest
        rest.moveReaderIndex(forwardBy: 4)
        return try Self.handle(&rest)
    }

    func close() async {
        await listener.close()
        await stopSecond()
        await threads.stop()
        for volume in [a, b, deep] { volume.remove() }
    }
}
