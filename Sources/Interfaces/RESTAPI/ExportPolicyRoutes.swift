import ClusterConfiguration
package import Hummingbird
import Identity
package import StorageControl
import JSON

/// `/api/protocols/nfs/export-policies` and their rules.
package struct ExportPolicyRoutes: RouteGroup {
    private let controller: StorageController
    private static let keys = ["name", "id", "svm.name", "svm.uuid"]
    private static let ruleFields = [
        "index", "clients.match", "ro_rule", "rw_rule", "superuser", "anonymous_user", "protocols",
    ]

    /// Routes over a controller.
    package init(controller: StorageController) { self.controller = controller }

    /// Adds the routes.
    package func register(on router: Router<BasicRequestContext>) {
        let collection = "/api/protocols/nfs/export-policies"
        router.rest(.get, collection) { call in
            let snapshot = try await controller.store.snapshot()
            return try RESTCollection.answer(
                call,
                snapshot.exportPolicies.map { Self.json($0, snapshot) },
                keys: Self.keys
            )
        }
        router.rest(.get, collection + "/{id}") { call in
            let snapshot = try await controller.store.snapshot()
            return RESTCollection.answer(
                call,
                record: Self.json(try Self.policy(call, snapshot), snapshot),
                keys: Self.keys
            )
        }
        router.rest(.post, collection) { call in
            try call.requireFields(among: ["name", "svm.name", "svm.uuid"] + Self.ruleFields.map { "rules.\($0)" })
            let snapshot = try await controller.store.snapshot()
            var record = ExportPolicyRecord(
                identifier: controller.newPolicyIdentifier(),
                name: try call.required(try call.string("name"), "name"),
                svm: try call.svm(in: snapshot).uuid
            )
            if case .array(let rules)? = call.body[path: "rules"] {
                for rule in rules { record.rules.append(try Self.rule(call.with(body: rule), next: record.nextIndex)) }
            }
            let policy = record
            try await controller.change(as: .user) { draft throws(ManagementError) in
                try draft.putExportPolicy(policy)
            }
            return try .created(call, at: "\(collection)/\(policy.identifier)", Self.json(policy, snapshot))
        }
        router.rest(.patch, collection + "/{id}") { call in
            try call.requireFields(among: ["name"])
            let name = try call.required(try call.string("name"), "name")
            try await edit(call) { policy throws(ManagementError) in policy.name = name }
            return .ok()
        }
        router.rest(.delete, collection + "/{id}") { call in
            let identifier = try Self.policy(call, try await controller.store.snapshot()).identifier
            try await controller.change(as: .user) { draft throws(ManagementError) in
                try draft.deleteExportPolicy(identifier)
            }
            return .ok()
        }
        registerRules(on: router, collection + "/{id}/rules")
    }

    private func registerRules(on router: Router<BasicRequestContext>, _ collection: String) {
        router.rest(.get, collection) { call in
            let policy = try Self.policy(call, try await controller.store.snapshot())
            return try RESTCollection.answer(call, policy.rules.map { Self.json($0, of: policy) }, keys: ["index"])
        }
        router.rest(.get, collection + "/{index}") { call in
            let policy = try Self.policy(call, try await controller.store.snapshot())
            let rule = policy.rules[try Self.position(call, policy)]
            return RESTCollection.answer(call, record: Self.json(rule, of: policy), keys: ["index"])
        }
        router.rest(.post, collection) { call in
            try call.requireFields(among: Self.ruleFields)
            let added = try await edit(call) { policy throws(ManagementError) -> (ExportRule, ExportPolicyRecord) in
                let rule = try Self.rule(call, next: policy.nextIndex)
                policy.rules.append(rule)
                return (rule, policy)
            }
            let path = "/api/protocols/nfs/export-policies/\(added.1.identifier)/rules/\(added.0.index)"
            return try .created(call, at: path, Self.json(added.0, of: added.1))
        }
        router.rest(.patch, collection + "/{index}") { call in
            try call.requireFields(among: Self.ruleFields)
            try await edit(call) { policy throws(ManagementError) in
                let position = try Self.position(call, policy)
                policy.rules[position] = try Self.rule(call, changing: policy.rules[position])
            }
            return .ok()
        }
        router.rest(.delete, collection + "/{index}") { call in
            try await edit(call) { policy throws(ManagementError) in
                policy.rules.remove(at: try Self.position(call, policy))
            }
            return .ok()
        }
    }

    @discardableResult
    private func edit<Result: Sendable>(
        _ call: RESTCall,
        _ body: (inout ExportPolicyRecord) throws(ManagementError) -> Result
    ) async throws -> Result {
        try await controller.change(as: .user) { draft throws(ManagementError) in
            var policy = try Self.policy(call, draft.snapshot)
            let result = try body(&policy)
            try draft.putExportPolicy(policy)
            return result
        }
    }

    private static func policy(
        _ call: RESTCall,
        _ snapshot: ConfigurationSnapshot
    ) throws(ManagementError) -> ExportPolicyRecord {
        let text = call.parameters.get("id") ?? ""
        guard let identifier = UInt64(text), let policy = snapshot.exportPolicy(identifier) else {
            throw .notFound("export policy", text)
        }
        return policy
    }

    private static func position(_ call: RESTCall, _ policy: ExportPolicyRecord) throws(ManagementError) -> Int {
        let text = call.parameters.get("index") ?? ""
        guard let position = policy.rules.firstIndex(where: { String($0.index) == text }) else {
            throw .notFound("rule", text, target: "index")
        }
        return position
    }

    private static func rule(_ call: RESTCall, next: Int) throws(ManagementError) -> ExportRule {
        try rule(call, changing: ExportRule(index: next, clients: []))
    }

    private static func rule(_ call: RESTCall, changing old: ExportRule) throws(ManagementError) -> ExportRule {
        var rule = old
        if let index = try call.int("index") { rule.index = Int(clamping: index) }
        if case .array(let clients)? = call.body[path: "clients"] {
            rule.clients = clients.compactMap { $0[path: "match"]?.plain }
        }
        rule.readOnlyRule = try security(call, "ro_rule") ?? rule.readOnlyRule
        rule.readWriteRule = try security(call, "rw_rule") ?? rule.readWriteRule
        rule.superuser = try security(call, "superuser") ?? rule.superuser
        if let anonymous = call.body[path: "anonymous_user"] {
            guard let number = UInt32(anonymous.plain) else {
                throw ManagementError(
                    .invalid,
                    "262197",
                    "'\(anonymous.plain)' is not a user number",
                    remedy: "give a number such as 65534",
                    target: "anonymous_user"
                )
            }
            rule.anonymousUser = number
        }
        return rule
    }

    private static func security(_ call: RESTCall, _ path: String) throws(ManagementError) -> [ExportSecurity]? {
        guard let value = call.body[path: path] else { return nil }
        guard case .array(let elements) = value else {
            throw ManagementError(
                .invalid,
                "262197",
                "\(value.text) is not a value for '\(path)'",
                remedy: "give a list such as [\"sys\"]",
                target: path
            )
        }
        var found: [ExportSecurity] = []
        for element in elements {
            guard let one = ExportSecurity(rawValue: element.plain) else {
                throw ManagementError(
                    .invalid,
                    "262197",
                    "'\(element.plain)' is not a kind of security of this version",
                    remedy: "give any, sys, none or never",
                    target: path
                )
            }
            found.append(one)
        }
        return found
    }

    private static func json(_ policy: ExportPolicyRecord, _ snapshot: ConfigurationSnapshot) -> JSONValue {
        .fields([
            "name": .string(policy.name), "id": .count(policy.identifier),
            "svm": .reference(snapshot.svm(policy.svm)?.name, policy.svm),
            "rules": .array(policy.rules.map { json($0, of: policy) }),
            "_links": .selfLink("/api/protocols/nfs/export-policies/\(policy.identifier)"),
        ])
    }

    private static func json(_ rule: ExportRule, of policy: ExportPolicyRecord) -> JSONValue {
        func list(_ values: [ExportSecurity]) -> JSONValue { .array(values.map { .string($0.rawValue) }) }
        return .fields([
            "index": .count(rule.index),
            "clients": .array(rule.clients.map { .fields(["match": .string($0)]) }),
            "protocols": .array([.string("nfs3")]), "ro_rule": list(rule.readOnlyRule),
            "rw_rule": list(rule.readWriteRule), "superuser": list(rule.superuser),
            "anonymous_user": .string(String(rule.anonymousUser)),
            "_links": .selfLink("/api/protocols/nfs/export-policies/\(policy.identifier)/rules/\(rule.index)"),
        ])
    }
}

extension ExportPolicyRecord {
    /// The index of a rule that is added at the end.
    fileprivate var nextIndex: Int { (rules.map(\.index).max() ?? 0) + 1 }
}

extension RESTCall {
    /// The same call with another body, to read a part of it.
    fileprivate func with(body: JSONValue) -> RESTCall {
        RESTCall(path: path, query: query, body: body, parameters: parameters)
    }
}
