package import ClusterConfiguration
package import Identity

// Changes of IP spaces, broadcast domains and subnets. Each begins from the record of the draft, which the commit compares
// with the database: what others changed meanwhile stays, and what they deleted does not come back.
extension StorageController {
    /// Changes an IP space.
    ///
    /// - Throws: `ip_space_not_found` when there is none, or none any more, and what the configuration refuses.
    package func modifyIPSpace(
        _ uuid: ObjectUUID,
        _ edit: (inout IPSpaceRecord) throws(ManagementError) -> Void
    ) async throws {
        try await change(as: .user) { draft throws(ManagementError) in
            guard var record = draft.snapshot.ipSpace(uuid) else { throw .notFound("IP space", uuid.description) }
            try edit(&record)
            try draft.putIPSpace(record)
        }
    }

    /// Changes a broadcast domain.
    ///
    /// - Parameter edit: changes the record; the configuration that it is of is for looking up what is named.
    /// - Throws: `broadcast_domain_not_found` when there is none, or none any more, and what the configuration refuses.
    package func modifyBroadcastDomain(
        _ uuid: ObjectUUID,
        _ edit: (inout BroadcastDomainRecord, ConfigurationSnapshot) throws(ManagementError) -> Void
    ) async throws {
        try await change(as: .user) { draft throws(ManagementError) in
            guard var record = draft.snapshot.broadcastDomain(uuid) else {
                throw .notFound("broadcast domain", uuid.description)
            }
            try edit(&record, draft.snapshot)
            try draft.putBroadcastDomain(record)
        }
    }

    /// Changes a subnet.
    ///
    /// - Parameter edit: changes the record; the configuration that it is of is for looking up what is named.
    /// - Throws: `subnet_not_found` when there is none, or none any more, and what the configuration refuses.
    package func modifySubnet(
        _ uuid: ObjectUUID,
        _ edit: (inout SubnetRecord, ConfigurationSnapshot) throws(ManagementError) -> Void
    ) async throws {
        try await change(as: .user) { draft throws(ManagementError) in
            guard var record = draft.snapshot.subnet(uuid) else { throw .notFound("subnet", uuid.description) }
            try edit(&record, draft.snapshot)
            try draft.putSubnet(record)
        }
    }
}
