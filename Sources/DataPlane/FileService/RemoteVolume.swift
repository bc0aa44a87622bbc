package import Identity

/// Where another node of the cluster executes requests for the volumes that it holds.
package struct ForwardingTarget: Hashable, Sendable {
    /// The IPv4 address of its interconnect, dotted.
    package var address: String
    /// The port.
    package var port: Int
    /// What both ends prove to know.
    package var secret: [UInt8]

    /// Makes a target.
    package init(address: String, port: Int, secret: [UInt8]) {
        self.address = address
        self.port = port
        self.secret = secret
    }
}

/// A volume of the SVM that another node of the cluster holds.
package final class RemoteVolume: Sendable {
    /// The identity of the volume.
    package let msid: VolumeMSID
    /// Where it is joined, as `/a/b`; `/` is the root of the SVM.
    package let path: String
    /// Who may use it.
    package let policy: ExportPolicy
    /// The node that executes its requests; nil when none can at present, and they wait.
    package let target: ForwardingTarget?

    /// Makes a remote volume.
    package init(msid: VolumeMSID, path: String, policy: ExportPolicy, target: ForwardingTarget?) {
        self.msid = msid
        self.path = path
        self.policy = policy
        self.target = target
    }
}

/// A volume of the namespace, wherever it is.
package enum JoinedVolume: Sendable {
    /// This node holds it.
    case here(ExportedVolume)
    /// Another one does.
    case elsewhere(RemoteVolume)

    var path: String {
        switch self {
        case .here(let exported): exported.path
        case .elsewhere(let remote): remote.path
        }
    }
}
