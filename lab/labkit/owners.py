"""Watches that no aggregate ever has two owners: neither in its label, which is the fence, nor in fact."""

import os
import threading

from . import commands
from .errors import LabError

EVERY_SECONDS = 0.05


class OwnerProbe:
    """Looks at the labels, and at which daemons have files of an aggregate open, some twenty times a second."""

    def __init__(self, state):
        self.state, self.harm, self.looks = state, [], 0
        self._epochs, self._is_ending = {}, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        """Begins."""
        self._thread.start()
        return self

    def finish(self):
        """Ends; two owners at any moment are an error."""
        self._is_ending.set()
        self._thread.join()
        if self.harm:
            raise LabError(f"an aggregate had two owners: {'; '.join(self.harm[:3])}",
                           "this must never be: keep the logs of all nodes")
        if not self.looks:
            raise LabError("the probe of owners saw nothing", "read its code: the test is worth nothing")

    def _run(self):
        while not self._is_ending.wait(EVERY_SECONDS):
            try:
                self._look()
                self.looks += 1
            except OSError:
                # A process or a label went away while it was looked at.
                continue

    def _look(self):
        place = self.state.path("aggregates")
        for name in os.listdir(place):
            self._look_at_label(name, os.path.join(place, name, "aggregate.label"))
        holders = {}
        for key, record in list(self.state.processes.items()):
            if key.endswith(".godwitd") and commands.is_alive(record):
                for aggregate in open_aggregates(record["pid"], place):
                    holders.setdefault(aggregate, []).append((key, record["pid"]))
        for aggregate, found in holders.items():
            # The daemons were looked at one after another: the first may have closed it before the last one opened it. If
            # it has it open still, there was a moment when both had.
            if len(found) > 1 and any(aggregate in open_aggregates(pid, place) for _, pid in found[:-1]):
                self.harm.append(f"{aggregate} is open in {' and '.join(key for key, _ in found)}")

    def _look_at_label(self, name, path):
        if not os.path.exists(path):
            return
        with open(path) as file:
            fields = dict(line.split(" ", 1) for line in file.read().splitlines()[1:])
        seen = int(fields.get("epoch", 0)), fields["node"]
        before = self._epochs.get(name, seen)
        if seen[0] < before[0] or (seen[0] == before[0] and seen[1] != before[1]):
            self.harm.append(f"the label of {name} went from {before} to {seen}")
        self._epochs[name] = seen


def open_aggregates(pid, place):
    """The aggregates below `place` of whose metadata a process has files open."""
    found = set()
    directory = f"/proc/{pid}/fd"
    for descriptor in os.listdir(directory):
        try:
            target = os.readlink(os.path.join(directory, descriptor))
        except FileNotFoundError:
            continue
        if target.startswith(place + "/") and "/metadata/" in target:
            found.add(target[len(place) + 1:].split("/")[0])
    return found
