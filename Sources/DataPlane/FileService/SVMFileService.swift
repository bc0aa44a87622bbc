package import Bytes
package import Identity
import Synchronization
import VolumeEngine

/// The data-plane face of one SVM: its namespace, its gate and the protocol state of its clients.
package final class SVMFileService: Sendable {
    /// The SVM.
    package let svm: ObjectUUID
    /// The gate of every request.
    package let gate = RequestGate()
    /// Answers that must not be lost.
    package let duplicateRequests = DuplicateRequestCache()
    private let present: Mutex<Namespace>
    private let generation = Atomic<UInt64>(0)
    private let mounts = Mutex<[Mount]>([])
    /// Volumes, as they were opened, whose kept answers are in `duplicateRequests`.
    private let acquainted = Mutex<[VolumeMSID: Volume]>([:])
    /// Entries of the list of mounts, which is only for people to look at.
    private static let mountsMax = 4096

    /// A client's mount, as `showmount` shows it.
    package struct Mount: Hashable, Sendable {
        package var client: ClientAddress
        package var path: String

        /// Makes an entry.
        package init(client: ClientAddress, path: String) {
            self.client = client
            self.path = path
        }
    }

    /// A service without volumes.
    package init(svm: ObjectUUID, handleKey: SipHashKey) {
        self.svm = svm
        var unreachable: [String] = []
        present = Mutex(Namespace(handleKey: handleKey, generation: 0, volumes: [], unreachable: &unreachable))
    }

    /// Replaces the namespace; returns the junction paths that cannot be reached because their parent is missing.
    /// Looks directories up, and so may wait for the disk.
    @discardableResult
    package func configure(
        handleKey: SipHashKey,
        volumes: [ExportedVolume],
        remotes: [RemoteVolume] = []
    ) -> [String] {
        takeKeptReplies(of: volumes.map(\.volume))
        let next = generation.wrappingAdd(1, ordering: .relaxed).newValue
        var unreachable: [String] = []
        let namespace = Namespace(
            handleKey: handleKey,
            generation: next,
            volumes: volumes,
            remotes: remotes,
            unreachable: &unreachable
        )
        present.withLock { if $0.generation < next { $0 = namespace } }
        return unreachable
    }

    /// Takes over what the volumes that are new here have answered in an earlier life, before any client reaches them.
    private func takeKeptReplies(of volumes: [Volume]) {
        let known = acquainted.withLock { $0 }
        var kept: [[KeptReply]] = []
        var met: [VolumeMSID: Volume] = [:]
        for volume in volumes {
            // One that was opened anew was elsewhere meanwhile, or closed, and may have been asked by others.
            if known[volume.msid] === volume {
                met[volume.msid] = volume
                continue
            }
            // The clients of a replica are answered elsewhere, and what they were answered comes with the protocol state:
            // there is nothing to be read while everybody waits for it.
            if !volume.isReplica {
                // The volume tells the event; without the answers the face is what it was before they were kept.
                guard let replies = try? volume.keptReplies() else { continue }
                kept.append(replies)
            }
            met[volume.msid] = volume
        }
        duplicateRequests.load(kept)
        let present = met
        acquainted.withLock { $0 = present }
    }

    /// What clients see now.
    package var namespace: Namespace { present.withLock { $0 } }

    /// Whether a namespace is still the present one: one load, for every burst of requests.
    package func isCurrent(_ namespace: Namespace) -> Bool {
        namespace.generation == generation.load(ordering: .relaxed)
    }

    /// Notes a mount.
    package func addMount(_ mount: Mount) {
        mounts.withLock { mounts in
            guard !mounts.contains(mount) else { return }
            if mounts.count >= Self.mountsMax { mounts.removeFirst() }
            mounts.append(mount)
        }
    }

    /// Forgets mounts of a client: of one path, or all.
    package func removeMounts(of client: ClientAddress, path: String?) {
        mounts.withLock { $0.removeAll { $0.client == client && (path == nil || $0.path == path) } }
    }

    /// The mounts, oldest first.
    package var allMounts: [Mount] { mounts.withLock { $0 } }
}
