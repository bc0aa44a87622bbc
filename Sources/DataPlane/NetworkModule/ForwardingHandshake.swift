import Crypto
import Environment
import FileService
import Identity
import NIOCore

/// How a node that forwards a client's requests and the node that executes them prove to each other that they know the
/// secret of the latter, without sending it.
///
///     forwarder  magic 8 | version 1 | nonce 32 | SVM 16 | client's IPv4 address 4 | LIF 16 | its term 8
///     executor   nonce 32 | HMAC-SHA256(secret, "godwit executor"  | all of the forwarder's | the executor's nonce)
///     forwarder  HMAC-SHA256(secret, "godwit forwarder" | all of the forwarder's | the executor's nonce)
///
/// From then on the stream is what the client itself would send and get. Between machines all of it goes over TLS.
enum ForwardingHandshake {
    static let nonceBytes = 32
    static let proofBytes = 32
    static let helloBytes = 8 + 1 + nonceBytes + 16 + 4 + 16 + 8
    static let answerBytes = nonceBytes + proofBytes
    /// Seconds within which the whole must be done.
    static let secondsMax: Int64 = 5
    private static let magic: [UInt8] = Array("GODWITFW".utf8)
    private static let version: UInt8 = 2

    /// What a hello asks for.
    struct Wanted: Equatable {
        var svm: ObjectUUID
        var client: ClientAddress
        var term: LIFTerm
    }

    static func hello(_ wanted: Wanted, _ environment: Environment) -> [UInt8] {
        func bytes(_ words: UInt64...) -> [UInt8] {
            words.flatMap { withUnsafeBytes(of: $0.bigEndian) { [UInt8]($0) } }
        }
        let svm = bytes(wanted.svm.high, wanted.svm.low)
        let address = withUnsafeBytes(of: wanted.client.rawValue.bigEndian) { [UInt8]($0) }
        let term = bytes(wanted.term.lif.high, wanted.term.lif.low, wanted.term.number)
        return magic + [version] + nonce(environment) + svm + address + term
    }

    /// Reads a hello; nil when it is none of this version.
    static func wanted(by hello: [UInt8]) -> Wanted? {
        guard hello.count == helloBytes, Array(hello[..<8]) == magic, hello[8] == version else { return nil }
        let svm = 9 + nonceBytes
        let lif = svm + 16 + 4
        func word(at index: Int, bytes: Int = 8) -> UInt64 {
            hello[index..<index + bytes].reduce(0) { $0 << 8 | UInt64($1) }
        }
        func uuid(at index: Int) -> ObjectUUID { ObjectUUID(high: word(at: index), low: word(at: index + 8)) }
        return Wanted(
            svm: uuid(at: svm),
            client: ClientAddress(rawValue: UInt32(word(at: svm + 16, bytes: 4))),
            term: LIFTerm(lif: uuid(at: lif), number: word(at: lif + 16))
        )
    }

    static func nonce(_ environment: Environment) -> [UInt8] {
        (0..<nonceBytes / 8).flatMap { _ in withUnsafeBytes(of: environment.randomBits().littleEndian) { [UInt8]($0) } }
    }

    /// The parts that prove something.
    enum Role: String {
        case executor = "godwit executor"
        case forwarder = "godwit forwarder"
    }

    static func proof(_ role: Role, hello: [UInt8], nonce: [UInt8], secret: [UInt8]) -> [UInt8] {
        Array(HMAC<SHA256>.authenticationCode(for: text(role, hello, nonce), using: SymmetricKey(data: secret)))
    }

    /// Whether a proof is right; takes the same time wherever it is wrong.
    static func isRight(_ proof: [UInt8], _ role: Role, hello: [UInt8], nonce: [UInt8], secret: [UInt8]) -> Bool {
        HMAC<SHA256>.isValidAuthenticationCode(
            proof,
            authenticating: text(role, hello, nonce),
            using: SymmetricKey(data: secret)
        )
    }

    private static func text(_ role: Role, _ hello: [UInt8], _ nonce: [UInt8]) -> [UInt8] {
        Array(role.rawValue.utf8) + hello + nonce
    }
}
