import ClusterConfiguration
package import Environment
package import Identity
package import ReplicatedDatabase

/// Answers destinations out of the source's database. It remembers nothing between two calls: the destination tells how far
/// it is, so that any node can answer and a restart costs nothing.
package struct ConfigurationFeedReader: Sendable {
    /// How long what the database has already may take to come through a watch.
    static let catchUpMilliseconds: UInt64 = 5_000

    private let database: any ReplicatedDatabase
    private let waiting: Waiting

    /// Makes a reader of a database.
    package init(_ database: any ReplicatedDatabase, waiting: Waiting) {
        self.database = database
        self.waiting = waiting
    }

    /// What a destination lacks of an SVM.
    ///
    /// Everything that was committed before the call is in the answer. When there is nothing, the answer waits for
    /// something.
    ///
    /// - Parameters:
    ///   - revision: how far the destination is; nil asks for a baseline.
    ///   - waitMilliseconds: how long to wait when there is nothing new.
    /// - Throws: `ManagementError` of kind `.unavailable` when the database does not answer.
    package func answer(
        of svm: ObjectUUID,
        after revision: Int64?,
        waitMilliseconds: UInt64
    ) async throws -> ConfigurationAnswer {
        do {
            guard let revision else { return try await baseline(of: svm) }
            let (guards, current) = try await database.range(prefix: ConfigurationKeys.writeGuard)
            // A database that was set back, from a copy, knows nothing of what this destination has seen.
            guard revision <= current else { return try await baseline(of: svm) }
            let newest = guards.first?.modifyRevision ?? 0
            // The range has shown that there is nothing in between, so that the history behind it may be forgotten.
            if newest <= revision && waitMilliseconds == 0 { return .updates([], through: current) }
            let after = newest <= revision ? current : revision
            let feed = try await follow(svm, after: after, through: newest, waitMilliseconds)
            guard feed.through >= newest else {
                throw ManagementError(
                    .unavailable,
                    "watch_behind",
                    "the watch of the database has not come to revision \(newest) within \(Self.catchUpMilliseconds) ms",
                    remedy: "nothing: it is asked again; look at the load of the database"
                )
            }
            return .updates(feed.updates, through: feed.through)
        } catch let error as DatabaseError where error.code == .compacted {
            return try await baseline(of: svm)
        } catch let error as DatabaseError {
            throw ManagementError(database: error)
        }
    }

    private func baseline(of svm: ObjectUUID) async throws -> ConfigurationAnswer {
        do {
            let (records, revision) = try await database.range(prefix: ConfigurationKeys.svm(svm))
            return ConfigurationFeed.baseline(of: svm, records, revision: revision)
        } catch {
            throw ManagementError(database: error)
        }
    }

    /// Watches until there is something new and everything up to `newest` was seen, or the time is over.
    private func follow(
        _ svm: ObjectUUID,
        after revision: Int64,
        through newest: Int64,
        _ waitMilliseconds: UInt64
    ) async throws -> ConfigurationFeed {
        let limit = newest > revision ? max(waitMilliseconds, Self.catchUpMilliseconds) : waitMilliseconds
        return try await withThrowingTaskGroup(of: ConfigurationFeed?.self) { group in
            group.addTask { [database] in
                var feed = ConfigurationFeed(of: svm, after: revision)
                do {
                    for try await event in database.watch(prefix: ConfigurationKeys.all, after: revision) {
                        feed.take(event)
                        guard feed.through >= newest else { continue }
                        if !feed.updates.isEmpty || waitMilliseconds == 0 { break }
                    }
                } catch {
                    // The time is over: what was seen until then counts.
                    guard Task.isCancelled else { throw error }
                }
                return feed
            }
            group.addTask { [waiting] in
                try await waiting.milliseconds(limit)
                return nil
            }
            defer { group.cancelAll() }
            while let ended = try await group.next() {
                if let feed = ended { return feed }
                group.cancelAll()
            }
            return ConfigurationFeed(of: svm, after: revision)
        }
    }
}
