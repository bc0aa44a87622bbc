import ConfigurationReplication
import Environment
import Logging
import MigrateOperation

/// Keeps the configuration of the SVM on the destination as the source has it [97, 98, 102, 103]: a baseline, and then every
/// change, applied in order and each once.
///
/// While transfers run a task of the operation waits at the source for the next change. Before each transfer, and with the
/// configuration locked before the cutover, the operation itself asks for what is left; so the task may be late, fail or be
/// asked to end at any moment, and nothing is lost.
enum ConfigurationStream {
    /// How long the source may wait for a change before it says that there is none.
    static let waitMilliseconds: UInt64 = 5_000
    /// After a failure.
    static let retryMillisecondsMin: UInt64 = 100
    static let retryMillisecondsMax: UInt64 = 5_000
    /// How often a baseline is asked for that others overtake.
    private static let baselinesMax = 10

    /// Follows the source while something else is done.
    static func following(_ migration: Migration, _ body: () async throws -> Void) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await follow(migration) }
            defer { group.cancelAll() }
            try await body()
        }
    }

    /// Applies each change as soon as the source tells it, until the task is cancelled or another orchestrator takes over.
    /// Failures are told in the record; what decides about the operation is the next `catchUp`.
    private static func follow(_ migration: Migration) async {
        var backOff = BackOff(minMilliseconds: retryMillisecondsMin, maxMilliseconds: retryMillisecondsMax)
        while !Task.isCancelled {
            do {
                do {
                    try await step(migration, migration.record.svm, isWhole: false, waitMilliseconds)
                    backOff.reset()
                } catch {
                    if Task.isCancelled || error is CancellationError { return }
                    if let error = error as? MigrateError, error.kind == .fenced { return }
                    migration.log.warning("the configuration of the SVM does not arrive: \(error)")
                    try await migration.update { $0.configurationStream.note(failure: "\(error)") }
                    try await migration.waiting.milliseconds(backOff.next(migration.environment))
                }
            } catch let error as MigrateError where error.kind == .fenced || error.kind == .notFound {
                return
            } catch {
                // The database does not answer: the wait that it took is pause enough, but for a cancelled task, which ends.
                migration.log.warning("the state of the configuration's stream is not recorded: \(error)")
                do { try await migration.waiting.milliseconds(retryMillisecondsMin) } catch { return }
            }
        }
    }

    /// Applies everything that the source had acknowledged when it was asked.
    ///
    /// - Parameters:
    ///   - svm: what is known of the SVM; see `DestinationStorage.replicate`.
    ///   - isWhole: compares with the whole configuration, whatever is applied already.
    static func catchUp(_ migration: Migration, _ svm: SVMDescription, isWhole: Bool) async throws {
        for _ in 0..<baselinesMax {
            if try await step(migration, svm, isWhole: isWhole, 0) { return }
        }
        throw MigrateError(
            .failed,
            "the configuration of '\(svm.name)' changes faster than it is taken over",
            remedy: "nothing: it is tried again"
        )
    }

    /// Asks once and applies the answer.
    /// - Returns: Whether everything in the answer is applied; false for a baseline that something newer has overtaken.
    @discardableResult
    private static func step(
        _ migration: Migration,
        _ svm: SVMDescription,
        isWhole: Bool,
        _ waitMilliseconds: UInt64
    ) async throws -> Bool {
        let position = try await migration.storage.configurationPosition(of: svm.uuid, for: migration.operation)
        let after = isWhole ? nil : position.map { max($0.revision, migration.remember { $0.configurationSeen }) }
        let request = SourceRequest.configuration(after: after, waitMilliseconds: waitMilliseconds)
        let reply = waitMilliseconds == 0 ? try await migration.askAgain(request) : try await migration.ask(request)
        guard case .configuration(let answer) = reply.answer else { throw Migration.strangeAnswer("configuration") }
        if case .updates(let updates, let through) = answer, updates.isEmpty {
            // Nothing to write: where to go on is remembered, so that the source's history may be forgotten behind it.
            migration.remember { $0.configurationSeen = max($0.configurationSeen, through) }
            if migration.record.configurationStream?.lastFailure != nil {
                try await migration.update { $0.configurationStream.noteSuccess() }
            }
            return true
        }
        let reached = try await exclusively(migration) {
            try await migration.storage.replicate(
                answer,
                asked: position,
                of: svm,
                migration.record.options,
                for: migration.operation
            )
        }
        let isBaseline = if case .baseline = answer { true } else { false }
        migration.remember { $0.configurationSeen = reached.revision }
        let now = migration.environment.wallClockNanoseconds()
        try await migration.update { record in
            record.configurationStream.note(revision: reached.revision, isBaseline: isBaseline, nanoseconds: now)
        }
        return !isBaseline || reached.revision == answer.revision
    }

    /// One application at a time: two would only repeat each other's work.
    private static func exclusively<Result>(
        _ migration: Migration,
        _ body: () async throws -> Result
    ) async throws -> Result {
        while !migration.remember({ memory in
            defer { memory.isReplicating = true }
            return !memory.isReplicating
        }) { try await migration.waiting.milliseconds(5) }
        defer { migration.remember { $0.isReplicating = false } }
        return try await body()
    }
}
