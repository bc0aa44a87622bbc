"""A very small NFSv3 client that keeps one connection and never opens another.

The libnfs client reconnects by itself; this one shows what a listener does with a connection that it already has.
"""

import socket
import struct

PROGRAM_MOUNT, PROGRAM_NFS = 100005, 100003
MOUNT_MNT, NFS_WRITE, NFS_CREATE = 1, 7, 8
FILE_SYNC = 2
LAST_FRAGMENT = 0x8000_0000


class ProbeError(Exception):
    """The server answered with an error."""


def opaque(data):
    """A variable-length opaque of XDR."""
    return struct.pack(">I", len(data)) + data + b"\0" * (-len(data) % 4)


class Probe:
    """One connection to a LIF with a file of its own in an export."""

    def __init__(self, address, port, export, name, seconds=10):
        self.socket = socket.create_connection((address, port), seconds)
        self.xid = 1
        answer = self.call(PROGRAM_MOUNT, MOUNT_MNT, opaque(export.encode()))
        self.root = self._handle(answer, "MNT")
        # UNCHECKED, with mode 0644 and nothing else set.
        attributes = struct.pack(">IIIIIIII", 0, 1, 0o644, 0, 0, 0, 0, 0)
        answer = self.call(PROGRAM_NFS, NFS_CREATE, opaque(self.root) + opaque(name.encode()) + attributes)
        (status, follows) = struct.unpack_from(">II", answer)
        if status != 0 or follows != 1:
            raise ProbeError(f"CREATE answered {status}")
        self.file = self._handle(struct.pack(">I", 0) + answer[8:], "CREATE")

    @staticmethod
    def _handle(answer, procedure):
        (status, length) = struct.unpack_from(">II", answer)
        if status != 0:
            raise ProbeError(f"{procedure} answered {status}")
        return answer[8:8 + length]

    def send(self, program, procedure, arguments):
        """Sends a call and returns its transaction identifier."""
        self.xid += 1
        # AUTH_SYS of user 0 on a machine without a name.
        credential = struct.pack(">IIIII", 0, 0, 0, 0, 0)
        header = struct.pack(">IIIIII", self.xid, 0, 2, program, 3, procedure)
        message = header + struct.pack(">I", 1) + opaque(credential) + struct.pack(">II", 0, 0) + arguments
        self.socket.sendall(struct.pack(">I", LAST_FRAGMENT | len(message)) + message)
        return self.xid

    def receive(self):
        """Waits for an answer; returns its transaction identifier and its results."""
        (mark,) = struct.unpack(">I", self._exactly(4))
        message = self._exactly(mark & ~LAST_FRAGMENT)
        (xid, kind, denied, _, verifier) = struct.unpack_from(">IIIII", message)
        offset = 20 + verifier
        (accepted,) = struct.unpack_from(">I", message, offset)
        if kind != 1 or denied != 0 or accepted != 0:
            raise ProbeError(f"the call was not accepted: {kind} {denied} {accepted}")
        return xid, message[offset + 4:]

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                raise ConnectionError("the server closed the connection")
            data += piece
        return data

    def call(self, program, procedure, arguments):
        """A call and its results."""
        xid = self.send(program, procedure, arguments)
        answered, results = self.receive()
        if answered != xid:
            raise ProbeError(f"answer {answered} to call {xid}")
        return results

    def write_arguments(self, offset, data):
        """The arguments of a stable WRITE."""
        return opaque(self.file) + struct.pack(">QII", offset, len(data), FILE_SYNC) + opaque(data)

    def write(self, offset, data):
        """A stable WRITE; raises unless it is acknowledged."""
        results = self.call(PROGRAM_NFS, NFS_WRITE, self.write_arguments(offset, data))
        (status,) = struct.unpack_from(">I", results)
        if status != 0:
            raise ProbeError(f"WRITE answered {status}")

    def acknowledges(self, seconds):
        """Whether, within the time, any answer comes on this connection that says that a WRITE was done."""
        self.socket.settimeout(seconds)
        try:
            while True:
                _, results = self.receive()
                if struct.unpack_from(">I", results)[0] == 0:
                    return True
        except (OSError, ProbeError):
            return False

    def close(self):
        """Ends the connection."""
        self.socket.close()
