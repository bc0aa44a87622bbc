// swift-tools-version:6.2
import PackageDescription

/// One set of settings for every Swift target: language mode 6, warnings are errors.
let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .treatAllWarnings(as: .error),
]

/// A Swift target of the house: `Sources/<floor>/<name>`.
func room(_ floor: String, _ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, path: "Sources/\(floor)/\(name)", swiftSettings: settings)
}

/// A program of the house: `Sources/Programs/<name>`.
func program(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .executableTarget(
        name: name,
        dependencies: dependencies,
        path: "Sources/Programs/\(name)",
        swiftSettings: settings
    )
}

/// A test target: `Tests/<name>`.
func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(name: name, dependencies: dependencies, path: "Tests/\(name)", swiftSettings: settings)
}

let nioCore = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
let nioPosix = Target.Dependency.product(name: "NIOPosix", package: "swift-nio")
let nioSSL = Target.Dependency.product(name: "NIOSSL", package: "swift-nio-ssl")
let nioHTTP1 = Target.Dependency.product(name: "NIOHTTP1", package: "swift-nio")
let grdb = Target.Dependency.product(name: "GRDB", package: "GRDB.swift")
let hummingbird = Target.Dependency.product(name: "Hummingbird", package: "hummingbird")
let hummingbirdTesting = Target.Dependency.product(name: "HummingbirdTesting", package: "hummingbird")
let hummingbirdTLS = Target.Dependency.product(name: "HummingbirdTLS", package: "hummingbird")
let asyncHTTPClient = Target.Dependency.product(name: "AsyncHTTPClient", package: "async-http-client")
let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let serviceLifecycle = Target.Dependency.product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let unixSignals = Target.Dependency.product(name: "UnixSignals", package: "swift-service-lifecycle")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")
let yams = Target.Dependency.product(name: "Yams", package: "Yams")

let package = Package(
    name: "godwit",
    products: [
        .executable(name: "godwitd", targets: ["godwitd"]),
        .executable(name: "godwit", targets: ["godwit"]),
        .executable(name: "godwit-sim", targets: ["godwit-sim"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
        .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: [
        // 0 System
        .systemLibrary(
            name: "CRocksDB",
            path: "Sources/System/CRocksDB",
            pkgConfig: "rocksdb",
            providers: [.apt(["librocksdb-dev"])]
        ),
        .target(name: "CLinux", path: "Sources/System/CLinux"),
        .target(name: "CSimulation", path: "Sources/System/CSimulation"),

        // 1 Base
        room("Base", "Bytes", ["CLinux"]),
        room("Base", "Environment", []),
        room("Base", "Identity", ["Bytes", "Environment"]),
        room("Base", "Saga", []),
        room("Base", "JSON", []),

        // 2 Platform and Wire
        room("Platform", "FileIO", ["CLinux", "Bytes"]),
        room("Platform", "HostNetwork", ["CLinux", "Bytes"]),
        room("Platform", "TransportSecurity", [nioSSL]),
        room("Wire", "XDR", [nioCore]),
        room("Wire", "ONCRPC", ["XDR", nioCore]),
        room("Wire", "NFSTypes", ["XDR", "ONCRPC", nioCore]),

        // 3 DataPlane
        room("DataPlane", "RocksStore", ["CRocksDB", "Bytes", "FileIO"]),
        room("DataPlane", "SegmentStore", ["FileIO", "Bytes", "CLinux"]),
        room(
            "DataPlane",
            "VolumeEngine",
            ["Bytes", "Environment", "Identity", "FileIO", "RocksStore", "SegmentStore"]
        ),
        room("DataPlane", "Replication", ["Bytes", "Environment", "Identity", "FileIO", "VolumeEngine"]),
        room("DataPlane", "FileService", ["Bytes", "Environment", "Identity", "VolumeEngine"]),
        room(
            "DataPlane",
            "NFSServer",
            ["Bytes", "Environment", "Identity", "XDR", "ONCRPC", "NFSTypes", "VolumeEngine", "FileService", nioCore]
        ),
        room(
            "DataPlane",
            "NetworkModule",
            [
                "Bytes", "Environment", "Identity", "CLinux", "HostNetwork", "TransportSecurity", "ONCRPC",
                "VolumeEngine", "FileService",
                "NFSServer", nioCore, nioPosix, nioSSL, crypto, logging,
            ]
        ),
        room(
            "DataPlane",
            "PeerTransport",
            [
                "Bytes", "Environment", "Identity", "FileIO", "TransportSecurity", "VolumeEngine", "Replication",
                nioCore,
                nioPosix, nioSSL, crypto, logging,
            ]
        ),

        // 4 ControlPlane
        room("ControlPlane", "ReplicatedDatabase", ["Environment", "Identity"]),
        room("ControlPlane", "ReplicatedDatabaseSQLite", ["ReplicatedDatabase", "Environment", "Identity", grdb]),
        room(
            "ControlPlane",
            "ReplicatedDatabaseEtcd",
            ["ReplicatedDatabase", "Environment", asyncHTTPClient, nioCore, nioPosix, nioHTTP1, nioSSL]
        ),
        room("ControlPlane", "ClusterConfiguration", ["ReplicatedDatabase", "Environment", "Identity", "Bytes"]),
        room(
            "ControlPlane",
            "Performance",
            ["ClusterConfiguration", "ReplicatedDatabase", "Identity", "VolumeEngine"]
        ),
        room(
            "ControlPlane",
            "ConfigurationReplication",
            ["ClusterConfiguration", "ReplicatedDatabase", "Environment", "Identity"]
        ),
        room(
            "ControlPlane",
            "StorageControl",
            [
                "Performance", "ClusterConfiguration", "ReplicatedDatabase", "Environment", "Identity", "Bytes",
                "FileIO",
                "HostNetwork",
                "VolumeEngine", "Replication",
                "FileService", "NFSServer", "NetworkModule", "PeerTransport", logging,
            ]
        ),

        // 5 ManagementPlane
        room(
            "ManagementPlane",
            "MigrateOperation",
            [
                "Saga", "ConfigurationReplication", "ClusterConfiguration", "ReplicatedDatabase", "Replication",
                "Environment", "Identity",
            ]
        ),
        room(
            "ManagementPlane",
            "GroupControl",
            [
                "MigrateOperation", "StorageControl", "ClusterConfiguration", "Replication", "PeerTransport",
                "HostNetwork", "Bytes", "Environment", "Identity", "VolumeEngine",
            ]
        ),
        room(
            "ManagementPlane",
            "MigrateSource",
            [
                "MigrateOperation", "GroupControl", "Saga", "StorageControl", "ConfigurationReplication",
                "ClusterConfiguration", "ReplicatedDatabase",
                "Replication",
                "Environment", "Identity", "VolumeEngine", logging,
            ]
        ),
        room(
            "ManagementPlane",
            "Orchestrator",
            [
                "MigrateOperation", "GroupControl", "Saga", "StorageControl", "Performance", "ConfigurationReplication",
                "ClusterConfiguration", "ReplicatedDatabase", "Environment", "Identity",
                "VolumeEngine", "Replication", "PeerTransport", logging,
            ]
        ),

        // 6 Interfaces
        room(
            "Interfaces",
            "ClusterService",
            [
                "MigrateOperation", "GroupControl", "MigrateSource", "Orchestrator", "Saga", "StorageControl",
                "ClusterConfiguration",
                "Environment", "Identity", hummingbird, asyncHTTPClient, crypto, logging, nioCore,
            ]
        ),
        room(
            "Interfaces",
            "RESTAPI",
            [
                "MigrateOperation", "GroupControl", "MigrateSource", "Orchestrator", "Replication", "Saga",
                "StorageControl", "Performance",
                "ClusterConfiguration",
                "ReplicatedDatabase", "Environment", "Identity", "JSON", "VolumeEngine", "TransportSecurity",
                hummingbird,
                hummingbirdTLS, asyncHTTPClient, logging, nioCore, nioHTTP1,
            ]
        ),

        // 7 Programs
        program(
            "godwitd",
            [
                "Environment", "Identity", "Bytes", "FileIO", "HostNetwork", "TransportSecurity", "VolumeEngine",
                "Replication", "FileService", "NFSServer", "NetworkModule", "PeerTransport", "ReplicatedDatabase",
                "ReplicatedDatabaseSQLite",
                "ReplicatedDatabaseEtcd", "ClusterConfiguration",
                "Performance", "StorageControl", "MigrateOperation", "GroupControl", "MigrateSource", "Orchestrator",
                "ClusterService", "RESTAPI",
                argumentParser, logging, serviceLifecycle, unixSignals, yams, hummingbird, asyncHTTPClient, nioCore,
                nioPosix,
            ]
        ),
        program("godwit-sim", ["Simulator", argumentParser]),
        program("godwit", ["JSON", "TransportSecurity", argumentParser, asyncHTTPClient, nioCore, nioHTTP1, nioSSL]),

        // T Testing
        room(
            "Testing",
            "TestKit",
            ["Environment", "Identity", "Bytes", "FileIO", "VolumeEngine", "ReplicatedDatabase"]
        ),
        room(
            "Testing",
            "Simulator",
            [
                "CSimulation", "Environment", "Identity", "Bytes", "Saga", "FileIO", "XDR", "ONCRPC", "NFSTypes",
                "VolumeEngine", "Replication", "FileService", "NFSServer", "ReplicatedDatabase",
                "ClusterConfiguration", "StorageControl", "MigrateOperation", "GroupControl", "MigrateSource",
                "Orchestrator", logging,
                nioCore,
            ]
        ),
        tests("ArchitectureTests", []),
        // The simulator is run as a program: linked into the tests, its store would take the place of RocksDB's.
        tests("SimulatorTests", []),
        tests("BaseTests", ["Bytes", "Identity", "Environment", "Saga"]),
        tests("HostNetworkTests", ["HostNetwork", "CLinux"]),
        tests(
            "VolumeEngineTests",
            ["TestKit", "VolumeEngine", "RocksStore", "Bytes", "Environment", "Identity", "FileIO"]
        ),
        tests(
            "ReplicationTests",
            [
                "TestKit", "Replication", "PeerTransport", "VolumeEngine", "FileIO", "Bytes", "Environment", "Identity",
            ]
        ),
        tests(
            "NFSServerTests",
            [
                "TestKit", "HostNetwork", "XDR", "ONCRPC", "NFSTypes", "NFSServer", "FileService", "NetworkModule",
                "VolumeEngine", "Bytes",
                "Environment", "Identity", nioCore, nioPosix,
            ]
        ),
        tests(
            "ReplicatedDatabaseTests",
            [
                "TestKit", "ReplicatedDatabase", "ReplicatedDatabaseSQLite", "ReplicatedDatabaseEtcd",
                "ClusterConfiguration", "ConfigurationReplication", "Environment", "Identity",
            ]
        ),
        tests(
            "PerformanceTests",
            ["Performance", "VolumeEngine", "ClusterConfiguration", "ReplicatedDatabase", "Identity"]
        ),
        tests(
            "StorageControlTests",
            [
                "TestKit", "HostNetwork", "StorageControl", "Performance", "ClusterConfiguration", "ReplicatedDatabase",
                "Replication",
                "VolumeEngine",
                "Environment", "Identity", logging,
            ]
        ),
        tests(
            "DaemonTests",
            [
                "godwitd", "godwit", "JSON", "RESTAPI", "ClusterConfiguration", "StorageControl", "VolumeEngine",
                "Environment", "NFSTypes",
                "Identity", "ReplicatedDatabase", "ReplicatedDatabaseEtcd", "TestKit", "TransportSecurity",
                hummingbird, hummingbirdTesting, logging,
            ]
        ),
        tests(
            "MigrateTests",
            [
                "TestKit", "HostNetwork", "Saga", "Bytes", "StorageControl", "Performance", "MigrateOperation",
                "GroupControl", "MigrateSource", "Orchestrator", "ClusterService", "ConfigurationReplication",
                "ClusterConfiguration", "ReplicatedDatabase", "Replication", "Environment", "Identity", logging,
                nioCore,
                hummingbird, asyncHTTPClient,
            ]
        ),
    ],
    swiftLanguageModes: [.v6]
)
