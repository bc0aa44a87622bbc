"""An etcd of one member, which can be killed and comes back with its data."""

import contextlib
import os
import signal
import urllib.request

from scenario_lab import wait_for


class EtcdMember:
    """Listens on loopback, on `port` for clients and on the next one for peers that it does not have."""

    def __init__(self, lab, name, port):
        self.lab, self.name, self.port, self.process = lab, name, port, None
        self.endpoint = f"http://127.0.0.1:{port}"

    def start(self):
        """Starts it and waits until it answers."""
        peer = f"http://127.0.0.1:{self.port + 1}"
        with open(self.lab.path(f"{self.name}.log"), "a") as log:
            self.process = self.lab.spawn(
                ["etcd", "--name", self.name, "--data-dir", self.lab.path(self.name),
                 "--listen-client-urls", self.endpoint, "--advertise-client-urls", self.endpoint,
                 "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                 "--initial-cluster", f"{self.name}={peer}", "--max-txn-ops", "10000",
                 "--auto-compaction-mode", "revision", "--auto-compaction-retention", "10000",
                 "--logger", "zap", "--log-level", "error"], stdout=log, stderr=log)
        wait_for(f"etcd {self.name} answers (see {self.lab.path(self.name + '.log')})", self.is_healthy, 30)

    def is_healthy(self):
        """Whether it answers and knows a leader, itself."""
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(self.endpoint + "/health", timeout=2) as answer:
                return b"true" in answer.read()
        return False

    def crash(self):
        """Kills it."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
