// swift-tools-version:6.2
import PackageDescription

let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .treatAllWarnings(as: .error),
]

// Tests that run real daemons and real clients, and kill them.
let package = Package(
    name: "IntegrationTests",
    products: [.executable(name: "crash-test", targets: ["crash-test"])],
    dependencies: [
        .package(path: "../Benchmarks"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    ],
    targets: [
        .executableTarget(
            name: "crash-test",
            dependencies: [
                .product(name: "Harness", package: "Benchmarks"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "ClientTests",
            dependencies: [.product(name: "Harness", package: "Benchmarks")],
            swiftSettings: settings
        ),
    ]
)
