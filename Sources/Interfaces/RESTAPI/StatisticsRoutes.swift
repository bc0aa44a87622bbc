import ClusterConfiguration
package import Hummingbird
import Identity
import JSON
import Performance
package import StorageControl
import VolumeEngine

/// `/api/private/godwit/statistics`: what clients ask of volumes and aggregates. Any node answers for all: samples are in
/// the replicated database.
package struct StatisticsRoutes: RouteGroup {
    private let controller: StorageController
    private static let path = "/api/private/godwit/statistics"
    private static let keys = ["type", "name", "uuid"]

    /// Routes over a controller.
    package init(controller: StorageController) { self.controller = controller }

    /// Adds the routes.
    package func register(on router: Router<BasicRequestContext>) {
        router.rest(.get, Self.path) { call in try RESTCollection.answer(call, try await records(), keys: Self.keys) }
        router.rest(.get, Self.path + "/{uuid}") { call in
            let uuid = try call.uuid()
            let record = try await records().first { $0[path: "uuid"]?.plain == uuid.description }
            guard let record else { throw ManagementError.notFound("volume or aggregate", uuid.description) }
            return RESTCollection.answer(call, record: record, keys: Self.keys)
        }
    }

    /// Every aggregate and volume of the configuration, measured or not. What was deleted is not there any more.
    private func records() async throws -> [JSONValue] {
        let snapshot = try await controller.store.snapshot()
        let performance = try await controller.clusterPerformance()
        let aggregates = snapshot.aggregates.map { record in
            var fields = Self.head("aggregate", record.name, record.uuid, snapshot.node(record.node))
            fields += Self.measured(performance.recentSummary(of: record.uuid, on: record.node))
            fields.append(("headroom", Self.json(performance.headroom(of: record.uuid, on: record.node))))
            return JSONValue.object(fields)
        }
        var samples: [ObjectUUID: [IntervalRecord]] = [:]
        for node in snapshot.nodes {
            samples[node.uuid] = try await controller.recentVolumeSamples(of: node.uuid, performance)
        }
        let volumes = snapshot.volumes.filter { $0.state != .deleting }.map { record in
            let node = snapshot.node(holding: record)
            let recent = node.flatMap { samples[$0.uuid] } ?? []
            var fields = Self.head("volume", record.name, record.uuid, node)
            fields.append(("svm", .reference(snapshot.svm(record.svm)?.name, record.svm)))
            fields.append(("aggregate", .reference(snapshot.aggregate(record.aggregate)?.name, record.aggregate)))
            fields += Self.measured(recent.isEmpty ? nil : PerformanceSummary(of: record.uuid, in: recent))
            return JSONValue.object(fields)
        }
        return aggregates + volumes
    }

    private typealias Fields = [(key: String, value: JSONValue)]

    private static func head(_ type: String, _ name: String, _ uuid: ObjectUUID, _ node: NodeRecord?) -> Fields {
        [
            ("type", .string(type)), ("name", .string(name)), ("uuid", .text(uuid)),
            ("node", .reference(node?.name, node?.uuid)), ("_links", .selfLink("\(path)/\(uuid)")),
        ]
    }

    /// Nothing when the node does not measure, or not yet.
    private static func measured(_ summary: PerformanceSummary?) -> Fields {
        guard let summary else { return [] }
        let totals = summary.totals
        func rate(_ count: UInt64) -> JSONValue { .double(rounded(summary.perSecond(count))) }
        func microseconds(_ nanoseconds: Double?) -> JSONValue? { nanoseconds.map { .double(rounded($0 / 1_000)) } }
        func quantile(_ part: Double) -> JSONValue? { microseconds(summary.latencyNanoseconds(quantile: part)) }
        return [
            ("duration_seconds", .double(rounded(summary.seconds))),
            (
                "iops",
                .fields([
                    "read": rate(totals.reads), "write": rate(totals.writes), "other": rate(totals.others),
                    "total": rate(totals.operations),
                ])
            ),
            (
                "throughput",
                .fields([
                    "read": rate(totals.readBytes), "write": rate(totals.writtenBytes),
                    "total": rate(totals.readBytes + totals.writtenBytes),
                ])
            ),
            (
                "latency",
                .fields([
                    "mean_us": microseconds(summary.meanLatencyNanoseconds), "p50_us": quantile(0.5),
                    "p95_us": quantile(0.95), "p99_us": quantile(0.99),
                ])
            ),
            ("utilization_percent", .double(rounded(summary.utilization * 100))),
            ("concurrency", .double(rounded(summary.concurrency))),
        ]
    }

    private static func json(_ headroom: Headroom) -> JSONValue {
        switch headroom {
        case .known(let optimal, let operational):
            .fields([
                "percent": headroom.part.map { .double(rounded($0 * 100)) }, "optimal_iops": .double(rounded(optimal)),
                "operational_iops": .double(rounded(operational)),
            ])
        case .unknown(let obstacle): .fields(["unknown": .string(obstacle.rawValue)])
        }
    }

    /// To hundredths: more digits say nothing.
    private static func rounded(_ value: Double) -> Double { (value * 100).rounded() / 100 }
}
