"""A client of NFSv3 that opens a new connection for every write, so that each listener that still accepts is met.

While an SVM moves, old and new daemon share its address: a write that either of them acknowledges must be in the file in
the end. It speaks raw XDR (RFC 5531, RFC 1813) and shares no code with anything else in this tree.
"""
import random, socket, struct, threading, time

NFS, MOUNT = 100003, 100005
MNT, LOOKUP, READ, WRITE, CREATE = 1, 3, 6, 7, 8
FILE_SYNC = 2
RECORD_BYTES = 8


def opaque(data):
    return struct.pack(">I", len(data)) + data + b"\0" * (-len(data) % 4)


class Unanswered(Exception):
    """No answer, or not the one of a server that serves."""


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, form=">I"):
        value = struct.unpack_from(form, self.data, self.at)[0]
        self.at += struct.calcsize(form)
        return value

    def opaque(self):
        count = self.number()
        data = self.data[self.at:self.at + count]
        self.at += count + -count % 4
        return data

    def skip_attributes(self):
        if self.number():
            self.at += 84


class Connection:
    """One connection; a call has `seconds` for its answer."""

    def __init__(self, address, port, seconds):
        self.deadline = time.monotonic() + seconds
        self.socket = socket.create_connection((address, port), timeout=seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # A reset, so that no port stays behind in TIME-WAIT: the probe opens thousands of connections.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def receive(self, count):
        data = b""
        while len(data) < count:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise Unanswered("time is over")
            self.socket.settimeout(left)
            part = self.socket.recv(count - len(data))
            if not part:
                raise Unanswered("closed")
            data += part
        return data

    @staticmethod
    def encoded(transaction, program, procedure, arguments):
        credential = struct.pack(">I", 0) + opaque(b"probe") + struct.pack(">III", 0, 0, 0)
        message = struct.pack(">IIIIII", transaction, 0, 2, program, 3, procedure)
        message += struct.pack(">I", 1) + opaque(credential) + struct.pack(">II", 0, 0) + arguments
        return struct.pack(">I", 0x80000000 | len(message)) + message

    @staticmethod
    def decoded(record):
        """The transaction that a reply answers, and a reader of its results."""
        reader = Reader(record)
        transaction = reader.number()
        if reader.number() != 1 or reader.number() != 0:
            raise Unanswered("not an accepted reply")
        reader.number()
        reader.opaque()
        if reader.number() != 0:
            raise Unanswered("not executed")
        return transaction, reader

    def record(self):
        record, is_last = b"", False
        while not is_last:
            mark = struct.unpack(">I", self.receive(4))[0]
            is_last = bool(mark & 0x80000000)
            record += self.receive(mark & 0x7FFFFFFF)
        return record

    def call(self, program, procedure, arguments):
        transaction = random.getrandbits(32)
        self.socket.sendall(self.encoded(transaction, program, procedure, arguments))
        answered, reader = self.decoded(self.record())
        if answered != transaction:
            raise Unanswered("the reply of another call")
        return reader


class Probe:
    """Writes increasing numbers from several threads, each to its own place of one file, until it is stopped."""

    THREADS = 3
    ANSWER_SECONDS = 1.0
    PAUSE_SECONDS = 0.002

    def __init__(self, address, port, export, name="probe"):
        self.address, self.port = address, port
        self.acknowledged = [[] for _ in range(self.THREADS)]
        self.times = []
        self.attempts = 0
        self.refused = 0
        self.is_stopping = threading.Event()
        with Connection(address, port, 10) as connection:
            reader = connection.call(MOUNT, MNT, opaque(export.encode()))
            if (status := reader.number()) != 0:
                raise RuntimeError(f"the export {export} cannot be mounted: {status}")
            root = reader.opaque()
            mode = struct.pack(">II", 1, 0o644) + struct.pack(">IIIII", 0, 0, 0, 0, 0)
            reader = connection.call(NFS, CREATE, opaque(root) + opaque(name.encode()) + struct.pack(">I", 0) + mode)
            if (status := reader.number()) != 0 or not reader.number():
                raise RuntimeError(f"the file of the probe cannot be made: {status}")
            self.handle = reader.opaque()
        self.threads = [threading.Thread(target=self.run, args=(index,)) for index in range(self.THREADS)]
        for thread in self.threads:
            thread.start()

    def run(self, index):
        number = 0
        while not self.is_stopping.is_set():
            offset = (number * self.THREADS + index) * RECORD_BYTES
            arguments = opaque(self.handle) + struct.pack(">QII", offset, RECORD_BYTES, FILE_SYNC)
            arguments += opaque(struct.pack(">Q", number + 1))
            self.attempts += 1
            try:
                with Connection(self.address, self.port, self.ANSWER_SECONDS) as connection:
                    status = connection.call(NFS, WRITE, arguments).number()
                if status == 0:
                    self.acknowledged[index].append(number)
                    self.times.append(time.monotonic())
                else:
                    self.refused += 1
            except (OSError, Unanswered):
                pass
            # A number is used once: whatever became of an unanswered write cannot stand in for another one.
            number += 1
            time.sleep(self.PAUSE_SECONDS)

    def stop(self):
        self.is_stopping.set()
        for thread in self.threads:
            thread.join()

    def lost(self):
        """Acknowledged numbers that the file does not have, as (thread, number)."""
        content, is_end = b"", False
        with Connection(self.address, self.port, 60) as connection:
            while not is_end:
                arguments = opaque(self.handle) + struct.pack(">QI", len(content), 65536)
                reader = connection.call(NFS, READ, arguments)
                if (status := reader.number()) != 0:
                    raise RuntimeError(f"the file of the probe cannot be read: {status}")
                reader.skip_attributes()
                reader.number()
                is_end = bool(reader.number())
                content += reader.opaque()
        missing = []
        for index, numbers in enumerate(self.acknowledged):
            for number in numbers:
                offset = (number * self.THREADS + index) * RECORD_BYTES
                if content[offset:offset + RECORD_BYTES] != struct.pack(">Q", number + 1):
                    missing.append((index, number))
        return missing

    def acknowledged_between(self, start, end):
        return sum(start <= moment <= end for moment in self.times)
