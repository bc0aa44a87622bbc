import Environment
import Logging
import MigrateOperation

/// Drives one operation phase by phase.
enum MigrationDriver {
    static func drive(_ migration: Migration) async {
        var delayMilliseconds: UInt64 = 50
        while migration.record.phase != .ended {
            do {
                guard try await advance(migration) else { return }
                delayMilliseconds = 50
            } catch is CancellationError {
                return
            } catch let error as MigrateError where error.kind == .interrupted {
                // The next turn meets what was asked for.
                continue
            } catch let error as MigrateError where error.kind == .fenced {
                migration.log.notice("\(error)")
                return
            } catch {
                // Most of all a database that does not answer: nothing is decided without it.
                migration.log.error("the operation is interrupted and goes on from its record: \(error)")
                do {
                    try await migration.waiting.milliseconds(delayMilliseconds)
                    delayMilliseconds = min(delayMilliseconds * 2, 5_000)
                    try await migration.reload()
                } catch is CancellationError {
                    return
                } catch let error as MigrateError where error.kind == .fenced || error.kind == .notFound {
                    migration.log.notice("\(error)")
                    return
                } catch {
                    continue
                }
            }
        }
    }

    private static func advance(_ migration: Migration) async throws -> Bool {
        if try await meetPending(migration) { return true }
        switch migration.record.phase {
        case .setup: try await SetupPhase.run(migration)
        case .transfer: try await TransferPhase.run(migration)
        case .cutover: try await CutoverPhase.run(migration)
        case .takeover: try await TakeoverPhase.run(migration)
        case .postCutover: try await PostCutoverPhase.run(migration)
        case .sourceCleanup: return try await SourceCleanupPhase.run(migration)
        case .halting: try await HaltPhase.run(migration)
        case .halted: try await standStill(migration)
        case .aborting: try await AbortPhase.run(migration)
        case .ended: return false
        }
        return true
    }

    /// Turns to what a user asked for, also when it was asked of an orchestrator that has died since [156]. In a cutover
    /// the phase itself does it, because what was done must be undone first.
    private static func meetPending(_ migration: Migration) async throws -> Bool {
        let record = migration.record
        guard let pending = record.pending else { return false }
        switch record.phase {
        case .setup, .transfer, .halted: break
        case .cutover, .takeover, .postCutover, .sourceCleanup, .halting, .aborting, .ended: return false
        }
        try await migration.update {
            switch pending {
            case .pause:
                $0.haltGoal = .pause
                $0.enter(.halting)
            case .abort: $0.enter(.aborting)
            }
        }
        return true
    }

    private static func standStill(_ migration: Migration) async throws {
        while migration.record.phase == .halted && migration.record.pending == nil {
            try await migration.waiting.milliseconds(100)
        }
    }
}
