import Bytes
import Environment
import FileService
import Identity
import NFSServer
import NFSTypes
import NIOCore
import ONCRPC
import Synchronization
import TestKit
import VolumeEngine
import XDR

/// An SVM with one volume at `/vol`, spoken to in RPC records without a network.
final class TestServer {
    /// The term of the LIF of a test that has one.
    static let term = LIFTerm(lif: ObjectUUID(high: 1, low: 2), number: 0)
    let volume: TestVolume
    let service: SVMFileService
    var client: ClientContext
    private var nextXID: UInt32 = 100

    convenience init(policy: ExportPolicy = TestServer.open, path: String = "/vol") throws {
        self.init(volume: try TestVolume(), policy: policy, path: path)
    }

    /// Serves a volume that is there.
    init(volume: TestVolume, policy: ExportPolicy = TestServer.open, path: String = "/vol") {
        self.volume = volume
        service = SVMFileService(svm: .random(.system), handleKey: SipHashKey(first: 1, second: 2))
        service.configure(
            handleKey: SipHashKey(first: 1, second: 2),
            volumes: [ExportedVolume(volume: volume.volume, path: path, policy: policy)]
        )
        client = ClientContext(service: service, client: ClientAddress("127.0.0.9")!)
    }

    static let open = ExportPolicy(rules: [
        ExportRule(
            clients: [ClientMatch("127.0.0.0/8")!],
            allowsRead: true,
            allowsWrite: true,
            allowsSuperuser: true
        )
    ])

    /// The bytes of a call by user and group 0.
    static func call(
        _ program: UInt32,
        _ procedure: UInt32,
        xid: UInt32,
        user: UInt32 = 0,
        version: UInt32 = 3,
        _ arguments: (inout ByteBuffer) -> Void
    ) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.writeMultipleIntegers(xid, 0 as UInt32, 2 as UInt32, program, version, procedure)
        // AUTH_SYS: stamp, no machine name, user, group, no groups; then a verifier of AUTH_NONE.
        buffer.writeMultipleIntegers(1 as UInt32, 20 as UInt32, 0 as UInt32, 0 as UInt32, user, user, 0 as UInt32)
        buffer.writeMultipleIntegers(0 as UInt32, 0 as UInt32)
        arguments(&buffer)
        return buffer
    }

    /// Executes a record; returns the answer without its mark once it is durable, nil when there is none.
    func execute(_ record: ByteBuffer, waiter: @escaping @Sendable (CachedReply) -> Void = { _ in }) -> ByteBuffer? {
        var output = ByteBuffer()
        client.refresh()
        let outcome = NFSServer.execute(record, client, .blocking, isClaimed: false, into: &output, waiter: waiter)
        switch outcome {
        case .answered: break
        case .answeredWhenDurable(_, let ticket): volume.volume.waitUntilDurable(ticket)
        case .wouldBlock: preconditionFailure("a blocking execution would block")
        case .none, .malformed, .elsewhere, .misdirected: return nil
        }
        output.moveReaderIndex(forwardBy: 4)
        return output
    }

    /// Executes a procedure of NFS; returns its status and the rest of the answer.
    func nfs(
        _ procedure: NFS3.Procedure,
        user: UInt32 = 0,
        xid: UInt32? = nil,
        _ arguments: (inout ByteBuffer) -> Void
    ) -> (status: UInt32, rest: ByteBuffer) {
        nextXID += 1
        let record = Self.call(NFS3.program, procedure.rawValue, xid: xid ?? nextXID, user: user, arguments)
        guard var answer = execute(record) else { return (.max, ByteBuffer()) }
        answer.moveReaderIndex(forwardBy: 24)
        return (answer.readInteger() ?? .max, answer)
    }

    /// The handle that MOUNT gives for a path, or the status.
    func mount(_ path: String) -> (status: UInt32, handle: [UInt8]) {
        nextXID += 1
        let record = Self.call(Mount3.program, 1, xid: nextXID) { $0.writeXDROpaque(path.utf8) }
        guard var answer = execute(record) else { return (.max, []) }
        answer.moveReaderIndex(forwardBy: 24)
        let status = answer.readInteger(as: UInt32.self)!
        guard status == 0 else { return (status, []) }
        let count = Int(answer.readInteger(as: UInt32.self)!)
        return (status, answer.readBytes(length: count)!)
    }

    /// Makes a file; returns its status and handle.
    func create(_ name: String, in directory: [UInt8], user: UInt32 = 0, xid: UInt32? = nil, guarded: Bool = true)
        -> (status: UInt32, handle: [UInt8])
    {
        var (status, rest) = nfs(.create, user: user, xid: xid) {
            $0.writeXDROpaque(directory)
            $0.writeXDROpaque(name.utf8)
            $0.writeXDR(guarded ? 1 : 0 as UInt32)
            $0.writeXDRZeros(words: 6)
        }
        guard status == 0, rest.readInteger(as: UInt32.self) == 1 else { return (status, []) }
        let count = Int(rest.readInteger(as: UInt32.self)!)
        return (status, rest.readBytes(length: count)!)
    }

    func remove() { volume.remove() }
}
