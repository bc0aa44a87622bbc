"""A reader in a guest with one outstanding read, and how long it waited (lab/guest/gap.c)."""

import re

from . import commands
from .errors import LabError
from .guest import compile_tool

ANSWER_SECONDS_MAX = 120


class GapReader:
    """Reads a file in a guest until it is stopped."""

    def __init__(self, guest, path, report_ms=50):
        compile_tool("gap", guest.path("out/.lab"))
        self.command = guest.spawn(f"exec /mnt/out/.lab/gap {path} {report_ms}")
        self.stretches = 0

    def _results(self):
        return re.findall(r"gap: longest_ms=(\S+) started=(\S+) reads=(\d+) errors=(\d+)", self.command.output)

    def mark(self):
        """Ends a stretch and returns what it was like: longest_ms, started (seconds since 1970), reads, errors."""
        self.stretches += 1
        self.command.write(b"\n")

        def look():
            if not self.command.is_running:
                raise LabError(f"the reader in the guest ended: {self.command.output[-300:]}{self.command.error[-300:]}",
                               "read console.log in the guest's directory")
            found = self._results()
            return found[self.stretches - 1] if len(found) >= self.stretches else None

        longest, started, reads, errors = commands.wait_for("the reader answers", look, ANSWER_SECONDS_MAX)
        return {"longest_ms": float(longest), "started": float(started), "reads": int(reads), "errors": int(errors)}

    def stop(self):
        """Ends it, however it is."""
        if self.command.is_running:
            self.command.write(b"")
        self.command.connection.close()
