import AsyncHTTPClient
import Environment
import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import ReplicatedDatabase
import Synchronization

/// Calls of etcd's gateway: each has a deadline, and goes to another member when one does not answer.
final class EtcdClient: Sendable {
    /// Bytes of an answer: more than etcd's own limit of 8 GiB for everything would ever put into one page.
    private static let answerBytesMax = 512 << 20
    private static let connectMilliseconds: Int64 = 1000
    /// Milliseconds of silence after which a connection is given up: a watch over one to a member that has gone without a
    /// word would be silent for ever.
    private static let silenceMilliseconds: Int64 = 10_000
    private static let nanosecondsPerMillisecond: UInt64 = 1_000_000
    /// Nanoseconds after which a reading call tries the next member.
    private static let attemptNanoseconds: UInt64 = 2000 * nanosecondsPerMillisecond
    private static let pauseMilliseconds: UInt64 = 100

    let configuration: EtcdConfiguration
    let waiting: Waiting
    private let environment: Environment
    private let http: HTTPClient
    /// The member that answered last.
    private let preferred = Mutex(0)

    init(_ configuration: EtcdConfiguration, _ environment: Environment, _ waiting: Waiting) throws(DatabaseError) {
        self.configuration = configuration
        self.environment = environment
        self.waiting = waiting
        var settings = HTTPClient.Configuration()
        settings.timeout.connect = .milliseconds(Self.connectMilliseconds)
        settings.timeout.read = .milliseconds(max(Self.silenceMilliseconds, Int64(configuration.callMilliseconds)))
        // Connections that a stopped member leaves behind would make the first calls afterwards fail.
        settings.connectionPool.idleTimeout = .seconds(30)
        settings.connectionPool.retryConnectionEstablishment = false
        // Each watch keeps a connection, and every SVM that moves away has one: the session must never wait for them.
        settings.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = 256
        if let tls = configuration.tls { settings.tlsConfiguration = try Self.configuration(of: tls) }
        http = HTTPClient(eventLoopGroupProvider: .singleton, configuration: settings)
    }

    private static func configuration(of tls: EtcdConfiguration.TLS) throws(DatabaseError) -> TLSConfiguration {
        var settings = TLSConfiguration.makeClientConfiguration()
        do {
            settings.trustRoots = .certificates(try NIOSSLCertificate.fromPEMFile(tls.authorityFile))
            if let certificate = tls.certificateFile, let key = tls.keyFile {
                settings.certificateChain = try NIOSSLCertificate.fromPEMFile(certificate).map { .certificate($0) }
                settings.privateKey = .privateKey(try NIOSSLPrivateKey(file: key, format: .pem))
            }
        } catch {
            throw DatabaseError(
                .unavailable,
                "a file of the TLS connection to etcd cannot be read: \(error); check database.etcd.tls in the configuration"
            )
        }
        return settings
    }

    func shutDown() async { try? await http.shutdown() }

    // MARK: Calls

    /// What becomes of a call that may have reached a member without an answer.
    enum Repetition {
        /// It goes to the next member: to read twice does no harm.
        case allowed
        /// It fails: the change may have happened.
        case forbidden
    }

    /// Makes one call.
    func call<Answer: Decodable & Sendable>(
        _ path: String,
        _ request: some Encodable,
        _ repetition: Repetition,
        as type: Answer.Type = Answer.self
    ) async throws(DatabaseError) -> Answer {
        let body = ByteBuffer(bytes: try Self.encode(request))
        let end = environment.monotonicNanoseconds() + configuration.callMilliseconds * Self.nanosecondsPerMillisecond
        var reasons: [String] = []
        var index = preferred.withLock { $0 }
        while true {
            let endpoint = configuration.endpoints[index]
            let now = environment.monotonicNanoseconds()
            guard now < end, !Task.isCancelled else { throw Self.unavailable(path, reasons) }
            let patience = repetition == .allowed ? min(end - now, Self.attemptNanoseconds) : end - now
            do {
                let answer = try await send(path, body, to: endpoint, within: patience)
                preferred.withLock { $0 = index }
                return try Self.decode(answer, path)
            } catch let error as DatabaseError {
                throw error
            } catch {
                let reason = "\(endpoint): \(Self.describe(error))"
                if !reasons.contains(reason) { reasons.append(reason) }
                // The next call, too, if this one may not: a member that was stopped would fail every change in turn.
                index = (index + 1) % configuration.endpoints.count
                preferred.withLock { $0 = index }
                guard repetition == .allowed || Self.isUnsent(error) else { throw Self.unavailable(path, reasons) }
            }
            if index == 0 { try? await waiting.milliseconds(Self.pauseMilliseconds) }
        }
    }

    private func send(
        _ path: String,
        _ body: ByteBuffer,
        to endpoint: String,
        within patience: UInt64
    ) async throws -> ByteBuffer {
        try await withThrowingTaskGroup(of: ByteBuffer.self) { [http, waiting] group in
            group.addTask {
                let response = try await http.execute(Self.request(endpoint, path, body), deadline: .distantFuture)
                let answer = try await response.body.collect(upTo: Self.answerBytesMax)
                if response.status == .ok { return answer }
                throw Self.refusal(UInt(response.status.code), answer, path)
            }
            group.addTask {
                try await waiting.nanoseconds(patience)
                throw TimedOut()
            }
            defer { group.cancelAll() }
            return try await group.next()!
        }
    }

    private static func request(_ endpoint: String, _ path: String, _ body: ByteBuffer) -> HTTPClientRequest {
        var request = HTTPClientRequest(url: endpoint + path)
        request.method = .POST
        request.headers.add(name: "Content-Type", value: "application/json")
        request.body = .bytes(body)
        return request
    }

    /// Opens a stream of messages, each a line, from the member that answered last; the next one is tried when it fails.
    func stream(_ path: String, _ request: some Encodable) async throws -> HTTPClientResponse.Body {
        let body = ByteBuffer(bytes: try Self.encode(request))
        let index = preferred.withLock { $0 }
        let endpoint = configuration.endpoints[index]
        do {
            let response = try await http.execute(Self.request(endpoint, path, body), deadline: .distantFuture)
            if response.status == .ok { return response.body }
            throw Self.refusal(
                UInt(response.status.code),
                try await response.body.collect(upTo: Self.answerBytesMax),
                path
            )
        } catch {
            preferred.withLock { if $0 == index { $0 = (index + 1) % configuration.endpoints.count } }
            throw error
        }
    }

    // MARK: Failures

    private struct TimedOut: Error {}

    /// A member refused the call, which another one, or a later time, may answer.
    struct Unready: Error {
        var reason: String
    }

    /// Codes of gRPC that stand for a member or a cluster that cannot answer at the moment: cancelled, deadline exceeded,
    /// and unavailable (statuscodes.md of gRPC).
    private static let passingCodes = [1, 4, 14]
    private static let compactedText = "required revision has been compacted"

    private static func refusal(_ status: UInt, _ answer: ByteBuffer, _ path: String) -> any Error {
        let failure = try? JSONDecoder().decode(EtcdFailure.self, from: Data(answer.readableBytesView))
        let reason = failure?.error ?? failure?.message ?? "status \(status)"
        if reason.contains(compactedText) {
            return DatabaseError(.compacted, "the state that was to be read has been compacted; read again")
        }
        if failure?.code.map(passingCodes.contains) ?? (status >= 500) { return Unready(reason: reason) }
        let isLimit = reason.contains("too many operations") || reason.contains("too large")
        let remedy =
            isLimit
            ? "start etcd with --max-txn-ops 10000 and --max-request-bytes 10485760"
            : "look whether this is etcd 3.4 or newer, and what its log says"
        return DatabaseError(.unavailable, "etcd refused \(path): \(reason); \(remedy)")
    }

    /// Whether the call cannot have reached the member.
    private static func isUnsent(_ error: any Error) -> Bool {
        if let error = error as? HTTPClientError {
            return error == .connectTimeout || error == .tlsHandshakeTimeout || error == .getConnectionFromPoolTimeout
        }
        return error is NIOConnectionError || error is NIOSSLError
            || (error as? IOError)?.errnoCode == ECONNREFUSED
    }

    private static func describe(_ error: any Error) -> String {
        switch error {
        case is TimedOut: "no answer in time"
        case let error as Unready: error.reason
        case let error as NIOConnectionError: describe(error.connectionErrors.first?.error ?? TimedOut())
        case let error as IOError: String(cString: strerror(error.errnoCode))
        default: "\(error)"
        }
    }

    private static func unavailable(_ path: String, _ reasons: [String]) -> DatabaseError {
        DatabaseError(
            .unavailable,
            "etcd did not answer \(path) (\(reasons.isEmpty ? "no time was left" : reasons.joined(separator: "; "))); "
                + "look whether a majority of its members runs and can be reached, and read before a change is repeated"
        )
    }

    // MARK: JSON

    private static func encode(_ request: some Encodable) throws(DatabaseError) -> Data {
        do { return try JSONEncoder().encode(request) } catch {
            throw DatabaseError(.damaged, "a request to etcd cannot be written as JSON: \(error)")
        }
    }

    private static func decode<Answer: Decodable>(_ answer: ByteBuffer, _ path: String) throws(DatabaseError) -> Answer
    {
        do { return try JSONDecoder().decode(Answer.self, from: Data(answer.readableBytesView)) } catch {
            throw DatabaseError(
                .unavailable,
                "the answer to \(path) is not etcd's: \(error); check database.etcd.endpoints in the configuration"
            )
        }
    }
}
