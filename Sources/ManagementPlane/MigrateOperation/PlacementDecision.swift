/// One place that was looked at for a volume or an interface, and what spoke against it.
package struct PlacementOption: Codable, Equatable, Sendable {
    /// The aggregate, or the node and port as `node:port`.
    package var name: String
    /// What was looked at, for people: free space, headroom, how the port was found to reach the subnet.
    package var detail: String
    /// Why it cannot be chosen; nil when it can.
    package var refusal: String?

    /// Makes an option.
    package init(name: String, detail: String, refusal: String? = nil) {
        self.name = name
        self.detail = detail
        self.refusal = refusal
    }
}

/// Where a volume or an interface of the SVM goes, and why there.
package struct PlacementDecision: Codable, Equatable, Sendable {
    /// What is placed.
    package enum Kind: String, Codable, Sendable {
        case volume
        case interface
    }
    /// What is placed.
    package var kind: Kind
    /// Its name.
    package var name: String
    /// Everything that was looked at, the best first and the refused last.
    package var options: [PlacementOption]
    /// The name of the chosen option; nil when there is none.
    package var choice: String?
    /// Why that one.
    package var reason: String

    /// Makes a decision.
    package init(kind: Kind, name: String, options: [PlacementOption], choice: String?, reason: String) {
        self.kind = kind
        self.name = name
        self.options = options
        self.choice = choice
        self.reason = reason
    }
}
