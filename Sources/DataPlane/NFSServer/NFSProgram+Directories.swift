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
        let budget = EntryBudget(isPlus: isPlus, directoryBytes: directoryBytes, totalBytes: totalBytes)
        switch object {
        case .synthetic(let directory): try list(directory, cookie, budget, &call, &output)
        case .file(let target): try list(target, cookie, budget, &call, &output)
        }
        return .answered
    }

    private static func list(
        _ target: FileTarget,
        _ cookie: UInt64,
        _ budget: EntryBudget,
        _ call: inout Call,
        _ output: inout ByteBuffer
    ) throws(CallFailure) {
        let msid = target.volume.msid
        let (execution, namespace) = (call.execution, call.namespace)
        let entriesMax = min(
            Self.entriesMax,
            budget.directoryBytes / 28 + 1,
            budget.isPlus ? budget.totalBytes / 148 + 1 : .max
        )
        try write(budget, &output) { (writer) throws(CallFailure) in
            writer.handles = EntryWriter.Handles(msid: msid, key: namespace.handleKey)
            var isEnd = try attempt { () throws(FileError) in
                try target.volume.readDirectory(
                    target.reference,
                    after: min(cookie, junctionCookies),
                    entriesMax: entriesMax,
                    withAttributes: budget.isPlus,
                    as: target.credentials,
                    execution,
                    into: &writer
                )
            }
            if isEnd && target.reference.epoch == .active && namespace.hasJunctions(msid) {
                isEnd = writeJunctions(namespace.junctions(msid, target.reference.inode), after: cookie, &writer)
            }
            return isEnd
        }
    }

    private static func writeJunctions(
        _ junctions: [[UInt8]],
        after cookie: UInt64,
        _ writer: inout EntryWriter
    ) -> Bool {
        for (index, name) in junctions.enumerated() {
            let place = junctionCookies + 1 + UInt64(index)
            guard place > cookie else { continue }
            // Attributes of another volume's root are left to a LOOKUP, which checks that volume's export policy.
            guard writer.add(InodeNumber.root.rawValue, name, place) else { return false }
        }
        return true
    }

    private static func list(
        _ directory: SyntheticDirectory,
        _ cookie: UInt64,
        _ budget: EntryBudget,
        _ call: inout Call,
        _ output: inout ByteBuffer
    ) throws(CallFailure) {
        let parent = call.namespace.parent(of: directory)
        var names: [(number: UInt64, name: [UInt8])] = [(directory.number, [46]), (parent.number, [46, 46])]
        for child in directory.children {
            switch call.namespace.object(at: child.path) {
            case .synthetic(let found)?: names.append((found.number, child.name))
            case .volume?, .remote?: names.append((InodeNumber.root.rawValue, child.name))
            case nil: break
            }
        }
        try write(budget, &output) { (writer) throws(CallFailure) in
            writer.begin(directory)
            for (index, entry) in names.enumerated() where UInt64(index) + 1 > cookie {
                guard writer.add(entry.number, entry.name, UInt64(index) + 1) else { return false }
            }
            return true
        }
    }

    /// Writes a whole result straight into the memory of the answer; `body` says whether nothing follows its entries.
    private static func write(
        _ budget: EntryBudget,
        _ output: inout ByteBuffer,
        _ body: (inout EntryWriter) throws(CallFailure) -> Bool
    ) throws(CallFailure) {
        output.writeStatus(.ok)
        var outcome: Result<Void, CallFailure> = .success(())
        output.writeWithUnsafeMutableBytes(minimumWritableBytes: budget.memoryBytes) { memory in
            var writer = EntryWriter(budget: budget, memory: memory)
            outcome = Result { () throws(CallFailure) in
                let isEnd = try body(&writer)
                if writer.entryCount == 0 && !isEnd { throw .status(.tooSmall) }
                writer.finish(isEnd: isEnd)
            }
            return writer.byteCount
        }
        try outcome.get()
    }
}
