package import ClusterConfiguration
package import VolumeEngine

extension ManagementError {
    /// The management error of a storage error.
    package init(storage error: StorageError, target: String? = nil) {
        let (kind, code): (Kind, String) =
            switch error.code {
            case .wrongOwner: (.conflict, "storage_wrong_owner")
            case .damaged: (.failed, "storage_damaged")
            case .notFound: (.notFound, "storage_not_found")
            case .exists: (.exists, "storage_exists")
            case .noSpace: (.conflict, "storage_no_space")
            case .conflict: (.conflict, "storage_conflict")
            case .baselineLost: (.conflict, "storage_baseline_lost")
            case .inputOutput: (.failed, "storage_input_output")
            }
        self.init(kind, code, error.message, remedy: error.remedy, target: target)
    }

    /// The management error of whatever was thrown.
    package static func from(_ error: any Error) -> ManagementError {
        if let error = error as? ManagementError { return error }
        if let error = error as? StorageError { return ManagementError(storage: error) }
        if error is CancellationError {
            return ManagementError(
                .unavailable,
                "stopping",
                "the daemon stops",
                remedy: "try again when it has been started again"
            )
        }
        return ManagementError(
            .failed,
            "unexpected",
            "\(error)",
            remedy: "look into the log of godwitd and report this"
        )
    }
}
