package import ClusterConfiguration
package import HostNetwork
package import Identity
import Synchronization

// LIFs on links of the host: their addresses come and go with their listeners.
extension StorageController {
    /// The ports of this node: its Ethernet links, by index.
    ///
    /// - Throws: `host_network_unavailable` in a runtime that has no network of a host.
    package func ports() async throws(ManagementError) -> [HostLink] {
        try await requireHostAddresses().links().filter { !$0.isLoopback && $0.hardwareAddress != nil }
    }

    /// Checks that this node has a port of a name that is up.
    ///
    /// - Throws: `port_not_found`, `port_down`.
    package func requirePort(_ name: String) async throws(ManagementError) {
        _ = try HostAddresses.usable(name, try await requireHostAddresses().links())
    }

    /// The addresses that this node changes on its host.
    ///
    /// - Throws: `host_network_unavailable` in a runtime that has no network of a host.
    package func requireHostAddresses() throws(ManagementError) -> HostAddresses {
        if let hostAddresses { return hostAddresses }
        throw ManagementError(
            .unsupported,
            "host_network_unavailable",
            "this runtime has no network of a host: its LIFs are addresses in 127.0.0.0/8",
            remedy: "give an address such as 127.0.1.10"
        )
    }

    /// Whether a LIF is bound and, when it has a port, its address is there.
    func isUp(_ lif: LIFRecord, on service: any ClientService) -> Bool {
        guard service.boundEndpoints.contains(lif.endpoint) else { return false }
        guard let place = lif.place, let address = HostAddress(lif.address) else { return true }
        return hostAddresses?.isPresent(address, at: place) ?? false
    }

    /// The same, in its present term.
    func isServed(_ lif: LIFRecord, on service: any ClientService) -> Bool {
        isUp(lif, on: service) && service.term(at: lif.endpoint) == lif.term
    }

    /// Brings a LIF up: its listener first, then the address, so that no client that finds the address is refused.
    ///
    /// - Parameter isTakenOver: whether another node is giving the address up.
    package func bringUp(
        _ lif: LIFRecord,
        on service: any ClientService,
        isTakenOver: Bool
    ) async throws {
        if isServed(lif, on: service) { return }
        guard let place = lif.place, let address = HostAddress(lif.address) else {
            return try await service.bind(lif.endpoint, on: nil, for: lif.term)
        }
        let hostAddresses = try requireHostAddresses()
        try await service.bind(lif.endpoint, on: place.link, for: lif.term)
        do {
            try await hostAddresses.bringUp(address, at: place, isTakenOver: isTakenOver)
        } catch {
            await service.unbind(lif.endpoint)
            throw error
        }
        service.arrive(at: lif.endpoint)
    }

    /// Does what can be done for a LIF before its address comes from another host: its listener is there, and it is noted.
    package func prepare(_ lif: LIFRecord, on service: any ClientService) async throws {
        guard let place = lif.place, let address = HostAddress(lif.address) else { return }
        try await requireHostAddresses().reserve(address, at: place)
        try await service.bind(lif.endpoint, on: place.link, for: lif.term)
    }

    /// Takes an address that other hosts serve from now on away from its port, and then ends its connections: nothing is sent
    /// for it any more, so that its clients find the new host at once. An address of the loopback is only let go.
    ///
    /// The gate is held; whatever is to be answered has been.
    func surrender(_ endpoint: NetworkEndpoint, from service: any ClientService) async throws(ManagementError) {
        guard let address = HostAddress(endpoint.address), let hostAddresses, hostAddresses.places[address] != nil
        else {
            return await service.unbind(endpoint)
        }
        await service.freeze([endpoint])
        try await hostAddresses.takeDown(address)
        await service.abandon(endpoint)
        // Should it come back here, its clients must be told as well.
        service.expect(service.connections(at: endpoint))
        try await hostAddresses.endSockets(of: address)
    }

    /// Takes the addresses of an SVM away from their ports, as `surrender` does; those of the loopback stay. None left is no
    /// error.
    package func surrenderInterfaces(of svm: ObjectUUID) async throws {
        guard let service = service(of: svm) else { return }
        for endpoint in hostEndpoints(of: service) { try await surrender(endpoint, from: service) }
    }

    /// The same for a service whose operation has lost it to another node.
    func surrenderHostAddresses(of service: any ClientService) async {
        for endpoint in hostEndpoints(of: service) {
            do throws(ManagementError) { try await surrender(endpoint, from: service) } catch {
                events.record(name: "lif.leftover", severity: "error", "the address of \(endpoint) stays: \(error)")
            }
        }
    }

    private func hostEndpoints(of service: any ClientService) -> [NetworkEndpoint] {
        guard let hostAddresses else { return [] }
        return service.boundEndpoints.filter { endpoint in
            HostAddress(endpoint.address).map { hostAddresses.places[$0] != nil } ?? false
        }
    }

    /// Takes addresses of LIFs that are not served any more off their ports, after their connections were closed.
    func takeDown(_ endpoints: [NetworkEndpoint]) async {
        guard let hostAddresses else { return }
        for address in endpoints.compactMap({ HostAddress($0.address) }) where hostAddresses.places[address] != nil {
            do {
                try await hostAddresses.takeDown(address)
                try await hostAddresses.endSockets(of: address)
            } catch {
                events.record(name: "lif.leftover", severity: "error", "the address \(address) stays: \(error)")
            }
        }
    }

    /// Removes the addresses that a former process of this node has left and that are not to be served here.
    ///
    /// - Parameter holding: SVMs that must not be served.
    func sweepAddresses(holding: Set<ObjectUUID>) async throws(ManagementError) {
        guard let hostAddresses, !hostAddresses.places.isEmpty else { return }
        let snapshot = try await store.snapshot()
        var wanted: [HostAddress: AddressPlace] = [:]
        for lif in snapshot.lifs where lif.isEnabled && snapshot.node(serving: lif)?.uuid == node.uuid {
            guard snapshot.svm(lif.svm)?.state == .running, !holding.contains(lif.svm) else { continue }
            guard let place = lif.place, let address = HostAddress(lif.address) else { continue }
            wanted[address] = place
        }
        for address in try await hostAddresses.sweep(keeping: wanted) {
            events.record(
                name: "lif.leftoverRemoved",
                severity: "notice",
                "the address \(address), which a former process had left, was taken off its port"
            )
        }
    }
}

extension LIFRecord {
    /// Where it listens.
    package var endpoint: NetworkEndpoint { NetworkEndpoint(address: address, port: port) }

    /// Its present term.
    package var term: LIFTerm { LIFTerm(lif: uuid, number: moveCount ?? 0) }

    /// Where its address is on the host of its node; nil for the loopback.
    package var place: AddressPlace? {
        guard let currentPort, let prefixLength else { return nil }
        return AddressPlace(link: currentPort, prefixLength: prefixLength)
    }
}
