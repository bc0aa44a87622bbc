import Bytes
import FileService
import Identity
import NFSTypes
import NIOCore
import VolumeEngine
import XDR

extension ByteBuffer {
    mutating func writeStatus(_ status: NFSStatus) { writeInteger(status.rawValue) }

    /// `fattr3` (RFC 1813, section 2.6): 84 bytes.
    mutating func writeAttributes(_ attributes: FileAttributes, msid: VolumeMSID) {
        let reference = attributes.reference
        writeMultipleIntegers(
            UInt32(attributes.type.rawValue),
            UInt32(attributes.mode),
            attributes.linkCount,
            attributes.owner,
            attributes.group
        )
        writeMultipleIntegers(
            attributes.sizeBytes,
            attributes.usedBytes,
            attributes.deviceMajor,
            attributes.deviceMinor,
            msid.fileSystemIdentifier(at: reference.epoch),
            reference.inode.rawValue
        )
        writeTime(attributes.accessTime)
        writeTime(attributes.modifyTime)
        writeTime(attributes.changeTime)
    }

    mutating func writeTime(_ time: Timestamp) { writeMultipleIntegers(time.wireSeconds, time.nanoseconds) }

    /// `post_op_attr` with attributes.
    mutating func writePostOperation(_ attributes: FileAttributes, msid: VolumeMSID) {
        writeXDR(true)
        writeAttributes(attributes, msid: msid)
    }

    /// `wcc_data`.
    mutating func writeConsistency(_ consistency: WeakCacheConsistency, msid: VolumeMSID) {
        writeXDR(true)
        writeXDR(consistency.before.sizeBytes)
        writeTime(consistency.before.modifyTime)
        writeTime(consistency.before.changeTime)
        writePostOperation(consistency.after, msid: msid)
    }

    /// `nfs_fh3`.
    mutating func writeHandle(_ handle: FileHandle, key: SipHashKey) {
        let words = handle.sealed(key)
        writeInteger(UInt32(FileHandle.byteCount))
        writeMultipleIntegers(words.0, words.1, words.2, words.3)
    }

    /// Attributes of a directory outside of volumes: nobody can change it.
    mutating func writeAttributes(_ directory: SyntheticDirectory) {
        writeMultipleIntegers(
            2 as UInt32,
            0o555 as UInt32,
            UInt32(2 + directory.children.count),
            0 as UInt32,
            0 as UInt32
        )
        writeMultipleIntegers(4096 as UInt64, 4096 as UInt64, 0 as UInt64, 0 as UInt64, directory.number)
        // The change of a namespace shows in its directories: the time is made of their names.
        var stamp: UInt64 = 0
        for child in directory.children { stamp = Checksum.xxh3(child.name, seed: stamp) }
        for _ in 0..<3 { writeMultipleIntegers(1_000_000_000 as UInt32, UInt32(stamp % 1_000_000_000)) }
    }
}

extension VolumeMSID {
    /// The `fsid` of files of a volume. What a snapshot shows are other files than the active ones: another file system,
    /// so that a client does not take them for hard links of each other.
    func fileSystemIdentifier(at epoch: Epoch) -> UInt64 {
        rawValue ^ UInt64(epoch.rawValue) &* 0x9e37_79b9_7f4a_7c15
    }
}

extension Timestamp {
    /// Seconds are unsigned on the wire: what lies before 1970 shows as 1970.
    var wireSeconds: UInt32 { UInt32(truncatingIfNeeded: max(0, seconds)) }
}

extension SyntheticDirectory {
    /// The handle of a directory outside of volumes.
    var handle: FileHandle {
        FileHandle(
            msid: VolumeMSID(rawValue: 0),
            reference: FileReference(inode: InodeNumber(rawValue: number), generation: 0)
        )
    }
}
