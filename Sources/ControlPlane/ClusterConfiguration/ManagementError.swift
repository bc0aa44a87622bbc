/// Why a management operation did not happen: what REST answers and what the command line prints.
package struct ManagementError: Error, Equatable, Sendable, CustomStringConvertible {
    /// What a caller may do about it; decides the HTTP status.
    package enum Kind: String, Sendable {
        /// A value is wrong or missing (400).
        case invalid
        /// No such object (404).
        case notFound
        /// An object of that name or address is there (409).
        case exists
        /// The state of the object, or a lock, does not allow it now (409).
        case conflict
        /// Something that is needed does not answer (503).
        case unavailable
        /// A disk error or damage (500).
        case failed
        /// Not built into this version (501).
        case unsupported
    }

    /// The kind.
    package var kind: Kind
    /// A stable name for programs, such as `volume_too_large`.
    package var code: String
    /// What is wrong.
    package var message: String
    /// How to mend it.
    package var remedy: String
    /// The field or object that is wrong, in the words of REST (`nas.path`); nil when it is none.
    package var target: String?

    /// Makes an error.
    package init(_ kind: Kind, _ code: String, _ message: String, remedy: String, target: String? = nil) {
        self.kind = kind
        self.code = code
        self.message = message
        self.remedy = remedy
        self.target = target
    }

    /// What is wrong and how to mend it, in one line.
    package var description: String { "\(message) (\(remedy))" }

    /// No object of a kind has this name or identifier.
    package static func notFound(_ kind: String, _ name: String, target: String? = nil) -> ManagementError {
        ManagementError(
            .notFound,
            "\(kind.lowercased().replacing(" ", with: "_"))_not_found",
            "there is no \(kind) '\(name)'",
            remedy: "list what is there with GET or the 'show' command",
            target: target
        )
    }
}
