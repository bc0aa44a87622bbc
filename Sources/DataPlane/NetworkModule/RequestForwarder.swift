import Environment
import FileService
import NIOCore
import TransportSecurity

/// The links of one client's connection to the nodes that hold what it asks for. Used on the connection's event loop only.
final class RequestForwarder {
    private let wanted: ForwardingHandshake.Wanted
    private let eventLoop: any EventLoop
    private let security: TransportSecurity?
    private let environment: Environment
    private let callbacks: ForwardingLink.Callbacks
    private var links: [ForwardingTarget: ForwardingLink] = [:]
    private var isReading = true

    init(
        _ wanted: ForwardingHandshake.Wanted,
        _ eventLoop: any EventLoop,
        _ security: TransportSecurity?,
        _ environment: Environment,
        _ callbacks: ForwardingLink.Callbacks
    ) {
        self.wanted = wanted
        self.eventLoop = eventLoop
        self.security = security
        self.environment = environment
        self.callbacks = callbacks
    }

    /// Sends a request to a node.
    func forward(_ record: ByteBuffer, to target: ForwardingTarget) {
        if let link = links[target] { return link.send(record) }
        var callbacks = callbacks
        let lost = callbacks.lost
        callbacks.lost = { [weak self] records in
            self?.links[target] = nil
            lost(records)
        }
        let link = ForwardingLink(to: target, wanted, eventLoop, security, environment, callbacks)
        link.setReading(isReading)
        links[target] = link
        link.send(record)
    }

    /// Ends the links to nodes that hold nothing any more, each when all that was sent over it is answered.
    func keepOnly(_ targets: Set<ForwardingTarget>) {
        for (target, link) in links where !targets.contains(target) { link.endWhenAnswered() }
    }

    /// Whether answers may come.
    func setReading(_ isReading: Bool) {
        self.isReading = isReading
        for link in links.values { link.setReading(isReading) }
    }

    /// Acknowledges at once what has come.
    func acknowledge() { for link in links.values { link.acknowledge() } }

    /// Whether every answer that has come was given to the client's connection.
    var hasTakenAnswers: Bool { links.values.allSatisfy(\.hasTakenAnswers) }

    /// Whether there are links.
    var isIdle: Bool { links.isEmpty }
}
