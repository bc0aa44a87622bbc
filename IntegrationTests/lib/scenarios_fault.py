"""Scenarios of what goes wrong: answers that come too late, a source that stands still."""

import signal
import time

import nfs_probe
from hold_proxy import HoldProxy
from scenario_lab import (
    COMPLETE_AFTER_TROUBLE, LIF_PORT, SVM, Cluster, make_svm, messages, peer, require, require_moved, wait_for)

# Of `undone-commits`.
UNDONE_COMMITS = 100
HOLD_BUDGET_MS = 300
# What a client may wait above the hold budget while commits are undone.
GAP_ABOVE_BUDGET_MS_MAX = 200
# Of `sigstop`: timers that a test can wait for.
SHORT_TIMERS = ["--hold-budget-ms", "1000", "--pre-commit-budget-ms", "3000", "--cutover-attempts", "50",
                "--cutover-retry-ms", "200"]
STOPPED_SECONDS = 4
# How long a destination that knows the point of no return may ask a silent source before it serves without it.
SERVED_AFTER_MS_MAX = 6_000
# What a client may wait above the time that the source was stopped.
GAP_ABOVE_STOP_MS_MAX = 2_500


def undone_commits(lab):
    """A hundred commits in a row are undone by the hold budget, and clients see nothing but latency."""
    alpha, beta = [Cluster(lab, name, lab.port + 2 * index) for index, name in enumerate(("alpha", "beta"))]
    for cluster in (alpha, beta):
        cluster.start()
    proxy = HoldProxy(alpha.address, lab.port + 10, (alpha.address, alpha.port), delay_seconds=HOLD_BUDGET_MS / 1_000 + 0.1)
    lab.ends.append(proxy.close)
    peer(alpha, beta)
    peer(beta, alpha, port=lab.port + 10)
    make_svm(alpha, lab.address, ["one", "two"])
    client = lab.client(operations_per_second=200)
    beta.migrate("start", "--source-cluster", "alpha", "--hold-budget-ms", str(HOLD_BUDGET_MS),
                 "--cutover-attempts", "200", "--cutover-retry-ms", "50", "--auto-source-cleanup", "false")

    def is_undone():
        record = beta.operation()
        require(not record["point_of_no_return"], "a commit succeeded whose answer came too late")
        require(record["state"] != "migrate_failed", messages(record)[-500:])
        return record["godwit"]["cutovers_undone"] >= UNDONE_COMMITS and record

    undone = wait_for("the commits are undone", is_undone, 600)["godwit"]["cutovers_undone"]
    proxy.is_on = False
    beta.wait_state("ready_for_source_cleanup")
    beta.migrate("source-cleanup")
    beta.wait_state(*COMPLETE_AFTER_TROUBLE)
    require_moved(alpha, beta)
    values = client.finish()
    result = {"undone": undone, "delayed": proxy.delayed, "outage_ms": values["outage_ms"],
              "acknowledged_writes": values["acknowledged_writes"]}
    require(values["outage_ms"] <= HOLD_BUDGET_MS + GAP_ABOVE_BUDGET_MS_MAX, f"a client waited too long: {result}")
    return result


class StoppedSource:
    """A move whose source is stopped with SIGSTOP at a point of its commit, and a probe that knows the source alone."""

    def __init__(self, lab, source, destination, name, holder, point):
        self.lab, self.source, self.destination, self.name = lab, source, destination, name
        self.client = lab.client(name, operations_per_second=100)
        holder.wait_point(point)
        destination.migrate("start", "--source-cluster", source.name, *SHORT_TIMERS)
        # The only listener of the address is the source's, so that this connection is one to the source.
        self.probe = nfs_probe.Probe(lab.address, LIF_PORT, "/two", f"probe-{name}")
        lab.ends.append(self.probe.close)
        self.probe.write(0, b"before")
        holder.reached(point)
        # One write that waits behind the gate, and one that comes while the daemon stands still.
        self.send(8)
        time.sleep(0.05)
        source.process.send_signal(signal.SIGSTOP)
        self.stopped = time.monotonic()
        self.send(16)
        holder.go_on(point)

    def send(self, offset):
        """Sends a write whose answer is not waited for."""
        arguments = self.probe.write_arguments(offset, b"in the commit")
        self.probe.send(nfs_probe.PROGRAM_NFS, nfs_probe.NFS_WRITE, arguments)

    def serves(self):
        """Whether the SVM runs on the destination."""
        return any(record["name"] == SVM and record["state"] == "running"
                   for record in self.destination.records("svm", "show"))

    def run_again(self):
        """Lets the source run again; returns for how many milliseconds it was stopped."""
        self.source.process.send_signal(signal.SIGCONT)
        return round((time.monotonic() - self.stopped) * 1_000)

    def finish(self):
        """Waits for the end of the move; returns the record and what the client waited."""
        record = self.destination.wait_state(*COMPLETE_AFTER_TROUBLE)
        require_moved(self.source, self.destination)
        time.sleep(0.3)
        return record, self.client.finish()["outage_ms"]


def sigstop(lab):
    """A source that stands still in the commit never answers again once the destination may serve."""
    alpha, beta = lab.clusters()
    make_svm(alpha, lab.address, ["one", "two"])
    result = {}
    # Before the point of no return: nobody may take over; the source serves on when it runs, and the move is tried again.
    stopped = StoppedSource(lab, alpha, beta, "before", alpha, "source-snapshot:after")
    time.sleep(STOPPED_SECONDS)
    require(not beta.operation()["point_of_no_return"], "the point of no return passed without the source")
    require(not stopped.serves(), "the destination serves without the point of no return")
    milliseconds = stopped.run_again()
    require(stopped.probe.acknowledges(5), "the source did not answer after its commit was undone")
    record, waited = stopped.finish()
    result["outage_ms_before"] = waited
    require("was undone" in messages(record), f"the commit of the stopped source was not undone: {messages(record)}")
    require(waited <= milliseconds + GAP_ABOVE_STOP_MS_MAX, f"stopped {milliseconds} ms, the client waited {waited}")
    # The source has recorded it, and the destination did not hear so: it asks, and serves nothing meanwhile.
    stopped = StoppedSource(lab, beta, alpha, "unheard", beta, "source-ponr:after")
    time.sleep(STOPPED_SECONDS)
    require(not stopped.serves(), "the destination serves without knowing that the point of no return won")
    milliseconds = stopped.run_again()
    require(not stopped.probe.acknowledges(5), "the source acknowledged a write after its point of no return")
    result["outage_ms_unheard"] = stopped.finish()[1]
    require(result["outage_ms_unheard"] <= milliseconds + GAP_ABOVE_STOP_MS_MAX, f"stopped {milliseconds} ms: {result}")
    # The destination knows it: it serves without the source, which is stopped all the time.
    stopped = StoppedSource(lab, alpha, beta, "heard", beta, "ponr-destination:after")
    wait_for("the destination serves without the source", stopped.serves, 60)
    result["served_after_ms"] = round((time.monotonic() - stopped.stopped) * 1_000)
    require(result["served_after_ms"] <= SERVED_AFTER_MS_MAX, f"a silent source was asked too long: {result}")
    time.sleep(STOPPED_SECONDS)
    stopped.run_again()
    require(not stopped.probe.acknowledges(5), "the source acknowledged a write while the destination serves")
    result["outage_ms_heard"] = stopped.finish()[1]
    return result
