"""The directory of the lab: what was started, and the data and logs of it."""

import contextlib
import fcntl
import json
import os
import shutil

from .errors import LabError
from .topology import Topology

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Only a directory with this file in it is ever deleted.
MARKER = ".godwit-lab"


class State:
    """`lab.json` in the directory: number of nodes, and the processes by name (`a1.godwitd`)."""

    def __init__(self, directory=None):
        self.directory = os.path.abspath(
            directory or os.environ.get("GODWIT_LAB_DIR") or os.path.join(REPOSITORY, "run", "lab"))
        self.topology, self.processes = Topology(), {}
        if os.path.exists(self.path("lab.json")):
            with open(self.path("lab.json")) as file:
                stored = json.load(file)
            self.topology, self.processes = Topology(stored["nodes"]), stored["processes"]

    def path(self, *names):
        """A path in the directory."""
        return os.path.join(self.directory, *names)

    @property
    def is_there(self):
        """Whether a lab was begun in this directory and not taken down."""
        return os.path.exists(self.path("lab.json"))

    def require(self):
        """Fails when there is no lab."""
        if not self.is_there:
            raise LabError(f"there is no lab in {self.directory}", "start one: make lab (or lab/lab up)")

    def begin(self, nodes):
        """Makes the directory anew."""
        if os.path.isdir(self.directory) and os.listdir(self.directory) and not os.path.exists(self.path(MARKER)):
            raise LabError(f"{self.directory} is not empty and was not made by the lab",
                           "name another one with GODWIT_LAB_DIR")
        shutil.rmtree(self.directory, ignore_errors=True)
        os.makedirs(self.directory)
        with open(self.path(MARKER), "w") as file:
            file.write("Made by lab/lab, which deletes this directory when it comes up again.\n")
        self.topology, self.processes = Topology(nodes), {}
        self._write()

    def note(self, name, record):
        """Notes a process that was started, before anything else is done."""
        with self._locked():
            if os.path.exists(self.path("lab.json")):
                with open(self.path("lab.json")) as file:
                    self.processes = json.load(file)["processes"]
            self.processes[name] = record
            self._write()

    def end(self):
        """The lab is down: keeps the logs, removes the data."""
        for name in ("data", "aggregates", "guests", "identity"):
            shutil.rmtree(self.path(name), ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.path("lab.json"))

    @contextlib.contextmanager
    def _locked(self):
        with open(self.path("lock"), "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _write(self):
        with open(self.path("lab.json.new"), "w") as file:
            json.dump({"nodes": self.topology.size, "processes": self.processes}, file, indent=1)
        os.rename(self.path("lab.json.new"), self.path("lab.json"))

    def program(self, name):
        """The path of one of our programs."""
        is_client = name in ("godwit-tree", "godwit-journal-client", "godwit-load")
        variable = "GODWIT_CLIENTS_DIR" if is_client else "GODWIT_BIN_DIR"
        place = os.path.join(REPOSITORY, "Clients", ".build", "release") if is_client else os.path.join(
            REPOSITORY, ".build", "release")
        path = os.path.abspath(os.path.join(os.environ.get(variable) or place, name))
        if not os.access(path, os.X_OK):
            raise LabError(f"there is no {path}", "run 'make build clients'")
        return path
