package import Identity

/// Why a management operation on an aggregate or a volume did not happen.
package struct StorageError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The kinds of failure, for programs.
    package enum Code: String, Equatable, Sendable {
        /// The directory belongs to another node or aggregate, or a newer owner has fenced this one.
        case wrongOwner
        /// The directory holds another format, or is damaged.
        case damaged
        /// No such volume or snapshot.
        case notFound
        /// A volume or snapshot of that name or identifier is there with other properties.
        case exists
        /// Not enough space.
        case noSpace
        /// The operation does not fit the state of the object.
        case conflict
        /// A replica and its source have no snapshot in common: only a new baseline helps.
        case baselineLost
        /// The operating system refused.
        case inputOutput
    }

    /// The kind.
    package var code: Code
    /// What is wrong.
    package var message: String
    /// How to mend it.
    package var remedy: String

    /// Makes an error.
    package init(_ code: Code, _ message: String, remedy: String) {
        self.code = code
        self.message = message
        self.remedy = remedy
    }

    /// What is wrong and how to mend it, in one line.
    package var description: String { "\(message) (\(remedy))" }
}

/// A snapshot of a volume.
package struct Snapshot: Equatable, Sendable {
    /// Its identifier, the same on every replica.
    package var uuid: ObjectUUID
    /// Its name, unique within the volume.
    package var name: String
    /// The last epoch that it holds.
    package var epoch: Epoch
    /// When it was taken.
    package var createTime: Timestamp

    /// Makes a snapshot record.
    package init(uuid: ObjectUUID, name: String, epoch: Epoch, createTime: Timestamp) {
        self.uuid = uuid
        self.name = name
        self.epoch = epoch
        self.createTime = createTime
    }
}

/// What READ returns beside the bytes.
package struct ReadResult: Sendable {
    /// Bytes that were read.
    package var count: Int
    /// Whether the end of the file was reached.
    package var isEnd: Bool
    /// The file.
    package var attributes: FileAttributes
}

/// What CREATE, MKDIR, SYMLINK and MKNOD return.
package struct CreateResult: Sendable {
    /// The object.
    package var object: FileAttributes
    /// The directory around the operation.
    package var directory: WeakCacheConsistency
    /// When the answer may leave.
    package var ticket: CommitTicket
}
