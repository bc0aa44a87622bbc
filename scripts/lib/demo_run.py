"""What the demo runs on: a directory, processes that are ended by their identifiers, and two clusters."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

# The longest wait for one step, in seconds. Far above what a step takes; a step that hangs ends the demo.
STEP_SECONDS_MAX = 300
# How long a daemon may take to serve or to end.
DAEMON_SECONDS_MAX = 30
# Only a directory with this file in it is ever deleted.
MARKER = ".godwit-demo"


class DemoError(Exception):
    """Something did not work; the message says what and where to look."""


def free_port(address):
    """A TCP port that nobody listens on at this address of the loopback interface."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


def tail(path, lines=15):
    """The last lines of a log, for an error message."""
    try:
        with open(path, errors="replace") as log:
            text = log.readlines()
            # A crash ends with pages of registers; the line that says why is above them.
            reasons = [line for line in text[:-lines] if "Fatal error" in line]
            return "".join(f"    {line}" for line in reasons + text[-lines:])
    except OSError:
        return ""


class Run:
    """One run: its directory, its programs, its processes and its clock."""

    def __init__(self, repository):
        self.started = time.monotonic()
        self.processes = []
        self.lock = threading.Lock()
        self.is_ending = False
        self.repository = repository
        binaries = os.environ.get("GODWIT_BIN_DIR") or os.path.join(repository, ".build", "release")
        clients = os.environ.get("GODWIT_CLIENTS_DIR") or os.path.join(repository, "Clients", ".build", "release")
        self.programs = {
            "godwitd": binaries, "godwit": binaries, "godwit-tree": clients, "godwit-journal-client": clients,
        }
        for name, directory in self.programs.items():
            path = os.path.join(os.path.abspath(directory), name)
            if not os.access(path, os.X_OK):
                raise DemoError(f"there is no {path}\n  remedy: run 'make demo', which builds it")
            self.programs[name] = path
        self.directory = os.path.abspath(
            os.environ.get("GODWIT_DEMO_DIR") or os.path.join(repository, "run", "demo"))
        self._prepare_directory()

    def _prepare_directory(self):
        if os.path.isdir(self.directory) and os.listdir(self.directory):
            if not os.path.exists(self.path(MARKER)):
                raise DemoError(
                    f"{self.directory} is not empty and was not made by the demo\n"
                    "  remedy: name another directory with GODWIT_DEMO_DIR")
            shutil.rmtree(self.directory)
        os.makedirs(self.directory, exist_ok=True)
        with open(self.path(MARKER), "w") as marker:
            marker.write("Made by scripts/demo, which deletes this directory when it runs again.\n")

    def path(self, name):
        """A path in the directory of this run."""
        return os.path.join(self.directory, name)

    def say(self, text):
        """Prints a line with the seconds since the start."""
        print(f"[{time.monotonic() - self.started:6.1f}s] {text}", flush=True)

    def start(self, name, program, arguments, environment=None):
        """Starts a program in the background; its output goes to NAME.log. It is ended at the end of the run."""
        with open(self.path(f"{name}.log"), "ab") as log:
            return self.spawn(name, program, arguments, environment, stdout=log, stderr=log)

    def prefix(self, program):
        """What is put before a program, such as the command that enters a namespace."""
        return []

    def spawn(self, name, program, arguments, environment=None, **options):
        """Starts a program and notes it, so that it is ended at the end of the run at the latest."""
        with self.lock:
            if self.is_ending:
                raise DemoError(f"{name} is not started any more: the demo ends")
            process = subprocess.Popen(
                self.prefix(program) + [self.programs[program]] + arguments, stdin=subprocess.DEVNULL,
                env={**os.environ, **(environment or {})},
                # Away from the terminal's signals: an interrupted demo ends its processes itself, in order.
                start_new_session=True, **options)
            self.processes.append((name, process))
        return process

    def end_processes(self):
        """Ends what still runs, the last one first: with SIGTERM, then, after a while, with SIGKILL."""
        with self.lock:
            self.is_ending = True
            processes, self.processes = self.processes, []
        for name, process in reversed(processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(DAEMON_SECONDS_MAX)
                except subprocess.TimeoutExpired:
                    print(f"demo: {name} (process {process.pid}) did not end and is killed", file=sys.stderr)
                    process.kill()
                    process.wait()

    def call(self, program, arguments, environment=None, seconds=STEP_SECONDS_MAX):
        """Runs a program to its end and returns status, output and error output."""
        process = self.spawn(
            program, program, arguments, environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            errors="replace")
        try:
            output, error = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise DemoError(f"'{program} {' '.join(arguments)}' did not end within {seconds} s") from None
        with self.lock:
            self.processes = [entry for entry in self.processes if entry[1] is not process]
        return process.returncode, output, error

    def remove_data(self):
        """Deletes the data of the clusters, not the logs."""
        if os.environ.get("GODWIT_DEMO_KEEP") == "1":
            return
        for entry in os.scandir(self.directory):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)


class Cluster:
    """A cluster of one godwitd."""

    CONFIGURATION = """\
cluster:
  name: {name}
node:
  name: {name}-01
data_directory: {directory}/data
management:
  address: 127.0.0.1
  port: {management}
replication:
  address: 127.0.0.1
  port: {replication}
aggregates:
  - name: aggr1
    directory: {directory}/aggr1
    capacity: 8G
log:
  level: info
"""

    def __init__(self, run, name):
        self.run = run
        self.name = name
        self.management_port = free_port("127.0.0.1")
        self.replication_port = free_port("127.0.0.1")
        self.environment = {"GODWIT_SERVER": f"http://127.0.0.1:{self.management_port}"}
        self.log = run.path(f"{name}.log")

    def start(self):
        """Writes the configuration, starts the daemon and waits until it serves."""
        configuration, ready = self.run.path(f"{self.name}.yaml"), self.run.path(f"{self.name}.ready")
        with open(configuration, "w") as file:
            file.write(self.CONFIGURATION.format(
                name=self.name, directory=self.run.path(self.name), management=self.management_port,
                replication=self.replication_port))
        daemon = self.run.start(self.name, "godwitd", ["--config", configuration, "--ready-file", ready])
        deadline = time.monotonic() + DAEMON_SECONDS_MAX
        while not os.path.exists(ready):
            if daemon.poll() is not None or time.monotonic() > deadline:
                log = self.run.path(f"{self.name}.log")
                raise DemoError(f"godwitd of cluster {self.name} does not serve; {log} ends with\n{tail(log)}")
            time.sleep(0.02)

    def godwit(self, *arguments):
        """Runs godwit against this cluster and returns its output."""
        status, output, error = self.run.call("godwit", list(arguments), self.environment)
        if status != 0:
            command = " ".join(argument for argument in arguments)
            raise DemoError(f"'godwit {command}' on {self.name} ended with status {status}: {error.strip() or output}")
        return output

    def records(self, *arguments):
        """Runs a `show` of godwit and returns its records."""
        return json.loads(self.godwit(*arguments, "--json"))["records"]

    def get(self, path):
        """Reads what is at a path of the REST interface."""
        url = self.environment["GODWIT_SERVER"] + path
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)
        except (OSError, ValueError) as error:
            raise DemoError(f"{url} does not answer: {error}") from None

    def peer_with(self, other, passphrase):
        """Tells this cluster of another."""
        self.godwit(
            "cluster", "peer", "create", "--name", other.name, "--address", f"127.0.0.1:{other.management_port}",
            "--replication", f"127.0.0.1:{other.replication_port}", "--passphrase", passphrase)


class Loopback:
    """Where the demo plays: two clusters of one node on addresses in 127.0.0.0/8."""

    # Who may use the exports.
    clients = "127.0.0.0/8"
    address = "127.77.0.1"
    # What `volume create` needs besides a name, a size and a junction.
    volume_options = ()

    def __init__(self, run):
        self.run = run
        self.port = free_port(self.address)
        self.lif_options = ("--address", self.address, "--port", str(self.port))

    def start(self):
        """Starts both clusters and makes them peers; returns them, the source first."""
        alpha, beta = Cluster(self.run, "alpha"), Cluster(self.run, "beta")
        for cluster in (alpha, beta):
            cluster.start()
            self.run.say(f"cluster {cluster.name} serves REST at 127.0.0.1:{cluster.management_port}")
        passphrase = secrets.token_hex(16)
        alpha.peer_with(beta, passphrase)
        beta.peer_with(alpha, passphrase)
        self.run.say("alpha and beta are peers")
        return alpha, beta

    def begin(self):
        """Starts what works beside the journal client: nothing here."""

    def finish(self):
        """Ends it, and returns what is wrong."""
        return []
