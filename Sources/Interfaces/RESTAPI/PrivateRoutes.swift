import ClusterConfiguration
package import Hummingbird
package import StorageControl
import VolumeEngine
import JSON

/// `/api/private/godwit`: what the reference interface does not have. Scrubs and consistency walks are jobs.
package struct PrivateRoutes: RouteGroup {
    private let controller: StorageController
    private let jobs: JobManager

    /// Routes over a controller and its jobs.
    package init(controller: StorageController, jobs: JobManager) {
        self.controller = controller
        self.jobs = jobs
    }

    /// Adds the routes.
    package func register(on router: Router<BasicRequestContext>) {
        router.rest(.post, "/api/private/godwit/volumes/{uuid}/scrub") { call in
            let record = try controller.volumeHere(call, try await controller.store.snapshot())
            let volume = try controller.openVolume(record)
            let pool = controller.pool
            let events = controller.events
            return .accepted(
                job: jobs.start("POST \(call.path)") { progress in
                    let report = try await pool.run {
                        try volume.scrub(progress: { progress("\($0) blocks verified") })
                    }
                    guard report.damage.isEmpty else {
                        for damage in report.damage.prefix(100) {
                            events.record(name: "storage.scrub.damage", severity: "alert", "\(record.name): \(damage)")
                        }
                        throw Self.found(
                            "scrub_found_damage",
                            report.damage,
                            "after \(report.blocksVerified) verified blocks"
                        )
                    }
                    return "\(report.blocksVerified) blocks verified, no damage"
                }
            )
        }
        router.rest(.post, "/api/private/godwit/volumes/{uuid}/check") { call in
            let record = try controller.volumeHere(call, try await controller.store.snapshot())
            let volume = try controller.openVolume(record)
            let pool = controller.pool
            return .accepted(
                job: jobs.start("POST \(call.path)") { _ in
                    let findings = try await pool.run { try volume.checkConsistency() }
                    guard findings.isEmpty else { throw Self.found("check_found_faults", findings, "in the metadata") }
                    return "the volume is consistent"
                }
            )
        }
        router.rest(.get, "/api/private/godwit/events") { call in
            let events = controller.events.events.map { event in
                JSONValue.fields([
                    "index": .count(event.index), "time": .time(nanoseconds: event.timeNanoseconds),
                    "node": .fields(["name": .string(controller.node.name)]),
                    "message": .fields(["name": .string(event.name), "severity": .string(event.severity)]),
                    "log_message": .string(event.message),
                ])
            }
            return try RESTCollection.answer(call, events, keys: ["index", "time", "message", "log_message"])
        }
    }

    private static func found(_ code: String, _ findings: [String], _ place: String) -> ManagementError {
        let shown = findings.prefix(20).joined(separator: "; ")
        return ManagementError(
            .failed,
            code,
            "\(findings.count) findings \(place): \(shown)",
            remedy: "restore what is named from a snapshot or a copy; see the events of the node"
        )
    }
}
