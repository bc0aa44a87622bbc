"""Scenarios of SVMs that are on several nodes of their cluster and move to several nodes of another one."""

import os
import signal
import statistics
import time

from etcd_member import EtcdMember
from scenario_lab import (
    COMPLETE, COMPLETE_AFTER_TROUBLE, LIF_PORT, Cluster, require, require_moved, wait_for, window)

NODES = 3
# Apart from the ports of the other scenarios, which have too few for so many nodes.
PORT_FIRST = 24500
PORTS_PER_SIDE = 20
# The most that an SVM of so many volumes on three nodes may keep its clients waiting, compared with one of as many volumes on one
# node. With few volumes the window on one node is so short that the calls to the others, which are as many for any number of
# volumes, weigh more (docs/decisions/0026).
RATIO_MAX = {24: 1.5, 6: 2}
# The same of the windows, as the clusters measure them.
WINDOW_RATIO_MAX = 1.5
# How often each moves; single moves of few volumes differ more.
RUNS = {24: 5, 6: 7}
# Of each client. Six daemons, two etcd and the clients share the processors of one machine: with more the longest wait is
# that for a processor, at any moment of the move, and says little of the window. Eight workers that ask every 20 ms miss
# nearly nothing of it.
OPERATIONS_PER_SECOND = 100
# Nobody is held for dead so long after a start.
GRACE_SECONDS = 16
# Where the operation stands when a node is killed, and the side that stands there.
POINTS = (("baseline:after", "destination"), ("synchronize:after", "destination"), ("source-hold:after", "source"),
          ("ponr-source:after", "destination"))
VICTIMS = ("source-owner", "source-volume", "destination-volume")
# Clients wait no longer than the lease, the takeover, and what was given up and tried again.
KILLED_MS_MAX = 30_000


def make_side(lab, name, side, are_partners=False):
    """Starts a cluster of three nodes on one etcd."""
    port = PORT_FIRST + PORTS_PER_SIDE * side
    etcd = EtcdMember(lab, f"etcd-{name}", port + 15)
    etcd.start()
    nodes = [Cluster(lab, name, port + 3 * index, address=f"127.46.{side}.1", node=index + 1,
                     interconnect=port + 3 * index + 2) for index in range(NODES)]
    for node in nodes:
        node.etcd = etcd
        node.partners = [other.node for other in nodes if other is not node] if are_partners else []
        node.start()
    return nodes


def make_sides(lab, are_partners=False):
    """Starts both clusters and makes them peers: one knows all nodes of the other, which knows one and is told the rest."""
    alpha, beta = (make_side(lab, name, side, are_partners) for side, name in enumerate(("alpha", "beta")))
    for one, two, known in ((alpha, beta, 1), (beta, alpha, NODES)):
        addresses = ",".join(f"{node.address}:{node.port}" for node in two[:known])
        one[0].godwit("cluster", "peer", "create", "--name", two[0].name, "--address", addresses,
                      "--passphrase", "only-for-this-machine")
    return alpha, beta


def make_svm(lab, nodes, svm, addresses, count, places=(0, 1, 2)):
    """Makes an SVM with volumes and LIFs on nodes, and some data in each volume: sizes are such that volumes of each node
    go to every node."""
    first = nodes[0]
    first.godwit("svm", "create", "--name", svm)
    first.godwit("export-policy", "rule", "add", "--svm", svm, "--policy", "default", "--clients", "127.0.0.0/8",
                 "--ro", "any", "--rw", "any", "--superuser", "any")
    for index, address in enumerate(addresses):
        first.godwit("lif", "create", "--svm", svm, "--name", f"lif{index}", "--address", address, "--port",
                     str(LIF_PORT), "--home-node", nodes[places[index % len(places)]].node)
    for index in range(count):
        place = places[index % len(places)]
        first.godwit("volume", "create", "--svm", svm, "--name", f"v{index}", "--size", "1G", "--aggregate",
                     f"aggr{place + 1}", "--junction-path", f"/v{index}")
        row, column = divmod(index, NODES)
        rank = NODES * row + (column - row) % NODES
        name = f"data-{rank}"
        if not os.path.exists(lab.path(name)):
            lab.random_files(name, (count + 8 - rank) * 128 << 10, 128 << 10)
        lab.copy(f"v{index}", lab.path(name), address=addresses[index % len(addresses)])


def clients_of(lab, name, addresses, **options):
    """Clients of several volumes: each through an address that is at home with its volume, or elsewhere."""
    return [lab.client(f"{name}-v{volume}-{way}", volume=f"v{volume}", address=addresses[way % len(addresses)], **options)
            for volume, way in ((0, 0), (1, 2), (2, 0), (4, 1))]


def finish(clients):
    """Ends clients, none of which may have seen harm; returns the longest wait in milliseconds."""
    return max(client.finish()["outage_ms"] for client in clients)


def pairs_of(record):
    """The bytes that went from node to node, in one word."""
    return ",".join(f"{pair['source']}>{pair['destination']}={pair['bytes']}" for pair in record["godwit"]["node_pairs"])


def move(lab, source, destination, svm, addresses, name, options=()):
    """Moves an SVM under clients; returns the longest wait and the record."""
    clients = clients_of(lab, name, addresses, operations_per_second=OPERATIONS_PER_SECOND)
    destination[0].migrate("start", "--source-cluster", source[0].name, *options, svm=svm)
    record = destination[0].wait_state(*COMPLETE, svm=svm)
    time.sleep(0.5)
    waited = finish(clients)
    require_moved(source[1], destination[2], svm=svm)
    return waited, record


class Moves:
    """An SVM of the scenario `group`, which goes there and back, and what was measured."""

    def __init__(self, lab, nodes, kind, count):
        self.kind, self.count, self.svm = kind, count, f"{kind}{count}"
        places, first = ((0, 1, 2), 1) if kind == "spread" else ((0,), 11)
        self.addresses = [f"127.47.{count}.{index + first}" for index in range(len(places))]
        self.waits, self.windows, self.stages, self.pairs = [], [], [], []
        make_svm(lab, nodes, self.svm, self.addresses, count, places)

    def run(self, lab, source, destination):
        """Moves it under clients."""
        number, options = len(self.waits), () if self.kind == "spread" else ("--aggr-list", "aggr1")
        waited, record = move(lab, source, destination, self.svm, self.addresses, f"{self.svm}-{number}", options)
        self.waits.append(waited)
        self.windows.append(record["godwit"]["window_ms"])
        self.stages.append(window(record))
        if self.kind == "spread":
            self.require_all_nodes(source, destination, record)

    def require_all_nodes(self, source, destination, record):
        """Every node sent, received, and has an address; 24 volumes that are moved for the first time use every pair."""
        pairs = record["godwit"]["node_pairs"]
        self.pairs.append(pairs_of(record))
        require({pair["source"] for pair in pairs} == {node.node for node in source}
                and {pair["destination"] for pair in pairs} == {node.node for node in destination},
                f"not all nodes took part: {pairs_of(record)}")
        require(self.count < 24 or len(self.pairs) > 1 or len(pairs) == NODES * NODES,
                f"not all pairs of nodes were used: {pairs_of(record)}")
        places = {record["location"]["node"]["name"]
                  for record in destination[1].records("lif", "show") if record["svm"]["name"] == self.svm}
        require(places == {node.node for node in destination}, f"the LIFs are on {places}")

    def result(self):
        """What was measured, by name."""
        middle = self.windows.index(sorted(self.windows)[len(self.windows) // 2])
        name = f"{self.kind}_{self.count}"
        return {f"{name}_outage_ms": statistics.median(self.waits), f"{name}_outages": ",".join(map(str, self.waits)),
                f"{name}_window_ms": statistics.median(self.windows), f"{name}_stages": self.stages[middle],
                **{f"pairs_{self.count}_{number}": pairs for number, pairs in enumerate(self.pairs[:2])}}

    def verify(self, lab):
        """Compares the data in each volume."""
        for index in range(self.count):
            row, column = divmod(index, NODES)
            lab.copy(f"v{index}", lab.path(f"data-{NODES * row + (column - row) % NODES}"),
                     address=self.addresses[0], verify=True)


def group(lab):
    """SVMs of 6 and of 24 volumes on three nodes move to three nodes and back, each volume from node to node; their clients
    wait hardly longer than those of an SVM with as many volumes on one node."""
    sides = make_sides(lab)
    result = {}
    # The large one first: where its volumes go is decided by their sizes alone, as long as the other side is empty.
    for count, runs in RUNS.items():
        spread, one = (Moves(lab, sides[0], kind, count) for kind in ("spread", "one"))
        # In turn: what the machine does besides harms both alike.
        for number in range(runs):
            source, destination = sides if number % 2 == 0 else reversed(sides)
            for moves in (spread, one):
                moves.run(lab, source, destination)
        for moves in (spread, one):
            moves.verify(lab)
            result.update(moves.result())
        for figure in ("outage", "window"):
            result[f"ratio_{count}_{figure}"] = round(
                result[f"spread_{count}_{figure}_ms"] / max(1, result[f"one_{count}_{figure}_ms"]), 2)
    # A snapshot of all volumes, wherever they are.
    side = sides[RUNS[6] % 2]
    side[1].godwit("snapshot", "create", "--svm", "spread6", "--name", "everywhere")
    for index in range(6):
        found = side[2].records("snapshot", "show", "--svm", "spread6", "--volume", f"v{index}")
        require("everywhere" in [record["name"] for record in found], f"v{index} has no snapshot of all volumes")
    for count in RUNS:
        require(result[f"ratio_{count}_outage"] <= RATIO_MAX[count] and result[f"ratio_{count}_window"] <= WINDOW_RATIO_MAX,
                " ".join(f"{name}={value}" for name, value in result.items()))
    return result


def resume_places(lab):
    """The source gets a volume while its move is paused: the resume says where it goes. What is on the destination already
    stays where it is, and a resume that names an aggregate that is not there changes nothing."""
    alpha, beta = make_sides(lab)
    svm, address = "resumed", "127.47.50.1"
    make_svm(lab, alpha, svm, [address], 3)
    client = lab.client("client", volume="v1", address=address, operations_per_second=OPERATIONS_PER_SECOND)
    beta[0].wait_point("baseline:after")
    beta[0].migrate("start", "--source-cluster", "alpha", "--aggr-list", "aggr1", svm=svm)
    beta[0].reached("baseline:after")
    beta[0].migrate("pause", svm=svm)
    beta[0].go_on("baseline:after")
    beta[0].wait_state("migrate_paused", svm=svm)
    alpha[0].godwit("volume", "create", "--svm", svm, "--name", "late", "--size", "1G", "--aggregate", "aggr2",
                    "--junction-path", "/late")
    files = lab.random_files("late-files", 4 << 20, 1 << 20)
    lab.copy("late", files, address=address)
    refused = beta[0].migrate("resume", "--aggr-list", "aggr9", svm=svm, check=False)
    require(refused.returncode != 0 and "aggr9" in refused.stderr, f"an aggregate that is not there: {refused.stderr}")
    require(beta[0].state(svm) == "migrate_paused", f"a refused resume left it {beta[0].state(svm)}")
    beta[0].migrate("resume", "--aggr-list", "aggr3", svm=svm)
    beta[0].wait_state(*COMPLETE, svm=svm)
    waited = finish([client])
    require_moved(alpha[1], beta[2], svm=svm)
    places = {record["name"]: record["aggregates"][0]["name"]
              for record in beta[1].records("volume", "show") if record["svm"]["name"] == svm}
    require(places == {"v0": "aggr1", "v1": "aggr1", "v2": "aggr1", "late": "aggr3"}, f"the volumes are on {places}")
    lab.copy("late", files, address=address, verify=True)
    return {"outage_ms": waited}


def owner_of(nodes, svm):
    """The node that owns the source's side of an operation, as the cluster tells it."""
    for node in nodes:
        if node.process.poll() is None:
            found = [record for record in node.records("svm", "migrate", "show", "--source-side")
                     if record["svm"]["name"] == svm]
            if found:
                return next(one for one in nodes if one.node == found[0]["owning_node"])
    return None


def come_home(side, victim):
    """Starts a node that was killed, and gives it back what was its."""
    victim.start()
    others = [node for node in side if node is not victim]
    wait_for("the node is up", lambda: "down" not in [r["state"] for r in others[0].records("node", "show")], 20)
    others[0].godwit("node", "giveback", "--name", victim.node)
    aggregate = f"aggr{victim.node[-1]}"

    def is_home():
        return [record["node"]["name"] for record in others[0].records("aggregate", "show")
                if record["name"] == aggregate and record["state"] == "online"] == [victim.node]

    wait_for(f"{victim.node} has its aggregate back", is_home, 30)


def group_kills(lab):
    """A node is killed while an SVM on three nodes moves: the one that owns the source's side, another one with volumes of
    the source, or one with volumes of the destination. Another node takes its place, and the operation completes."""
    alpha, beta = make_sides(lab, are_partners=True)
    started, figures = time.monotonic(), {}
    for number, (point, side) in enumerate(POINTS):
        for index, kind in enumerate(VICTIMS):
            svm = f"{kind}-{number}"
            addresses = [f"127.48.{10 * number + index}.{way + 1}" for way in range(NODES)]
            make_svm(lab, alpha, svm, addresses, 6)
            # What a node that is killed knew of answered calls dies with it (docs/decisions/0009).
            clients = clients_of(lab, svm, addresses)
            time.sleep(max(0, started + GRACE_SECONDS - time.monotonic()))
            # Any node of the source may own its side, so all of them wait.
            waiting = alpha if side == "source" else beta[:1]
            for node in waiting:
                node.wait_point(point)
            beta[0].migrate("start", "--source-cluster", "alpha", svm=svm)
            wait_for(f"{point} is reached", lambda: [
                node for node in waiting if os.path.exists(node.path(f"waits/{point}.reached"))], 120, every=0.002)
            owner = owner_of(alpha, svm)
            require(owner is not None, "the source does not tell who owns its side")
            victim = {"source-owner": owner, "source-volume": next(node for node in alpha if node is not owner),
                      "destination-volume": beta[2]}[kind]
            os.kill(victim.process.pid, signal.SIGKILL)
            victim.process.wait()
            killed = time.monotonic()
            for node in waiting:
                node.go_on(point)
            record = beta[0].wait_state(*COMPLETE_AFTER_TROUBLE, svm=svm)
            seconds = time.monotonic() - killed
            time.sleep(1)
            name = f"{kind}_{point.replace(':', '_')}".replace("-", "_")
            figures[f"{name}_complete_s"] = round(seconds, 1)
            figures[f"{name}_outage_ms"] = finish(clients)
            require(figures[f"{name}_outage_ms"] <= KILLED_MS_MAX, f"{name}: clients waited too long: {figures}")
            require(record["godwit"]["volumes_verified"] == 6, f"{name}: not every volume was compared")
            come_home(alpha if victim in alpha else beta, victim)
            require_moved(alpha[1], beta[1], svm=svm)
    return figures
