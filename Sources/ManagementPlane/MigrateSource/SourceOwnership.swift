package import Identity
import Logging
import MigrateOperation

// Which node of the source cluster acts for an operation. Every node can be asked for everything: what another one owns is
// passed on to it, once.
extension MigrateSource {
    /// The record of the operation that a call is made for, when another node owns it.
    func recordOfOther(_ call: SourceCall) async throws -> SourceRecord? {
        switch call.request {
        case .describe, .probe: return nil
        default: break
        }
        if owned.contains(call.operation) { return nil }
        // What has no record yet is made by whoever is asked, and what has none any more is forgotten there.
        guard let record = try await records.get(call.operation)?.record else { return nil }
        guard record.owningNode == node else { return record }
        owned.insert(call.operation)
        return nil
    }

    /// Passes a call on to the owner of its operation. Past the point of no return the addresses are released without an owner,
    /// too: clients that are still connected to the nodes that live must find the destination, and nothing else is decided.
    func pass(_ call: SourceCall, _ record: SourceRecord) async throws -> SourceReply {
        do {
            return try await storage.pass(call, of: record.svm, to: record.owningNode)
        } catch let error as MigrateError where error.kind == .nodeAway {
            guard case .releaseInterfaces = call.request, record.isPastPointOfNoReturn, record.state != .cleaned else {
                throw error
            }
            try await storage(of: record).releaseInterfaces(of: record.svm)
            return SourceReply(.done)
        }
    }

    /// Takes over the operations of nodes that are down. Of two that do so one is let through by the record. A commit is
    /// given up in the same stroke, unless the point of no return was first, and the gates of all nodes are reopened.
    package func rehome(from nodes: Set<ObjectUUID>) async throws {
        for stored in try await records.all() {
            guard nodes.contains(stored.record.owningNode), stored.record.state != .cleaned else { continue }
            let record = stored.record.takenOver(by: node)
            guard try await records.put(record, of: record.operation, at: stored.revision) != nil else { continue }
            owned.insert(record.operation)
            storage.note(record)
            log.notice(
                "this node takes over operation \(record.operation) at the source, state \(record.state.rawValue), epoch \(record.ownerEpoch)"
            )
            watchAgain(record)
            guard record.isPastPointOfNoReturn else { continue }
            do {
                try await storage(of: record).stop(record.svm, for: record.operation)
            } catch {
                // The destination asks for it, too, until it is done.
                log.warning("SVM '\(record.svmName)' is not stopped on all nodes yet: \(error)")
            }
        }
    }
}
