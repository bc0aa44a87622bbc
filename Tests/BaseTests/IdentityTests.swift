import Environment
import Identity
import Testing

/// The written form of identifiers, and the bits that random ones must have.
struct IdentityTests {
    @Test func textAndBitsAgree() {
        let uuid = ObjectUUID(high: 0x0011_2233_4455_6677, low: 0x8899_aabb_ccdd_eeff)
        #expect(uuid.description == "00112233-4455-6677-8899-aabbccddeeff")
        #expect(ObjectUUID("00112233-4455-6677-8899-AABBCCDDEEFF") == uuid)
    }

    @Test(arguments: [
        "", "00112233445566778899aabbccddeeff", "00112233-4455-6677-8899-aabbccddeef",
        "00112233-4455-6677-8899-aabbccddeeff0", "0011223-34455-6677-8899-aabbccddeeff",
        "g0112233-4455-6677-8899-aabbccddeeff", "+0112233-4455-6677-8899-aabbccddeeff",
    ])
    func refusesOtherText(text: String) { #expect(ObjectUUID(text) == nil) }

    /// RFC 9562, section 5.4: the version is 4 and the variant 10, whatever the random bits are.
    @Test(arguments: [0 as UInt64, UInt64.max, 0x1234_5678_9abc_def0])
    func randomOnesAreOfVersionFour(bits: UInt64) {
        let environment = Environment(
            monotonicNanoseconds: { 0 },
            wallClockNanoseconds: { 0 },
            randomBits: { bits }
        )
        let uuid = ObjectUUID.random(environment)
        #expect(uuid.high >> 12 & 0xf == 4)
        #expect(uuid.low >> 62 == 2)
        let msid = VolumeMSID.random(environment)
        #expect(msid.rawValue != 0)
        #expect(msid.rawValue >> 63 == 0)
    }

    @Test func identifiersAreOrderedByTheirBytes() {
        #expect(ObjectUUID(high: 1, low: UInt64.max) < ObjectUUID(high: 2, low: 0))
        #expect(ObjectUUID(high: 1, low: 1) < ObjectUUID(high: 1, low: 2))
    }
}
