"""A TCP proxy before the control interface of a source, which delays the answers to one kind of request."""

import contextlib
import socket
import threading
import time

# How often a connection that has nothing to carry looks whether the proxy has ended.
POLL_SECONDS = 0.5


class HoldProxy:
    """Delays the answer to every request whose body has the marker, as long as `is_on`."""

    def __init__(self, address, port, target, marker=b'"hold"', delay_seconds=0.5):
        self.target, self.marker, self.delay_seconds = target, marker, delay_seconds
        self.is_on, self.is_over, self.delayed = True, False, 0
        self.listener = socket.create_server((address, port))
        self.listener.settimeout(POLL_SECONDS)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        """Ends the proxy and its connections."""
        self.is_over = True
        self.listener.close()

    def _accept(self):
        while not self.is_over:
            try:
                client, _ = self.listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            server = socket.create_connection(self.target)
            marked = threading.Event()
            for one, two, watches in ((client, server, True), (server, client, False)):
                one.settimeout(POLL_SECONDS)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._carry, args=(one, two, marked, watches), daemon=True).start()

    def _carry(self, one, two, marked, watches):
        # A marker may be cut in two by the end of what was read.
        tail = b""
        with contextlib.suppress(OSError):
            while not self.is_over:
                try:
                    data = one.recv(1 << 16)
                except TimeoutError:
                    continue
                if not data:
                    break
                if watches and self.is_on and self.marker in tail + data:
                    marked.set()
                elif not watches and marked.is_set():
                    marked.clear()
                    self.delayed += 1
                    time.sleep(self.delay_seconds)
                tail = data[-len(self.marker):] if watches else b""
                two.sendall(data)
        for end in (one, two):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
