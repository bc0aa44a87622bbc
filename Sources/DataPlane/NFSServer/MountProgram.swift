import FileService
import NFSTypes
import NIOCore
import ONCRPC
import VolumeEngine
import XDR

/// The procedures of MOUNT version 3 (RFC 1813, appendix I).
enum MountProgram {
    /// Bytes of the list of mounts in an answer.
    private static let dumpBytesMax = 512 << 10

    static func execute(_ header: RPCCallHeader, _ call: Call, _ output: inout ByteBuffer) -> CallOutcome {
        guard let procedure = Mount3.Procedure(rawValue: header.procedure) else {
            output.writeAccepted(xid: header.xid, .procedureUnavailable)
            return .answered
        }
        var call = call
        output.writeAccepted(xid: header.xid, .success)
        let body = output.writerIndex
        do throws(CallFailure) {
            switch procedure {
            case .null: break
            case .mount: try mount(&call, &output)
            case .dump: dump(call, &output)
            case .unmount: call.client.service.removeMounts(of: call.client.client, path: try path(&call))
            case .unmountAll: call.client.service.removeMounts(of: call.client.client, path: nil)
            case .export: export(call, &output)
            }
            return .answered
        } catch {
            output.moveWriterIndex(to: body)
            switch error {
            case .wouldBlock: return .wouldBlock
            case .elsewhere(let remote):
                return call.client.isForwarded ? .misdirected : .elsewhere(remote.target)
            case .status(let status): output.writeStatus(status == .badHandle ? .noEntry : status)
            case .garbage:
                output.moveWriterIndex(to: body - 4)
                output.writeInteger(AcceptStatus.garbageArguments.rawValue)
            }
            return .answered
        }
    }

    private static func path(_ call: inout Call) throws(CallFailure) -> String {
        String(decoding: try call.opaque(limit: Mount3.pathBytesMax), as: UTF8.self)
    }

    /// MNT: a path of the namespace, or a directory below one, to a handle.
    private static func mount(_ call: inout Call, _ output: inout ByteBuffer) throws(CallFailure) {
        // Directories are looked up name by name, which may need the disk: always a worker's task.
        guard call.execution == .blocking else { throw .wouldBlock }
        let path = try path(&call)
        let names = path.split(separator: "/").map { Array($0.utf8) }
        var place = "/"
        var object = call.namespace.object(at: "/")
        var rest = names[...]
        // As far as the namespace itself goes; a volume that is joined deeper wins.
        for (index, name) in names.enumerated() {
            place += (place == "/" ? "" : "/") + String(decoding: name, as: UTF8.self)
            if let deeper = call.namespace.object(at: place) {
                object = deeper
                rest = names[(index + 1)...]
            }
        }
        switch object {
        case nil: throw .status(.noEntry)
        case .synthetic(let directory)?:
            guard rest.isEmpty else { throw .status(.noEntry) }
            writeMounted(directory.handle, path, call, &output)
        // The directories of the path are there, and so is the list of mounts that this one is noted in.
        case .remote(let remote)?: throw .elsewhere(remote)
        case .volume(let exported)?:
            let root = try call.target(exported, exported.volume.rootReference, forWriting: false)
            var reference = root.reference
            for name in rest {
                let found = name.withUnsafeBytes { name in
                    Result { () throws(FileError) in
                        try exported.volume.lookup(name, in: reference, as: .superuser, .blocking)
                    }
                }
                let directory = try NFSProgram.attempt { () throws(FileError) in try found.get() }
                guard directory.object.type == .directory else { throw .status(.notDirectory) }
                reference = directory.object.reference
            }
            writeMounted(FileHandle(msid: exported.volume.msid, reference: reference), path, call, &output)
        }
    }

    private static func writeMounted(_ handle: FileHandle, _ path: String, _ call: Call, _ output: inout ByteBuffer) {
        call.client.service.addMount(SVMFileService.Mount(client: call.client.client, path: path))
        output.writeStatus(.ok)
        output.writeHandle(handle, key: call.namespace.handleKey)
        // The flavours that may be used: AUTH_SYS.
        output.writeMultipleIntegers(1 as UInt32, AuthenticationFlavor.system)
    }

    private static func dump(_ call: Call, _ output: inout ByteBuffer) {
        let start = output.writerIndex
        for mount in call.client.service.allMounts where output.writerIndex - start < dumpBytesMax {
            output.writeXDR(true)
            output.writeXDROpaque(mount.client.description.utf8)
            output.writeXDROpaque(mount.path.utf8)
        }
        output.writeXDR(false)
    }

    private static func export(_ call: Call, _ output: inout ByteBuffer) {
        for path in call.namespace.exportPaths {
            output.writeXDR(true)
            output.writeXDROpaque(path.utf8)
            // No groups: who may mount is the export policy's to say.
            output.writeXDR(false)
        }
        output.writeXDR(false)
    }
}
