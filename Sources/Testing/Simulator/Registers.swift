import Identity

/// A file as a register: one client writes it, all read it. Its values count up from 1; 0 is a file without bytes.
struct Register {
    let name: String
    /// The SVM that has the file.
    let svm: ObjectUUID
    /// The file's handle, once it was made.
    var handle: [UInt8] = []
    /// The newest value whose write has begun.
    var begun: UInt64 = 0
    /// The newest value whose write was acknowledged as stable.
    var acknowledged: UInt64 = 0
    /// The newest value that a read has returned.
    var seen: UInt64 = 0
    /// Written unstable and committed: what is not committed may be lost, so that readers may see it come and go.
    let isUnstable: Bool
}

/// Says for each read whether the registers are linearisable: with one writer for each, a history is linearisable when
/// every read returns a value that is no older than any that was acknowledged or read before it began, and no newer than
/// any whose write had begun when it ended.
struct RegisterChecker {
    private(set) var registers: [Register] = []
    private(set) var operations: UInt64 = 0

    mutating func add(_ register: Register) -> Int {
        registers.append(register)
        return registers.count - 1
    }

    /// The registers of an SVM.
    func indices(of svm: ObjectUUID) -> [Int] { registers.indices.filter { registers[$0].svm == svm } }

    mutating func made(_ index: Int, handle: [UInt8]) { registers[index].handle = handle }

    /// A write begins; its value.
    mutating func beginWrite(_ index: Int) -> UInt64 {
        registers[index].begun += 1
        simulation.trace("\(registers[index].name) shall become \(registers[index].begun)")
        return registers[index].begun
    }

    /// A write was acknowledged.
    mutating func endWrite(_ index: Int, _ value: UInt64) {
        registers[index].acknowledged = max(registers[index].acknowledged, value)
        simulation.trace("\(registers[index].name) is \(value)")
        operations += 1
    }

    /// A read begins; the oldest value that it may return.
    func beginRead(_ index: Int) -> UInt64 {
        let register = registers[index]
        return register.isUnstable ? register.acknowledged : max(register.acknowledged, register.seen)
    }

    /// A read has returned bytes; what is wrong with them, or nil.
    mutating func endRead(_ index: Int, oldest: UInt64, _ bytes: [UInt8]) -> String? {
        operations += 1
        guard let value = Self.value(of: bytes) else {
            return "a read of \(registers[index].name) returned bytes that nobody wrote"
        }
        let register = registers[index]
        guard value >= oldest else {
            return "a read of \(register.name) returned \(value), but \(oldest) had been acknowledged or read before"
        }
        guard value <= register.begun else {
            return "a read of \(register.name) returned \(value), which nobody has written yet"
        }
        registers[index].seen = max(register.seen, value)
        return nil
    }

    /// The bytes of a value.
    static func bytes(of value: UInt64, count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * UInt64($0 % 8))) }
    }

    /// The value that bytes are of; nil when they are of none, or of more than one.
    static func value(of bytes: [UInt8]) -> UInt64? {
        guard !bytes.isEmpty else { return 0 }
        guard bytes.count % 8 == 0 else { return nil }
        var value: UInt64 = 0
        for index in 0..<8 { value |= UInt64(bytes[index]) << (8 * UInt64(index)) }
        for index in bytes.indices where bytes[index] != bytes[index % 8] { return nil }
        return value
    }
}
