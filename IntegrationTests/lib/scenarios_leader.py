"""Scenarios in which a node dies together with the leader of its etcd."""

import os
import signal
import time

from etcd_member import EtcdEnsemble
from scenario_lab import COMPLETE_AFTER_TROUBLE, SVM, Cluster, make_svm, peer, require, require_moved, wait_for
from scenarios_nodes import LEASE_SECONDS, make_nodes, owner

# A new leader gives every lease its whole time again, so that a node that died just before is missed that much later; the
# election and the looks of the others come on top.
REHOMED_SECONDS_MAX = 2 * LEASE_SECONDS + 3


def leader(lab):
    """The node that owns a migrate and the leader of the etcd of its cluster are killed at the same moment, once before and
    once at the point of no return: the operation goes on at the partner, and completes."""
    source = Cluster(lab, "alpha", lab.port + 14)
    source.start()
    etcd = EtcdEnsemble(lab, "etcd-beta", 23_700)
    first, second = make_nodes(lab, "beta", are_partners=True, etcd=etcd)
    peer(source, second)
    peer(first, source)
    started = time.monotonic()
    figures = {}
    for index, point in enumerate(("synchronize:after", "ponr-source:after")):
        svm, address = f"{SVM}{index}", f"{lab.address[:-1]}{index + 1}"
        make_svm(source, address, (svm,), svm=svm)
        client = lab.client(f"client-{index}", volume=svm, address=address)
        # Nobody is held for dead right after a start.
        time.sleep(max(0, started + 16 - time.monotonic()))
        second.wait_point(point)
        second.migrate("start", "--source-cluster", "alpha", svm=svm)
        second.reached(point)
        member = etcd.leader()
        member.crash()
        os.kill(second.process.pid, signal.SIGKILL)
        second.process.wait()
        killed = time.monotonic()

        def is_rehomed():
            operation = first.operation(svm)
            return operation["godwit"]["owning_node"] == first.node

        wait_for("the operation goes on at the partner", is_rehomed, 60)
        rehomed_ms = round((time.monotonic() - killed) * 1_000)
        require(rehomed_ms <= REHOMED_SECONDS_MAX * 1_000, f"killed at {point}, it was re-homed after {rehomed_ms} ms")
        first.wait_state(*COMPLETE_AFTER_TROUBLE, svm=svm)
        require_moved(source, first, svm=svm)
        time.sleep(1)
        name = point.replace("-", "_").replace(":", "_")
        figures[f"{name}_rehomed_ms"] = rehomed_ms
        figures[f"{name}_outage_ms"] = client.finish()["outage_ms"]
        member.start()
        second.go_on(point)
        second.start()
        wait_for("the node is up", lambda: "down" not in [r["state"] for r in first.records("node", "show")], 20)
        first.godwit("node", "giveback", "--name", second.node)
        wait_for("the node has its aggregate back", lambda: owner(first, "aggr2") == second.node, 30)
    return figures
