/// A target of the package and where it stands.
struct Room: Equatable {
    var name: String
    /// The folder of its sources, such as `Sources/Base/Bytes`.
    var path: String
    /// The targets of this package that it depends on.
    var dependencies: [String]
}

/// The order of the house: floors from the ground up, and the rooms of a floor in the order in which they may use each
/// other. A room uses lower floors, and on its own floor those that are listed before it.
enum FloorOrder {
    /// The floors with their rooms. Platform and Wire are of one height: neither uses the other.
    static let floors: [(name: String, height: Int, rooms: [String])] = [
        ("System", 0, ["CRocksDB", "CLinux", "CSimulation"]),
        ("Base", 1, ["Bytes", "Environment", "Identity", "JSON", "Saga"]),
        ("Platform", 2, ["FileIO", "HostNetwork", "TransportSecurity"]),
        ("Wire", 2, ["XDR", "ONCRPC", "NFSTypes"]),
        (
            "DataPlane", 3,
            [
                "RocksStore", "SegmentStore", "VolumeEngine", "Replication", "FileService", "NFSServer",
                "NetworkModule",
                "PeerTransport",
            ]
        ),
        (
            "ControlPlane", 4,
            [
                "ReplicatedDatabase", "ReplicatedDatabaseSQLite", "ReplicatedDatabaseEtcd", "ClusterConfiguration",
                "Performance", "ConfigurationReplication", "StorageControl",
            ]
        ),
        ("ManagementPlane", 5, ["MigrateOperation", "GroupControl", "MigrateSource", "Orchestrator"]),
        ("Interfaces", 6, ["ClusterService", "RESTAPI"]),
        // Below the programs, since the simulator is one; no daemon uses it.
        ("Testing", 7, ["Simulator", "TestKit"]),
        ("Programs", 8, ["godwitd", "godwit-sim", "godwit"]),
    ]

    private static func place(of name: String) -> (floor: String, height: Int, position: Int)? {
        for floor in floors {
            if let position = floor.rooms.firstIndex(of: name) { return (floor.name, floor.height, position) }
        }
        return nil
    }

    /// What the rooms break, a sentence for each; empty when the order holds.
    static func violations(in rooms: [Room]) -> [String] {
        var found: [String] = []
        for room in rooms {
            guard let from = place(of: room.name) else {
                found.append("\(room.name) is not in the order of the house: add it to FloorOrder.floors")
                continue
            }
            if room.path != "Sources/\(from.floor)/\(room.name)" {
                found.append("\(room.name) is at \(room.path) and belongs to Sources/\(from.floor)/\(room.name)")
            }
            for dependency in room.dependencies {
                let edge = "\(room.name) (\(from.floor)) uses \(dependency)"
                guard let to = place(of: dependency) else {
                    found.append("\(edge), which is not in the order of the house")
                    continue
                }
                if to.height > from.height {
                    found.append("\(edge) (\(to.floor)), which is above it")
                } else if to.height == from.height, to.floor != from.floor {
                    found.append("\(edge) (\(to.floor)), which is beside it")
                } else if to.height == from.height, to.position >= from.position {
                    found.append("\(edge), which does not come before it on its floor")
                }
            }
        }
        return found
    }
}
