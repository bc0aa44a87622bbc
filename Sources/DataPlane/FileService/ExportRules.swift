/// An IPv4 address as a number, 127.0.0.1 being 0x7f000001.
package struct ClientAddress: Hashable, Sendable, CustomStringConvertible {
    /// The address.
    package var rawValue: UInt32

    /// Wraps a number.
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    /// Reads the dotted form.
    package init?(_ text: String) {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        var value: UInt32 = 0
        for part in parts {
            guard !part.isEmpty, part.utf8.allSatisfy({ (48...57).contains($0) }), let byte = UInt8(part) else {
                return nil
            }
            value = value << 8 | UInt32(byte)
        }
        rawValue = value
    }

    /// The dotted form.
    package var description: String {
        (0..<4).map { String(rawValue >> (24 - 8 * UInt32($0)) & 255) }.joined(separator: ".")
    }
}

/// Which clients a rule is for: an address or a network.
package struct ClientMatch: Hashable, Sendable {
    private let network: UInt32
    private let mask: UInt32

    /// Reads `10.1.2.3`, `10.1.0.0/16` or `0.0.0.0/0`; nil for anything else.
    package init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= 2, let address = ClientAddress(String(parts[0])) else { return nil }
        var length = 32
        if parts.count == 2 {
            guard let given = Int(parts[1]), (0...32).contains(given) else { return nil }
            length = given
        }
        mask = length == 0 ? 0 : ~0 << UInt32(32 - length)
        network = address.rawValue & mask
    }

    /// Whether the client is in.
    package func contains(_ client: ClientAddress) -> Bool { client.rawValue & mask == network }
}

/// One rule of an export policy.
package struct ExportRule: Hashable, Sendable {
    /// The clients that it is for.
    package var clients: [ClientMatch]
    /// Whether they may read.
    package var allowsRead: Bool
    /// Whether they may write.
    package var allowsWrite: Bool
    /// Whether the superuser stays the superuser.
    package var allowsSuperuser: Bool
    /// Who an unknown user or a squashed superuser becomes.
    package var anonymousUser: UInt32

    /// Makes a rule.
    package init(
        clients: [ClientMatch],
        allowsRead: Bool,
        allowsWrite: Bool,
        allowsSuperuser: Bool,
        anonymousUser: UInt32 = 65534
    ) {
        self.clients = clients
        self.allowsRead = allowsRead
        self.allowsWrite = allowsWrite
        self.allowsSuperuser = allowsSuperuser
        self.anonymousUser = anonymousUser
    }
}

/// What a client may do with a volume.
package struct ExportAccess: Equatable, Sendable {
    /// Read.
    package var canRead: Bool
    /// Write.
    package var canWrite: Bool
    /// Be the superuser.
    package var isSuperuserAllowed: Bool
    /// Who the superuser becomes otherwise.
    package var anonymousUser: UInt32

    /// Nothing.
    package static let none = ExportAccess(
        canRead: false,
        canWrite: false,
        isSuperuserAllowed: false,
        anonymousUser: 65534
    )
}

/// The rules of a volume: the first that matches a client decides; without one there is no access.
package struct ExportPolicy: Hashable, Sendable {
    /// The rules in their order.
    package var rules: [ExportRule]

    /// Makes a policy.
    package init(rules: [ExportRule]) { self.rules = rules }

    /// What the client may do.
    package func access(of client: ClientAddress) -> ExportAccess {
        guard let rule = rules.first(where: { $0.clients.contains { $0.contains(client) } }) else { return .none }
        return ExportAccess(
            canRead: rule.allowsRead || rule.allowsWrite,
            canWrite: rule.allowsWrite,
            isSuperuserAllowed: rule.allowsSuperuser,
            anonymousUser: rule.anonymousUser
        )
    }
}
