import Glibc
package import MigrateOperation
import Saga

/// Ends or stops the process at a step of a migrate, for tests that prove the recovery from it.
package enum CrashTesting {
    /// The environment variable: `<step>:before` or `<step>:after`, and `:stop` behind it to stop the process with SIGSTOP
    /// instead of ending it: it goes on, hours later perhaps, as if no time had passed.
    package static let variable = "GODWIT_CRASH_AT"

    /// The crash points of a setting.
    ///
    /// - Parameters:
    ///   - setting: The value of the variable; nil when it is not set.
    ///   - isAllowed: Whether the configuration file says `testing: true`.
    /// - Throws: `MigrateError` `.invalid` when the setting is not allowed or malformed.
    package static func crashPoints(setting: String?, isAllowed: Bool) throws(MigrateError) -> CrashPoints {
        guard let setting, !setting.isEmpty else { return .none }
        guard isAllowed else {
            throw MigrateError(
                .invalid,
                "\(variable) is set, but this is not a test cluster",
                remedy: "unset it, or say 'testing: true' in the configuration file of a cluster that may be killed"
            )
        }
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
            kill(getpid(), isStopped ? SIGSTOP : SIGKILL)
        }
    }
}
