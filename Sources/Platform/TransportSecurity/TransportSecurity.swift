package import NIOSSL

/// The files of a node's identity, PEM.
package struct IdentityFiles: Equatable, Sendable {
    /// The certificates of the authorities whose certificates are believed: the cluster's own, and those of its peers.
    package var authority: String
    /// The node's own certificate, with those between it and its authority behind it. It names the node's addresses.
    package var certificate: String
    /// The private key of that certificate.
    package var key: String

    /// Makes the names of the files.
    package init(authority: String, certificate: String, key: String) {
        self.authority = authority
        self.certificate = certificate
        self.key = key
    }
}

/// A file of an identity cannot be used.
package struct TransportSecurityError: Error, Equatable, Sendable, CustomStringConvertible {
    /// What is wrong and how to mend it.
    package var description: String

    init(_ description: String) { self.description = description }
}

/// TLS 1.3 in both directions (RFC 8446, section 4.4.2): whoever connects and whoever is connected to each show a
/// certificate that an authority of the other one has signed, and whoever is connected to must be at an address that its
/// certificate names. Everything that one node tells another goes over it where it leaves the machine.
package struct TransportSecurity: Sendable {
    /// For listeners of libraries.
    package let serverConfiguration: TLSConfiguration
    /// For clients of libraries.
    package let clientConfiguration: TLSConfiguration
    private let serverContext: NIOSSLContext
    private let clientContext: NIOSSLContext

    /// Reads the files.
    /// - Throws: what is wrong with which file.
    package init(_ files: IdentityFiles) throws(TransportSecurityError) {
        let authorities = try Self.certificates(files.authority)
        let chain = try Self.certificates(files.certificate).map { NIOSSLCertificateSource.certificate($0) }
        let key = try Self.key(files.key)
        var server = TLSConfiguration.makeServerConfiguration(certificateChain: chain, privateKey: .privateKey(key))
        server.trustRoots = .certificates(authorities)
        // Who calls is known by its authority; from which of its addresses it calls is its own affair.
        server.certificateVerification = .noHostnameVerification
        server.minimumTLSVersion = .tlsv13
        var client = TLSConfiguration.makeClientConfiguration()
        client.trustRoots = .certificates(authorities)
        client.certificateChain = chain
        client.privateKey = .privateKey(key)
        client.minimumTLSVersion = .tlsv13
        serverConfiguration = server
        clientConfiguration = client
        do {
            serverContext = try NIOSSLContext(configuration: server)
            clientContext = try NIOSSLContext(configuration: client)
        } catch {
            throw TransportSecurityError(
                "the certificate '\(files.certificate)' and the key '\(files.key)' cannot be used together: \(error); "
                    + "give the key that the certificate was made for"
            )
        }
    }

    private static func certificates(_ file: String) throws(TransportSecurityError) -> [NIOSSLCertificate] {
        do {
            let found = try NIOSSLCertificate.fromPEMFile(file)
            if !found.isEmpty { return found }
        } catch {
            throw TransportSecurityError(
                "'\(file)' cannot be read as certificates: \(error); give a PEM file that this user may read"
            )
        }
        throw TransportSecurityError("'\(file)' holds no certificate; give a PEM file with at least one")
    }

    private static func key(_ file: String) throws(TransportSecurityError) -> NIOSSLPrivateKey {
        do {
            return try NIOSSLPrivateKey(file: file, format: .pem)
        } catch {
            throw TransportSecurityError(
                "'\(file)' cannot be read as a private key: \(error); give a PEM file without a passphrase that this "
                    + "user may read"
            )
        }
    }

    /// The first handler of a connection that somebody made to this node.
    package func makeServerHandler() -> NIOSSLServerHandler { NIOSSLServerHandler(context: serverContext) }

    /// The first handler of a connection that this node makes; the other side's address must be in its certificate.
    package func makeClientHandler() throws -> NIOSSLClientHandler {
        try NIOSSLClientHandler(context: clientContext, serverHostname: nil)
    }
}
