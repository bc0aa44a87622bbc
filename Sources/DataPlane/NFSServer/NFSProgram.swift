import Identity
import FileService
import NFSTypes
import NIOCore
import VolumeEngine
import XDR

/// The procedures of NFS version 3 (RFC 1813, section 3.3).
enum NFSProgram {
    /// Runs a procedure: reads its arguments from `call` and writes status and result to `output`.
    static func run(
        _ procedure: NFS3.Procedure,
        _ call: inout Call,
        _ output: inout ByteBuffer
    ) throws(CallFailure) -> CallOutcome {
        switch procedure {
        case .null: return .answered
        case .getAttributes: return try getAttributes(&call, &output)
        case .setAttributes: return try setAttributes(&call, &output)
        case .lookup: return try lookup(&call, &output)
        case .access: return try access(&call, &output)
        case .readLink: return try readLink(&call, &output)
        case .read: return try read(&call, &output)
        case .write: return try write(&call, &output)
        case .create: return try create(&call, &output)
        case .makeDirectory: return try makeDirectory(&call, &output)
        case .symbolicLink: return try symbolicLink(&call, &output)
        case .makeNode: return try makeNode(&call, &output)
        case .remove: return try remove(&call, &output, isDirectory: false)
        case .removeDirectory: return try remove(&call, &output, isDirectory: true)
        case .rename: return try rename(&call, &output)
        case .link: return try link(&call, &output)
        case .readDirectory: return try readDirectory(&call, &output, isPlus: false)
        case .readDirectoryPlus: return try readDirectory(&call, &output, isPlus: true)
        case .fileSystemStatus: return try fileSystemStatus(&call, &output)
        case .fileSystemInformation: return try fileSystemInformation(&call, &output)
        case .pathConfiguration: return try pathConfiguration(&call, &output)
        case .commit: return try commit(&call, &output)
        }
    }

    /// Runs an operation of the engine and turns its error into a status.
    static func attempt<Outcome>(
        _ body: () throws(FileError) -> Outcome
    ) throws(CallFailure) -> Outcome {
        do { return try body() } catch { throw CallFailure(error) }
    }

    // MARK: Attributes

    private static func getAttributes(_ call: inout Call, _ output: inout ByteBuffer) throws(CallFailure) -> CallOutcome
    {
        switch try call.object() {
        case .synthetic(let directory):
            output.writeStatus(.ok)
            output.writeAttributes(directory)
        case .file(let target):
            let execution = call.execution
            let attributes = try attempt { () throws(FileError) in
                try target.volume.attributes(of: target.reference, execution)
            }
            output.writeStatus(.ok)
            output.writeAttributes(attributes, msid: target.volume.msid)
        }
        return .answered
    }

    private static func setAttributes(_ call: inout Call, _ output: inout ByteBuffer) throws(CallFailure) -> CallOutcome
    {
        let target = try call.file(forWriting: true)
        let changes = try call.attributeChanges()
        var guardTime: Timestamp?
        if try call.bool() { guardTime = Timestamp(seconds: Int64(try call.uint32()), nanoseconds: try call.uint32()) }
        let execution = call.execution
        let (_, ticket) = try attempt { () throws(FileError) in
            try target.volume.setAttributes(
                changes,
                of: target.reference,
                guardChangeTime: guardTime,
                as: target.credentials,
                execution
            ) { writeChanged($0, $1, target, call, &output) }
        }
        return .answeredWhenDurable(target.volume, ticket)
    }

    /// Writes the answer of SETATTR, REMOVE and RMDIR.
    private static func writeChanged(
        _ consistency: WeakCacheConsistency,
        _ keeper: ReplyKeeper,
        _ target: FileTarget,
        _ call: Call,
        _ output: inout ByteBuffer
    ) {
        output.writeStatus(.ok)
        output.writeConsistency(consistency, msid: target.volume.msid)
        call.keepAnswer(output, keeper)
    }

    private static func access(_ call: inout Call, _ output: inout ByteBuffer) throws(CallFailure) -> CallOutcome {
        let object = try call.object()
        let wanted = AccessRights(rawValue: try call.uint32())
        switch object {
        case .synthetic(let directory):
            output.writeStatus(.ok)
            output.writeXDR(true)
            output.writeAttributes(directory)
            output.writeXDR(wanted.intersection([.read, .lookup, .execute]).rawValue)
        case .file(let target):
            let execution = call.execution
            var (rights, attributes) = try attempt { () throws(FileError) in
                try target.volume.access(wanted, to: target.reference, as: target.credentials, execution)
            }
            if !call.client.access(to: target.exported).canWrite { rights.subtract([.modify, .extend, .delete]) }
            output.writeStatus(.ok)
            output.writePostOperation(attributes, msid: target.volume.msid)
            output.writeXDR(rights.rawValue)
        }
        return .answered
    }

    // MARK: Names

    private static func lookup(_ call: inout Call, _ output: inout ByteBuffer) throws(CallFailure) -> CallOutcome {
        let object = try call.object()
        let name = try call.name()
        switch object {
        case .synthetic(let directory): try lookup(name, in: directory, &call, &output)
        case .file(let target): try lookup(name, in: target, &call, &output)
        }
        return .answered
    }

    private static func lookup(
        _ name: UnsafeRawBufferPointer,
        in directory: SyntheticDirectory,
        _ call: inout Call,
        _ output: inout ByteBuffer
    ) throws(CallFailure) {
        if name.elementsEqual([46]) {
            writeFound(directory, &call, &output)
        } else if name.elementsEqual([46, 46]) {
            writeFound(call.namespace.parent(of: directory), &call, &output)
        } else {
            guard let child = directory.children.first(where: { $0.name.elementsEqual(name) }),
                let object = call.namespace.object(at: child.path)
            else { throw .status(.noEntry) }
            switch object {
            case .synthetic(let found): writeFound(found, &call, &output)
            case .volume(let exported): try writeRoot(of: exported, &call, &output)
            case .remote(let remote): try writeRoot(of: remote, &call, &output)
            }
        }
        output.writeXDR(true)
        output.writeAttributes(directory)
    }

    private static func writeFound(_ directory: SyntheticDirectory, _ call: inout Call, _ output: inout ByteBuffer) {
        output.writeStatus(.ok)
        output.writeHandle(directory.handle, key: call.namespace.handleKey)
        output.writeXDR(true)
        output.writeAttributes(directory)
    }

    private static func writeRoot(
        of exported: ExportedVolume,
        _ call: inout Call,
        _ output: inout ByteBuffer
    ) throws(CallFailure) {
        let target = try call.target(exported, exported.volume.rootReference, forWriting: false)
        let execution = call.execution
        let attributes = try attempt { () throws(FileError) in
            try exported.volume.attributes(of: target.reference, execution)
        }
        writeFound(attributes, exported, &call, &output)
    }

    /// A root without attributes, which the client then asks the other node for.
    private static func writeRoot(
        of remote: RemoteVolume,
        _ call: inout Call,
        _ output: inout ByteBuffer
    ) throws(CallFailure) {
        guard remote.policy.access(of: call.client.client).canRead else { throw .status(.accessDenied) }
        output.writeStatus(.ok)
        output.writeHandle(FileHandle(msid: remote.msid, reference: .volumeRoot), key: call.namespace.handleKey)
        output.writeXDR(false)
    }

    private static func writeFound(
        _ attributes: FileAttributes,
        _ exported: ExportedVolume,
        _ call: inout Call,
        _ output: inout ByteBuffer
    ) {
        output.writeStatus(.ok)
        output.writeHandle(
            FileHandle(msid: exported.volume.msid, reference: attributes.reference),
            key: call.namespace.handleKey
        )
        output.writePostOperation(attributes, msid: exported.volume.msid)
    }

    private static func lookup(
        _ name: UnsafeRawBufferPointer,
        in target: FileTarget,
        _ call: inout Call,
        _ output: inout ByteBuffer
    ) throws(CallFailure) {
        let msid = target.volume.msid
        let execution = call.execution
        let isRoot = target.reference == target.volume.rootReference
        if isRoot && name.elementsEqual([46, 46]) {
            try lookupAbove(target, &call, &output)
        } else if target.reference.epoch == .active, call.namespace.hasJunctions(msid),
            let joined = call.namespace.junction(msid, target.reference.inode, name)
        {
            switch joined {
            case .here(let exported): try writeRoot(of: exported, &call, &output)
            case .elsewhere(let remote): try writeRoot(of: remote, &call, &output)
            }
        } else {
            let found = try attempt { () throws(FileError) in
                try target.volume.lookup(name, in: target.reference, as: target.credentials, execution)
            }
            writeFound(found.object, target.exported, &call, &output)
            output.writePostOperation(found.directory, msid: msid)
            return
        }
        let directory = try attempt { () throws(FileError) in
            try target.volume.attributes(of: target.reference, execution)
        }
        output.writePostOperation(directory, msid: msid)
    }

    /// `..` of a volume's root leads to what the volume is joined to.
    private static func lookupAbove(
        _ target: FileTarget,
        _ call: inout Call,
        _ output: inout ByteBuffer
    ) throws(CallFailure) {
        switch call.namespace.parent(of: target.exported) {
        case .itself: try writeRoot(of: target.exported, &call, &output)
        case .synthetic(let directory): writeFound(directory, &call, &output)
        // Which directory it is only the other node knows. Clients do not ask: to them a volume is a file system of its own.
        case .elsewhere: throw .status(.notSupported)
        case .directory(let handle):
            let parent = try call.file(handle, forWriting: false)
            let execution = call.execution
            let attributes = try attempt { () throws(FileError) in
                try parent.volume.attributes(of: parent.reference, execution)
            }
            writeFound(attributes, parent.exported, &call, &output)
        }
    }

    private static func remove(
        _ call: inout Call,
        _ output: inout ByteBuffer,
        isDirectory: Bool
    ) throws(CallFailure) -> CallOutcome {
        let target = try call.file(forWriting: true)
        let name = try call.name()
        try refuseJunction(name, in: target, call)
        let execution = call.execution
        let (_, ticket) = try attempt { () throws(FileError) in
            let (volume, directory, caller) = (target.volume, target.reference, target.credentials)
            if isDirectory {
                return try volume.removeDirectory(name, from: directory, as: caller, execution) {
                    writeChanged($0, $1, target, call, &output)
                }
            }
            return try volume.remove(name, from: directory, as: caller, execution) {
                writeChanged($0, $1, target, call, &output)
            }
        }
        return .answeredWhenDurable(target.volume, ticket)
    }

    /// A name that leads to another volume can neither be taken nor removed by clients.
    static func refuseJunction(
        _ name: UnsafeRawBufferPointer,
        in target: FileTarget,
        _ call: Call
    ) throws(CallFailure) {
        guard call.namespace.hasJunctions(target.volume.msid) else { return }
        if call.namespace.junction(target.volume.msid, target.reference.inode, name) != nil { throw .status(.exists) }
    }

    private static func rename(_ call: inout Call, _ output: inout ByteBuffer) throws(CallFailure) -> CallOutcome {
        let from = try call.file(forWriting: true)
        let name = try call.name()
        let toHandle = try call.handle()
        let newName = try call.name()
        guard from.volume.msid == toHandle.msid else { throw .status(.crossDevice) }
        let to = try call.file(toHandle, forWriting: true)
        try refuseJunction(name, in: from, call)
        try refuseJunction(newName, in: to, call)
        let execution = call.execution
        let outcome = try attempt { () throws(FileError) in
            try from.volume.rename(
                name,
                from: from.reference,
                to: newName,
                in: to.reference,
                as: from.credentials,
                execution
            ) { consistencyFrom, consistencyTo, keeper in
                output.writeStatus(.ok)
                output.writeConsistency(consistencyFrom, msid: from.volume.msid)
                output.writeConsistency(consistencyTo, msid: from.volume.msid)
                call.keepAnswer(output, keeper)
            }
        }
        return .answeredWhenDurable(from.volume, outcome.ticket)
    }

    private static func link(_ call: inout Call, _ output: inout ByteBuffer) throws(CallFailure) -> CallOutcome {
        let object = try call.file(forWriting: true)
        let directoryHandle = try call.handle()
        let name = try call.name()
        guard object.volume.msid == directoryHandle.msid else { throw .status(.crossDevice) }
        let directory = try call.file(directoryHandle, forWriting: true)
        try refuseJunction(name, in: directory, call)
        let execution = call.execution
        let outcome = try attempt { () throws(FileError) in
            try object.volume.link(
                object.reference,
                to: name,
                in: directory.reference,
                as: directory.credentials,
                execution
            ) { attributes, consistency, keeper in
                output.writeStatus(.ok)
                output.writePostOperation(attributes, msid: object.volume.msid)
                output.writeConsistency(consistency, msid: object.volume.msid)
                call.keepAnswer(output, keeper)
            }
        }
        return .answeredWhenDurable(object.volume, outcome.ticket)
    }
}
