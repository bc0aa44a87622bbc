import ClusterConfiguration
import StorageControl

/// The face of an SVM to NFS clients.
func makeClientService(_ svm: SVMRecord) -> any ClientService { RefusingClientService() }

/// A build without file protocols: everything works but the serving of clients, which is refused.
private struct RefusingClientService: ClientService {
    var boundEndpoints: [NetworkEndpoint] { [] }

    func configure(_ configuration: ServiceConfiguration) {}
    func bind(_ endpoint: NetworkEndpoint) async throws {
        throw ManagementError(
            .unsupported,
            "file_protocols_missing",
            "\(endpoint): this build serves no file protocol",
            remedy: "use a build with NFS"
        )
    }
    func unbind(_ endpoint: NetworkEndpoint) async {}
    func hold() {}
    func drained(withinMilliseconds: UInt64) async -> Bool { true }
    func reopen() {}
    func close() async {}
    func exportProtocolState() -> [UInt8] { [] }
    func importProtocolState(_ state: [UInt8]) throws {}
}
