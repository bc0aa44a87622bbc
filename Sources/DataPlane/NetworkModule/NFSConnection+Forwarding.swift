import Environment
import FileService
import NFSServer
import NIOCore
import Synchronization

// Requests for volumes that other nodes of the cluster hold. On the event loop of the connection only.
extension NFSConnection {
    /// Takes a new namespace over, if there is one; links to nodes that it does not name any more end.
    func refresh() {
        guard client.refresh(), let forwarder, !forwarder.isIdle else { return }
        forwarder.keepOnly(client.forwardingTargets)
    }

    /// A node that stood still for so long may have lost its addresses to a partner: a session outlives its last renewal by
    /// 5 s, and is renewed three times in that.
    private static let standstillNanosecondsMin: UInt64 = 3_000_000_000
    private static let standstillLook = TimeAmount.seconds(1)

    /// Notes once a second that the event loop works; called again by itself until the connection ends.
    func watchForStandstill() {
        guard !isClosed else { return }
        _ = hasStoodStill()
        standstill.lastNanoseconds = environment.monotonicNanoseconds()
        eventLoop.scheduleTask(in: Self.standstillLook) { [weak self] in self?.watchForStandstill() }
    }

    /// Whether the process stood still since the connection was made, or does so until now.
    private func hasStoodStill() -> Bool {
        let (last, now) = (standstill.lastNanoseconds, environment.monotonicNanoseconds())
        if last > 0 && now > last + Self.standstillNanosecondsMin { standstill.wasThere = true }
        return standstill.wasThere
    }

    /// Ends a connection that another node forwards, since a later node of its LIF forwards by now. What has begun is answered,
    /// for a node that still listens; nothing else begins, from now on. From any thread.
    func overtake() {
        isOvertaken.store(true, ordering: .releasing)
        eventLoop.scheduleTask(in: Self.overtakenTime) { [self] in context?.close(promise: nil) }
    }

    /// Longer than most requests take.
    private static let overtakenTime = TimeAmount.milliseconds(200)

    /// Gives a request that the gate has let in to another node; without one it waits.
    ///
    /// What came before a standstill the client may have sent again by way of another node, long ago, and the one that
    /// executes it may have forgotten that it did: it is not forwarded, and the client is told by the end of its connection.
    func forward(_ record: ByteBuffer, to target: ForwardingTarget?) {
        guard !isClosed else { return gate.leave() }
        guard !hasStoodStill() else {
            gate.leave()
            context?.close(promise: nil)
            return
        }
        waitingBytes += record.readableBytes
        schedulePlaceCheck()
        guard let target else { return park(record) }
        if forwarder == nil { forwarder = makeForwarder() }
        forwardedCount += 1
        gate.beginForwarding()
        forwarder?.forward(record, to: target)
    }

    private func makeForwarder() -> RequestForwarder {
        RequestForwarder(
            ForwardingHandshake.Wanted(svm: client.service.svm, client: client.client, term: term),
            eventLoop,
            threads.security,
            environment,
            // Not weakly: a request that was let in keeps its connection until it is answered or lost.
            ForwardingLink.Callbacks(
                answered: { [self] in takeForwarded($0, requestBytes: $1) },
                burstEnded: { [self] in
                    if gate.current != .open { forwarder?.acknowledge() }
                    flush()
                    adjustReading()
                },
                lost: { [self] records in
                    for record in records {
                        forwardedCount -= 1
                        gate.endForwarding()
                        park(record)
                    }
                }
            )
        )
    }

    private func takeForwarded(_ answer: ByteBuffer, requestBytes: Int) {
        forwardedCount -= 1
        waitingBytes -= requestBytes
        var answer = answer
        output.writeInteger(UInt32(answer.readableBytes) | 0x8000_0000)
        if answer.readableBytes >= Self.largeReplyBytes {
            writeOutput()
            if let context, !isClosed { queue(answer, context) }
        } else {
            output.writeBuffer(&answer)
        }
        gate.endForwarding()
        gate.leave()
    }

    /// Whether nothing that other nodes have answered is still on its way to this connection. Asked when they have drained:
    /// what they answered has come to the sockets of the links.
    func hasTakenAnswers() -> Bool { forwarder?.hasTakenAnswers ?? true }

    /// Lets a request wait outside of the gate for a node that executes it. One that was executed there and whose answer
    /// was lost is known there.
    private func park(_ record: ByteBuffer) {
        gate.leave()
        guard !isClosed else { return }
        parked.append(record)
        schedulePlaceCheck()
    }

    private func schedulePlaceCheck() {
        guard !isPlaceCheckScheduled, !isClosed else { return }
        isPlaceCheckScheduled = true
        eventLoop.scheduleTask(in: .milliseconds(Self.placeCheckMilliseconds)) { [self] in checkPlaces() }
    }

    /// Sends what is parked to where it belongs by now, and looks again while anything waits for another node.
    private func checkPlaces() {
        isPlaceCheckScheduled = false
        guard !isClosed else { return }
        refresh()
        let records = parked
        parked = []
        for record in records {
            waitingBytes -= record.readableBytes
            admit(record)
        }
        if forwardedCount > 0 || !parked.isEmpty { schedulePlaceCheck() }
        sendBlocked()
        flush()
        adjustReading()
    }
}
