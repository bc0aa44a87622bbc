/// A cluster of the simulated world: its nodes and the database that they share.
final class Cluster: @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    let index: Int
    let name: String
    private(set) var nodes: [Node] = []
    private(set) var database: SharedDatabase!
    /// The database is away for all nodes: nothing is answered, and nothing of it ends by time.
    private(set) var isDatabaseDown = false

    init(index: Int, nodeCount: Int, generator: inout Generator) {
        self.index = index
        name = index == 0 ? "alpha" : "beta"
        database = SharedDatabase(self)
        for position in 0..<nodeCount {
            nodes.append(
                Node(
                    index: index * nodeCount + position,
                    in: self,
                    at: position,
                    // The only node of a cluster has its name.
                    name: nodeCount == 1 ? name : "\(name)-\(position + 1)",
                    generator: &generator
                )
            )
        }
    }

    /// Whether the nodes share the database, so that each needs a session and looks after the others.
    var isShared: Bool { nodes.count > 1 }

    /// The node that the SVM which moves is made on, or that is asked first.
    var contact: Node { nodes[0] }

    /// Takes the database away from all nodes, or gives it back.
    func setDatabaseDown(_ isDown: Bool) {
        isDatabaseDown = isDown
        if !isDown { database.renewAll() }
    }

    /// A process of one of the nodes has died: what it did to the disks of all.
    func died(_ process: SimulatedProcess) { for node in nodes { node.disk.processDied(process) } }
}
