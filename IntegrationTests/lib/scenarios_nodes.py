"""Scenarios of clusters of several nodes."""

import os
import signal
import time

from etcd_member import EtcdMember
from scenario_lab import LIF_PORT, SVM, Cluster, require, wait_for

# How long the node that holds a volume is away.
AWAY_SECONDS = 2


def make_nodes(lab, name):
    """Starts a cluster of two nodes on one etcd."""
    etcd = EtcdMember(lab, f"etcd-{name}", lab.port + 10)
    etcd.start()
    made = [Cluster(lab, name, lab.port + 3 * index, node=index + 1, interconnect=lab.port + 3 * index + 2)
            for index in range(2)]
    for node in made:
        node.etcd = etcd
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

    # A move of such an SVM is refused with the reason; one of a single node is nobody's concern here.
    beta = Cluster(lab, "beta", lab.port + 14)
    beta.start()
    for one, two in ((first, beta), (beta, first)):
        one.godwit("cluster", "peer", "create", "--name", two.name, "--address", f"{two.address}:{two.port}",
                   "--replication", f"{two.address}:{two.port + 1}", "--passphrase", "only-for-this-machine")
    refused = beta.migrate("start", "--source-cluster", "alpha", check=False)
    require(refused.returncode != 0 and "several nodes" in refused.stderr + refused.stdout,
            f"a move of an SVM on two nodes: {refused.stdout}{refused.stderr}")
    return {"start_ms": away_ms, "near_outage_ms": near_ms, "far_outage_ms": far_ms}
