"""Clients of the lab that are not kernels: the journal client, which stands on libnfs, in a namespace of its own."""

import contextlib
import os
import re
import signal
import time

from . import commands, daemons
from .errors import LabError
from .topology import CLIENTS, NFS_PORT

HARM = ("lost", "repeated", "stale_handles", "mismatches")
WORK_SECONDS_MAX = 300


class JournalClient:
    """Changes a volume without pause, and knows in the end whether anything that was acknowledged is missing."""

    def __init__(self, state, name, address, volume, run, operations_per_second=200, workers=1):
        self.state, self.name, self.log = state, name, state.path("logs", f"{name}.log")
        # What was acknowledged; it grows with every answer.
        self.journal = state.path("data", f"{name}.journal")
        open(self.log, "w").close()
        # A journal is for one run only.
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.journal)
        self.record = commands.spawn(
            ["ip", "netns", "exec", CLIENTS, state.program("godwit-journal-client"), "--url", f"nfs://{address}/{volume}",
             "--port", str(NFS_PORT), "--journal", self.journal, "--run", str(run), "--workers",
             str(workers), "--operations-per-second", str(operations_per_second), "--outage-report"], self.log)
        state.note(name, self.record)
        time.sleep(0.3)
        if not commands.is_alive(self.record):
            raise LabError(f"the journal client {name} does not work", f"read {self.log}")

    def finish(self):
        """Ends it, after which it checks its journal. Returns its numbers; harm is an error."""
        if not commands.send(self.record, signal.SIGTERM):
            raise LabError(f"the journal client {self.name} ended by itself", f"read {self.log}")
        commands.wait_for(f"{self.name} checks its journal", lambda: not commands.is_alive(self.record), WORK_SECONDS_MAX)
        with open(self.log, errors="replace") as file:
            lines = [line.strip() for line in file if line.startswith("journal: outage_ms=")]
        if not lines:
            raise LabError(f"the journal client {self.name} has no result", f"read {self.log}")
        values = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", lines[-1])}
        if any(values[name] for name in HARM) or not values["acknowledged_writes"]:
            raise LabError(f"the journal client {self.name} found harm: {lines[-1]}", f"read {self.log}")
        return values
