package import NIOCore

/// A stream that is not RPC records any more: the connection must be closed.
package enum RecordError: Error, Equatable, Sendable {
    /// A record above the limit.
    case tooLong(bytes: Int)
    /// More fragments in one record than any client sends.
    case tooManyFragments
}

/// Cuts records out of a stream (RFC 5531, section 11): each fragment begins with 4 bytes, whose highest bit says that it
/// is the record's last one and whose other bits count its bytes.
package enum RecordMarking {
    /// Bytes of a record: the largest WRITE with its header, and room.
    package static let recordBytesMax = (1 << 20) + (64 << 10)
    /// Fragments of a record.
    package static let fragmentsMax = 64

    /// Takes the next whole record out of `stream`; nil when it has not arrived yet.
    package static func next(from stream: inout ByteBuffer) throws(RecordError) -> ByteBuffer? {
        guard let mark = stream.getInteger(at: stream.readerIndex, as: UInt32.self) else { return nil }
        let count = Int(mark & 0x7fff_ffff)
        guard count <= recordBytesMax else { throw .tooLong(bytes: count) }
        if mark & 0x8000_0000 != 0 {
            guard stream.readableBytes >= 4 + count else { return nil }
            stream.moveReaderIndex(forwardBy: 4)
            return stream.readSlice(length: count)
        }
        return try joined(from: &stream)
    }

    /// A record of several fragments, which few clients send.
    private static func joined(from stream: inout ByteBuffer) throws(RecordError) -> ByteBuffer? {
        var place = stream.readerIndex
        var ranges: [Range<Int>] = []
        var total = 0
        while true {
            guard let mark = stream.getInteger(at: place, as: UInt32.self) else { return nil }
            let count = Int(mark & 0x7fff_ffff)
            total += count
            guard total <= recordBytesMax else { throw .tooLong(bytes: total) }
            guard ranges.count < fragmentsMax else { throw .tooManyFragments }
            guard stream.writerIndex - place >= 4 + count else { return nil }
            ranges.append(place + 4..<place + 4 + count)
            place += 4 + count
            if mark & 0x8000_0000 != 0 { break }
        }
        var record = ByteBuffer()
        record.reserveCapacity(total)
        for range in ranges { record.writeImmutableBuffer(stream.getSlice(at: range.lowerBound, length: range.count)!) }
        stream.moveReaderIndex(to: place)
        return record
    }

    /// Leaves room for the mark of a record that begins here; give the result to `finish`.
    package static func begin(in buffer: inout ByteBuffer) -> Int {
        buffer.writeInteger(0 as UInt32)
        return buffer.writerIndex - 4
    }

    /// Writes the mark of the record that began at `start` and ends here.
    package static func finish(from start: Int, in buffer: inout ByteBuffer) {
        buffer.setInteger(UInt32(buffer.writerIndex - start - 4) | 0x8000_0000, at: start)
    }
}
