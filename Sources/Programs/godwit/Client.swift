import ArgumentParser
import AsyncHTTPClient
import JSON
import NIOCore
import NIOHTTP1
import Synchronization
import TransportSecurity

/// Why a command did not do what was asked; printed to standard error.
struct CommandError: Error, CustomStringConvertible {
    /// The stable name of the error (`volume_too_large`), empty when there is none.
    var name = ""
    /// What is wrong.
    var message: String
    /// How to mend it.
    var remedy: String
    /// What the node told besides, for programs.
    var details: JSONValue?

    /// Both, on lines of their own.
    var description: String { remedy.isEmpty ? message : "\(message)\n  remedy: \(remedy)" }
}

/// Options that every command has.
struct GlobalOptions: ParsableArguments {
    @Option(help: "The management address of a node (default: $GODWIT_SERVER, then http://127.0.0.1:8080).")
    var server: String?

    @Option(
        help:
            "With https: the file (PEM) of the authorities that may have signed the node's certificate (default: $GODWIT_AUTHORITY)."
    )
    var authority: String?

    @Option(
        help: "With https: the file (PEM) of the certificate that shows who you are (default: $GODWIT_CERTIFICATE)."
    )
    var certificate: String?

    @Option(help: "With https: the file (PEM) of its private key (default: $GODWIT_KEY).")
    var key: String?

    @Flag(help: "Print JSON, for programs.")
    var json = false

    /// A client of that server.
    var client: Client {
        Client(
            base: server ?? environmentValue("GODWIT_SERVER") ?? "http://127.0.0.1:8080",
            authority: authority ?? environmentValue("GODWIT_AUTHORITY"),
            certificate: certificate ?? environmentValue("GODWIT_CERTIFICATE"),
            key: key ?? environmentValue("GODWIT_KEY")
        )
    }
}

/// Speaks to the REST interface of a node.
struct Client {
    /// Seconds that a request may take.
    static let timeoutSeconds: Int64 = 600
    /// How long a node that refuses connections, or is silent, is tried: one that is not there is told at once.
    static let connectSeconds: Int64 = 2
    /// A request that only reads is answered at once by a node that lives.
    static let readSeconds: Int64 = 8
    /// Bytes of the largest answer.
    static let answerBytesMax = 256 << 20

    /// The address of the node, such as `http://127.0.0.1:8080`.
    let base: String
    /// The files of the caller's identity; all of them are needed for `https`.
    let authority, certificate, key: String?

    /// One client for the process, made at the first request.
    private static let shared = Mutex<HTTPClient?>(nil)

    /// The client; one of the library's own would try to connect again until the whole time of the request is over.
    private func http() throws -> HTTPClient {
        try Self.shared.withLock { shared in
            if let client = shared { return client }
            var configuration = HTTPClient.Configuration()
            configuration.timeout.connect = .seconds(Self.connectSeconds)
            configuration.connectionPool.retryConnectionEstablishment = false
            if base.hasPrefix("https://") { configuration.tlsConfiguration = try identity().clientConfiguration }
            let client = HTTPClient(configuration: configuration)
            shared = client
            return client
        }
    }

    private func identity() throws -> TransportSecurity {
        guard let authority, let certificate, let key else {
            throw CommandError(
                name: "identity_missing",
                message: "\(base) is only told who you are by a certificate, and not all of its files are named",
                remedy:
                    "give --authority, --certificate and --key, or GODWIT_AUTHORITY, GODWIT_CERTIFICATE and GODWIT_KEY"
            )
        }
        do {
            return try TransportSecurity(IdentityFiles(authority: authority, certificate: certificate, key: key))
        } catch {
            throw CommandError(name: "identity_unusable", message: "\(error)", remedy: "correct the file")
        }
    }

    /// Reads what is at a path.
    func get(_ path: String, _ query: [(String, String?)] = []) async throws -> JSONValue {
        try await send(.GET, Self.path(path, query)).body
    }

    /// Reads all records of a collection that match a query, with all their fields.
    func records(_ path: String, _ query: [(String, String?)] = []) async throws -> [JSONValue] {
        let answer = try await get(path, query + [("fields", "*"), ("max_records", "10000")])
        guard case .array(let records)? = answer[path: "records"] else { return [] }
        return records
    }

    /// The one record of a collection that matches a query.
    ///
    /// - Parameter what: the object in words, for the error when there is none or more than one.
    func record(_ path: String, _ query: [(String, String?)], _ what: String) async throws -> JSONValue {
        let found = try await records(path, query)
        guard let first = found.first else {
            throw CommandError(
                name: "not_found",
                message: "there is no \(what)",
                remedy: "list what is there with 'show'"
            )
        }
        guard found.count == 1 else {
            throw CommandError(
                message: "there are \(found.count) of \(what)",
                remedy: "say which SVM is meant with --svm"
            )
        }
        return first
    }

    /// Makes an object and returns its record.
    @discardableResult
    func post(_ path: String, _ body: JSONValue) async throws -> JSONValue {
        let (answer, _) = try await send(.POST, path + "?return_records=true", body)
        if case .array(let records)? = answer[path: "records"], records.count == 1 { return records[0] }
        return answer
    }

    /// Changes an object.
    @discardableResult
    func patch(_ path: String, _ body: JSONValue) async throws -> JSONValue {
        try await send(.PATCH, path, body).body
    }

    /// Deletes an object.
    @discardableResult
    func delete(_ path: String) async throws -> JSONValue { try await send(.DELETE, path).body }

    /// Waits for the job that an answer names; tells its message whenever that changes.
    func wait(for answer: JSONValue, _ progress: (String) -> Void) async throws -> JSONValue {
        guard let uuid = answer[path: "job.uuid"]?.plain else { return answer }
        var told = ""
        while true {
            let job = try await get("/api/cluster/jobs/\(uuid)")
            let message = job[path: "message"]?.plain ?? ""
            switch job[path: "state"]?.plain {
            case "success": return job
            case "failure":
                throw CommandError(
                    name: job[path: "error.code"]?.plain ?? "",
                    message: message,
                    remedy: job[path: "error.remedy"]?.plain ?? ""
                )
            default:
                if message != told { progress(message) }
                told = message
                try await Task.sleep(for: .milliseconds(200))
            }
        }
    }

    private func send(
        _ method: HTTPMethod,
        _ path: String,
        _ body: JSONValue? = nil
    ) async throws -> (body: JSONValue, status: UInt) {
        var request = HTTPClientRequest(url: base + path)
        request.method = method
        request.headers.add(name: "Content-Type", value: "application/json")
        if let body { request.body = .bytes(ByteBuffer(string: body.text)) }
        let bytes: [UInt8]
        let status: UInt
        let http = try http()
        do {
            let seconds = method == .GET ? Self.readSeconds : Self.timeoutSeconds
            let response = try await http.execute(request, timeout: .seconds(seconds))
            status = response.status.code
            bytes = [UInt8](try await response.body.collect(upTo: Self.answerBytesMax).readableBytesView)
        } catch {
            throw CommandError(
                name: "unreachable",
                message: "\(base) does not answer: \(error)",
                remedy: "check that godwitd runs there, or name another node with --server or GODWIT_SERVER"
            )
        }
        guard let answer = try? JSONValue(parsing: bytes) else {
            throw CommandError(
                message: "\(base) answered with status \(status) and no JSON",
                remedy: "check that it is the management address of a node"
            )
        }
        guard status < 400 else {
            throw CommandError(
                name: answer[path: "error.name"]?.plain ?? "",
                message: answer[path: "error.message"]?.plain ?? "status \(status)",
                remedy: answer[path: "error.remedy"]?.plain ?? "",
                details: answer[path: "godwit"]
            )
        }
        return (answer, status)
    }

    private static func path(_ path: String, _ query: [(String, String?)]) -> String {
        let given = query.compactMap { name, value in value.map { "\(name)=\(escaped($0))" } }
        return given.isEmpty ? path : path + "?" + given.joined(separator: "&")
    }

    /// Percent-encoding of a part of a URL (RFC 3986, section 2).
    static func escaped(_ text: String) -> String {
        var result = ""
        for byte in text.utf8 {
            switch byte {
            case 0x41...0x5a, 0x61...0x7a, 0x30...0x39, 0x2d, 0x2e, 0x5f, 0x7e, 0x2a, 0x2c, 0x7c:
                result.unicodeScalars.append(UnicodeScalar(byte))
            default:
                let digits = String(byte, radix: 16, uppercase: true)
                result += "%" + (digits.count == 1 ? "0" + digits : digits)
            }
        }
        return result
    }
}

/// Makes something and forgives that it is there already, or deletes and forgives that it is not.
///
/// - Parameter isForgiving: whether the caller asked for that; otherwise the error goes on.
func forgiving(_ isForgiving: Bool, _ suffix: String, _ body: () async throws -> Void) async throws {
    do {
        try await body()
    } catch let error as CommandError where isForgiving && error.name.hasSuffix(suffix) {
        return
    }
}
