"""Scenarios of clusters whose replicated database is etcd."""

import contextlib
import time

import nfs_probe
from etcd_member import EtcdMember
from scenario_lab import COMPLETE_AFTER_TROUBLE, LIF_PORT, SVM, Cluster, make_svm, peer, require, require_moved, wait_for

# How long etcd is away: longer than a call of the daemon waits for it.
AWAY_SECONDS = 7
# What a client may wait while etcd is away before the point of no return, the cutover of the same move included.
GAP_BEFORE_MS_MAX = 1_500
# Time to service after etcd is back at the point of no return: a call's patience and the longest back-off.
SERVICE_AFTER_MS_MAX = 15_000


def serves(address):
    """Whether a new connection gets a stable write acknowledged within a second."""
    with contextlib.suppress(OSError, nfs_probe.ProbeError):
        probe = nfs_probe.Probe(address, LIF_PORT, "/two", "probe", seconds=1)
        with contextlib.closing(probe):
            probe.write(0, b"is it there")
            return True
    return False


def move(lab, source, destination, name, side, point, is_served):
    """Moves the SVM; at the point, the etcd of the side goes away for a while. Returns the client's longest wait and how
    long it took until clients were served after etcd was back."""
    client = lab.client(name, operations_per_second=200)
    side.wait_point(point)
    destination.migrate("start", "--source-cluster", source.name, "--cutover-attempts", "50", "--cutover-retry-ms", "200")
    side.reached(point)
    side.etcd.crash()
    side.go_on(point)
    deadline = time.monotonic() + AWAY_SECONDS
    while time.monotonic() < deadline:
        if is_served:
            require(serves(lab.address), f"{name}: clients are not served while etcd is away")
        time.sleep(0.5)
    if not is_served:
        require(not serves(lab.address), f"{name}: somebody serves without knowing whether it may")
    side.etcd.start()
    back = time.monotonic()
    wait_for(f"{name}: clients are served after etcd is back", lambda: serves(lab.address), 60)
    service_ms = round((time.monotonic() - back) * 1_000)
    destination.wait_state(*COMPLETE_AFTER_TROUBLE)
    require_moved(source, destination)
    return client.finish()["outage_ms"], service_ms


def database_outage(lab):
    """etcd goes away on either side, before the point of no return and at it; the move completes, and clients lose
    nothing."""
    clusters = []
    for index, name in enumerate(("alpha", "beta")):
        cluster = Cluster(lab, name, lab.port + 2 * index)
        cluster.etcd = EtcdMember(lab, f"etcd-{name}", lab.port + 10 + 2 * index)
        cluster.etcd.start()
        cluster.start()
        clusters.append(cluster)
    alpha, beta = clusters
    peer(alpha, beta)
    peer(beta, alpha)
    make_svm(alpha, lab.address, ["one", "two"])
    lab.copy("one", lab.random_files("files", 64 << 20))
    result = {}
    cases = [
        ("destination_in_baseline", "destination", "baseline:before", True),
        ("source_before_lock", "source", "source-lock:before", True),
        ("source_at_ponr", "source", "source-ponr:before", False),
        ("destination_at_ponr", "destination", "ponr-source:after", False),
    ]
    source, destination = alpha, beta
    for name, side, point, is_served in cases:
        where = source if side == "source" else destination
        outage_ms, service_ms = move(lab, source, destination, name, where, point, is_served)
        if is_served:
            result[f"{name}_outage_ms"] = outage_ms
            require(outage_ms <= GAP_BEFORE_MS_MAX, f"a client waited while etcd was away: {result}")
        else:
            result[f"{name}_service_after_ms"] = service_ms
            require(service_ms <= SERVICE_AFTER_MS_MAX, f"service came too late after etcd was back: {result}")
        source, destination = destination, source
    return result
