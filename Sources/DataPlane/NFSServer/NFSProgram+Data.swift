import FileService
import NFSTypes
import NIOCore
import VolumeEngine
import XDR

extension NFSProgram {
    /// Reads and writes above this size are left to worker threads, so that an event loop is not held for long.
    static let loopBytesMax = 128 << 10

    static func readLink(_ call: inout Call, _ output: inout ByteBuffer) throws(CallFailure) -> CallOutcome {
        let target = try call.file()
        let execution = call.execution
        let (path, attributes) = try attempt { () throws(FileError) in
            try target.volume.readLink(target.reference, as: target.credentials, execution)
        }
        output.writeStatus(.ok)
        output.writePostOperation(attributes, msid: target.volume.msid)
        output.writeXDROpaque(path)
        return .answered
    }

    static func read(_ call: inout Call, _ output: inout ByteBuffer) throws(CallFailure) -> CallOutcome {
        call.client.measure.carry(.read, bytes: 0)
        let target = try call.file()
        let offset = try call.uint64()
        let count = Int(min(try call.uint32(), UInt32(VolumeLimits.transferBytesMax)))
        // The first large reads of a burst stay where they are: 1 MiB takes a quarter of a millisecond, and a worker takes
        // twice the processor time, since it reads into memory that is cold for the loop.
        if count > loopBytesMax && call.execution == .cachedOnly && call.isShort { throw .wouldBlock }
        // Status, attributes (1 + 84 bytes), count, end, count: the data goes straight into the answer behind them.
        let head = output.writerIndex
        let headBytes = 4 + 4 + 84 + 4 + 4 + 4
        output.reserveCapacity(minimumWritableBytes: headBytes + count + 4)
        output.writeRepeatingByte(0, count: headBytes)
        let execution = call.execution
        var outcome: Result<ReadResult, FileError>?
        output.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { memory in
            let buffer = UnsafeMutableRawBufferPointer(rebasing: memory[0..<count])
            outcome = Result { () throws(FileError) in
                try target.volume.read(
                    target.reference,
                    offset: offset,
                    into: buffer,
                    as: target.credentials,
                    execution
                )
            }
            guard case .success(let result)? = outcome else { return 0 }
            return result.count
        }
        let settled = outcome!
        let result = try attempt { () throws(FileError) in try settled.get() }
        call.client.measure.carry(.read, bytes: result.count)
        output.writeRepeatingByte(0, count: -result.count & 3)
        let end = output.writerIndex
        output.moveWriterIndex(to: head)
        output.writeStatus(.ok)
        output.writePostOperation(result.attributes, msid: target.volume.msid)
        output.writeMultipleIntegers(
            UInt32(result.count),
            result.isEnd ? 1 : 0 as UInt32,
            UInt32(result.count)
        )
        output.moveWriterIndex(to: end)
        return .answered
    }

    static func write(_ call: inout Call, _ output: inout ByteBuffer) throws(CallFailure) -> CallOutcome {
        call.client.measure.carry(.write, bytes: 0)
        let target = try call.file(forWriting: true)
        let offset = try call.uint64()
        let count = try call.uint32()
        let stable = try call.uint32()
        guard stable <= 2 else { throw .garbage }
        let data = try call.opaque(limit: VolumeLimits.transferBytesMax)
        guard data.count == Int(count) else { throw .garbage }
        if data.count > loopBytesMax && call.execution == .cachedOnly { throw .wouldBlock }
        let execution = call.execution
        let (consistency, ticket) = try attempt { () throws(FileError) in
            try target.volume.write(
                data,
                at: offset,
                to: target.reference,
                isStable: stable != 0,
                as: target.credentials,
                execution
            )
        }
        call.client.measure.carry(.write, bytes: data.count)
        output.writeStatus(.ok)
        output.writeConsistency(consistency, msid: target.volume.msid)
        // DATA_SYNC is answered as FILE_SYNC, which promises more (section 3.3.7).
        output.writeMultipleIntegers(count, stable == 0 ? 0 : 2 as UInt32, target.volume.writeVerifier)
        return stable == 0 ? .answered : .answeredWhenDurable(target.volume, ticket)
    }

    static func commit(_ call: inout Call, _ output: inout ByteBuffer) throws(CallFailure) -> CallOutcome {
        let target = try call.file(forWriting: true)
        _ = try call.uint64()
        _ = try call.uint32()
        let execution = call.execution
        let (consistency, ticket) = try attempt { () throws(FileError) in
            try target.volume.commit(target.reference, as: target.credentials, execution)
        }
        output.writeStatus(.ok)
        output.writeConsistency(consistency, msid: target.volume.msid)
        output.writeXDR(target.volume.writeVerifier)
        return .answeredWhenDurable(target.volume, ticket)
    }

    // MARK: File systems

    static func fileSystemStatus(_ call: inout Call, _ output: inout ByteBuffer) throws(CallFailure) -> CallOutcome {
        switch try call.object() {
        case .synthetic(let directory):
            output.writeStatus(.ok)
            output.writeXDR(true)
            output.writeAttributes(directory)
            output.writeXDRZeros(words: 13)
        case .file(let target):
            let attributes = try presentAttributes(target, call)
            let space = target.volume.space()
            output.writeStatus(.ok)
            output.writePostOperation(attributes, msid: target.volume.msid)
            output.writeMultipleIntegers(space.sizeBytes, space.availableBytes, space.availableBytes)
            let freeInodes = space.inodesMax - space.usedInodes
            output.writeMultipleIntegers(space.inodesMax, freeInodes, freeInodes, 0 as UInt32)
        }
        return .answered
    }

    static func fileSystemInformation(_ call: inout Call, _ output: inout ByteBuffer) throws(CallFailure) -> CallOutcome
    {
        try writeAnyAttributes(&call, &output)
        let transfer = UInt32(VolumeLimits.transferBytesMax)
        output.writeMultipleIntegers(
            transfer,
            transfer,
            4096 as UInt32,
            transfer,
            transfer,
            4096 as UInt32,
            64 << 10 as UInt32
        )
        // Largest file, time step of one nanosecond, FSF3_LINK | FSF3_SYMLINK | FSF3_HOMOGENEOUS | FSF3_CANSETTIME.
        output.writeMultipleIntegers(VolumeLimits.fileSizeBytesMax, 0 as UInt32, 1 as UInt32, 0x1b as UInt32)
        return .answered
    }

    static func pathConfiguration(_ call: inout Call, _ output: inout ByteBuffer) throws(CallFailure) -> CallOutcome {
        try writeAnyAttributes(&call, &output)
        // Links, bytes of a name; no truncation, restricted chown, case is told apart and kept.
        output.writeMultipleIntegers(
            VolumeLimits.linkCountMax,
            UInt32(VolumeLimits.nameBytesMax),
            1 as UInt32,
            1 as UInt32,
            0 as UInt32,
            1 as UInt32
        )
        return .answered
    }

    private static func writeAnyAttributes(_ call: inout Call, _ output: inout ByteBuffer) throws(CallFailure) {
        switch try call.object() {
        case .synthetic(let directory):
            output.writeStatus(.ok)
            output.writeXDR(true)
            output.writeAttributes(directory)
        case .file(let target):
            let attributes = try presentAttributes(target, call)
            output.writeStatus(.ok)
            output.writePostOperation(attributes, msid: target.volume.msid)
        }
    }

    private static func presentAttributes(_ target: FileTarget, _ call: Call) throws(CallFailure) -> FileAttributes {
        try attempt { () throws(FileError) in try target.volume.attributes(of: target.reference, call.execution) }
    }
}
