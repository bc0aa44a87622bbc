package import ReplicatedDatabase

extension EtcdDatabase: LeasingDatabase {
    /// Begins a lease.
    package func grantLease(seconds: Int64) async throws(DatabaseError) -> DatabaseLease {
        // One more lease than is needed ends by itself, so that the call may be repeated.
        let answer: EtcdLeaseResponse = try await client.call(
            "/v3/lease/grant",
            EtcdLeaseRequest(identifier: EtcdInteger(0), seconds: EtcdInteger(seconds)),
            .allowed
        )
        guard let identifier = answer.identifier?.value, let granted = answer.seconds?.value else {
            throw DatabaseError(.unavailable, "etcd granted a lease without a number; run etcd 3.4 or newer")
        }
        return DatabaseLease(identifier: identifier, seconds: granted)
    }

    /// Lets a lease live for its whole time again; false when it has ended.
    package func renew(_ lease: DatabaseLease) async throws(DatabaseError) -> Bool {
        let answer: EtcdLeaseResponse = try await client.call(
            "/v3/lease/keepalive",
            EtcdLeaseRequest(identifier: EtcdInteger(lease.identifier)),
            .allowed
        )
        return answer.result?.seconds?.value ?? 0 > 0
    }

    /// Ends a lease and with it its keys; no error when it has ended already.
    package func revoke(_ lease: DatabaseLease) async throws(DatabaseError) {
        guard try await renew(lease) else { return }
        let _: EtcdLeaseResponse = try await client.call(
            "/v3/lease/revoke",
            EtcdLeaseRequest(identifier: EtcdInteger(lease.identifier)),
            .forbidden
        )
    }
}
