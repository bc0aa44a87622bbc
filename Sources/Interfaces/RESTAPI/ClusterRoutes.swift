import ClusterConfiguration
import Environment
package import Hummingbird
package import Identity
package import StorageControl
package import JSON

/// The version that the management interface tells.
package enum ProductVersion {
    /// In full.
    package static let full = "Godwit 0.1.0"
    /// As a field of REST.
    static let json = JSONValue.fields([
        "full": .string(full), "generation": .int(0), "major": .int(1), "minor": .int(0),
    ])
}

/// `/api/cluster`, its jobs and peers.
package struct ClusterRoutes: RouteGroup {
    private let controller: StorageController
    private let jobs: JobManager
    private let others: OtherNodes
    private let isSecured: Bool
    private static let jobsPath = "/api/cluster/jobs"

    /// Routes over a controller and its jobs; those of other nodes are asked of those.
    ///
    /// - Parameter isSecured: whether nodes show each other certificates; without them peers are on this machine only.
    package init(controller: StorageController, jobs: JobManager, others: OtherNodes, isSecured: Bool) {
        self.isSecured = isSecured
        self.controller = controller
        self.jobs = jobs
        self.others = others
    }

    /// Adds the routes.
    package func register(on router: Router<BasicRequestContext>) {
        router.rest(.get, "/api/cluster") { call in
            let snapshot = try await controller.store.snapshot()
            let cluster = try call.required(snapshot.cluster, "cluster")
            let record = JSONValue.fields([
                "name": .string(cluster.name), "uuid": .text(cluster.uuid), "version": ProductVersion.json,
                "_links": .selfLink("/api/cluster"),
            ])
            return RESTCollection.answer(call, record: record, keys: ["name", "uuid"])
        }
        registerJobs(on: router)
        registerPeers(on: router)
    }

    private func registerJobs(on router: Router<BasicRequestContext>) {
        router.rest(.get, Self.jobsPath) { call in
            let nodes = try await controller.store.snapshot().nodes
            let elsewhere = await others.records(Self.jobsPath, for: call, controller, nodes)
            let records = jobs.jobs.map { json($0) } + nodes.flatMap { elsewhere.all(of: $0) }
            return try RESTCollection.answer(call, records, keys: ["uuid"])
        }
        router.rest(.get, Self.jobsPath + "/{uuid}") { call in
            let uuid = try call.uuid()
            if let job = jobs.jobs.first(where: { $0.uuid == uuid }) {
                return RESTCollection.answer(call, record: json(job), keys: ["uuid"])
            }
            let nodes = try await controller.store.snapshot().nodes
            let elsewhere = await others.records(Self.jobsPath, for: call, controller, nodes)
            let record = nodes.lazy.compactMap { elsewhere.record(uuid, of: $0) }.first
            guard let record else { throw ManagementError.notFound("job", uuid.description) }
            return RESTCollection.answer(call, record: record, keys: ["uuid"])
        }
    }

    private func registerPeers(on router: Router<BasicRequestContext>) {
        router.rest(.get, "/api/cluster/peers") { call in
            let peers = try await controller.store.snapshot().peers.map(json)
            return try RESTCollection.answer(call, peers, keys: ["name", "uuid"])
        }
        router.rest(.get, "/api/cluster/peers/{uuid}") { call in
            let uuid = try call.uuid()
            guard let peer = try await controller.store.snapshot().peer(uuid) else {
                throw ManagementError.notFound("cluster peer", uuid.description)
            }
            return RESTCollection.answer(call, record: json(peer), keys: ["name", "uuid"])
        }
        router.rest(.post, "/api/cluster/peers") { call in
            let record = try peer(from: call)
            try await controller.change(as: .user) { draft throws(ManagementError) in try draft.putPeer(record) }
            return try .created(call, at: "/api/cluster/peers/\(record.uuid)", json(record))
        }
        router.rest(.delete, "/api/cluster/peers/{uuid}") { call in
            let uuid = try call.uuid()
            try await controller.change(as: .user) { draft throws(ManagementError) in try draft.deletePeer(uuid) }
            return .ok()
        }
    }

    private func peer(from call: RESTCall) throws(ManagementError) -> ClusterPeerRecord {
        try call.requireFields(among: [
            "name", "remote.name", "remote.ip_addresses", "authentication.passphrase", "replication.address",
        ])
        var services: [NetworkEndpoint] = []
        for address in call.body.values(at: "remote.ip_addresses") {
            let service = try endpoint(address.plain, "remote.ip_addresses")
            guard isSecured || IPv4Address(service.address)?.isLoopback == true else {
                throw Self.notOnLoopback(service)
            }
            services.append(service)
        }
        let service = try call.required(services.first, "remote.ip_addresses")
        let others = Array(services.dropFirst())
        let replication: NetworkEndpoint?
        if let text = try call.string("replication.address") {
            replication = try endpoint(text, "replication.address")
        } else {
            replication = nil
        }
        let name: String?
        if let given = try call.string("name") { name = given } else { name = try call.string("remote.name") }
        return ClusterPeerRecord(
            uuid: .random(controller.environment),
            name: try call.required(name, "name"),
            service: service,
            otherServices: others.isEmpty ? nil : others,
            replication: replication,
            passphrase: try call.required(
                try call.string("authentication.passphrase"),
                "authentication.passphrase"
            )
        )
    }

    private static func notOnLoopback(_ service: NetworkEndpoint) -> ManagementError {
        ManagementError(
            .invalid,
            "peer_address_not_loopback",
            "'\(service.address)' is not an address in 127.0.0.0/8, and this node has no certificate to show there",
            remedy: "give the nodes of both clusters certificates (tls in the configuration file)",
            target: "remote.ip_addresses"
        )
    }

    private func endpoint(_ text: String, _ target: String) throws(ManagementError) -> NetworkEndpoint {
        guard let endpoint = NetworkEndpoint(text) else {
            throw ManagementError(
                .invalid,
                "endpoint_invalid",
                "'\(text)' is not an IPv4 address with a port",
                remedy: "give address:port, such as 127.0.0.1:8081",
                target: target
            )
        }
        return endpoint
    }

    private func json(_ job: Job) -> JSONValue {
        let error = job.error.map { error in
            JSONValue.fields([
                "code": .string(error.code), "message": .string(error.message), "remedy": .string(error.remedy),
            ])
        }
        return .fields([
            "uuid": .text(job.uuid), "description": .string(job.description), "state": .string(job.state.rawValue),
            "message": .string(job.message), "code": .int(job.error == nil ? 0 : 1), "error": error,
            "start_time": .time(nanoseconds: job.startTimeNanoseconds),
            "end_time": job.endTimeNanoseconds.map { .time(nanoseconds: $0) },
            "node": .fields(["name": .string(controller.node.name)]), "godwit": job.details,
            "_links": .selfLink("/api/cluster/jobs/\(job.uuid)"),
        ])
    }

    private func json(_ peer: ClusterPeerRecord) -> JSONValue {
        .fields([
            "uuid": .text(peer.uuid), "name": .string(peer.name),
            "remote": .fields([
                "name": .string(peer.name), "ip_addresses": .array(peer.services.map { .text($0) }),
            ]),
            "replication": peer.replication.map { .fields(["address": .text($0)]) },
            "authentication": .fields(["state": .string("ok")]),
            "encryption": .fields(["state": .string(isSecured ? "tls" : "none")]),
            "_links": .selfLink("/api/cluster/peers/\(peer.uuid)"),
        ])
    }
}

extension JSONValue {
    /// `_links` with the address of the object itself.
    package static func selfLink(_ path: String) -> JSONValue {
        .fields(["self": .fields(["href": .string(path)])])
    }

    /// A reference to an object by name and identifier.
    package static func reference(_ name: String?, _ uuid: ObjectUUID?) -> JSONValue {
        .fields(["name": name.map { .string($0) }, "uuid": uuid.map { .text($0) }])
    }
}
