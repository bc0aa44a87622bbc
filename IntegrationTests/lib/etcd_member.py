"""An etcd of one member or more, whose members can be killed and come back with their data."""

import contextlib
import json
import os
import signal
import urllib.request

from scenario_lab import wait_for


class EtcdMember:
    """Listens on loopback, on `port` for clients and on the next one for the other members."""

    def __init__(self, lab, name, port, ensemble=None):
        self.lab, self.name, self.port, self.process = lab, name, port, None
        self.endpoint = f"http://127.0.0.1:{port}"
        self.peer = f"{name}=http://127.0.0.1:{port + 1}"
        # The peer addresses of all members.
        self.ensemble = ensemble or self.peer

    def begin(self):
        """Starts it."""
        peer = self.peer.split("=")[1]
        with open(self.lab.path(f"{self.name}.log"), "a") as log:
            self.process = self.lab.spawn(
                ["etcd", "--name", self.name, "--data-dir", self.lab.path(self.name),
                 "--listen-client-urls", self.endpoint, "--advertise-client-urls", self.endpoint,
                 "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                 "--initial-cluster", self.ensemble, "--max-txn-ops", "10000",
                 "--auto-compaction-mode", "revision", "--auto-compaction-retention", "10000",
                 "--logger", "zap", "--log-level", "error"], stdout=log, stderr=log)

    def wait(self):
        """Waits until it answers."""
        wait_for(f"etcd {self.name} answers (see {self.lab.path(self.name + '.log')})", self.is_healthy, 30)

    def start(self):
        """Starts it and waits until it answers."""
        self.begin()
        self.wait()

    def is_healthy(self):
        """Whether it answers and knows a leader, itself or another one."""
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(self.endpoint + "/health", timeout=2) as answer:
                return b"true" in answer.read()
        return False

    def is_leader(self):
        """Whether it says that it leads."""
        if self.process is None or self.process.poll() is not None:
            return False
        with contextlib.suppress(OSError):
            request = urllib.request.Request(self.endpoint + "/v3/maintenance/status", data=b"{}")
            with urllib.request.urlopen(request, timeout=2) as answer:
                status = json.load(answer)
                return status["header"]["member_id"] == status.get("leader")
        return False

    def crash(self):
        """Kills it."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


class EtcdEnsemble:
    """Several members; takes the place of one member as the database of a node."""

    def __init__(self, lab, name, port, count=3):
        peers = ",".join(f"{name}-{index}=http://127.0.0.1:{port + 2 * index + 1}" for index in range(count))
        self.members = [EtcdMember(lab, f"{name}-{index}", port + 2 * index, peers) for index in range(count)]
        self.endpoint = ", ".join(member.endpoint for member in self.members)

    def start(self):
        """Starts all members and waits until they answer."""
        for member in self.members:
            member.begin()
        for member in self.members:
            member.wait()

    def leader(self):
        """The member that leads."""
        return wait_for("etcd has a leader", lambda: next((m for m in self.members if m.is_leader()), None), 30)
