package import XDR

/// Numbers of NFS version 3 (RFC 1813).
package enum NFS3 {
    /// The RPC program.
    package static let program: UInt32 = 100_003
    /// The version.
    package static let version: UInt32 = 3
    /// Bytes of a file handle (`NFS3_FHSIZE`).
    package static let handleBytesMax = 64

    /// The procedures (section 3.3).
    package enum Procedure: UInt32, Sendable {
        case null = 0
        case getAttributes, setAttributes, lookup, access, readLink, read, write, create, makeDirectory, symbolicLink
        case makeNode, remove, removeDirectory, rename, link, readDirectory, readDirectoryPlus, fileSystemStatus
        case fileSystemInformation, pathConfiguration, commit

        /// Words after the status of a failed call: empty post-operation attributes and weak cache consistency data.
        package var failureWords: Int {
            switch self {
            case .null, .getAttributes: 0
            case .lookup, .access, .readLink, .read, .readDirectory, .readDirectoryPlus, .fileSystemStatus,
                .fileSystemInformation, .pathConfiguration:
                1
            case .setAttributes, .write, .create, .makeDirectory, .symbolicLink, .makeNode, .remove, .removeDirectory,
                .commit:
                2
            case .link: 3
            case .rename: 4
            }
        }

        /// Whether the same call executed twice may give another answer, so that the answer must be kept.
        package var isIdempotent: Bool {
            switch self {
            case .setAttributes, .create, .makeDirectory, .symbolicLink, .makeNode, .remove, .removeDirectory, .rename,
                .link:
                false
            default: true
            }
        }
    }
}

/// Numbers of MOUNT version 3 (RFC 1813, appendix I).
package enum Mount3 {
    /// The RPC program.
    package static let program: UInt32 = 100_005
    /// The version.
    package static let version: UInt32 = 3
    /// Bytes of a path.
    package static let pathBytesMax = 1024

    /// The procedures.
    package enum Procedure: UInt32, Sendable {
        case null = 0
        case mount, dump, unmount, unmountAll, export
    }
}

/// Statuses of NFS version 3 (`nfsstat3`, RFC 1813, section 2.6); the first ones are also those of MOUNT.
package enum NFSStatus: UInt32, Error, Sendable {
    case ok = 0
    case notOwner = 1
    case noEntry = 2
    case inputOutput = 5
    case accessDenied = 13
    case exists = 17
    case crossDevice = 18
    case notDirectory = 20
    case isDirectory = 21
    case invalid = 22
    case fileTooBig = 27
    case noSpace = 28
    case readOnly = 30
    case tooManyLinks = 31
    case nameTooLong = 63
    case notEmpty = 66
    case stale = 70
    case badHandle = 10001
    case notSynchronized = 10002
    case badCookie = 10003
    case notSupported = 10004
    case tooSmall = 10005
    case serverFault = 10006
    case badType = 10007
    case jukebox = 10008
}

/// A time as it goes over the wire (`nfstime3`).
package struct NFSTime: Equatable, Sendable {
    /// Seconds since 1970, unsigned on the wire.
    package var seconds: UInt32
    /// Nanoseconds.
    package var nanoseconds: UInt32

    /// Makes a time.
    package init(seconds: UInt32, nanoseconds: UInt32) {
        self.seconds = seconds
        self.nanoseconds = nanoseconds
    }
}

/// `set_atime` and `set_mtime`.
package enum NFSTimeSetting: Equatable, Sendable {
    /// DONT_CHANGE.
    case unchanged
    /// SET_TO_SERVER_TIME.
    case server
    /// SET_TO_CLIENT_TIME.
    case client(NFSTime)
}

/// `sattr3`.
package struct NFSAttributeChanges: Equatable, Sendable {
    package var mode: UInt32?
    package var user: UInt32?
    package var group: UInt32?
    package var size: UInt64?
    package var accessTime: NFSTimeSetting
    package var modifyTime: NFSTimeSetting

    /// Reads the changes.
    package init(_ reader: inout XDRReader) throws(XDRError) {
        mode = try reader.bool() ? try reader.uint32() : nil
        user = try reader.bool() ? try reader.uint32() : nil
        group = try reader.bool() ? try reader.uint32() : nil
        size = try reader.bool() ? try reader.uint64() : nil
        accessTime = try Self.time(&reader)
        modifyTime = try Self.time(&reader)
    }

    private static func time(_ reader: inout XDRReader) throws(XDRError) -> NFSTimeSetting {
        switch try reader.uint32() {
        case 0: return .unchanged
        case 1: return .server
        case 2: return .client(NFSTime(seconds: try reader.uint32(), nanoseconds: try reader.uint32()))
        default: throw .invalid
        }
    }
}
