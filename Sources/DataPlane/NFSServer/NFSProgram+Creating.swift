import FileService
import NFSTypes
import NIOCore
import VolumeEngine
import XDR

extension NFSProgram {
    static func create(_ call: inout Call, _ output: inout ByteBuffer) throws(CallFailure) -> CallOutcome {
        let target = try call.file(forWriting: true)
        let name = try call.name()
        let mode: CreateMode
        switch try call.uint32() {
        case 0: mode = .unchecked(try call.attributeChanges())
        case 1: mode = .guarded(try call.attributeChanges())
        case 2: mode = .exclusive(verifier: try call.uint64())
        default: throw .garbage
        }
        try refuseJunction(name, in: target, call)
        let execution = call.execution
        let result = try attempt { () throws(FileError) in
            try target.volume.create(name, in: target.reference, mode: mode, as: target.credentials, execution) {
                writeCreated($0, $1, $2, target, call, &output)
            }
        }
        return .answeredWhenDurable(target.volume, result.ticket)
    }

    static func makeDirectory(_ call: inout Call, _ output: inout ByteBuffer) throws(CallFailure) -> CallOutcome {
        let target = try call.file(forWriting: true)
        let name = try call.name()
        let changes = try call.attributeChanges()
        try refuseJunction(name, in: target, call)
        let execution = call.execution
        let result = try attempt { () throws(FileError) in
            try target.volume.makeDirectory(
                name,
                in: target.reference,
                attributes: changes,
                as: target.credentials,
                execution
            ) { writeCreated($0, $1, $2, target, call, &output) }
        }
        return .answeredWhenDurable(target.volume, result.ticket)
    }

    static func symbolicLink(_ call: inout Call, _ output: inout ByteBuffer) throws(CallFailure) -> CallOutcome {
        let target = try call.file(forWriting: true)
        let name = try call.name()
        let changes = try call.attributeChanges()
        let path = [UInt8](try call.opaque(limit: 1 << 16))
        try refuseJunction(name, in: target, call)
        let execution = call.execution
        let result = try attempt { () throws(FileError) in
            try target.volume.makeSymbolicLink(
                name,
                in: target.reference,
                target: path,
                attributes: changes,
                as: target.credentials,
                execution
            ) { writeCreated($0, $1, $2, target, call, &output) }
        }
        return .answeredWhenDurable(target.volume, result.ticket)
    }

    static func makeNode(_ call: inout Call, _ output: inout ByteBuffer) throws(CallFailure) -> CallOutcome {
        let target = try call.file(forWriting: true)
        let name = try call.name()
        let type = try call.uint32()
        let kind: SpecialFile
        let changes: AttributeChanges
        switch type {
        case 3, 4:
            changes = try call.attributeChanges()
            let (major, minor) = (try call.uint32(), try call.uint32())
            kind = type == 3 ? .blockDevice(major: major, minor: minor) : .characterDevice(major: major, minor: minor)
        case 6, 7:
            changes = try call.attributeChanges()
            kind = type == 6 ? .socket : .namedPipe
        case 1, 2, 5: throw .status(.badType)
        default: throw .status(.badType)
        }
        try refuseJunction(name, in: target, call)
        let execution = call.execution
        let result = try attempt { () throws(FileError) in
            try target.volume.makeSpecialFile(
                name,
                in: target.reference,
                kind,
                attributes: changes,
                as: target.credentials,
                execution
            ) { writeCreated($0, $1, $2, target, call, &output) }
        }
        return .answeredWhenDurable(target.volume, result.ticket)
    }

    private static func writeCreated(
        _ object: FileAttributes,
        _ directory: WeakCacheConsistency,
        _ keeper: ReplyKeeper,
        _ target: FileTarget,
        _ call: Call,
        _ output: inout ByteBuffer
    ) {
        let msid = target.volume.msid
        output.writeStatus(.ok)
        output.writeXDR(true)
        output.writeHandle(FileHandle(msid: msid, reference: object.reference), key: call.namespace.handleKey)
        output.writePostOperation(object, msid: msid)
        output.writeConsistency(directory, msid: msid)
        call.keepAnswer(output, keeper)
    }
}
