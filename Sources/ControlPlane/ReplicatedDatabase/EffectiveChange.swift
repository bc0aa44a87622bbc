/// What remains of a transaction's changes when the last change of each key counts, so that no two of them concern one
/// key: etcd takes only such transactions, and every engine must do the same.
package enum EffectiveChange: Equatable, Sendable {
    /// Writes a key.
    case put(key: String, value: [UInt8])
    /// Deletes a key.
    case delete(key: String)
    /// Deletes every key under a prefix but for some, which the transaction writes.
    case deletePrefix(String, sparing: [String])

    /// The effective changes, in the order of the changes that remain.
    package static func list(_ changes: [DatabaseChange]) -> [EffectiveChange] {
        var effective: [EffectiveChange] = []
        for change in changes {
            switch change {
            case .put(let key, let value):
                effective.removeAll { $0.isOf(key) }
                for index in effective.indices { effective[index].spare(key) }
                effective.append(.put(key: key, value: value))
            case .delete(let key):
                effective.removeAll { $0.isOf(key) }
                for index in effective.indices { effective[index].noLongerSpare(key) }
                effective.append(.delete(key: key))
            case .deletePrefix(let prefix):
                effective.removeAll { $0.isUnder(prefix) }
                for index in effective.indices { effective[index].noLongerSpare(under: prefix) }
                effective.append(.deletePrefix(prefix, sparing: []))
            }
        }
        return effective
    }

    private func isOf(_ key: String) -> Bool {
        switch self {
        case .put(let own, _), .delete(let own): own == key
        case .deletePrefix: false
        }
    }

    private func isUnder(_ prefix: String) -> Bool {
        switch self {
        case .put(let key, _), .delete(let key): key.hasPrefix(prefix)
        case .deletePrefix(let own, _): own.hasPrefix(prefix)
        }
    }

    private mutating func spare(_ key: String) {
        guard case .deletePrefix(let prefix, let sparing) = self, key.hasPrefix(prefix), !sparing.contains(key) else {
            return
        }
        self = .deletePrefix(prefix, sparing: sparing + [key])
    }

    private mutating func noLongerSpare(_ key: String) { noLongerSpare { $0 == key } }
    private mutating func noLongerSpare(under prefix: String) { noLongerSpare { $0.hasPrefix(prefix) } }

    private mutating func noLongerSpare(_ isGone: (String) -> Bool) {
        guard case .deletePrefix(let prefix, let sparing) = self else { return }
        self = .deletePrefix(prefix, sparing: sparing.filter { !isGone($0) })
    }
}
