// swift-tools-version:6.2
import PackageDescription

let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .treatAllWarnings(as: .error),
]
let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")

// Measures Godwit beside its peers. `Harness`, which runs real daemons and clients, also carries the crash tests.
let package = Package(
    name: "Benchmarks",
    products: [
        .library(name: "Harness", targets: ["Harness"]),
        .executable(name: "godwit-bench", targets: ["godwit-bench"]),
    ],
    dependencies: [.package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2")],
    targets: [
        .target(name: "Harness", swiftSettings: settings),
        .executableTarget(name: "godwit-bench", dependencies: ["Harness", argumentParser], swiftSettings: settings),
        .testTarget(name: "HarnessTests", dependencies: ["Harness"], swiftSettings: settings),
    ]
)
