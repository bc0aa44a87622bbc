import FileService
import Identity
import NFSTypes
import NIOCore
import VolumeEngine
import XDR

extension NFSProgram {
    /// Cookies of names that lead to other volumes; above all cookies of names in a volume.
    private static let junctionCookies: UInt64 = 0x7fff_ffff_ffff_0000
    /// Entries that are asked of the engine at a time.
    private static let entriesMax = 1024

    /// What an answer to READDIR or READDIRPLUS may hold.
    private struct Budget {
        let isPlus: Bool
        /// Bytes of names, numbers and cookies that the client wants (READDIRPLUS only).
        let directoryBytes: Int
        /// Bytes of the whole result.
        let totalBytes: Int
    }

    static func readDirectory(
        _ call: inout Call,
        _ output: inout ByteBuffer,
        isPlus: Bool
    ) throws(CallFailure) -> CallOutcome {
        let object = try call.object()
        let cookie = try call.uint64()
        // Cookies stay valid for ever, so that the verifier has nothing to tell: it is zero and not looked at.
        _ = try call.uint64()
        let directoryBytes = Int(min(try call.uint32(), 1 << 20))
        let totalBytes = isPlus ? Int(min(try call.uint32(), 1 << 20)) : directoryBytes
        let budget = Budget(isPlus: isPlus, directoryBytes: directoryBytes, totalBytes: totalBytes)
        switch object {
        case .synthetic(let directory): try list(directory, cookie, budget, &call, &output)
        case .file(let target): try list(target, cookie, budget, &call, &output)
        }
        return .answered
    }

    /// Writes entries until the budget is used up.
    private struct EntryWriter {
        let budget: Budget
        let start: Int
        var directoryBytes = 0
        var count = 0

        /// Writes one entry; false when it has no room any more.
        mutating func write(
            _ number: UInt64,
            _ name: some Collection<UInt8>,
            _ cookie: UInt64,
            into output: inout ByteBuffer,
            plus: (inout ByteBuffer) -> Void
        ) -> Bool {
            let padded = (name.count + 3) & ~3
            let names = 24 + padded
            let before = output.writerIndex
            output.writeXDR(true)
            output.writeXDR(number)
            output.writeXDROpaque(name)
            output.writeXDR(cookie)
            if budget.isPlus { plus(&output) }
            // The end of the list takes 8 more bytes.
            guard output.writerIndex - start + 8 <= budget.totalBytes, directoryBytes + names <= budget.directoryBytes
            else {
                output.moveWriterIndex(to: before)
                return false
            }
            directoryBytes += names
            count += 1
            return true
        }

        func finish(isEnd: Bool, _ output: inout ByteBuffer) throws(CallFailure) {
            if count == 0 && !isEnd { throw .status(.tooSmall) }
            output.writeXDR(false)
            output.writeXDR(isEnd)
        }
    }

    private static func list(
        _ target: FileTarget,
        _ cookie: UInt64,
        _ budget: Budget,
        _ call: inout Call,
        _ output: inout ByteBuffer
    ) throws(CallFailure) {
        let msid = target.volume.msid
        let (execution, key) = (call.execution, call.namespace.handleKey)
        let wanted = min(entriesMax, budget.directoryBytes / 28 + 1, budget.isPlus ? budget.totalBytes / 148 + 1 : .max)
        let listing = try attempt { () throws(FileError) in
            try target.volume.readDirectory(
                target.reference,
                after: min(cookie, junctionCookies),
                entriesMax: wanted,
                withAttributes: budget.isPlus,
                as: target.credentials,
                execution
            )
        }
        output.writeStatus(.ok)
        let start = output.writerIndex
        output.writePostOperation(listing.directory, msid: msid)
        output.writeXDR(0 as UInt64)
        var writer = EntryWriter(budget: budget, start: start)
        var isEnd = listing.isEnd
        for entry in listing.entries {
            let isWritten = writer.write(entry.reference.inode.rawValue, entry.name, entry.cookie, into: &output) {
                output in
                if let attributes = entry.attributes {
                    output.writePostOperation(attributes, msid: msid)
                    output.writeXDR(true)
                    output.writeHandle(FileHandle(msid: msid, reference: attributes.reference), key: key)
                } else {
                    output.writeXDRZeros(words: 2)
                }
            }
            if !isWritten {
                isEnd = false
                break
            }
        }
        if isEnd && target.reference.epoch == .active && call.namespace.hasJunctions(msid) {
            isEnd = writeJunctions(target, cookie, &writer, call, &output)
        }
        try writer.finish(isEnd: isEnd, &output)
    }

    private static func writeJunctions(
        _ target: FileTarget,
        _ cookie: UInt64,
        _ writer: inout EntryWriter,
        _ call: Call,
        _ output: inout ByteBuffer
    ) -> Bool {
        let junctions = call.namespace.junctions(target.volume.msid, target.reference.inode)
        for (index, junction) in junctions.enumerated() {
            let place = junctionCookies + 1 + UInt64(index)
            guard place > cookie else { continue }
            // Attributes of another volume's root are left to a LOOKUP, which checks that volume's export policy.
            let isWritten = writer.write(InodeNumber.root.rawValue, junction.name, place, into: &output) {
                $0.writeXDRZeros(words: 2)
            }
            if !isWritten { return false }
        }
        return true
    }

    private static func list(
        _ directory: SyntheticDirectory,
        _ cookie: UInt64,
        _ budget: Budget,
        _ call: inout Call,
        _ output: inout ByteBuffer
    ) throws(CallFailure) {
        let parent = call.namespace.parent(of: directory)
        var names: [(number: UInt64, name: [UInt8])] = [(directory.number, [46]), (parent.number, [46, 46])]
        for child in directory.children {
            switch call.namespace.object(at: child.path) {
            case .synthetic(let found)?: names.append((found.number, child.name))
            case .volume?: names.append((InodeNumber.root.rawValue, child.name))
            case nil: break
            }
        }
        output.writeStatus(.ok)
        let start = output.writerIndex
        output.writeXDR(true)
        output.writeAttributes(directory)
        output.writeXDR(0 as UInt64)
        var writer = EntryWriter(budget: budget, start: start)
        var isEnd = true
        for (index, entry) in names.enumerated() where UInt64(index) + 1 > cookie {
            let isWritten = writer.write(entry.number, entry.name, UInt64(index) + 1, into: &output) {
                $0.writeXDRZeros(words: 2)
            }
            if !isWritten {
                isEnd = false
                break
            }
        }
        try writer.finish(isEnd: isEnd, &output)
    }
}
