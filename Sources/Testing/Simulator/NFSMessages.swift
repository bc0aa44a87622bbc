import NFSTypes
import NIOCore
import XDR

/// The calls that simulated clients make, and what they read out of the answers (RFC 1813).
enum NFSMessages {
    /// A call of the superuser, without a record mark.
    static func call(
        _ program: UInt32,
        _ procedure: UInt32,
        xid: UInt32,
        _ arguments: (inout ByteBuffer) -> Void
    ) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.writeMultipleIntegers(xid, 0 as UInt32, 2 as UInt32, program, 3 as UInt32, procedure)
        // AUTH_SYS: stamp, no machine name, user, group, no groups; then a verifier of AUTH_NONE.
        buffer.writeMultipleIntegers(1 as UInt32, 20 as UInt32, 0 as UInt32, 0 as UInt32, 0 as UInt32, 0 as UInt32)
        buffer.writeMultipleIntegers(0 as UInt32, 0 as UInt32, 0 as UInt32)
        arguments(&buffer)
        return buffer
    }

    static func mount(xid: UInt32, path: String) -> ByteBuffer {
        call(Mount3.program, 1, xid: xid) { $0.writeXDROpaque(path.utf8) }
    }

    static func create(xid: UInt32, _ name: String, in directory: [UInt8]) -> ByteBuffer {
        call(NFS3.program, NFS3.Procedure.create.rawValue, xid: xid) {
            $0.writeXDROpaque(directory)
            $0.writeXDROpaque(name.utf8)
            // GUARDED, and no attributes set.
            $0.writeXDR(1 as UInt32)
            $0.writeXDRZeros(words: 6)
        }
    }

    static func remove(xid: UInt32, _ name: String, in directory: [UInt8]) -> ByteBuffer {
        call(NFS3.program, NFS3.Procedure.remove.rawValue, xid: xid) {
            $0.writeXDROpaque(directory)
            $0.writeXDROpaque(name.utf8)
        }
    }

    static func write(xid: UInt32, _ file: [UInt8], _ bytes: [UInt8], isStable: Bool) -> ByteBuffer {
        call(NFS3.program, NFS3.Procedure.write.rawValue, xid: xid) {
            $0.writeXDROpaque(file)
            $0.writeXDR(0 as UInt64)
            $0.writeXDR(UInt32(bytes.count))
            $0.writeXDR(isStable ? 2 : 0 as UInt32)
            $0.writeXDROpaque(bytes)
        }
    }

    static func commit(xid: UInt32, _ file: [UInt8]) -> ByteBuffer {
        call(NFS3.program, NFS3.Procedure.commit.rawValue, xid: xid) {
            $0.writeXDROpaque(file)
            $0.writeXDR(0 as UInt64)
            $0.writeXDR(0 as UInt32)
        }
    }

    static func read(xid: UInt32, _ file: [UInt8], count: Int) -> ByteBuffer {
        call(NFS3.program, NFS3.Procedure.read.rawValue, xid: xid) {
            $0.writeXDROpaque(file)
            $0.writeXDR(0 as UInt64)
            $0.writeXDR(UInt32(count))
        }
    }

    /// An answer: its status, and what comes after it.
    struct Answer {
        var status: UInt32
        var rest: ByteBuffer

        /// Reads an answer with its record mark; nil when it is not one to this call.
        init?(_ buffer: ByteBuffer, xid: UInt32) {
            rest = buffer
            rest.moveReaderIndex(forwardBy: 4)
            guard rest.readInteger(as: UInt32.self) == xid else { return nil }
            rest.moveReaderIndex(forwardBy: 20)
            guard let status = rest.readInteger(as: UInt32.self) else { return nil }
            self.status = status
        }

        /// The handle at the front of the answer to MOUNT or LOOKUP.
        mutating func handle() -> [UInt8] { opaque() }

        /// The handle in the answer to CREATE.
        mutating func createdHandle() -> [UInt8] { rest.readInteger(as: UInt32.self) == 1 ? opaque() : [] }

        /// The bytes in the answer to READ.
        mutating func data() -> [UInt8] {
            skipAttributes()
            rest.moveReaderIndex(forwardBy: 8)
            return opaque()
        }

        /// The write verifier in the answer to WRITE or COMMIT.
        mutating func verifier(afterWords words: Int) -> UInt64 {
            if rest.readInteger(as: UInt32.self) == 1 { rest.moveReaderIndex(forwardBy: 24) }
            skipAttributes()
            rest.moveReaderIndex(forwardBy: 4 * words)
            return rest.readInteger() ?? 0
        }

        private mutating func skipAttributes() {
            if rest.readInteger(as: UInt32.self) == 1 { rest.moveReaderIndex(forwardBy: 84) }
        }

        private mutating func opaque() -> [UInt8] {
            let count = Int(rest.readInteger(as: UInt32.self) ?? 0)
            return rest.readBytes(length: count) ?? []
        }
    }
}
