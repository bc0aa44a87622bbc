import Bytes
package import FileService
import NFSTypes
package import NIOCore
import ONCRPC
package import VolumeEngine
import XDR

/// Executes requests: decode, ask the volumes, encode. No sockets, no threads, no knowledge of migration.
package enum NFSServer {
    /// Executes the request in `record` and writes its answer, with the record mark, at the end of `output`.
    ///
    /// - Parameters:
    ///   - client: what the connection remembers.
    ///   - execution: `.cachedOnly` on event loops, `.blocking` on workers.
    ///   - isShort: whether only a short request may be executed on the event loop.
    ///   - isClaimed: whether an earlier run, which would have blocked, has claimed the request already.
    ///   - waiter: gets the answer if the same request is being executed for another connection.
    package static func execute(
        _ record: ByteBuffer,
        _ client: ClientContext,
        _ execution: Execution,
        isShort: Bool = true,
        isClaimed: Bool,
        into output: inout ByteBuffer,
        waiter: @escaping @Sendable (CachedReply) -> Void
    ) -> CallOutcome {
        let start = output.writerIndex
        client.measure = RequestMeasure()
        let outcome = record.withUnsafeReadableBytes { bytes -> CallOutcome in
            var reader = XDRReader(bytes)
            do throws(XDRError) {
                guard let header = try RPCCallHeader(&reader) else { return .none }
                return execute(header, reader, client, execution, isShort, isClaimed, &output, waiter)
            } catch { return .malformed }
        }
        switch outcome {
        case .answered, .answeredWhenDurable: break
        case .wouldBlock, .elsewhere, .misdirected, .none, .malformed: output.moveWriterIndex(to: start)
        }
        return outcome
    }

    private static func execute(
        _ header: RPCCallHeader,
        _ arguments: XDRReader,
        _ client: ClientContext,
        _ execution: Execution,
        _ isShort: Bool,
        _ isClaimed: Bool,
        _ output: inout ByteBuffer,
        _ waiter: @escaping @Sendable (CachedReply) -> Void
    ) -> CallOutcome {
        let start = RecordMarking.begin(in: &output)
        guard header.rpcVersion == 2 else {
            output.writeRPCMismatch(xid: header.xid)
            RecordMarking.finish(from: start, in: &output)
            return .answered
        }
        let credentials: Credentials
        do throws(XDRError) { credentials = try client.credentials(header.flavor, header.credential) } catch {
            output.writeAuthenticationError(xid: header.xid, reason: 1)
            RecordMarking.finish(from: start, in: &output)
            return .answered
        }
        let call = Call(
            arguments: arguments,
            credentials: credentials,
            execution: execution,
            isShort: isShort,
            client: client
        )
        let outcome: CallOutcome
        switch (header.program, header.version) {
        case (NFS3.program, NFS3.version):
            outcome = executeNFS(header, call, isClaimed, client, &output, waiter)
        case (Mount3.program, Mount3.version):
            outcome = MountProgram.execute(header, call, &output)
        case (NFS3.program, _), (Mount3.program, _):
            output.writeAccepted(xid: header.xid, .programMismatch)
            output.writeVersions(low: 3, high: 3)
            outcome = .answered
        default:
            output.writeAccepted(xid: header.xid, .programUnavailable)
            outcome = .answered
        }
        RecordMarking.finish(from: start, in: &output)
        return outcome
    }

    private static func executeNFS(
        _ header: RPCCallHeader,
        _ call: Call,
        _ isClaimed: Bool,
        _ client: ClientContext,
        _ output: inout ByteBuffer,
        _ waiter: @escaping @Sendable (CachedReply) -> Void
    ) -> CallOutcome {
        guard let procedure = NFS3.Procedure(rawValue: header.procedure) else {
            output.writeAccepted(xid: header.xid, .procedureUnavailable)
            return .answered
        }
        // Before the request is claimed here: the node that executes it has the cache that it belongs to.
        if procedure != .null, let place = call.placeElsewhere() { return place }
        if procedure.isIdempotent { return run(procedure, header.xid, call, &output) }

        let key = RequestKey(
            client: client.client,
            xid: header.xid,
            procedure: header.procedure,
            checksum: Checksum.xxh3(call.arguments.rest)
        )
        let cache = client.service.duplicateRequests
        if !isClaimed {
            switch cache.claim(key, waiter: waiter) {
            case .execute: break
            case .inProgress: return .none
            case .answered(let reply):
                output.writeBytes(reply.bytes)
                return reply.volume.map { .answeredWhenDurable($0, reply.ticket) } ?? .answered
            }
        }
        let start = output.writerIndex
        var repeatable = call
        repeatable.repeatable = (key.call, start)
        let outcome = run(procedure, header.xid, repeatable, &output)
        // A request that would block stays claimed: the worker that runs it again finishes it.
        let bytes = output.getBytes(at: start, length: output.writerIndex - start) ?? []
        switch outcome {
        case .answered: cache.finish(key, CachedReply(bytes: bytes, volume: nil, ticket: .durable))
        case .answeredWhenDurable(let volume, let ticket):
            cache.finish(key, CachedReply(bytes: bytes, volume: volume, ticket: ticket))
        case .wouldBlock, .elsewhere, .misdirected, .none, .malformed: break
        }
        return outcome
    }

    /// Runs one procedure; a failure becomes an answer with its status.
    private static func run(
        _ procedure: NFS3.Procedure,
        _ xid: UInt32,
        _ call: Call,
        _ output: inout ByteBuffer
    ) -> CallOutcome {
        var call = call
        output.writeAccepted(xid: xid, .success)
        let body = output.writerIndex
        do throws(CallFailure) {
            return try NFSProgram.run(procedure, &call, &output)
        } catch {
            output.moveWriterIndex(to: body)
            switch error {
            case .wouldBlock: return .wouldBlock
            case .garbage:
                output.moveWriterIndex(to: body - 4)
                output.writeInteger(AcceptStatus.garbageArguments.rawValue)
            case .status(let status):
                output.writeStatus(status)
                output.writeXDRZeros(words: procedure.failureWords)
            case .elsewhere:
                // Only the first handle decides where a request goes; that of a second one is another volume's.
                output.writeStatus(.crossDevice)
                output.writeXDRZeros(words: procedure.failureWords)
            }
            return .answered
        }
    }
}
