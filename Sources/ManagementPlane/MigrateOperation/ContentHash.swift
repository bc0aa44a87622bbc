/// The written form of a content hash: sixteen hexadecimal digits.
package func contentHashText(_ hash: UInt64) -> String {
    let digits = String(hash, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
}
