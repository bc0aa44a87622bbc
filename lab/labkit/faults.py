"""What can happen to a part of the lab, and how it is undone: kill, freeze, isolate; of a node or of the etcd that leads."""

import signal
import time

from . import commands, daemons, lab, network
from .errors import LabError

# As the issue says: a node that hangs and comes back after everybody has given it up.
FREEZE_SECONDS = 30
# Longer than the lease of a node (5 s) and the time in which it is declared dead.
ISOLATE_SECONDS = 15
# How long a killed daemon stays away.
KILL_SECONDS = 10
GIVEBACK_SECONDS_MAX = 90
UP_SECONDS_MAX = 60


class Fault:
    """One fault of one daemon: begun, and undone after a while."""

    kinds = ("kill", "freeze", "isolate")
    seconds = {"kill": KILL_SECONDS, "freeze": FREEZE_SECONDS, "isolate": ISOLATE_SECONDS}

    def __init__(self, state, kind, node, daemon="godwitd"):
        self.state, self.kind, self.node, self.daemon = state, kind, node, daemon
        self.ends = None

    def begin(self):
        """Lets it happen."""
        if self.kind == "isolate":
            network.isolate(self.node)
        else:
            number = signal.SIGKILL if self.kind == "kill" else signal.SIGSTOP
            daemons.signal_to(self.state, self.node, self.daemon, number)
        self.ends = time.monotonic() + self.seconds[self.kind]

    def wait(self):
        """Waits until it has lasted long enough, and undoes it."""
        time.sleep(max(0, self.ends - time.monotonic()))
        self.end()

    def end(self):
        """Undoes it."""
        if self.kind == "isolate":
            network.heal(self.node)
        elif self.kind == "freeze":
            daemons.signal_to(self.state, self.node, self.daemon, signal.SIGCONT)
        else:
            daemons.start(self.state, self.node, self.daemon)


def restore(state):
    """Everything runs again, and every aggregate is at home."""
    for node in state.topology.nodes:
        network.heal(node)
        for kind in daemons.KINDS:
            if daemons.condition(state, node, kind) == "frozen":
                daemons.signal_to(state, node, kind, signal.SIGCONT)
    lab.start_all(state)
    for letter in sorted({node.letter for node in state.topology.nodes}):
        _bring_home(state, state.topology.of_cluster(letter))


def _bring_home(state, nodes):
    first = nodes[0]

    def are_up():
        return all(record["state"] == "up" for record in daemons.records(state, first, "node", "show"))

    commands.wait_for(f"all nodes of {first.cluster} are up", lambda: _quietly(are_up), UP_SECONDS_MAX, every=0.5)
    for node in nodes:
        aggregate = f"aggr_{node.name}"

        def is_home(node=node, aggregate=aggregate):
            found = [record for record in daemons.records(state, first, "aggregate", "show") if record["name"] == aggregate]
            return found and found[0]["state"] == "online" and found[0]["node"]["name"] == node.node

        def come_home(node=node, is_home=is_home):
            if is_home():
                return True
            daemons.godwit(state, first, "node", "giveback", "--name", node.node, check=False)
            return False

        commands.wait_for(f"{aggregate} is back on {node.node}", lambda body=come_home: _quietly(body),
                          GIVEBACK_SECONDS_MAX, every=1)


def _quietly(body):
    """What `body` returns, and False when a node does not answer yet."""
    try:
        return body()
    except (LabError, OSError, ValueError, KeyError):
        return False
