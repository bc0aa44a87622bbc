package import FileService
import Identity
import NFSTypes
import NIOCore
import ONCRPC
package import VolumeEngine
import XDR

/// What became of a request.
package enum CallOutcome: Sendable {
    /// The answer is in the buffer and may leave.
    case answered
    /// The answer is in the buffer and may leave when the ticket is durable.
    case answeredWhenDurable(Volume, CommitTicket)
    /// Records must be read from the disk: nothing was written; run it again with `.blocking` on a worker thread.
    case wouldBlock
    /// Another node holds what it is about: nothing was written; that node, if there is one at present, must execute it.
    case elsewhere(ForwardingTarget?)
    /// It was forwarded to this node, which does not hold what it is about: close the connection, so that the sender
    /// finds out where it is.
    case misdirected
    /// No answer: not a call, or the answer comes through the waiter.
    case none
    /// The bytes are not RPC: close the connection.
    case malformed
}

/// Why a procedure did not give its result.
enum CallFailure: Error {
    /// An answer with a status other than OK.
    case status(NFSStatus)
    /// The arguments cannot be decoded.
    case garbage
    /// The disk is needed.
    case wouldBlock
    /// Another node holds the volume.
    case elsewhere(RemoteVolume)
}

extension CallFailure {
    init(_ error: FileError) {
        self = error == .wouldBlock ? .wouldBlock : .status(NFSStatus(error))
    }
}

extension NFSStatus {
    /// The status of an error of the volume engine.
    init(_ error: FileError) {
        self =
            switch error {
            case .notOwner: .notOwner
            case .noEntry: .noEntry
            case .inputOutput: .inputOutput
            case .accessDenied: .accessDenied
            case .exists: .exists
            case .crossDevice: .crossDevice
            case .notDirectory: .notDirectory
            case .isDirectory: .isDirectory
            case .invalid: .invalid
            case .fileTooBig: .fileTooBig
            case .noSpace: .noSpace
            case .readOnly: .readOnly
            case .tooManyLinks: .tooManyLinks
            case .nameTooLong: .nameTooLong
            case .notEmpty: .notEmpty
            case .stale: .stale
            case .notSynchronized: .notSynchronized
            case .badCookie: .badCookie
            case .notSupported: .notSupported
            case .busy, .wouldBlock: .jukebox
            }
    }
}

/// What a connection remembers between requests, so that it is not worked out for each of them.
package final class ClientContext: @unchecked Sendable {
    // Proof of Sendable: one thread uses it, the event loop of the connection or, with a copy, a worker. For the same
    // reason the run-time check of exclusive access could find nothing.

    /// The SVM that the connection leads to.
    package let service: SVMFileService
    /// Who is at the other end.
    package let client: ClientAddress
    /// Whether the other end is a node of the cluster that forwards the client's requests.
    package let isForwarded: Bool
    @exclusivity(unchecked) private(set) var namespace: Namespace
    @exclusivity(unchecked) private var accessByVolume: [VolumeMSID: ExportAccess] = [:]
    @exclusivity(unchecked) private var credentialBytes: [UInt8] = []
    @exclusivity(unchecked) private var credential = Credentials(user: 65534, group: 65534)
    /// How the request that is executed, or was executed last, is counted.
    @exclusivity(unchecked) package internal(set) var measure = RequestMeasure()

    /// Begins with the present namespace.
    package init(service: SVMFileService, client: ClientAddress, isForwarded: Bool = false) {
        self.service = service
        self.client = client
        self.isForwarded = isForwarded
        namespace = service.namespace
    }

    /// A copy for another thread.
    package init(copying other: ClientContext) {
        service = other.service
        client = other.client
        isForwarded = other.isForwarded
        namespace = other.namespace
        accessByVolume = other.accessByVolume
        credentialBytes = other.credentialBytes
        credential = other.credential
    }

    /// Takes a new namespace over, if there is one; for every burst of requests. Whether there was one.
    @discardableResult
    package func refresh() -> Bool {
        if service.isCurrent(namespace) { return false }
        namespace = service.namespace
        accessByVolume = [:]
        return true
    }

    /// The nodes that requests may be forwarded to.
    package var forwardingTargets: Set<ForwardingTarget> { namespace.forwardingTargets }

    func access(to exported: ExportedVolume) -> ExportAccess {
        if let known = accessByVolume[exported.volume.msid] { return known }
        let access = exported.policy.access(of: client)
        accessByVolume[exported.volume.msid] = access
        return access
    }

    /// The caller behind a credential body; clients send the same one over and over.
    func credentials(_ flavor: UInt32, _ body: UnsafeRawBufferPointer) throws(XDRError) -> Credentials {
        guard flavor == AuthenticationFlavor.system else { return Credentials(user: 65534, group: 65534) }
        if credentialBytes.count == body.count, credentialBytes.withUnsafeBytes({ $0.elementsEqual(body) }) {
            return credential
        }
        let parsed = try SystemCredential(body)
        credential = Credentials(user: parsed.user, group: parsed.group, groups: parsed.groups)
        credentialBytes = [UInt8](body)
        return credential
    }
}

/// One request that is being executed.
struct Call {
    var arguments: XDRReader
    let credentials: Credentials
    let execution: Execution
    /// Whether only a short request may be executed on the event loop.
    let isShort: Bool
    let client: ClientContext
    /// How the call is known when it is sent again, and where its answer begins in the output; nil for one that may be
    /// executed again.
    var repeatable: (identity: CallIdentity, answerStart: Int)?

    var namespace: Namespace { client.namespace }

    /// Keeps the answer, which is written, with the effect of the call.
    func keepAnswer(_ output: ByteBuffer, _ keeper: ReplyKeeper) {
        guard let repeatable else { return }
        output.withUnsafeReadableBytes { bytes in
            let answer = bytes[(repeatable.answerStart - output.readerIndex)...]
            keeper.keep(UnsafeRawBufferPointer(rebasing: answer), of: repeatable.identity)
        }
    }

    mutating func uint32() throws(CallFailure) -> UInt32 {
        do { return try arguments.uint32() } catch { throw .garbage }
    }

    mutating func uint64() throws(CallFailure) -> UInt64 {
        do { return try arguments.uint64() } catch { throw .garbage }
    }

    mutating func bool() throws(CallFailure) -> Bool {
        do { return try arguments.bool() } catch { throw .garbage }
    }

    mutating func opaque(limit: Int) throws(CallFailure) -> UnsafeRawBufferPointer {
        do { return try arguments.opaque(limit: limit) } catch { throw .garbage }
    }

    /// A name: too long a one has a status of its own (RFC 1813, section 2.4).
    mutating func name() throws(CallFailure) -> UnsafeRawBufferPointer {
        try opaque(limit: 4096)
    }

    mutating func attributeChanges() throws(CallFailure) -> AttributeChanges {
        let wire: NFSAttributeChanges
        do { wire = try NFSAttributeChanges(&arguments) } catch { throw .garbage }
        func time(_ setting: NFSTimeSetting) -> TimeSetting {
            switch setting {
            case .unchanged: .unchanged
            case .server: .serverTime
            case .client(let time): .clientTime(Timestamp(seconds: Int64(time.seconds), nanoseconds: time.nanoseconds))
            }
        }
        return AttributeChanges(
            mode: wire.mode.map { UInt16($0 & 0o7777) },
            owner: wire.user,
            group: wire.group,
            sizeBytes: wire.size,
            accessTime: time(wire.accessTime),
            modifyTime: time(wire.modifyTime)
        )
    }

    /// The object that a handle names.
    mutating func handle() throws(CallFailure) -> FileHandle {
        let bytes = try opaque(limit: NFS3.handleBytesMax)
        guard let handle = FileHandle(bytes, key: namespace.handleKey) else { throw .status(.badHandle) }
        return handle
    }

    /// Where the volume is that the first handle of the arguments names, when this node does not hold it. Every procedure
    /// but NULL begins with a handle (RFC 1813, section 3.3).
    func placeElsewhere() -> CallOutcome? {
        guard namespace.hasRemotes || client.isForwarded else { return nil }
        var peek = self
        guard let msid = try? peek.handle().msid, msid.rawValue != 0, namespace.volume(msid) == nil else { return nil }
        if client.isForwarded { return .misdirected }
        return namespace.remote(msid).map { .elsewhere($0.target) }
    }

    /// The object that a handle names, with what its volume allows this client.
    mutating func object(forWriting: Bool = false) throws(CallFailure) -> CallObject {
        let handle = try handle()
        guard handle.msid.rawValue != 0 else {
            guard let directory = namespace.syntheticDirectory(handle.reference.inode.rawValue) else {
                throw .status(.stale)
            }
            return .synthetic(directory)
        }
        return .file(try file(handle, forWriting: forWriting))
    }

    /// The object of a volume that a handle names; directories outside of volumes cannot be changed.
    mutating func file(forWriting: Bool = false) throws(CallFailure) -> FileTarget {
        switch try object(forWriting: forWriting) {
        case .file(let target): return target
        case .synthetic: throw .status(forWriting ? .readOnly : .invalid)
        }
    }

    mutating func file(_ handle: FileHandle, forWriting: Bool) throws(CallFailure) -> FileTarget {
        guard let exported = namespace.volume(handle.msid) else { throw .status(.stale) }
        return try target(exported, handle.reference, forWriting: forWriting)
    }

    mutating func target(
        _ exported: ExportedVolume,
        _ reference: FileReference,
        forWriting: Bool
    ) throws(CallFailure) -> FileTarget {
        client.measure.meet(exported.volume)
        let access = client.access(to: exported)
        guard access.canRead else { throw .status(.accessDenied) }
        if forWriting && !access.canWrite { throw .status(.readOnly) }
        var caller = credentials
        if !access.isSuperuserAllowed {
            if caller.user == 0 { caller = Credentials(user: access.anonymousUser, group: access.anonymousUser) }
        }
        return FileTarget(exported: exported, reference: reference, credentials: caller)
    }
}

/// An object of a volume, and who asks for it.
struct FileTarget {
    let exported: ExportedVolume
    let reference: FileReference
    let credentials: Credentials

    var volume: Volume { exported.volume }
}

/// What a handle may name.
enum CallObject {
    /// An object of a volume.
    case file(FileTarget)
    /// A directory outside of volumes.
    case synthetic(SyntheticDirectory)
}
