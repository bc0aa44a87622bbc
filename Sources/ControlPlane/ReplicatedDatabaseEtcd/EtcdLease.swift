package import ReplicatedDatabase

/// A promise to etcd to be there: keys that are put with it go when it is not renewed in time.
///
/// Nobody may conclude from a key that is still there that its owner lives, nor from one that has gone that it is dead: a
/// new leader gives every lease its whole time again. What needs an owner compares a revision in its transaction.
package struct EtcdLease: Equatable, Sendable {
    /// Its number.
    package let identifier: Int64
    /// Seconds that it lives after each renewal: what etcd granted, which may be more than was asked for.
    package let seconds: Int64
}

extension EtcdDatabase {
    /// Begins a lease.
    package func grantLease(seconds: Int64) async throws(DatabaseError) -> EtcdLease {
        // One more lease than is needed ends by itself, so that the call may be repeated.
        let answer: EtcdLeaseResponse = try await client.call(
            "/v3/lease/grant",
            EtcdLeaseRequest(identifier: EtcdInteger(0), seconds: EtcdInteger(seconds)),
            .allowed
        )
        guard let identifier = answer.identifier?.value, let granted = answer.seconds?.value else {
            throw DatabaseError(.unavailable, "etcd granted a lease without a number; run etcd 3.4 or newer")
        }
        return EtcdLease(identifier: identifier, seconds: granted)
    }

    /// Lets a lease live for its whole time again; false when it has ended.
    package func renew(_ lease: EtcdLease) async throws(DatabaseError) -> Bool {
        let answer: EtcdLeaseResponse = try await client.call(
            "/v3/lease/keepalive",
            EtcdLeaseRequest(identifier: EtcdInteger(lease.identifier)),
            .allowed
        )
        return answer.result?.seconds?.value ?? 0 > 0
    }

    /// Ends a lease and with it its keys; no error when it has ended already.
    package func revoke(_ lease: EtcdLease) async throws(DatabaseError) {
        guard try await renew(lease) else { return }
        let _: EtcdLeaseResponse = try await client.call(
            "/v3/lease/revoke",
            EtcdLeaseRequest(identifier: EtcdInteger(lease.identifier)),
            .forbidden
        )
    }
}
