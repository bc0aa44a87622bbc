import Environment
import Foundation
import ReplicatedDatabase
import ReplicatedDatabaseEtcd
import TestKit
import Testing

/// The engine on real etcd members, which are killed, stopped and cut off.
@Suite("etcd", .serialized)
struct EtcdDatabaseTests {
    private func withDatabase(
        _ cluster: EtcdCluster,
        prefix: String = "test/",
        callMilliseconds: UInt64 = 5000,
        _ body: (EtcdDatabase) async throws -> Void
    ) async throws {
        var configuration = EtcdConfiguration(
            endpoints: cluster.endpoints,
            prefix: prefix,
            callMilliseconds: callMilliseconds
        )
        if let certificates = cluster.certificates {
            configuration.tls = EtcdConfiguration.TLS(
                authorityFile: certificates.authority,
                certificateFile: certificates.certificate,
                keyFile: certificates.key
            )
        }
        let database = try EtcdDatabase(configuration, environment: .system, waiting: .system)
        do { try await body(database) } catch {
            await database.close()
            throw error
        }
        await database.close()
    }

    private func put(_ database: EtcdDatabase, _ key: String, _ value: [UInt8]) async throws -> Int64 {
        let outcome = try await database.transact(when: [], [.put(key: key, value: value)])
        guard case .committed(let revision) = outcome else { throw EtcdCluster.Failure(description: "\(outcome)") }
        return revision
    }

    @Test func keepsTheContract() async throws {
        let cluster = try await EtcdCluster(members: 1)
        for (number, clause) in DatabaseContract.clauses.enumerated() {
            try await withDatabase(cluster, prefix: "clause-\(number)/") { database in
                do { try await clause.run(database) } catch { Issue.record("\(clause.name): \(error)") }
            }
        }
    }

    @Test func aWatchFromCompactedHistorySaysSo() async throws {
        let cluster = try await EtcdCluster(members: 1)
        try await withDatabase(cluster) { database in
            var revision: Int64 = 0
            for number in 0..<10 { revision = try await put(database, "key", [UInt8(number)]) }
            _ = try cluster.post(0, "/v3/kv/compaction", #"{"revision":"\#(revision)"}"#)
            await #expect {
                for try await event in database.watch(prefix: "", after: revision - 5) { Issue.record("\(event)") }
            } throws: {
                ($0 as? DatabaseError)?.code == .compacted
            }
            var recent = database.watch(prefix: "", after: revision).makeAsyncIterator()
            let next = try await put(database, "key", [99])
            #expect(try await recent.next() == WatchEvent(key: "key", value: [99], revision: next))
        }
    }

    /// The leader dies in the middle of a stream of compare-and-set transactions: none that was acknowledged is lost, and
    /// the watch shows each change once.
    @Test func survivesTheDeathOfTheLeader() async throws {
        let cluster = try await EtcdCluster(members: 3)
        try await withDatabase(cluster) { database in
            let start = try await put(database, "counter", [])
            let seen = Task {
                var values: [Int] = []
                for try await event in database.watch(prefix: "counter", after: start) {
                    values.append(Int(String(decoding: event.value ?? [], as: UTF8.self)) ?? -1)
                    if values.last == 299 { break }
                }
                return values
            }
            var revision = start
            var unknown = 0
            for number in 0..<300 {
                if number == 100 {
                    let leader = try cluster.leader()
                    cluster.crash(try #require(leader))
                }
                while true {
                    do {
                        let outcome = try await database.transact(
                            when: [.modifyRevision(key: "counter", equals: revision)],
                            [.put(key: "counter", value: Array("\(number)".utf8))]
                        )
                        guard case .committed(let committed) = outcome else {
                            throw EtcdCluster.Failure(description: "number \(number): \(outcome)")
                        }
                        revision = committed
                        break
                    } catch let error as DatabaseError {
                        #expect(error.code == .unavailable)
                        unknown += 1
                        // What the interface says: read to find out.
                        let found = try await database.get("counter")
                        let record = try #require(found)
                        revision = record.modifyRevision
                        if record.value == Array("\(number)".utf8) { break }
                    }
                }
            }
            #expect(try await database.get("counter")?.value == Array("299".utf8))
            let values = try await seen.value
            #expect(values == Array(0..<300))
            #expect(unknown <= 3)
        }
    }

    @Test func withoutAMajorityNothingIsAnsweredAndAfterwardsEverything() async throws {
        let cluster = try await EtcdCluster(members: 3)
        try await withDatabase(cluster, callMilliseconds: 3000) { database in
            _ = try await put(database, "key", [1])
            cluster.crash(0)
            cluster.crash(1)
            for _ in 0..<2 {
                let begun = ContinuousClock.now
                await #expect { try await database.get("key") } throws: { Self.isUnavailable($0) }
                await #expect { try await self.put(database, "key", [2]) } throws: { Self.isUnavailable($0) }
                #expect(ContinuousClock.now - begun < .seconds(8))
            }
            try cluster.start(0)
            try await cluster.waitUntilHealthy(2)
            _ = try await put(database, "key", [3])
            #expect(try await database.get("key")?.value == [3])
        }
    }

    private static func isUnavailable(_ error: any Error) -> Bool {
        guard let error = error as? DatabaseError else { return false }
        return error.code == .unavailable && error.description.contains("majority")
    }

    /// A member that is stopped keeps its connections and answers nothing: reads and watches go to the others.
    @Test func goesAroundAStoppedMember() async throws {
        let cluster = try await EtcdCluster(members: 3)
        try await withDatabase(cluster) { database in
            let revision = try await put(database, "key", [1])
            var changes = database.watch(prefix: "", after: revision).makeAsyncIterator()
            // The client speaks to the first member as long as that one answers.
            cluster.setFrozen(0, true)
            #expect(try await database.get("key")?.value == [1])
            let second = try await put(database, "key", [2])
            #expect(try await changes.next() == WatchEvent(key: "key", value: [2], revision: second))
            cluster.setFrozen(0, false)
            // A change that a stopped member may have got fails once; the next one goes to another member.
            let speaking = try await stoppedMember(cluster, database)
            let third = try await put(database, "key", [3])
            #expect(third > second)
            cluster.setFrozen(speaking, false)
        }
    }

    /// Stops one member after the other until a change fails: that was the one that the client speaks to.
    private func stoppedMember(_ cluster: EtcdCluster, _ database: EtcdDatabase) async throws -> Int {
        for member in 0..<3 {
            cluster.setFrozen(member, true)
            do { _ = try await put(database, "probe", []) } catch let error as DatabaseError {
                #expect(error.code == .unavailable)
                return member
            }
            cluster.setFrozen(member, false)
        }
        throw EtcdCluster.Failure(description: "no member matters")
    }

    @Test func speaksTLSAndRefusesStrangers() async throws {
        let cluster = try await EtcdCluster(members: 1, isEncrypted: true)
        let stranger = try await EtcdCluster(members: 1, isEncrypted: true)
        try await withDatabase(cluster) { database in
            _ = try await put(database, "key", [1])
            #expect(try await database.get("key")?.value == [1])
        }
        let theirs = try #require(stranger.certificates)
        let tls = EtcdConfiguration.TLS(
            authorityFile: theirs.authority,
            certificateFile: theirs.certificate,
            keyFile: theirs.key
        )
        let foreign = try EtcdDatabase(
            EtcdConfiguration(endpoints: cluster.endpoints, callMilliseconds: 1500, tls: tls),
            environment: .system,
            waiting: .system
        )
        await #expect { try await foreign.get("key") } throws: { Self.isUnavailable($0) }
        await foreign.close()
        let missing = EtcdConfiguration.TLS(authorityFile: "/nowhere.pem", certificateFile: nil, keyFile: nil)
        #expect {
            _ = try EtcdDatabase(
                EtcdConfiguration(endpoints: cluster.endpoints, tls: missing),
                environment: .system,
                waiting: .system
            )
        } throws: {
            "\($0)".contains("database.etcd.tls")
        }
    }

    @Test func whatIsTooMuchForEtcdIsRefusedWithARemedy() async throws {
        let cluster = try await EtcdCluster(members: 1)
        try await withDatabase(cluster) { database in
            let changes = (0..<1001).map { DatabaseChange.put(key: "key\($0)", value: []) }
            await #expect {
                _ = try await database.transact(when: [], changes)
            } throws: {
                "\($0)".contains("--max-txn-ops")
            }
            let records = try await database.range(prefix: "").records
            #expect(records.isEmpty)
        }
    }

    @Test func keysGoWithTheirLease() async throws {
        let cluster = try await EtcdCluster(members: 1)
        try await withDatabase(cluster) { database in
            let kept = try await database.grantLease(seconds: 2)
            let left = try await database.grantLease(seconds: 2)
            let ended = try await database.grantLease(seconds: 60)
            for (key, lease) in [("kept", kept), ("left", left), ("ended", ended)] {
                _ = try await database.transact(when: [], [.put(key: key, value: [1])], with: lease)
            }
            try await database.revoke(ended)
            try await database.revoke(ended)
            #expect(try await database.get("ended") == nil)
            let deadline = ContinuousClock.now + .seconds(20)
            while try await database.get("left") != nil, ContinuousClock.now < deadline {
                let isKept = try await database.renew(kept)
                #expect(isKept)
                try await Task.sleep(for: .milliseconds(300))
            }
            let records = try await database.range(prefix: "").records.map(\.key)
            #expect(records == ["kept"])
            let isLeftThere = try await database.renew(left)
            #expect(!isLeftThere)
        }
    }
}
