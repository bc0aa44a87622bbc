import ReplicatedDatabase
import Testing

@Suite("Watch hub") struct WatchHubTests {
    /// Whoever lets the last reference to a stream go calls `remove`: it must happen without the lock of the hub.
    @Test func aStreamWhoseReaderHasGoneIsGivenBack() {
        var hub = WatchHub()
        let (_, continuation) = AsyncThrowingStream<WatchEvent, any Error>.makeStream()
        _ = hub.add(prefix: "", history: [], continuation)
        continuation.finish()
        #expect(hub.publish([WatchEvent(key: "key", value: [], revision: 1)]).count == 1)
        #expect(hub.count == 0)
    }
}
