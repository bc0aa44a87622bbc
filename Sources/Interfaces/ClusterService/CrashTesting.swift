import Glibc
package import MigrateOperation
import Saga

/// Ends or stops the process at a step of a migrate, or makes it wait there, for tests that prove what becomes of it.
package enum CrashTesting {
    /// The environment variable: `<step>:before` or `<step>:after`, and `:stop` behind it to stop the process with SIGSTOP
    /// instead of ending it: it goes on, hours later perhaps, as if no time had passed.
    package static let variable = "GODWIT_CRASH_AT"
    /// The environment variable of the directory whose files say where to wait.
    package static let waitVariable = "GODWIT_WAIT_IN"
    /// How often a step that waits looks whether it may go on.
    private static let waitPollMilliseconds = 2

    /// The crash points of a setting.
    ///
    /// - Parameters:
    ///   - setting: The value of the variable; nil when it is not set.
    ///   - isAllowed: Whether the configuration file says `testing: true`.
    /// - Throws: `MigrateError` `.invalid` when the setting is not allowed or malformed.
    package static func crashPoints(setting: String?, isAllowed: Bool) throws(MigrateError) -> CrashPoints {
        guard let setting, !setting.isEmpty else { return .none }
        try requireTestCluster(variable, isAllowed)
        let parts = setting.split(separator: ":", omittingEmptySubsequences: false)
        let isStopped = parts.count == 3 && parts[2] == "stop"
        guard parts.count == 2 || isStopped, !parts[0].isEmpty, let moment = SagaMoment(rawValue: String(parts[1]))
        else {
            throw MigrateError(
                .invalid,
                "\(variable) is '\(setting)'",
                remedy: "write <step>:before or <step>:after, with :stop behind it to stop instead of ending"
            )
        }
        let step = String(parts[0])
        return CrashPoints { name, reached in
            guard name == step, reached == moment else { return }
            // Nothing may run after this, no flush, no close: that is what is being tested.
            // To this thread, since any other could take SIGSTOP a moment later, and this one send an answer meanwhile.
            raise(isStopped ? SIGSTOP : SIGKILL)
        }
    }

    /// The points at which the process waits while `<directory>/<step>:<moment>.wait` exists. It says that it has come
    /// there with `<directory>/<step>:<moment>.reached`. Points can be set and taken away while the process runs.
    ///
    /// - Parameters:
    ///   - directory: The value of the variable; nil when it is not set.
    ///   - isAllowed: Whether the configuration file says `testing: true`.
    /// - Throws: `MigrateError` `.invalid` when it is not allowed.
    package static func waitPoints(directory: String?, isAllowed: Bool) throws(MigrateError) -> CrashPoints {
        guard let directory, !directory.isEmpty else { return .none }
        try requireTestCluster(waitVariable, isAllowed)
        return CrashPoints { step, moment in
            let path = "\(directory)/\(step):\(moment.rawValue)"
            guard access(path + ".wait", F_OK) == 0 else { return }
            let descriptor = open(path + ".reached", O_CREAT | O_WRONLY | O_CLOEXEC, 0o644)
            if descriptor >= 0 { close(descriptor) }
            while access(path + ".wait", F_OK) == 0 {
                try await Task.sleep(for: .milliseconds(waitPollMilliseconds))
            }
        }
    }

    private static func requireTestCluster(_ name: String, _ isAllowed: Bool) throws(MigrateError) {
        guard isAllowed else {
            throw MigrateError(
                .invalid,
                "\(name) is set, but this is not a test cluster",
                remedy: "unset it, or say 'testing: true' in the configuration file of a cluster that may be harmed"
            )
        }
    }
}
