/// Where an etcd cluster is and how it is spoken to.
package struct EtcdConfiguration: Equatable, Sendable {
    /// Files of a TLS connection, PEM.
    package struct TLS: Equatable, Sendable {
        /// The certificates that may have signed the servers' own.
        package var authorityFile: String
        /// The certificate that the servers are shown; nil when they ask for none.
        package var certificateFile: String?
        /// The private key of that certificate.
        package var keyFile: String?

        /// Makes the names of the files.
        package init(authorityFile: String, certificateFile: String?, keyFile: String?) {
            self.authorityFile = authorityFile
            self.certificateFile = certificateFile
            self.keyFile = keyFile
        }
    }

    /// What every key begins with when nothing else is said.
    package static let prefixDefault = "godwit/"
    /// Milliseconds that a call may take when nothing else is said: longer than the choice of a new leader.
    package static let callMillisecondsDefault: UInt64 = 5000

    /// The members' client addresses, such as `http://127.0.0.1:2379`.
    package var endpoints: [String]
    /// What every key of this cluster begins with.
    package var prefix: String
    /// Milliseconds until a call fails as `.unavailable`.
    package var callMilliseconds: UInt64
    /// Nil for connections in the clear.
    package var tls: TLS?

    /// Makes a configuration.
    package init(
        endpoints: [String],
        prefix: String = prefixDefault,
        callMilliseconds: UInt64 = callMillisecondsDefault,
        tls: TLS? = nil
    ) {
        precondition(!endpoints.isEmpty && !prefix.isEmpty)
        self.endpoints = endpoints
        self.prefix = prefix
        self.callMilliseconds = callMilliseconds
        self.tls = tls
    }
}
