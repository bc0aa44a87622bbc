import Testing

/// No arrow of the house runs up or sideways.
struct FloorTests {
    @Test func theManifestKeepsTheOrder() throws {
        let rooms = try Repository.rooms()
        #expect(rooms.count > 20)
        #expect(FloorOrder.violations(in: rooms) == [])
    }

    /// What a room imports is what the manifest says, so that the manifest tells the whole truth.
    @Test func importsAreDeclared() throws {
        let rooms = try Repository.rooms()
        let names = Set(rooms.map(\.name))
        var found: [String] = []
        for room in rooms {
            for file in try Repository.swiftFiles(below: [room.path]) {
                for line in file.lines {
                    let words = line.split(separator: " ")
                    guard let index = words.firstIndex(of: "import"), index <= 1,
                        let name = words.last.map(String.init),
                        names.contains(name), name != room.name, !room.dependencies.contains(name)
                    else { continue }
                    found.append("\(file.path) imports \(name), which \(room.name) does not declare")
                }
            }
        }
        #expect(found == [])
    }

    /// The rule itself: each planted edge is found.
    @Test(arguments: [
        ("VolumeEngine", "Sources/DataPlane/VolumeEngine", "StorageControl"),
        ("NFSServer", "Sources/DataPlane/NFSServer", "Orchestrator"),
        ("XDR", "Sources/Wire/XDR", "FileIO"),
        ("VolumeEngine", "Sources/DataPlane/VolumeEngine", "Replication"),
        ("VolumeEngine", "Sources/DataPlane/VolumeEngine", "Nowhere"),
        ("Bytes", "Sources/Base/Bytes", "Bytes"),
        ("VolumeEngine", "Sources/ControlPlane/VolumeEngine", "Bytes"),
        ("Attic", "Sources/Base/Attic", "Bytes"),
    ])
    func aPlantedEdgeIsFound(name: String, path: String, dependency: String) {
        let planted = Room(name: name, path: path, dependencies: [dependency])
        #expect(FloorOrder.violations(in: [planted]).count == 1)
    }

    @Test func aLegalEdgeIsLegal() {
        let path = "Sources/DataPlane/Replication"
        let room = Room(name: "Replication", path: path, dependencies: ["VolumeEngine", "Bytes"])
        #expect(FloorOrder.violations(in: [room]) == [])
    }
}
