/// What stopped a harness, and how to mend it.
public struct HarnessError: Error, CustomStringConvertible {
    /// What is wrong.
    public let message: String
    /// What to do about it.
    public let remedy: String

    /// Makes an error.
    public init(_ message: String, remedy: String) {
        self.message = message
        self.remedy = remedy
    }

    /// Both, on lines of their own.
    public var description: String { "\(message)\n  remedy: \(remedy)" }
}
