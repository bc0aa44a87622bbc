"""Scenarios of clusters of several nodes."""

import os
import signal
import time

from etcd_member import EtcdMember
from scenario_lab import COMPLETE_AFTER_TROUBLE, LIF_PORT, SVM, Cluster, make_svm, peer, require, require_moved, wait_for

# How long the node that holds a volume is away.
AWAY_SECONDS = 2


# How long a node stands still: longer than its lease.
FROZEN_SECONDS = 12
# The lease of a node, and what may come on top of it until another one serves what it had.
LEASE_SECONDS = 5
TAKEOVER_SECONDS_MAX = LEASE_SECONDS + 2
# A change of the owner that somebody orders.
PLANNED_MS_MAX = 3_000


# Where the node that owns an operation is killed: before, around and after the point of no return.
REHOMING_POINTS = ("baseline:after", "synchronize:after", "ponr-source:after", "ponr-destination:after")


def make_nodes(lab, name, are_partners=False, identity=None, etcd=None):
    """Starts a cluster of two nodes on an etcd of its own or a given one, with certificates of the authority in a directory,
    or without."""
    etcd = etcd or EtcdMember(lab, f"etcd-{name}", lab.port + 10)
    etcd.start()
    made = [Cluster(lab, name, lab.port + 3 * index, node=index + 1, interconnect=lab.port + 3 * index + 2)
            for index in range(2)]
    for node in made:
        node.etcd = etcd
        node.partners = [other.node for other in made if other is not node] if are_partners else []
        if identity:
            node.secure(identity)
        node.start()
    return made


def nodes(lab):
    """An SVM with volumes on two nodes and one address: clients reach both volumes through it, also after the node that
    holds a volume was killed and came back, and after the address moved to that node. Each node is asked for everything."""
    first, second = make_nodes(lab, "alpha")
    states = {record["name"]: record["state"] for record in first.records("node", "show")}
    require(states == {"alpha-01": "up", "alpha-02": "up"}, f"nodes: {states}")
    first.godwit("svm", "create", "--name", SVM)
    first.godwit("export-policy", "rule", "add", "--svm", SVM, "--policy", "default", "--clients", "127.0.0.0/8",
                 "--ro", "any", "--rw", "any", "--superuser", "any")
    # Both are made through the first node.
    for volume, aggregate in (("near", "aggr1"), ("far", "aggr2")):
        first.godwit("volume", "create", "--svm", SVM, "--name", volume, "--size", "2G", "--aggregate", aggregate,
                     "--junction-path", f"/{volume}")
    first.godwit("lif", "create", "--svm", SVM, "--name", "lif1", "--address", lab.address, "--port", str(LIF_PORT),
                 "--home-node", first.node)
    files = lab.random_files("files", 64 << 20)
    lab.copy("far", files)
    lab.copy("far", files, verify=True)
    for node in (first, second):
        used = {record["name"]: record["space"]["used"] for record in node.records("volume", "show")}
        require(used["far"] >= 64 << 20, f"{node.node} says that the volumes use {used}")
        node.godwit("snapshot", "create", "--svm", SVM, "--volume", "far", "--name", f"by-{node.node}")

    near, far = lab.client("near", volume="near"), lab.client("far", volume="far")
    time.sleep(2)
    os.kill(second.process.pid, signal.SIGKILL)
    second.process.wait()
    time.sleep(AWAY_SECONDS)
    # What needs the node says so, and what does not goes on.
    refused = first.godwit("snapshot", "create", "--svm", SVM, "--volume", "far", "--name", "never", check=False)
    require(refused.returncode != 0 and second.node in refused.stderr, f"a snapshot without its node: {refused.stderr}")
    first.godwit("snapshot", "create", "--svm", SVM, "--volume", "near", "--name", "meanwhile")
    wait_for("the node is seen to be down", lambda: "down" in [r["state"] for r in first.records("node", "show")], 20)
    went = time.monotonic()
    second.start()
    away_ms = round((time.monotonic() - went) * 1_000)
    time.sleep(2)
    first.godwit("lif", "modify", "--svm", SVM, "--lif", "lif1", "--home-node", second.node)
    places = [record["location"]["node"]["name"] for record in first.records("lif", "show")]
    require(places == [second.node], f"the LIF is on {places}")
    time.sleep(2)
    near_ms, far_ms = near.finish()["outage_ms"], far.finish()["outage_ms"]
    lab.copy("far", files, verify=True)

    # Both volumes and the address move to a cluster of one node, which asks any node of the source.
    beta = Cluster(lab, "beta", lab.port + 14)
    beta.start()
    for one, two in ((first, beta), (beta, first)):
        one.godwit("cluster", "peer", "create", "--name", two.name, "--address", f"{two.address}:{two.port}",
                   "--replication", f"{two.address}:{two.port + 1}", "--passphrase", "only-for-this-machine")
    client = lab.client("moving", volume="far")
    beta.migrate("start", "--source-cluster", "alpha")
    record = beta.wait_state(*COMPLETE_AFTER_TROUBLE)
    sources = sorted(pair["source"] for pair in record["godwit"]["node_pairs"])
    require(sources == [first.node, second.node], f"the volumes came from {sources}")
    time.sleep(1)
    client.finish()
    require_moved(second, beta)
    lab.copy("far", files, verify=True)
    return {"start_ms": away_ms, "near_outage_ms": near_ms, "far_outage_ms": far_ms}


def owner(cluster, aggregate):
    """The node that serves an aggregate, as a node of the cluster sees it; None when nobody does yet."""
    for record in cluster.records("aggregate", "show"):
        if record["name"] == aggregate and record["state"] == "online":
            return record["node"]["name"]
    return None


def takeover(lab):
    """The aggregate and the LIF of a node that is killed, frozen, or to be stopped are served by its partner, and by the node
    itself again after a giveback. Clients of both nodes keep working."""
    first, second = make_nodes(lab, "alpha", are_partners=True)
    first.godwit("svm", "create", "--name", SVM)
    first.godwit("export-policy", "rule", "add", "--svm", SVM, "--policy", "default", "--clients", "127.0.0.0/8",
                 "--ro", "any", "--rw", "any", "--superuser", "any")
    addresses = {"near": lab.address, "far": lab.address[:-1] + "2"}
    for volume, aggregate, node in (("near", "aggr1", first), ("far", "aggr2", second)):
        first.godwit("volume", "create", "--svm", SVM, "--name", volume, "--size", "2G", "--aggregate", aggregate,
                     "--junction-path", f"/{volume}")
        first.godwit("lif", "create", "--svm", SVM, "--name", f"lif-{volume}", "--address", addresses[volume],
                     "--port", str(LIF_PORT), "--home-node", node.node)
    files = lab.random_files("files", 32 << 20)
    lab.copy("far", files)
    # Nobody is held for dead right after a start.
    time.sleep(16)
    outages = {}

    def under_clients(phase, body):
        """Runs `body` under clients of volumes, one of them through the address that is at home where another volume is."""
        clients = [lab.client(f"{volume}-through-{way}-{phase}", volume=volume, address=addresses[way])
                   for volume, way in (("near", "near"), ("far", "far"), ("far", "near"))]
        time.sleep(2)
        body()
        time.sleep(2)
        outages[phase] = max(client.finish()["outage_ms"] for client in clients)

    def wait_owner(node, seconds=30):
        wait_for(f"aggr2 is served by {node.node}", lambda: owner(first, "aggr2") == node.node, seconds)

    def giveback():
        wait_for("the node is up", lambda: "down" not in [r["state"] for r in first.records("node", "show")], 20)
        first.godwit("node", "giveback", "--name", second.node)
        wait_owner(second)
        places = [record["location"]["node"]["name"] for record in second.records("lif", "show")]
        require(sorted(places) == [first.node, second.node], f"after a giveback the LIFs are on {places}")

    def kill():
        os.kill(second.process.pid, signal.SIGKILL)
        second.process.wait()
        killed = time.monotonic()
        wait_owner(first)
        outages["served_again"] = round((time.monotonic() - killed) * 1_000)

    # What a node that is killed has answered its volumes know (docs/decisions/0030).
    under_clients("killed", kill)
    require(outages["served_again"] <= TAKEOVER_SECONDS_MAX * 1_000,
            f"the partner served {outages['served_again']} ms after the kill")
    lab.copy("far", files, verify=True)
    # The node that comes back does not open what it has lost.
    second.start()
    require(owner(first, "aggr2") == first.node, "a node that was started took its aggregate back by itself")
    under_clients("given-back", giveback)

    def planned():
        first.godwit("node", "takeover", "--name", second.node)
        wait_owner(first)

    under_clients("planned", planned)
    second.process.terminate()
    second.process.wait(30)
    second.start()
    under_clients("given-back-again", giveback)
    for phase in ("given-back", "planned", "given-back-again"):
        require(outages[phase] <= PLANNED_MS_MAX, f"a change of the owner that was ordered took {outages[phase]} ms")

    def freeze():
        os.kill(second.process.pid, signal.SIGSTOP)
        time.sleep(FROZEN_SECONDS)
        # Its lock keeps the partner out: what it has acknowledged or may still write is safe.
        require(owner(first, "aggr2") is None, "an aggregate was opened that a frozen node still had")
        os.kill(second.process.pid, signal.SIGCONT)
        thawed = time.monotonic()
        wait_owner(first)
        outages["thawed"] = round((time.monotonic() - thawed) * 1_000)

    under_clients("frozen", freeze)
    under_clients("given-back-at-last", giveback)
    lab.copy("far", files, verify=True)
    return {f"{phase.replace('-', '_')}_ms": value for phase, value in outages.items()}


def rehoming(lab):
    """The node that owns a migrate is killed, at several points of it: its partner takes over the aggregate with the replicas
    and goes on with the operation. The client sees no harm."""
    source = Cluster(lab, "alpha", lab.port + 14)
    source.start()
    first, second = make_nodes(lab, "beta", are_partners=True)
    peer(source, second)
    peer(first, source)
    # Nobody is held for dead right after a start.
    started = time.monotonic()
    figures = {}
    for index, point in enumerate(REHOMING_POINTS):
        svm, address = f"{SVM}{index}", f"{lab.address[:-1]}{index + 1}"
        make_svm(source, address, (svm,), svm=svm)
        lab.copy(svm, lab.random_files(f"files-{index}", 32 << 20), address=address)
        client = lab.client(f"client-{index}", volume=svm, address=address)
        time.sleep(max(0, started + 16 - time.monotonic()))
        second.wait_point(point)
        second.migrate("start", "--source-cluster", "alpha", "--aggr-list", "aggr2", svm=svm)
        second.reached(point)
        os.kill(second.process.pid, signal.SIGKILL)
        second.process.wait()
        killed = time.monotonic()

        def is_rehomed():
            operation = first.operation(svm)
            return operation["godwit"]["owning_node"] == first.node

        wait_for("the operation goes on at the partner", is_rehomed, 60)
        rehomed_ms = round((time.monotonic() - killed) * 1_000)
        require(rehomed_ms <= TAKEOVER_SECONDS_MAX * 1_000, f"killed at {point}, it was re-homed after {rehomed_ms} ms")
        record = first.wait_state(*COMPLETE_AFTER_TROUBLE, svm=svm)
        require(record["godwit"]["owning_node"] == first.node, f"the operation ended on {record['godwit']['owning_node']}")
        time.sleep(1)
        name = point.replace("-", "_").replace(":", "_")
        figures[f"{name}_rehomed_ms"] = rehomed_ms
        figures[f"{name}_outage_ms"] = client.finish()["outage_ms"]
        lab.copy(svm, lab.path(f"files-{index}"), address=address, verify=True)
        second.go_on(point)
        second.start()
        wait_for("the node is up", lambda: "down" not in [r["state"] for r in first.records("node", "show")], 20)
        first.godwit("node", "giveback", "--name", second.node)
        wait_for("the node has its aggregate back", lambda: owner(first, "aggr2") == second.node, 30)
        lab.copy(svm, lab.path(f"files-{index}"), address=address, verify=True)
    return figures
