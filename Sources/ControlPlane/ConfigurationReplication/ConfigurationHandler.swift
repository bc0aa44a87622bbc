package import ClusterConfiguration
package import Identity

/// What a handler may know beside the object and the configuration of the destination.
package struct ConfigurationContext: Equatable, Sendable {
    /// The SVM.
    package var svm: ObjectUUID
    /// The operation that the SVM comes by; its lock is the SVM's.
    package var operation: ObjectUUID
    /// The IP space that the SVM comes to; nil is `Default`.
    package var ipSpace: ObjectUUID?
    /// Where new objects go.
    package var places: ConfigurationPlaces

    /// Makes a context.
    package init(
        svm: ObjectUUID,
        operation: ObjectUUID,
        ipSpace: ObjectUUID? = nil,
        places: ConfigurationPlaces = ConfigurationPlaces()
    ) {
        self.svm = svm
        self.operation = operation
        self.ipSpace = ipSpace
        self.places = places
    }
}

/// Decides how an object of one kind is made, changed and deleted on the destination. Each deed may be repeated.
package protocol ConfigurationHandler: SendableMetatype {
    /// The record of the kind.
    associatedtype Record: ConfigurationRecord
    /// The name of the kind in the keys.
    static var kind: String { get }
    /// Makes or changes an object; writes nothing when it is so already.
    static func put(
        _ record: Record,
        _ context: ConfigurationContext,
        in draft: inout ConfigurationDraft
    ) throws(ManagementError)
    /// Deletes an object; absent is no error.
    static func delete(
        _ identifier: String,
        _ context: ConfigurationContext,
        in draft: inout ConfigurationDraft
    ) throws(ManagementError)
    /// The objects that the destination has, but for those that are on their way out.
    static func present(_ context: ConfigurationContext, in snapshot: ConfigurationSnapshot) -> [String]
}

extension ConfigurationHandler {
    /// Applies one update.
    static func apply(
        _ update: ConfigurationUpdate,
        _ context: ConfigurationContext,
        in draft: inout ConfigurationDraft
    ) throws(ManagementError) {
        if let record = try update.decoded(Record.self) {
            try put(record, context, in: &draft)
        } else {
            try delete(update.identifier, context, in: &draft)
        }
    }

    static var formatVersionMax: Int { Record.formatVersionMax }
}

/// The kinds that this version replicates.
package enum ConfigurationKinds {
    /// In the order in which they may need each other: a volume names an export policy.
    static let handlers: [any ConfigurationHandler.Type] = [
        SVMHandler.self, ExportPolicyHandler.self, VolumeHandler.self, InterfaceHandler.self,
    ]

    /// Their names.
    package static var names: [String] { handlers.map { $0.kind } }

    /// Makes sure that every object is of a kind and a format that this version knows: what is not known is never skipped.
    /// - Throws: `.unsupported` with the name of the first one that is not.
    package static func requireKnown(_ updates: [ConfigurationUpdate]) throws(ManagementError) {
        for update in updates { _ = try handler(of: update) }
    }

    static func handler(of update: ConfigurationUpdate) throws(ManagementError) -> any ConfigurationHandler.Type {
        guard let handler = handlers.first(where: { $0.kind == update.kind }) else {
            throw ManagementError(
                .unsupported,
                "configuration_kind_unknown",
                "the source has a configuration object of the kind '\(update.kind)', which this cluster does not have",
                remedy: "run the source's version of the software here, or remove the object on the source",
                target: update.kind
            )
        }
        guard let format = try update.formatVersion(), format > handler.formatVersionMax else { return handler }
        throw ManagementError(
            .unsupported,
            "configuration_format_unknown",
            "the source's \(update.name) has format \(format), this cluster reads \(handler.formatVersionMax)",
            remedy: "run the source's version of the software here",
            target: update.kind
        )
    }

    /// The place of a kind in the order.
    static func rank(of update: ConfigurationUpdate) -> Int {
        handlers.firstIndex { $0.kind == update.kind } ?? handlers.count
    }
}
