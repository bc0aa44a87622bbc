import Crypto

/// What shows another cluster or node that the caller knows a secret: an HMAC-SHA256 (RFC 2104), so that the secret itself is
/// never sent.
enum KeyedProof {
    /// The proof of a text under a secret, 64 hexadecimal digits.
    static func proof(of text: [UInt8], secret: String) -> String {
        let code = HMAC<SHA256>.authenticationCode(for: text, using: SymmetricKey(data: [UInt8](secret.utf8)))
        return code.map { byte in
            let digits = String(byte, radix: 16)
            return byte < 16 ? "0" + digits : digits
        }.joined()
    }

    /// Whether two proofs are equal, in a time that does not tell where they differ.
    static func areEqual(_ left: String, _ right: String) -> Bool {
        let left = [UInt8](left.utf8)
        let right = [UInt8](right.utf8)
        guard left.count == right.count else { return false }
        return zip(left, right).reduce(UInt8(0)) { $0 | $1.0 ^ $1.1 } == 0
    }

    /// What a cluster shows to its peer: derived from the passphrase of both.
    static func ofPeer(passphrase: String) -> String {
        proof(of: [UInt8]("godwit cluster service, version 1".utf8), secret: passphrase)
    }
}
