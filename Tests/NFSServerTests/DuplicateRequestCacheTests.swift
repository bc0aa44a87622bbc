import FileService
import Testing
import VolumeEngine

private func key(_ node: Int, _ number: Int) -> RequestKey {
    RequestKey(
        client: ClientAddress(rawValue: 0x7f00_0001),
        xid: UInt32(number),
        procedure: 7,
        checksum: UInt64(node)
    )
}

/// A cache with as many answers of a node as it keeps.
private func full(_ node: Int) -> DuplicateRequestCache {
    let cache = DuplicateRequestCache()
    for number in 0..<DuplicateRequestCache.repliesMax { answer(node, number, cache) }
    return cache
}

private func answer(_ node: Int, _ number: Int, _ cache: DuplicateRequestCache) {
    guard case .execute = cache.claim(key(node, number), waiter: { _ in }) else { return }
    cache.finish(key(node, number), CachedReply(bytes: [UInt8(node)], volume: nil, ticket: .durable))
}

private func isKnown(_ node: Int, _ number: Int, _ cache: DuplicateRequestCache) -> Bool {
    if case .answered = cache.claim(key(node, number), waiter: { _ in }) { true } else { false }
}

@Suite struct DuplicateRequestCacheTests {
    /// A cluster of three nodes gives three caches to each node of another one.
    @Test func fullCachesOfSeveralNodesDoNotPushEachOtherOut() throws {
        let cache = DuplicateRequestCache()
        for node in 1...3 { try cache.import(full(node).export().state) }
        for node in 1...3 {
            #expect(isKnown(node, 0, cache))
            #expect(isKnown(node, DuplicateRequestCache.repliesMax - 1, cache))
        }
        // New answers push the taken-over ones out, two for each, the oldest first, until there are as many as usual.
        let last = DuplicateRequestCache.repliesMax - 1
        for number in 0...last { answer(4, number, cache) }
        #expect(!isKnown(1, last, cache) && !isKnown(2, last, cache))
        #expect(isKnown(3, 0, cache) && isKnown(4, 0, cache))
        for number in 0..<(last + 1) / 2 { answer(5, number, cache) }
        #expect(!isKnown(3, last, cache) && isKnown(4, 0, cache) && isKnown(5, 0, cache))
    }
}
