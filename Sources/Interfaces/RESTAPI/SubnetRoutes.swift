import ClusterConfiguration
import Environment
package import Hummingbird
import Identity
import JSON
package import StorageControl

/// `/api/network/ip/subnets`.
package struct SubnetRoutes: RouteGroup {
    private let controller: StorageController
    private static let path = "/api/network/ip/subnets"
    private static let keys = ["name", "uuid"]
    private static let fields = [
        "name", "ipspace.name", "ipspace.uuid", "broadcast_domain.name", "broadcast_domain.uuid", "subnet.address",
        "subnet.netmask", "gateway", "ip_ranges", "ip_ranges.start", "ip_ranges.end",
    ]

    /// Routes over a controller.
    package init(controller: StorageController) { self.controller = controller }

    /// Adds the routes.
    package func register(on router: Router<BasicRequestContext>) {
        router.rest(.get, Self.path) { call in
            let snapshot = try await controller.store.snapshot()
            return try RESTCollection.answer(call, snapshot.subnets.map { Self.json($0, snapshot) }, keys: Self.keys)
        }
        router.rest(.get, Self.path + "/{uuid}") { call in
            let snapshot = try await controller.store.snapshot()
            let record = Self.json(try Self.subnet(call, snapshot), snapshot)
            return RESTCollection.answer(call, record: record, keys: Self.keys)
        }
        router.rest(.post, Self.path) { call in
            try call.requireFields(among: Self.fields)
            let snapshot = try await controller.store.snapshot()
            let space = try call.ipSpace(in: snapshot)?.reference
            let record = SubnetRecord(
                uuid: .random(controller.environment),
                name: try call.required(try call.string("name"), "name"),
                ipSpace: space,
                broadcastDomain: try call.required(
                    try Self.domain(call, space, snapshot)?.uuid,
                    "broadcast_domain.name"
                ),
                network: try call.required(try Self.network(call, nil), "subnet.address"),
                gateway: try Self.gateway(call),
                ranges: try Self.ranges(call) ?? []
            )
            try await controller.change(as: .user) { draft throws(ManagementError) in try draft.putSubnet(record) }
            return try .created(
                call,
                at: "\(Self.path)/\(record.uuid)",
                Self.json(record, try await controller.store.snapshot())
            )
        }
        router.rest(.patch, Self.path + "/{uuid}") { call in
            try call.requireFields(among: Self.fields)
            try await controller.modifySubnet(try call.uuid()) { record, snapshot throws(ManagementError) in
                if let name = try call.string("name") { record.name = name }
                if let space = try call.ipSpace(in: snapshot) { record.ipSpace = space.reference }
                if let domain = try Self.domain(call, record.ipSpace, snapshot) { record.broadcastDomain = domain.uuid }
                if let network = try Self.network(call, record) { record.network = network }
                if try call.string("gateway") != nil { record.gateway = try Self.gateway(call) }
                if let ranges = try Self.ranges(call) { record.ranges = ranges }
            }
            return .ok()
        }
        router.rest(.delete, Self.path + "/{uuid}") { call in
            let subnet = try Self.subnet(call, try await controller.store.snapshot())
            try await controller.change(as: .user) { draft throws(ManagementError) in
                try draft.deleteSubnet(subnet.uuid)
            }
            return .ok()
        }
    }

    private static func subnet(
        _ call: RESTCall,
        _ snapshot: ConfigurationSnapshot
    ) throws(ManagementError) -> SubnetRecord {
        let uuid = try call.uuid()
        guard let subnet = snapshot.subnet(uuid) else { throw .notFound("subnet", uuid.description) }
        return subnet
    }

    /// The broadcast domain that is named; nil when none is. Names are unique within an IP space.
    private static func domain(
        _ call: RESTCall,
        _ ipSpace: ObjectUUID?,
        _ snapshot: ConfigurationSnapshot
    ) throws(ManagementError) -> BroadcastDomainRecord? {
        if let text = try call.string("broadcast_domain.uuid") {
            guard let uuid = ObjectUUID(text), let domain = snapshot.broadcastDomain(uuid) else {
                throw .notFound("broadcast domain", text, target: "broadcast_domain.uuid")
            }
            return domain
        }
        guard let name = try call.string("broadcast_domain.name") else { return nil }
        guard let domain = snapshot.broadcastDomains.first(where: { $0.name == name && $0.ipSpace == ipSpace }) else {
            throw .notFound("broadcast domain", name, target: "broadcast_domain.name")
        }
        return domain
    }

    /// `subnet.address` and `subnet.netmask` as one text; what is not given is that of `known`.
    private static func network(_ call: RESTCall, _ known: SubnetRecord?) throws(ManagementError) -> String? {
        let (address, mask) = (try call.string("subnet.address"), try netmask(call))
        if address == nil && mask == nil { return nil }
        let parts = known?.network.split(separator: "/").map(String.init) ?? []
        let wanted = try call.required(address ?? parts.first, "subnet.address")
        let text = try call.required(mask ?? parts.last, "subnet.netmask")
        guard let length = IPv4Address.prefixLength(ofNetmask: text) else {
            throw ManagementError(
                .invalid,
                "subnet_netmask_invalid",
                "'\(text)' is not a netmask",
                remedy: "give the length of the prefix, such as 24, or 255.255.255.0",
                target: "subnet.netmask"
            )
        }
        return "\(wanted)/\(length)"
    }

    private static func netmask(_ call: RESTCall) throws(ManagementError) -> String? {
        if case .int(let length)? = call.body[path: "subnet.netmask"] { return String(length) }
        return try call.string("subnet.netmask")
    }

    /// Empty text is none: a PATCH takes the gateway away with it.
    private static func gateway(_ call: RESTCall) throws(ManagementError) -> String? {
        let text = try call.string("gateway")
        return text?.isEmpty == true ? nil : text
    }

    private static func ranges(_ call: RESTCall) throws(ManagementError) -> [AddressRange]? {
        guard let elements = try call.elements("ip_ranges") else { return nil }
        var ranges: [AddressRange] = []
        for element in elements {
            let start = try call.required(element[path: "start"]?.plain, "ip_ranges.start")
            ranges.append(AddressRange(start: start, end: element[path: "end"]?.plain ?? start))
        }
        return ranges
    }

    private static func json(_ subnet: SubnetRecord, _ snapshot: ConfigurationSnapshot) -> JSONValue {
        let space = snapshot.ipSpace(subnet.ipSpace)
        let counts = snapshot.addressCounts(of: subnet)
        let parts = subnet.network.split(separator: "/").map(String.init)
        let ranges = subnet.ranges.map { range in
            JSONValue.fields(["start": .string(range.start), "end": .string(range.end), "family": .string("ipv4")])
        }
        return .fields([
            "uuid": .text(subnet.uuid), "name": .string(subnet.name),
            "ipspace": .reference(space?.name, space?.uuid),
            "broadcast_domain": .reference(
                snapshot.broadcastDomain(subnet.broadcastDomain)?.name,
                subnet.broadcastDomain
            ),
            "subnet": .fields([
                "address": parts.first.map { .string($0) }, "netmask": parts.last.map { .string($0) },
                "family": .string("ipv4"),
            ]),
            "gateway": subnet.gateway.map { .string($0) }, "ip_ranges": .array(ranges),
            "total_count": .count(counts.total), "used_count": .count(counts.used),
            "available_count": .count(counts.total - counts.used),
            "_links": .selfLink("\(path)/\(subnet.uuid)"),
        ])
    }
}
