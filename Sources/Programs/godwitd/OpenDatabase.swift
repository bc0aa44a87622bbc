import ClusterConfiguration
import Environment
import Glibc
import Logging
import ReplicatedDatabase
import ReplicatedDatabaseEtcd
import ReplicatedDatabaseSQLite
import ServiceLifecycle
import StorageControl

/// The replicated database of the configuration file: a file in the data directory, or etcd.
enum OpenDatabase: Sendable {
    case file(SQLiteDatabase)
    case etcd(EtcdDatabase, NodeSession)

    /// Opens the database; with etcd also the session that keeps other daemons from running as this node.
    init(_ settings: DaemonConfiguration, _ environment: Environment, _ waiting: Waiting) async throws {
        do {
            guard let configuration = settings.etcd else {
                self = .file(try SQLiteDatabase(path: settings.dataDirectory + "/rdb.sqlite"))
                return
            }
            let database = try EtcdDatabase(configuration, environment: environment, waiting: waiting)
            do {
                let session = try await NodeSession(
                    database,
                    nodeName: settings.nodeName,
                    dataDirectory: settings.dataDirectory,
                    process: "process \(getpid())",
                    environment: environment,
                    waiting: waiting,
                    logger: Logger(label: "godwitd.session")
                )
                self = .etcd(database, session)
            } catch {
                await database.close()
                throw error
            }
        } catch let error as DatabaseError {
            throw ManagementError(database: error)
        }
    }

    /// Whether other nodes of the cluster may use it, too.
    var isShared: Bool {
        switch self {
        case .file: false
        case .etcd: true
        }
    }

    /// What the rest of the daemon uses.
    var database: any ReplicatedDatabase {
        switch self {
        case .file(let database): database
        case .etcd(let database, _): database
        }
    }

    /// What must run as long as the daemon does.
    var services: [any Service] {
        switch self {
        case .file: []
        case .etcd(_, let session): [BackgroundService { try await session.run() }]
        }
    }

    /// Closes it after everything that uses it.
    func close() async throws {
        switch self {
        case .file(let database): try database.close()
        case .etcd(let database, let session):
            await session.end()
            await database.close()
        }
    }
}
