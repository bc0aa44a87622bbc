/// The UNIX permission rules as NFS servers apply them.
enum Permissions {
    static let read: UInt16 = 4
    static let write: UInt16 = 2
    static let execute: UInt16 = 1

    /// Whether the mode bits give all of `wanted` (read 4, write 2, execute 1).
    static func allow(_ wanted: UInt16, on inode: InodeContent, to credentials: Credentials) -> Bool {
        if credentials.user == 0 {
            // The superuser executes a file only if anybody may.
            return wanted & execute == 0 || inode.type == .directory || inode.mode & 0o111 != 0
        }
        return granted(inode, credentials) & wanted == wanted
    }

    static func check(
        _ wanted: UInt16,
        on inode: InodeContent,
        by credentials: Credentials
    ) throws(CoreFailure) {
        guard allow(wanted, on: inode, to: credentials) else { throw .file(.accessDenied) }
    }

    /// Data of a file: the owner may always (a file that was opened before a chmod stays usable), and who may execute
    /// may read (a client cannot tell the server that it pages a program in).
    static func checkData(
        _ wanted: UInt16,
        on inode: InodeContent,
        by credentials: Credentials
    ) throws(CoreFailure) {
        if credentials.user == 0 || credentials.user == inode.owner { return }
        let bits = granted(inode, credentials)
        if bits & wanted == wanted { return }
        if wanted == read && bits & execute != 0 { return }
        throw .file(.accessDenied)
    }

    /// Whether an entry may be removed: in a sticky directory only by the owner of one of the two.
    static func checkSticky(
        directory: InodeContent,
        object: InodeContent,
        by credentials: Credentials
    ) throws(CoreFailure) {
        guard directory.mode & 0o1000 != 0, credentials.user != 0 else { return }
        guard credentials.user == directory.owner || credentials.user == object.owner else {
            throw .file(.accessDenied)
        }
    }

    /// The rights among `wanted` that the caller has.
    static func rights(_ wanted: AccessRights, on inode: InodeContent, of credentials: Credentials) -> AccessRights {
        var rights: AccessRights = []
        let isDirectory = inode.type == .directory
        if allow(read, on: inode, to: credentials) { rights.insert(.read) }
        if allow(write, on: inode, to: credentials) {
            rights.formUnion([.modify, .extend])
            if isDirectory { rights.insert(.delete) }
        }
        if allow(execute, on: inode, to: credentials) { rights.insert(isDirectory ? .lookup : .execute) }
        return rights.intersection(wanted)
    }

    private static func granted(_ inode: InodeContent, _ credentials: Credentials) -> UInt16 {
        if credentials.user == inode.owner { return inode.mode >> 6 & 7 }
        if credentials.isMember(of: inode.group) { return inode.mode >> 3 & 7 }
        return inode.mode & 7
    }
}
