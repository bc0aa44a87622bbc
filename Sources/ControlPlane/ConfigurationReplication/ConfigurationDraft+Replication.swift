package import ClusterConfiguration
package import ReplicatedDatabase

// What the destination makes of the stream, in one draft: pure.
extension ConfigurationDraft {
    /// Makes sure that the SVM, if it is here, is here for the operation.
    package func requireReplica(_ context: ConfigurationContext) throws(ManagementError) {
        guard let svm = snapshot.svm(context.svm) else { return }
        guard svm.configurationLock == context.operation, svm.migrateRole == .destination, svm.state != .deleting else {
            throw ManagementError(
                .conflict,
                "svm_not_replica",
                "SVM '\(svm.name)' does not belong to operation \(context.operation) here (\(svm.state.rawValue))",
                remedy: "look at the SVM and at the operations of this cluster",
                target: "svm"
            )
        }
    }

    /// Applies updates: revision by revision, and within one those first that others need.
    ///
    /// Objects that depend on each other in another order, as in a baseline where volumes have taken each other's names,
    /// are tried again after the others.
    package mutating func replicate(
        _ updates: [ConfigurationUpdate],
        _ context: ConfigurationContext
    ) throws(ManagementError) {
        var left = Self.ordered(updates)
        while !left.isEmpty {
            var postponed: [ConfigurationUpdate] = []
            var failure: ManagementError?
            for update in left {
                // Of one object the order counts.
                guard !postponed.contains(where: { $0.kind == update.kind && $0.identifier == update.identifier })
                else {
                    postponed.append(update)
                    continue
                }
                do throws(ManagementError) {
                    try ConfigurationKinds.handler(of: update).apply(update, context, in: &self)
                } catch {
                    guard [.exists, .conflict, .notFound].contains(error.kind) else { throw error }
                    postponed.append(update)
                    failure = failure ?? error
                }
            }
            if let failure, postponed.count == left.count { throw failure }
            left = postponed
        }
    }

    private static func ordered(_ updates: [ConfigurationUpdate]) -> [ConfigurationUpdate] {
        func place(_ update: ConfigurationUpdate) -> (Int64, Int) {
            let rank = ConfigurationKinds.rank(of: update)
            // What is deleted goes the other way, after everything else.
            return (update.revision, update.record == nil ? 2 * ConfigurationKinds.handlers.count - rank : rank)
        }
        // Stable, so that nothing else changes places.
        return updates.enumerated().sorted { left, right in
            let (one, two) = (place(left.element), place(right.element))
            return one == two ? left.offset < right.offset : one < two
        }.map(\.element)
    }

    /// Deletes what the destination has and a baseline does not.
    ///
    /// - Parameter kinds: the kinds that are looked at.
    package mutating func removeAbsent(
        from baseline: [ConfigurationUpdate],
        ofKinds kinds: [String],
        _ context: ConfigurationContext
    ) throws(ManagementError) {
        for handler in ConfigurationKinds.handlers.reversed() where kinds.contains(handler.kind) {
            let wanted = Set(baseline.filter { $0.kind == handler.kind }.map(\.identifier))
            for identifier in handler.present(context, in: snapshot) where !wanted.contains(identifier) {
                try handler.delete(identifier, context, in: &self)
            }
        }
    }

    /// Writes how far the destination is, in the transaction of the objects.
    ///
    /// - Parameter former: the position as it was read; the transaction happens only if it is still that one.
    package mutating func setPosition(
        _ position: ConfigurationPosition,
        _ context: ConfigurationContext,
        from former: DatabaseRecord?
    ) throws(ManagementError) {
        let key = ConfigurationPosition.key(of: context.svm)
        also(
            .put(key: key, value: try ConfigurationCoding.encode(position)),
            when: former.map { .modifyRevision(key: key, equals: $0.modifyRevision) } ?? .absent(key: key)
        )
    }
}
