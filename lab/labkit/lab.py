"""The lab as a whole: up, down, and how it is."""

import contextlib
import os
import sys

from . import commands, daemons, namespaces, network
from .errors import LabError
from .guest import Guest
from .topology import CLIENT_BRIDGE, CLIENT_NETWORK, NODES_MAX, SWITCH, guest_address


def require_root():
    """Fails unless namespaces can be made."""
    if os.geteuid() != 0:
        raise LabError("only root can make network namespaces", "run it as root")


def up(state, nodes=3, say=print):
    """Builds both clusters. What is there already must be taken down first."""
    require_root()
    commands.require_programs(daemons.PACKAGES)
    if not 1 <= nodes <= NODES_MAX:
        raise LabError(f"{nodes} nodes a cluster are not possible", f"give a number from 1 to {NODES_MAX}")
    for program in ("godwitd", "godwit"):
        state.program(program)
    if state.is_there or namespaces.exists(SWITCH):
        raise LabError(f"a lab is up already (in {state.directory}, or in another directory)",
                       "lab/lab down, with the GODWIT_LAB_DIR that it was started with")
    state.begin(nodes)
    for name in ("logs", "aggregates", "guests", "data"):
        os.makedirs(state.path(name))
    for node in state.topology.nodes:
        os.makedirs(state.path("data", node.name))
    daemons.certify(state)
    network.build(state.topology)
    start_all(state)
    daemons.peer(state, state.topology.node("a1"), state.topology.node("b1"))
    say(f"lab: two clusters of {nodes} nodes are up, their logs in {state.path('logs')}")


def start_all(state):
    """Starts whatever is dead, etcd first, and waits until it serves."""
    for kind in ("etcd", "godwitd"):
        # The first node makes the cluster that the others join.
        for batch in ([[node for node in state.topology.nodes if node.number == 1],
                       [node for node in state.topology.nodes if node.number > 1]] if kind == "godwitd"
                      else [state.topology.nodes]):
            for node in batch:
                daemons.start(state, node, kind)
            for node in batch:
                daemons.wait_ready(state, node, kind)


@contextlib.contextmanager
def running(state, nodes=3):
    """A lab for as long as the body runs: the one that is up, or one of its own, which is then taken down, also after a
    failure. GODWIT_LAB_KEEP=1 leaves it up."""
    is_ours = not state.is_there
    try:
        if is_ours:
            up(state, nodes)
        yield state
    finally:
        if is_ours and state.is_there and os.environ.get("GODWIT_LAB_KEEP") != "1":
            down(state, say=lambda text: print(text, file=sys.stderr))


def guests(state):
    """All guests that were started in this lab."""
    place = state.path("guests")
    return [Guest(os.path.join(place, name)) for name in sorted(os.listdir(place))] if os.path.isdir(place) else []


def start_guest(state, number=1, memory=512):
    """Boots a kernel client in the client network, or returns the one that runs."""
    state.require()
    guest = Guest(state.path("guests", f"c{number}"))
    if not guest.is_running:
        guest.start(SWITCH, CLIENT_BRIDGE, f"{guest_address(number)}/24", memory=memory)
    return guest


def down(state, say=print, by_name=False):
    """Ends and removes everything; may be called at any time, also after an `up` that failed. With `by_name` the
    namespaces go although nothing is known of the lab that made them."""
    require_root()
    if not state.is_there and not by_name:
        if namespaces.exists(SWITCH):
            raise LabError(f"there is no lab in {state.directory}, but there is a namespace {SWITCH}",
                           "name the directory of that lab with GODWIT_LAB_DIR, or, if it is lost: lab/lab down --by-name")
        say("lab: there is none")
        return
    for guest in guests(state):
        guest.stop()
    daemons.end_all(state)
    complaints = network.remove(state.topology)
    state.end()
    for complaint in complaints:
        say(f"lab: {complaint}")
    say("lab: down")


def status(state):
    """Rows of words that tell how every node and guest is."""
    state.require()
    rows = [("NODE", "NAME", "CLIENT", "CLUSTER", "INTER", "GODWITD", "ETCD", "FAULTS")]
    leaders = {letter: daemons.etcd_leader(state, letter) for letter in ("a", "b")}
    for node in state.topology.nodes:
        etcd = daemons.condition(state, node, "etcd")
        rows.append((node.name, node.node, *node.addresses.values(), daemons.condition(state, node, "godwitd"),
                     f"{etcd}, leads" if leaders[node.letter] is node else etcd,
                     "; ".join(network.faults(node)) or "none"))
    for guest in guests(state):
        if guest.is_running:
            rows.append((guest.name, "kernel client", f"{CLIENT_NETWORK}.{guest.record['address'].rpartition('.')[2]}",
                         "", "", "", "", ""))
    return rows
