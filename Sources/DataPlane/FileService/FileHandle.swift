package import Bytes
package import Identity
package import VolumeEngine

/// A file handle: 32 bytes, the same on both clusters for ever.
///
///     epoch 4 | generation 4 | msid 8 | inode 8 | SipHash-2-4 of the 24 bytes before, 8
///
/// The key of the hash belongs to the SVM's configuration and moves with it; without it a handle cannot be forged. An
/// MSID of zero names a directory of the namespace that lies in no volume.
package struct FileHandle: Hashable, Sendable {
    /// Bytes of a handle.
    package static let byteCount = 32

    /// The volume.
    package var msid: VolumeMSID
    /// The object in it.
    package var reference: FileReference

    /// Makes a handle.
    package init(msid: VolumeMSID, reference: FileReference) {
        self.msid = msid
        self.reference = reference
    }

    private var words: InlineArray<3, UInt64> {
        [
            UInt64(reference.epoch.rawValue) << 32 | UInt64(reference.generation), msid.rawValue,
            reference.inode.rawValue,
        ]
    }

    /// The four words of the handle, to be written big-endian.
    package func sealed(_ key: SipHashKey) -> (UInt64, UInt64, UInt64, UInt64) {
        let words = words
        return (words[0], words[1], words[2], SipHash.hash(words, key: key))
    }

    /// Reads a handle; nil when it is not 32 bytes or its hash is wrong.
    package init?(_ bytes: UnsafeRawBufferPointer, key: SipHashKey) {
        guard bytes.count == Self.byteCount else { return nil }
        func word(_ index: Int) -> UInt64 {
            UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self))
        }
        let first = word(0)
        msid = VolumeMSID(rawValue: word(1))
        reference = FileReference(
            inode: InodeNumber(rawValue: word(2)),
            generation: UInt32(truncatingIfNeeded: first),
            epoch: Epoch(rawValue: UInt32(first >> 32))
        )
        guard SipHash.hash(words, key: key) == word(3) else { return nil }
    }
}
