package import NIOCore
package import XDR

/// Authentication flavours (RFC 5531, section 8.2).
package enum AuthenticationFlavor {
    /// AUTH_NONE.
    package static let none: UInt32 = 0
    /// AUTH_SYS.
    package static let system: UInt32 = 1
}

/// The head of a call (RFC 5531, section 9): everything before the arguments.
package struct RPCCallHeader {
    /// The transaction identifier.
    package var xid: UInt32
    /// The RPC version, 2.
    package var rpcVersion: UInt32
    /// The program.
    package var program: UInt32
    /// The program's version.
    package var version: UInt32
    /// The procedure.
    package var procedure: UInt32
    /// The flavour of the credentials.
    package var flavor: UInt32
    /// The body of the credentials.
    package var credential: UnsafeRawBufferPointer

    /// Bytes of an authentication body (section 8.2).
    package static let authenticationBytesMax = 400

    /// Reads a head; nil for a message that is no call, which is not answered.
    package init?(_ reader: inout XDRReader) throws(XDRError) {
        xid = try reader.uint32()
        guard try reader.uint32() == 0 else { return nil }
        rpcVersion = try reader.uint32()
        program = try reader.uint32()
        version = try reader.uint32()
        procedure = try reader.uint32()
        flavor = try reader.uint32()
        credential = try reader.opaque(limit: Self.authenticationBytesMax)
        _ = try reader.uint32()
        _ = try reader.opaque(limit: Self.authenticationBytesMax)
    }
}

/// AUTH_SYS credentials (RFC 5531, appendix A).
package struct SystemCredential: Equatable, Sendable {
    /// The user.
    package var user: UInt32
    /// The user's first group.
    package var group: UInt32
    /// Further groups, 16 at most.
    package var groups: [UInt32]

    /// Reads a credential body.
    package init(_ body: UnsafeRawBufferPointer) throws(XDRError) {
        var reader = XDRReader(body)
        _ = try reader.uint32()
        _ = try reader.opaque(limit: 255)
        user = try reader.uint32()
        group = try reader.uint32()
        let count = try reader.uint32()
        guard count <= 16 else { throw .tooLong }
        groups = []
        groups.reserveCapacity(Int(count))
        for _ in 0..<count { groups.append(try reader.uint32()) }
    }
}

/// Why a call was accepted and not executed (`accept_stat`, RFC 5531, section 9).
package enum AcceptStatus: UInt32, Sendable {
    /// Executed.
    case success = 0
    /// The program is not here.
    case programUnavailable = 1
    /// The program is here in other versions.
    case programMismatch = 2
    /// The program has no such procedure.
    case procedureUnavailable = 3
    /// The arguments cannot be decoded.
    case garbageArguments = 4
}

extension ByteBuffer {
    /// Writes the head of an answer to an accepted call: a verifier of AUTH_NONE and the status.
    package mutating func writeAccepted(xid: UInt32, _ status: AcceptStatus) {
        // xid, REPLY, MSG_ACCEPTED, AUTH_NONE, no verifier bytes, status
        writeMultipleIntegers(xid, 1 as UInt32, 0 as UInt32, 0 as UInt32, 0 as UInt32, status.rawValue)
    }

    /// Writes the versions of a program that are here, after `.programMismatch`.
    package mutating func writeVersions(low: UInt32, high: UInt32) { writeMultipleIntegers(low, high) }

    /// Writes an answer to a call of another RPC version (`RPC_MISMATCH`).
    package mutating func writeRPCMismatch(xid: UInt32) {
        writeMultipleIntegers(xid, 1 as UInt32, 1 as UInt32, 0 as UInt32, 2 as UInt32, 2 as UInt32)
    }

    /// Writes an answer to a call whose credentials are malformed (1, `AUTH_BADCRED`) or too weak (5, `AUTH_TOOWEAK`).
    package mutating func writeAuthenticationError(xid: UInt32, reason: UInt32) {
        writeMultipleIntegers(xid, 1 as UInt32, 1 as UInt32, 1 as UInt32, reason)
    }
}
