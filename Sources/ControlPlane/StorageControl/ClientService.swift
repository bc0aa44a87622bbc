package import ClusterConfiguration
package import HostNetwork
package import Identity
package import Replication
package import VolumeEngine

/// What the face of an SVM must know to serve its clients.
package struct ServiceConfiguration: Sendable {
    /// The SVM.
    package var svm: SVMRecord
    /// Its export policies, by name.
    package var exportPolicies: [ExportPolicyRecord]
    /// Its volumes that clients may reach, with their records.
    package var volumes: [(record: VolumeRecord, volume: Volume)]
    /// Its volumes that clients may reach and that are not open here, with the node that executes their requests; nil when
    /// none can at present.
    package var remotes: [(record: VolumeRecord, node: NodeRecord?)]
    /// The terms of its LIFs on all nodes.
    package var terms: [LIFTerm]

    /// Makes a configuration.
    package init(
        svm: SVMRecord,
        exportPolicies: [ExportPolicyRecord],
        volumes: [(record: VolumeRecord, volume: Volume)],
        remotes: [(record: VolumeRecord, node: NodeRecord?)] = [],
        terms: [LIFTerm] = []
    ) {
        self.svm = svm
        self.exportPolicies = exportPolicies
        self.volumes = volumes
        self.remotes = remotes
        self.terms = terms
    }
}

/// When a client's connection got its first and its last answer, as ages.
package struct ClientAnswers: Equatable, Sendable {
    /// The client's address and port, as `192.0.2.7:903`.
    package var client: String
    /// Since the first answer.
    package var firstMicroseconds: UInt64
    /// Since the last one.
    package var lastMicroseconds: UInt64

    /// Makes ages.
    package init(client: String, firstMicroseconds: UInt64, lastMicroseconds: UInt64) {
        self.client = client
        self.firstMicroseconds = firstMicroseconds
        self.lastMicroseconds = lastMicroseconds
    }
}

/// The face of one SVM to its clients, with the gate that every request passes. Declared here so that the runtime does
/// not depend on a protocol; the NFS implementation is given to the controller when the daemon is put together.
package protocol ClientService: Sendable {
    /// Replaces the configuration atomically.
    func configure(_ configuration: ServiceConfiguration)
    /// Listens on an address; requests go through the gate. One that has a link need not be there yet: whoever connects once
    /// it is there is not refused. Connections of an earlier term of its LIF end, those that other nodes forward as well.
    ///
    /// - Parameters:
    ///   - link: the link that the address is put on; nil for an address of the loopback.
    ///   - term: the LIF's.
    func bind(_ endpoint: NetworkEndpoint, on link: String?, for term: LIFTerm) async throws
    /// The term in which an address is listened on; nil when it is not.
    func term(at endpoint: NetworkEndpoint) -> LIFTerm?
    /// Tells everybody on its link that an address is there, and wakes the clients that were connected to it where it was
    /// before (`expect`, `importProtocolState`); not bound is no error.
    func arrive(at endpoint: NetworkEndpoint)
    /// Drops whatever arrives for addresses that have a link, so that nothing more is acknowledged here; `reopen` undoes it.
    /// The gate is held and drained.
    func freeze(_ endpoints: [NetworkEndpoint]) async
    /// Stops listening on an address that has left its link, and closes its connections without a packet; not bound is no
    /// error.
    func abandon(_ endpoint: NetworkEndpoint) async
    /// The clients' connections at an address that has a link; those of the moment when it was frozen, if it is or was.
    func connections(at endpoint: NetworkEndpoint) -> [TransportConnection]
    /// Remembers the connections of addresses that are about to come, for `arrive`.
    func expect(_ connections: [TransportConnection])
    /// Stops listening on an address and closes its connections; not bound is no error.
    func unbind(_ endpoint: NetworkEndpoint) async
    /// Where it listens.
    var boundEndpoints: [NetworkEndpoint] { get }
    /// Clients that are connected now.
    var connectionCount: Int { get }
    /// When each of them was answered first and last, as ages; those that were not answered yet are left out.
    var answerAges: [ClientAnswers] { get }
    /// Requests wait un-executed from now on; connections stay.
    func hold()
    /// Waits until nothing is being executed and every answer has left and is acknowledged; false at the deadline.
    func drained(withinMilliseconds: UInt64) async -> Bool
    /// Waits until nothing is being executed here and the answers to requests of other nodes have left; requests that other
    /// nodes execute do not count. False at the deadline.
    func executed(withinMilliseconds: UInt64) async -> Bool
    /// Waits until what other nodes have answered has been passed on, and every client has acknowledged its answers; false
    /// at the deadline.
    func answered(withinMilliseconds: UInt64) async -> Bool
    /// Requests that are being executed now.
    var executingCount: Int { get }
    /// Held requests run, and new ones too.
    func reopen()
    /// Closes listeners and connections; held requests are dropped.
    func close() async
    /// What must move with the SVM beside its volumes: duplicate request cache, mounts, known connections. With the mark of
    /// an earlier call of this face among the given ones only what has come since; otherwise everything.
    func exportProtocolState(since marks: [ProtocolStateMark]) -> (state: [UInt8], mark: ProtocolStateMark)
    /// Takes over what `exportProtocolState` gave on the other cluster.
    func importProtocolState(_ state: [UInt8]) throws
}

/// The face of a runtime whose addresses are all of the loopback.
extension ClientService {
    package func arrive(at endpoint: NetworkEndpoint) {}
    package func freeze(_ endpoints: [NetworkEndpoint]) async {}
    package func abandon(_ endpoint: NetworkEndpoint) async { await unbind(endpoint) }
    package func connections(at endpoint: NetworkEndpoint) -> [TransportConnection] { [] }
    package func expect(_ connections: [TransportConnection]) {}
}

extension ClientService {
    /// A face without other nodes drains at once.
    package func executed(withinMilliseconds limit: UInt64) async -> Bool { await drained(withinMilliseconds: limit) }
    /// A face without other nodes has drained with `executed`.
    package func answered(withinMilliseconds: UInt64) async -> Bool { true }
}

/// Makes the face of an SVM; given to the controller when the daemon is put together.
package typealias ClientServiceFactory = @Sendable (SVMRecord) -> any ClientService

/// A thing that happened in storage and that an administrator should know.
package struct RecordedEvent: Equatable, Sendable {
    /// Counts from 1 since the daemon started.
    package var index: UInt64
    /// Nanoseconds since 1970.
    package var timeNanoseconds: Int64
    /// A stable name, such as `storage.block.checksumMismatch`.
    package var name: String
    /// How bad: `alert`, `error` or `notice`.
    package var severity: String
    /// What happened, in words.
    package var message: String
}
