package import Bytes
package import Identity
package import VolumeEngine

/// A volume as clients of an SVM reach it.
package final class ExportedVolume: Sendable {
    /// The volume.
    package let volume: Volume
    /// Where it is joined, as `/a/b`; `/` is the root of the SVM.
    package let path: String
    /// Who may use it.
    package let policy: ExportPolicy

    /// Makes an exported volume.
    package init(volume: Volume, path: String, policy: ExportPolicy) {
        self.volume = volume
        self.path = path
        self.policy = policy
    }
}

/// A directory of the namespace that lies in no volume: the root, and what leads to a junction.
package struct SyntheticDirectory: Sendable {
    /// Its path.
    package var path: String
    /// Its names, sorted by their bytes, with the path that each leads to.
    package var children: [(name: [UInt8], path: String)]
    /// A number made of its path, the same on both clusters.
    package var number: UInt64
}

/// Where a name of a volume's directory leads to another volume.
struct JunctionKey: Hashable {
    var msid: VolumeMSID
    var directory: InodeNumber
    var name: [UInt8]
}

/// What clients see of an SVM at one moment: immutable, replaced as a whole.
package final class Namespace: Sendable {
    /// The key of the SVM's file handles.
    package let handleKey: SipHashKey
    /// Grows with every replacement.
    package let generation: UInt64
    private let volumes: [VolumeMSID: ExportedVolume]
    private let volumesByPath: [String: ExportedVolume]
    private let synthetic: [UInt64: SyntheticDirectory]
    private let syntheticByPath: [String: SyntheticDirectory]
    private let junctions: [JunctionKey: ExportedVolume]
    private let junctionsByDirectory: [VolumeMSID: [InodeNumber: [(name: [UInt8], target: ExportedVolume)]]]
    private let junctionParents: [VolumeMSID: FileHandle]

    /// Joins volumes into one namespace. Junctions below another volume need their parent directory there; those whose
    /// parent is missing are left out and named in `unreachable`.
    package init(
        handleKey: SipHashKey,
        generation: UInt64,
        volumes exported: [ExportedVolume],
        unreachable: inout [String]
    ) {
        self.handleKey = handleKey
        self.generation = generation
        volumes = Dictionary(exported.map { ($0.volume.msid, $0) }, uniquingKeysWith: { first, _ in first })
        let byPath = Dictionary(exported.map { ($0.path, $0) }, uniquingKeysWith: { first, _ in first })
        volumesByPath = byPath
        var children: [String: Set<String>] = byPath["/"] == nil ? ["/": []] : [:]
        var junctions: [JunctionKey: ExportedVolume] = [:]
        var byDirectory: [VolumeMSID: [InodeNumber: [(name: [UInt8], target: ExportedVolume)]]] = [:]
        var parents: [VolumeMSID: FileHandle] = [:]
        for target in exported.sorted(by: { $0.path < $1.path }) where target.path != "/" {
            let (parent, name) = Self.split(target.path)
            if let outer = Self.enclosing(parent, byPath) {
                guard let directory = Self.resolve(parent, in: outer) else {
                    unreachable.append(target.path)
                    continue
                }
                let key = JunctionKey(msid: outer.volume.msid, directory: directory.inode, name: Array(name.utf8))
                junctions[key] = target
                byDirectory[outer.volume.msid, default: [:]][directory.inode, default: []].append((key.name, target))
                parents[target.volume.msid] = FileHandle(msid: outer.volume.msid, reference: directory)
            } else {
                Self.addSynthetic(target.path, to: &children)
            }
        }
        self.junctions = junctions
        junctionsByDirectory = byDirectory
        junctionParents = parents
        let directories = children.keys.sorted().map { Self.synthetic($0, children[$0]!) }
        synthetic = Dictionary(directories.map { ($0.number, $0) }, uniquingKeysWith: { first, _ in first })
        syntheticByPath = Dictionary(directories.map { ($0.path, $0) }, uniquingKeysWith: { first, _ in first })
    }

    private static func split(_ path: String) -> (parent: String, name: String) {
        let slash = path.lastIndex(of: "/")!
        let parent = String(path[..<slash])
        return (parent.isEmpty ? "/" : parent, String(path[path.index(after: slash)...]))
    }

    /// The volume in which a path lies.
    private static func enclosing(_ path: String, _ volumes: [String: ExportedVolume]) -> ExportedVolume? {
        var place = path
        while true {
            if let volume = volumes[place] { return volume }
            if place == "/" { return nil }
            place = split(place).parent
        }
    }

    private static func resolve(_ path: String, in outer: ExportedVolume) -> FileReference? {
        var reference = outer.volume.rootReference
        for name in path.dropFirst(outer.path == "/" ? 0 : outer.path.count).split(separator: "/") {
            let found = Array(name.utf8).withUnsafeBytes {
                try? outer.volume.lookup($0, in: reference, as: .superuser, .blocking)
            }
            guard let found, found.object.type == .directory else { return nil }
            reference = found.object.reference
        }
        return reference
    }

    private static func addSynthetic(_ path: String, to children: inout [String: Set<String>]) {
        var place = path
        while place != "/" {
            let parent = split(place).parent
            children[parent, default: []].insert(place)
            place = parent
        }
    }

    private static func synthetic(_ path: String, _ children: Set<String>) -> SyntheticDirectory {
        SyntheticDirectory(
            path: path,
            children: children.sorted().map { (Array(split($0).name.utf8), $0) },
            number: Checksum.xxh3(Array(path.utf8)) | 1
        )
    }

    // MARK: Looking up

    /// A volume by identity.
    package func volume(_ msid: VolumeMSID) -> ExportedVolume? { volumes[msid] }

    /// All volumes, by path.
    package var exports: [ExportedVolume] { volumesByPath.values.sorted { $0.path < $1.path } }

    /// A directory outside of volumes, by the number in its handle.
    package func syntheticDirectory(_ number: UInt64) -> SyntheticDirectory? { synthetic[number] }

    /// What lies at a path of the namespace itself.
    package func object(at path: String) -> NamespaceObject? {
        if let volume = volumesByPath[path] { return .volume(volume) }
        return syntheticByPath[path].map { .synthetic($0) }
    }

    /// Whether any name of the volume leads to another one.
    package func hasJunctions(_ msid: VolumeMSID) -> Bool { junctionsByDirectory[msid] != nil }

    /// The volume that a name of a volume's directory leads to.
    package func junction(_ msid: VolumeMSID, _ directory: InodeNumber, _ name: UnsafeRawBufferPointer)
        -> ExportedVolume?
    {
        guard junctionsByDirectory[msid]?[directory] != nil else { return nil }
        return junctions[JunctionKey(msid: msid, directory: directory, name: [UInt8](name))]
    }

    /// The names of a volume's directory that lead to other volumes, sorted.
    package func junctions(_ msid: VolumeMSID, _ directory: InodeNumber) -> [(name: [UInt8], target: ExportedVolume)] {
        junctionsByDirectory[msid]?[directory] ?? []
    }

    /// What `..` of a volume's root leads to.
    package func parent(of exported: ExportedVolume) -> NamespaceParent {
        if exported.path == "/" { return .itself }
        if let handle = junctionParents[exported.volume.msid] { return .directory(handle) }
        return syntheticByPath[Self.split(exported.path).parent].map { .synthetic($0) } ?? .itself
    }

    /// The directory above a directory outside of volumes.
    package func parent(of directory: SyntheticDirectory) -> SyntheticDirectory {
        directory.path == "/" ? directory : syntheticByPath[Self.split(directory.path).parent] ?? directory
    }
}

/// What lies at a path of the namespace.
package enum NamespaceObject: Sendable {
    /// The root of a volume.
    case volume(ExportedVolume)
    /// A directory outside of volumes.
    case synthetic(SyntheticDirectory)
}

/// What lies above the root of a volume.
package enum NamespaceParent: Sendable {
    /// Nothing: it is the root of the SVM.
    case itself
    /// A directory of another volume.
    case directory(FileHandle)
    /// A directory outside of volumes.
    case synthetic(SyntheticDirectory)
}
