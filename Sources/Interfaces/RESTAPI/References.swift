package import ClusterConfiguration
import Identity
import JSON

/// Finds the objects that a request names by `{name, uuid}`.
extension RESTCall {
    /// The SVM that `svm.name` or `svm.uuid` names.
    package func svm(in snapshot: ConfigurationSnapshot, _ path: String = "svm") throws(ManagementError) -> SVMRecord {
        if let text = try string("\(path).uuid") {
            guard let uuid = ObjectUUID(text), let svm = snapshot.svm(uuid) else {
                throw .notFound("SVM", text, target: "\(path).uuid")
            }
            return svm
        }
        let name = try required(try string("\(path).name"), "\(path).name")
        guard let svm = snapshot.svm(named: name) else { throw .notFound("SVM", name, target: "\(path).name") }
        return svm
    }

    /// The node that `<path>.uuid` or `<path>.name` names; nil when neither is given.
    func node(in snapshot: ConfigurationSnapshot, _ path: String) throws(ManagementError) -> NodeRecord? {
        if let text = try string("\(path).uuid") {
            guard let uuid = ObjectUUID(text), let node = snapshot.node(uuid) else {
                throw .notFound("node", text, target: "\(path).uuid")
            }
            return node
        }
        guard let name = try string("\(path).name") else { return nil }
        guard let node = snapshot.node(named: name) else { throw .notFound("node", name, target: "\(path).name") }
        return node
    }

    /// The IP space that `<path>.uuid` or `<path>.name` names; nil when neither is given.
    func ipSpace(
        in snapshot: ConfigurationSnapshot,
        _ path: String = "ipspace"
    ) throws(ManagementError) -> IPSpaceRecord? {
        if let text = try string("\(path).uuid") {
            guard let uuid = ObjectUUID(text), let space = snapshot.ipSpace(uuid) else {
                throw .notFound("IP space", text, target: "\(path).uuid")
            }
            return space
        }
        guard let name = try string("\(path).name") else { return nil }
        // Clients of the reference interface write it as they like.
        if name.lowercased() == IPSpaceRecord.standard.name.lowercased() { return .standard }
        guard let space = snapshot.ipSpace(named: name) else {
            throw .notFound("IP space", name, target: "\(path).name")
        }
        return space
    }

    /// The aggregate that the first of `aggregates` names; when none is given, the one with the most room would be a
    /// guess, so only a cluster with a single aggregate may leave it out.
    func aggregate(in snapshot: ConfigurationSnapshot) throws(ManagementError) -> AggregateRecord {
        if let text = try string("aggregates.uuid") {
            guard let uuid = ObjectUUID(text), let aggregate = snapshot.aggregate(uuid) else {
                throw .notFound("aggregate", text, target: "aggregates.uuid")
            }
            return aggregate
        }
        if let name = try string("aggregates.name") {
            guard let aggregate = snapshot.aggregate(named: name) else {
                throw .notFound("aggregate", name, target: "aggregates.name")
            }
            return aggregate
        }
        guard snapshot.aggregates.count == 1 else {
            throw ManagementError(
                .invalid,
                "field_missing",
                "the cluster has \(snapshot.aggregates.count) aggregates, none is named",
                remedy: "name one of: \(snapshot.aggregates.map(\.name).joined(separator: ", "))",
                target: "aggregates.name"
            )
        }
        return snapshot.aggregates[0]
    }
}
