import ArgumentParser

/// The command line of Godwit: speaks REST to a node, nothing else.
@main
struct GodwitCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "godwit",
        abstract: "Manages Godwit clusters.",
        discussion:
            "Sizes are written 500M or 10G (powers of 1024). Errors go to standard error, the exit status is then "
            + "not 0. --json prints what REST answered.",
        version: "Godwit 0.1.0",
        subcommands: [
            ClusterCommand.self, NodeCommand.self, AggregateCommand.self, SVMCommand.self, VolumeCommand.self,
            SnapshotCommand.self, ExportPolicyCommand.self, LIFCommand.self, PortCommand.self, IPSpaceCommand.self,
            BroadcastDomainCommand.self, SubnetCommand.self, JobCommand.self, EventCommand.self, StatisticsCommand.self,
        ]
    )
}
