// swift-tools-version:6.2
import PackageDescription

/// Warnings are errors in the clients as in the rest of the house.
let strictC: [CSetting] = [.unsafeFlags(["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-O2"])]
let libnfs: [LinkerSetting] = [.linkedLibrary("nfs")]

// NFS clients that share no code with the server: they stand on Debian's libnfs, so that what the server and its own
// codecs could get wrong in the same way is still seen.
let package = Package(
    name: "godwit-clients",
    products: [
        .executable(name: "godwit-journal-client", targets: ["godwit-journal-client"]),
        .executable(name: "godwit-tree", targets: ["godwit-tree"]),
        .executable(name: "godwit-load", targets: ["godwit-load"]),
    ],
    targets: [
        .systemLibrary(name: "CLibNFS", pkgConfig: "libnfs", providers: [.apt(["libnfs-dev"])]),
        .target(name: "ClientKit", dependencies: ["CLibNFS"], cSettings: strictC, linkerSettings: libnfs),
        .executableTarget(
            name: "godwit-journal-client",
            dependencies: ["ClientKit"],
            cSettings: strictC,
            linkerSettings: libnfs
        ),
        .executableTarget(name: "godwit-tree", dependencies: ["ClientKit"], cSettings: strictC, linkerSettings: libnfs),
        .executableTarget(name: "godwit-load", dependencies: ["ClientKit"], cSettings: strictC, linkerSettings: libnfs),
    ],
    cLanguageStandard: .gnu11
)
