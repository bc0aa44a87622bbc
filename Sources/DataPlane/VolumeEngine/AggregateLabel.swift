import Environment
import FileIO
import Identity

/// What an aggregate directory says of itself:
///
///     godwit aggregate 2      the format
///     uuid …
///     node …                  its owner
///     epoch …                 counts the changes of the owner; left out before the first
///
/// The lock of the directory is what keeps two processes from writing it. The epoch is the fence: a new owner writes it
/// before it has the lock, the former one sees it and gives the lock back, and whoever comes with an older one is refused.
struct AggregateLabel: Equatable {
    /// 2: no range of keys was ever deleted from the metadata (decision 0022).
    static let formatVersion = 2
    var uuid: ObjectUUID
    var node: ObjectUUID
    var ownershipEpoch: UInt64

    /// Writes a newer owner into the label of an aggregate that is there.
    static func raise(_ directory: String, _ options: AggregateOptions) throws(StorageError) {
        guard var label = try read(directory) else { return }
        guard label.ownershipEpoch <= options.ownershipEpoch else { throw label.refusal(directory, options) }
        guard label.ownershipEpoch < options.ownershipEpoch else { return }
        label.node = options.node
        label.ownershipEpoch = options.ownershipEpoch
        try label.write(directory)
    }

    /// Reads the label and checks the owner, or writes the label of a new aggregate. Under the lock of the directory.
    static func claim(
        _ directory: String,
        _ options: AggregateOptions,
        _ environment: Environment
    ) throws(StorageError) -> AggregateLabel {
        // Again: somebody with an older epoch may have written in between.
        try raise(directory, options)
        guard let label = try read(directory) else {
            guard !FileSystem.exists(directory + "/metadata") else {
                throw unreadable(directory, FileIOError(operation: "open", path: path(directory), number: 2))
            }
            let label = AggregateLabel(
                uuid: .random(environment),
                node: options.node,
                ownershipEpoch: options.ownershipEpoch
            )
            try label.write(directory)
            return label
        }
        guard label.node == options.node, label.ownershipEpoch == options.ownershipEpoch else {
            throw label.refusal(directory, options)
        }
        return label
    }

    /// The bytes of the label, unread; nil when there are none, or they cannot be read.
    static func bytes(_ directory: String) -> [UInt8]? { try? FileSystem.readAll(path(directory)) }

    /// Reads the label; nil when there is none.
    static func read(_ directory: String) throws(StorageError) -> AggregateLabel? {
        let path = path(directory)
        guard FileSystem.exists(path) else { return nil }
        let text: String
        do { text = String(decoding: try FileSystem.readAll(path), as: UTF8.self) } catch {
            throw unreadable(directory, error)
        }
        if let other = otherFormatVersion(text) {
            throw StorageError(
                .conflict,
                "the aggregate in \(directory) has format version \(other), and this program writes \(formatVersion)",
                remedy: "move its volumes away with the program that wrote it, and give this one an empty directory"
            )
        }
        guard let label = AggregateLabel(text: text) else {
            throw unreadable(directory, FileIOError(operation: "parse", path: path, number: 22))
        }
        return label
    }

    private func write(_ directory: String) throws(StorageError) {
        // Before anybody has the lock: the former owner and a newer one may do this at once.
        do {
            try FileSystem.writeAtomically(Array(text.utf8), to: Self.path(directory), writer: "of-\(node)")
        } catch { throw .io(error) }
    }

    private func refusal(_ directory: String, _ options: AggregateOptions) -> StorageError {
        StorageError(
            .wrongOwner,
            "the aggregate in \(directory) belongs to node \(node) (epoch \(ownershipEpoch)), not to this node "
                + "(\(options.node), epoch \(options.ownershipEpoch))",
            remedy: "give this node a directory of its own, or start the node that owns it"
        )
    }

    private static func unreadable(_ directory: String, _ error: FileIOError) -> StorageError {
        StorageError(
            .damaged,
            "\(directory) holds an aggregate without a readable label (\(error))",
            remedy: "restore \(path(directory)), or give the node an empty directory"
        )
    }

    private static func path(_ directory: String) -> String { directory + "/aggregate.label" }

    private static func otherFormatVersion(_ text: String) -> Int? {
        let words = text.prefix { $0 != "\n" }.split(separator: " ")
        guard words.count == 3, words[0] == "godwit", words[1] == "aggregate", let version = Int(words[2]) else {
            return nil
        }
        return version == formatVersion ? nil : version
    }
}

extension AggregateLabel {
    var text: String {
        "godwit aggregate \(Self.formatVersion)\nuuid \(uuid)\nnode \(node)\n"
            + (ownershipEpoch == 0 ? "" : "epoch \(ownershipEpoch)\n")
    }

    init?(text: String) {
        let lines = text.split(separator: "\n")
        func value(_ index: Int, of name: String) -> String? {
            guard lines.count > index, lines[index].hasPrefix(name + " ") else { return nil }
            return String(lines[index].dropFirst(name.count + 1))
        }
        guard lines.first == "godwit aggregate \(Self.formatVersion)",
            let uuid = value(1, of: "uuid").flatMap({ ObjectUUID($0) }),
            let node = value(2, of: "node").flatMap({ ObjectUUID($0) })
        else { return nil }
        var epoch: UInt64 = 0
        if lines.count > 3 {
            // A line that is there and says nothing is damage, not epoch 0: an owner would be forgotten.
            guard let written = value(3, of: "epoch").flatMap({ UInt64($0) }) else { return nil }
            epoch = written
        }
        self.init(uuid: uuid, node: node, ownershipEpoch: epoch)
    }
}
