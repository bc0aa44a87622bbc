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
    private let remotes: [VolumeMSID: RemoteVolume]
    private let volumesByPath: [String: JoinedVolume]
    private let synthetic: [UInt64: SyntheticDirectory]
    private let syntheticByPath: [String: SyntheticDirectory]
    private let junctions: [JunctionKey: JoinedVolume]
    private let junctionsByDirectory: [VolumeMSID: [InodeNumber: [[UInt8]]]]
    private let junctionParents: [VolumeMSID: NamespaceParent]

    /// Joins volumes into one namespace. Junctions below another volume need their parent directory there; those whose
    /// parent is missing are left out and named in `unreachable`. What lies below a remote volume is looked up by the node
    /// that holds that one.
    package init(
        handleKey: SipHashKey,
        generation: UInt64,
        volumes exported: [ExportedVolume],
        remotes elsewhere: [RemoteVolume] = [],
        unreachable: inout [String]
    ) {
        self.handleKey = handleKey
        self.generation = generation
        volumes = Dictionary(exported.map { ($0.volume.msid, $0) }, uniquingKeysWith: { first, _ in first })
        remotes = Dictionary(elsewhere.map { ($0.msid, $0) }, uniquingKeysWith: { first, _ in first })
        let joined = exported.map { JoinedVolume.here($0) } + elsewhere.map { .elsewhere($0) }
        let byPath = Dictionary(joined.map { ($0.path, $0) }, uniquingKeysWith: { first, _ in first })
        volumesByPath = byPath
        var children: [String: Set<String>] = byPath["/"] == nil ? ["/": []] : [:]
        var junctions: [JunctionKey: JoinedVolume] = [:]
        var byDirectory: [VolumeMSID: [InodeNumber: [[UInt8]]]] = [:]
        var parents: [VolumeMSID: NamespaceParent] = [:]
        for target in joined.sorted(by: { $0.path < $1.path }) where target.path != "/" {
            let (parent, name) = Self.split(target.path)
            var place = NamespaceParent.elsewhere
            switch Self.enclosing(parent, byPath) {
            case .here(let outer):
                guard let directory = Self.resolve(parent, in: outer) else {
                    unreachable.append(target.path)
                    continue
                }
                let key = JunctionKey(msid: outer.volume.msid, directory: directory.inode, name: Array(name.utf8))
                junctions[key] = target
                byDirectory[outer.volume.msid, default: [:]][directory.inode, default: []].append(key.name)
                place = .directory(FileHandle(msid: outer.volume.msid, reference: directory))
            case .elsewhere: break
            case nil:
                Self.addSynthetic(target.path, to: &children)
                continue
            }
            if case .here(let inner) = target { parents[inner.volume.msid] = place }
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
    private static func enclosing(_ path: String, _ volumes: [String: JoinedVolume]) -> JoinedVolume? {
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

    /// A volume that another node holds.
    package func remote(_ msid: VolumeMSID) -> RemoteVolume? { remotes[msid] }

    /// Whether other nodes hold volumes of the SVM.
    package var hasRemotes: Bool { !remotes.isEmpty }

    /// The nodes that execute requests for remote volumes.
    package var forwardingTargets: Set<ForwardingTarget> { Set(remotes.values.compactMap(\.target)) }

    /// The paths of all volumes, sorted.
    package var exportPaths: [String] { volumesByPath.keys.sorted() }

    /// A directory outside of volumes, by the number in its handle.
    package func syntheticDirectory(_ number: UInt64) -> SyntheticDirectory? { synthetic[number] }

    /// What lies at a path of the namespace itself.
    package func object(at path: String) -> NamespaceObject? {
        switch volumesByPath[path] {
        case .here(let exported): .volume(exported)
        case .elsewhere(let remote): .remote(remote)
        case nil: syntheticByPath[path].map { .synthetic($0) }
        }
    }

    /// Whether any name of the volume leads to another one.
    package func hasJunctions(_ msid: VolumeMSID) -> Bool { junctionsByDirectory[msid] != nil }

    /// The volume that a name of a volume's directory leads to.
    package func junction(_ msid: VolumeMSID, _ directory: InodeNumber, _ name: UnsafeRawBufferPointer)
        -> JoinedVolume?
    {
        guard junctionsByDirectory[msid]?[directory] != nil else { return nil }
        return junctions[JunctionKey(msid: msid, directory: directory, name: [UInt8](name))]
    }

    /// The names of a volume's directory that lead to other volumes, sorted.
    package func junctions(_ msid: VolumeMSID, _ directory: InodeNumber) -> [[UInt8]] {
        junctionsByDirectory[msid]?[directory] ?? []
    }

    /// What `..` of a volume's root leads to.
    package func parent(of exported: ExportedVolume) -> NamespaceParent {
        if exported.path == "/" { return .itself }
        if let parent = junctionParents[exported.volume.msid] { return parent }
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
    /// The root of a volume that another node holds.
    case remote(RemoteVolume)
    /// A directory outside of volumes.
    case synthetic(SyntheticDirectory)
}

/// What lies above the root of a volume.
package enum NamespaceParent: Sendable {
    /// Nothing: it is the root of the SVM.
    case itself
    /// A directory of another volume.
    case directory(FileHandle)
    /// A directory of a volume that another node holds.
    case elsewhere
    /// A directory outside of volumes.
    case synthetic(SyntheticDirectory)
}
