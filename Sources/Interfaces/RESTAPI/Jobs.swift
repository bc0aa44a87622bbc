package import ClusterConfiguration
package import Environment
package import Identity
package import JSON
import StorageControl
import Synchronization

/// A piece of long work that a client started and asks about.
package struct Job: Equatable, Sendable {
    /// The states, with the names of REST.
    package enum State: String, Sendable {
        /// Not yet begun.
        case queued
        /// On the way.
        case running
        /// Ended well.
        case success
        /// Ended badly; see `error`.
        case failure
    }

    /// Its identifier.
    package var uuid: ObjectUUID
    /// What it does: method and path of the request.
    package var description: String
    /// How far it is.
    package var state = State.queued
    /// Progress or result, in words.
    package var message = ""
    /// What was found, for programs; under `godwit` in the answers of REST.
    package var details: JSONValue?
    /// Why it ended badly.
    package var error: ManagementError?
    /// Nanoseconds since 1970 when it began.
    package var startTimeNanoseconds: Int64
    /// Nanoseconds since 1970 when it ended; nil before.
    package var endTimeNanoseconds: Int64?
}

/// The jobs of this node, in memory: a job that must survive the daemon keeps its own record in the database.
package final class JobManager: Sendable {
    /// How many jobs are kept.
    package static let jobsMax = 1_000

    /// Tells how far a job is; may be called on any thread.
    package typealias Progress = @Sendable (String) -> Void

    private typealias Work = @Sendable () async -> Void

    private struct State {
        var jobs: [Job] = []
    }

    private let state = Mutex(State())
    private let environment: Environment
    private let queue: AsyncStream<Work>
    private let submit: AsyncStream<Work>.Continuation

    /// A manager; jobs run once `run` is called.
    package init(environment: Environment) {
        self.environment = environment
        (queue, submit) = AsyncStream.makeStream()
    }

    /// Runs jobs until the task is cancelled.
    package func run() async {
        await withDiscardingTaskGroup { group in
            for await work in queue { group.addTask { await work() } }
            group.cancelAll()
        }
    }

    /// Queues a job and returns its identifier at once.
    ///
    /// - Parameters:
    ///   - description: method and path of the request.
    ///   - details: what is known already, for programs.
    ///   - body: does the work; what it returns becomes the message, what it throws the error.
    package func start(
        _ description: String,
        details: JSONValue? = nil,
        _ body: @escaping @Sendable (@escaping Progress) async throws -> String
    ) -> ObjectUUID {
        let uuid = ObjectUUID.random(environment)
        var job = Job(uuid: uuid, description: description, startTimeNanoseconds: environment.wallClockNanoseconds())
        job.details = details
        let queued = job
        state.withLock { state in
            state.jobs.append(queued)
            if state.jobs.count > Self.jobsMax,
                let oldest = state.jobs.firstIndex(where: { $0.endTimeNanoseconds != nil })
            {
                state.jobs.remove(at: oldest)
            }
        }
        submit.yield { [weak self] in
            guard let self else { return }
            self.update(uuid) { $0.state = .running }
            let result: Result<String, ManagementError>
            do {
                result = .success(try await body { text in self.update(uuid) { $0.message = text } })
            } catch {
                result = .failure(.from(error))
            }
            let now = self.environment.wallClockNanoseconds()
            self.update(uuid) { job in
                job.endTimeNanoseconds = now
                switch result {
                case .success(let message):
                    job.state = .success
                    job.message = message
                case .failure(let error):
                    job.state = .failure
                    job.message = error.message
                    job.error = error
                }
            }
        }
        return uuid
    }

    /// All jobs kept, oldest first.
    package var jobs: [Job] { state.withLock { $0.jobs } }

    private func update(_ uuid: ObjectUUID, _ edit: (inout Job) -> Void) {
        state.withLock { state in
            guard let index = state.jobs.firstIndex(where: { $0.uuid == uuid }) else { return }
            edit(&state.jobs[index])
        }
    }
}
