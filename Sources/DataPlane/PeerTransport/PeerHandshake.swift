import Crypto
import Environment
import Replication
import VolumeEngine

/// The mutual proof that both ends know the same secret, without sending it.
///
///     destination  magic 8 | version 1 | nonce 32
///     source       magic 8 | version 1 | nonce 32
///     destination  HMAC-SHA256(secret, "godwit destination" | its nonce | the source's nonce)
///     source       HMAC-SHA256(secret, "godwit source"      | its nonce | the source's nonce)
///
/// The destination proves itself first: nobody gets a proof without having given one. Between machines all of it goes over
/// TLS.
enum PeerHandshake {
    /// Bytes of a frame before the other side has proven who it is.
    static let frameBytesMax = 1024
    /// Seconds within which a destination must prove who it is.
    static let secondsMax: Int64 = 5
    private static let magic: [UInt8] = Array("GODWITRL".utf8)
    private static let version: UInt8 = 1
    private static let nonceBytes = 32

    /// The destination's side.
    static func asDestination(
        _ connection: PeerConnection,
        secret: [UInt8],
        environment: Environment
    ) throws(StorageError) {
        let own = nonce(environment)
        try connection.send(magic + [version] + own)
        let other = try receiveHello(connection)
        try connection.send(proof("godwit destination", own, other, secret))
        guard let frame = try connection.receive(isWaiting: true),
            isEqual(frame, proof("godwit source", own, other, secret))
        else { throw refusal("the source") }
        connection.trustPeer()
    }

    /// The source's side.
    static func asSource(
        _ connection: PeerConnection,
        secret: [UInt8],
        environment: Environment
    ) throws(StorageError) {
        let other = try receiveHello(connection)
        let own = nonce(environment)
        try connection.send(magic + [version] + own)
        guard let frame = try connection.receive(isWaiting: true),
            isEqual(frame, proof("godwit destination", other, own, secret))
        else { throw refusal("the destination") }
        connection.trustPeer()
        try connection.send(proof("godwit source", other, own, secret))
    }

    private static func receiveHello(_ connection: PeerConnection) throws(StorageError) -> [UInt8] {
        let hello = try connection.receive(isWaiting: true) ?? []
        guard hello.count == magic.count + 1 + nonceBytes, Array(hello.prefix(magic.count)) == magic else {
            throw PeerConnection.ended("the other side does not speak the replication protocol")
        }
        guard hello[magic.count] == version else {
            throw PeerConnection.ended("the other side speaks version \(hello[magic.count]), this one \(version)")
        }
        return Array(hello.suffix(nonceBytes))
    }

    private static func nonce(_ environment: Environment) -> [UInt8] {
        (0..<nonceBytes / 8).flatMap { _ in withUnsafeBytes(of: environment.randomBits().littleEndian) { [UInt8]($0) } }
    }

    private static func proof(_ role: String, _ first: [UInt8], _ second: [UInt8], _ secret: [UInt8]) -> [UInt8] {
        let text = Array(role.utf8) + first + second
        return Array(HMAC<SHA256>.authenticationCode(for: text, using: SymmetricKey(data: secret)))
    }

    /// Compares in a time that does not depend on where two proofs differ.
    private static func isEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
        guard left.count == right.count else { return false }
        return zip(left, right).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
    }

    private static func refusal(_ who: String) -> StorageError {
        StorageError(
            .conflict,
            "\(who) of the replication link has another secret",
            remedy: "peer the clusters again, so that both have the same secret"
        )
    }
}
