"""The scenario of a link between the clusters that is cut in every phase of a move.

Everything runs in a network namespace of its own, where packets of the source's control and replication ports are
dropped without a word, which is the hardest way in which a link can go: nobody learns of it but by waiting.
"""

import ctypes
import os
import subprocess
import time

from scenario_lab import COMPLETE_AFTER_TROUBLE, make_svm, messages, require, require_moved, wait_for

CLONE_NEWNET = 0x4000_0000
HOLD_BUDGET_MS = 1_000
OPTIONS = ["--hold-budget-ms", str(HOLD_BUDGET_MS), "--pre-commit-budget-ms", "3000", "--cutover-attempts", "50",
           "--cutover-retry-ms", "200"]
# The longer one is above every timer and the patience of every request in the commit.
CUT_SECONDS = (5, 12)
# What a client may wait above the budget or the cut that holds it: connecting anew, and asking again, takes its time.
ABOVE_BUDGET_MS_MAX = 700
ABOVE_CUT_MS_MAX = 8_000
# What a client waits in a phase that does not touch it but by a later, undisturbed cutover.
QUIET_MS_MAX = 1_200


class Link:
    """The link to a source; in a network namespace that this process makes and leaves."""

    def __init__(self):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.outside = os.open("/proc/self/ns/net", os.O_RDONLY)
        self._call(self.libc.unshare, CLONE_NEWNET)
        self._run("ip", "link", "set", "lo", "up")
        self._nft("add table inet link", "add chain inet link input { type filter hook input priority 0 ; }")

    @staticmethod
    def _call(function, *arguments):
        if function(*arguments) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"no network namespace can be made ({os.strerror(number)}); run it as root")

    @staticmethod
    def _run(*command):
        result = subprocess.run(command, capture_output=True, text=True)
        require(result.returncode == 0, f"{' '.join(command)}: {result.stderr.strip()}")

    def _nft(self, *lines):
        for line in lines:
            self._run("nft", line)

    def cut(self, cluster):
        """Drops what goes to and comes from a cluster's control and replication ports."""
        ports = f"{{ {cluster.port}, {cluster.port + 1} }}"
        self._nft(f"add rule inet link input tcp dport {ports} counter drop",
                  f"add rule inet link input tcp sport {ports} counter drop")

    def heal(self):
        """Lets everything through again; fails when nothing was dropped."""
        rules = subprocess.run(["nft", "list", "chain", "inet", "link", "input"], capture_output=True, text=True).stdout
        self._nft("flush chain inet link input")
        dropped = [word for word in rules.split("packets ")[1:] if not word.startswith("0 ")]
        require(dropped, "nothing was dropped by the cut")

    def leave(self):
        """Goes back to the namespace of before."""
        self._call(self.libc.setns, self.outside, CLONE_NEWNET)
        os.close(self.outside)


class Cut:
    """One move whose link is cut in one phase."""

    def __init__(self, lab, link, source, destination, phase, seconds):
        self.link, self.source, self.destination, self.seconds = link, source, destination, seconds
        self.waited, self.problems = None, []
        self.client = lab.client(f"{phase}-{seconds}", operations_per_second=100)
        self.phase = phase

    def start(self, *options):
        """Starts the move."""
        self.destination.migrate("start", "--source-cluster", self.source.name, *OPTIONS, *options)

    def cut(self):
        """Cuts the link for the time."""
        self.link.cut(self.source)
        time.sleep(self.seconds)
        self.link.heal()

    def cut_at(self, cluster, point, *options):
        """Starts the move, cuts the link while a daemon waits at a point, and lets it go on into the cut."""
        cluster.wait_point(point)
        self.start(*options)
        cluster.reached(point)
        self.link.cut(self.source)
        cluster.go_on(point)
        time.sleep(self.seconds)
        record = self.destination.operation()
        self.link.heal()
        return record

    def finish(self, waited_ms_max):
        """Waits for the end; returns the record."""
        record = self.destination.wait_state(*COMPLETE_AFTER_TROUBLE, seconds=120)
        require_moved(self.source, self.destination)
        time.sleep(0.3)
        self.waited = self.client.finish()["outage_ms"]
        if self.waited > waited_ms_max:
            # The other phases are tried all the same.
            self.problems.append(f"{self.phase}, {self.seconds} s: a client waited {self.waited} ms")
        return record


def setup(move):
    """The setup waits for its peer."""
    record = move.cut_at(move.destination, "source-record:before")
    require(record["state"] == "setup_configuration", f"in the cut it is {record['state']}")
    move.finish(QUIET_MS_MAX)


def transferring(move):
    """The baseline goes on where it was."""
    move.start("--throttle", "8192")
    wait_for("the baseline is on its way", lambda: sum(
        volume["current_bytes"] for volume in move.destination.operation()["godwit"]["volumes"]) > 2 << 20)
    move.cut()
    move.finish(QUIET_MS_MAX)


def ready_for_cutover(move):
    """It becomes ready again, and waits for the user."""
    move.start("--auto-cutover", "false")
    move.destination.wait_state("ready_for_cutover")
    move.cut()

    def cut_over():
        return move.destination.migrate("cutover", check=False).returncode == 0

    wait_for("the cutover is accepted", cut_over, 60, every=0.2)
    move.finish(QUIET_MS_MAX)


def pre_commit(move):
    """The source unlocks its configuration by its own timer, and the cutover is tried again."""
    move.destination.wait_point("synchronize:before")
    move.start()
    move.destination.reached("synchronize:before")
    svm = [record for record in move.source.records("svm", "show") if record.get("configuration_lock")]
    require(svm, "the source's configuration is not locked before the commit")
    move.link.cut(move.source)
    move.destination.go_on("synchronize:before")
    time.sleep(move.seconds)
    move.link.heal()
    require("was undone" in messages(move.finish(QUIET_MS_MAX)), "the cutover was not undone")


def commit(move):
    """The source's timer ends the commit, and the source serves again without hearing anybody."""
    record = move.cut_at(move.source, "source-snapshot:after")
    require(not record["point_of_no_return"], "the destination passed the point of no return alone")
    require("was undone" in messages(move.finish(HOLD_BUDGET_MS + ABOVE_BUDGET_MS_MAX)), "the commit was not undone")


def unheard(move):
    """The source has recorded the point of no return and the destination did not hear it: only forward."""
    record = move.cut_at(move.source, "source-ponr:after")
    require(not record["point_of_no_return"], "the destination knows what it cannot have heard")
    record = move.finish(move.seconds * 1_000 + ABOVE_CUT_MS_MAX)
    require("was undone" not in messages(record), f"it went back: {messages(record)}")


def post_cutover(move):
    """The destination serves; what is left waits for the link."""
    record = move.cut_at(move.destination, "stop-mirrors:before")
    require(record["point_of_no_return"], "it is after the cutover and not past the point of no return")
    move.finish(QUIET_MS_MAX)


def source_cleanup(move):
    """The comparison and the deletion of the source wait for the link."""
    record = move.cut_at(move.destination, "integrity:before")
    require(record["point_of_no_return"], "it is after the cutover and not past the point of no return")
    move.finish(QUIET_MS_MAX)


PHASES = {"setup": setup, "transferring": transferring, "ready": ready_for_cutover, "pre-commit": pre_commit,
          "commit": commit, "unheard": unheard, "post-cutover": post_cutover, "source-cleanup": source_cleanup}


def link_cuts(lab):
    """Cuts the link in every phase, for a while and for longer than any timer; there and back again."""
    link = Link()
    lab.ends.append(link.leave)
    source, destination = lab.clusters()
    make_svm(source, lab.address, ["one", "two"])
    lab.copy("two", lab.random_files("data", 16 << 20, 1 << 20))
    result, problems = {}, []
    for seconds in CUT_SECONDS:
        for phase, run in PHASES.items():
            move = Cut(lab, link, source, destination, phase, seconds)
            began = time.monotonic()
            run(move)
            print(f"  link-cuts {phase} {seconds} s: outage_ms={move.waited} "
                  f"seconds={time.monotonic() - began:.1f}", flush=True)
            result[f"{phase}-{seconds}"] = move.waited
            problems += move.problems
            source, destination = destination, source
    lab.copy("two", lab.path("data"), verify=True)
    require(not problems, "; ".join(problems))
    return result
