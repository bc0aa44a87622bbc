import CLinux
package import HostNetwork
import NIOCore
import NIOPosix
import Synchronization

// Connections that leave with their address, and those that come with one (0027).
extension NFSListener {
    /// The clients' connections.
    package var connections: [TransportConnection] { registry.all.compactMap(\.ends) }

    /// Drops whatever arrives from now on, before TCP sees it: nothing more is acknowledged, nobody is let in or refused.
    package func freeze() async {
        await setFrozen(true)
        for connection in registry.freeze() { connection.outlet.freeze() }
    }

    /// Takes a freeze back; the clients' TCP sends again what was dropped.
    package func thaw() {
        for connection in registry.thaw() { connection.outlet.thaw() }
        channel.eventLoop.execute { Self.filter(self.channel, isFrozen: false) }
    }

    private func setFrozen(_ isFrozen: Bool) async {
        let channel = channel
        _ = try? await channel.eventLoop.submit { Self.filter(channel, isFrozen: isFrozen) }.get()
    }

    private static func filter(_ channel: any Channel, isFrozen: Bool) {
        _ = try? channel.pipeline.syncOperations.withUnsafeTransportIfAvailable(of: NIOBSDSocket.Handle.self) {
            isFrozen ? godwit_drop_everything($0) : godwit_drop_nothing($0)
        }
    }

    /// Stops listening and ends every connection without a packet. The address has left its link: nobody would get one, but a
    /// socket that stays would answer for its connection when the address comes back.
    package func abandon() async {
        let connections = registry.all
        for connection in connections { connection.outlet.silence() }
        await stopAccepting()
        for connection in registry.all {
            connection.outlet.silence()
            connection.shutDown()
        }
        for connection in connections { await connection.ended() }
    }

    /// How often clients are woken, and how many times.
    private static let wakeMilliseconds: Int64 = 50
    private static let wakesMax = 40

    /// Tells everybody on a link that the address is here, three times, and wakes the clients that were connected to it
    /// where it was before, until they have connected again or 2 s are over.
    ///
    /// - Parameter failed: is told what could not be sent, once.
    package func arrive(
        _ network: any HostNetwork,
        on link: String,
        known: [TransportConnection],
        failed: @escaping @Sendable (HostNetworkError) -> Void
    ) {
        guard let own = HostAddress(address) else { return }
        let arrival = Arrival(network: network, link: link, address: own, known: known, failed: failed)
        if !arrival.turn(0, connected: []) { return }
        let turns = TurnCounter()
        channel.eventLoop.scheduleRepeatedTask(
            initialDelay: .milliseconds(Self.wakeMilliseconds),
            delay: .milliseconds(Self.wakeMilliseconds)
        ) { [weak self] task in
            let turn = turns.next()
            guard let self, turn <= Self.wakesMax else { return task.cancel() }
            let connected = connections
            // Sending may wait for the kernel's locks, which the clients' requests should not.
            workers.submit { _ in
                if !arrival.turn(turn, connected: connected) { task.cancel() }
            }
        }
    }
}

/// An address that has come, until its clients are here.
struct Arrival: Sendable {
    var network: any HostNetwork
    var link: String
    var address: HostAddress
    var known: [TransportConnection]
    var failed: @Sendable (HostNetworkError) -> Void
    /// How often the address is announced.
    static let announcements = 3

    /// Sends what is due in a turn, of which the first is 0.
    ///
    /// - Returns: whether anything is left to be sent.
    func turn(_ turn: Int, connected: [TransportConnection]) -> Bool {
        let missing = Self.missing(known, connected: connected)
        do throws(HostNetworkError) {
            if turn < Self.announcements { try network.announce(address, on: link) }
            try network.tickle(missing)
        } catch {
            failed(error)
            return false
        }
        return turn + 1 < Self.announcements || !missing.isEmpty
    }

    /// The connections whose clients have not come yet. One that comes from another port than before has come when it has as
    /// many connections as it had.
    static func missing(_ known: [TransportConnection], connected: [TransportConnection]) -> [TransportConnection] {
        var counts: [HostAddress: Int] = [:]
        for connection in connected { counts[connection.remote, default: 0] += 1 }
        var wanted: [HostAddress: Int] = [:]
        for connection in known { wanted[connection.remote, default: 0] += 1 }
        let here = Set(connected)
        return known.filter { connection in
            !here.contains(connection) && counts[connection.remote, default: 0] < wanted[connection.remote, default: 0]
        }
    }
}

/// Counts turns.
private final class TurnCounter: Sendable {
    private let value = Atomic<Int>(0)
    func next() -> Int { value.wrappingAdd(1, ordering: .relaxed).newValue }
}
