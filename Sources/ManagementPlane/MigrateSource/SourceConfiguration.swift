import ConfigurationReplication
import MigrateOperation

// The source's end of the stream of an SVM's configuration.
extension MigrateSource {
    /// Tells how the configuration has changed. An SVM that is gone is told like any other change: the destination decides.
    func configuration(
        after revision: Int64?,
        _ waitMilliseconds: UInt64,
        _ call: SourceCall
    ) async throws -> SourceReply {
        let record = try await current(call)
        let answer = try await configuration.answer(
            of: record.svm,
            after: revision,
            waitMilliseconds: min(waitMilliseconds, Self.configurationWaitMillisecondsMax)
        )
        return SourceReply(.configuration(answer))
    }
}
