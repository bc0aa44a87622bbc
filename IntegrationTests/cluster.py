"""The clusters of the integration tests: real daemons that may be killed, stopped and started again."""
import json, os, signal, subprocess, time


class Cluster:
    """A daemon of one node in a directory of its own; `options` has `binaries` (a directory) and `port` (of NFS)."""

    def __init__(self, options, directory, name, port, aggregate=None, capacity="4G"):
        self.options, self.name, self.port = options, name, port
        self.directory = os.path.join(directory, name)
        os.makedirs(self.directory)
        aggregate = aggregate or self.path("aggr1")
        self.server = f"http://127.0.0.1:{port}"
        self.process = None
        # Where files say at which points of a migrate the daemon waits; none when it is not set.
        self.waits = None
        with open(self.path("config.yaml"), "w") as file:
            file.write(
                f"cluster:\n  name: {name}\nnode:\n  name: {name}-01\ndata_directory: {self.path('data')}\n"
                f"management:\n  address: 127.0.0.1\n  port: {port}\n"
                f"replication:\n  address: 127.0.0.1\n  port: {port + 1}\nnfs:\n  port: {options.port}\n"
                f"aggregates:\n  - name: aggr1\n    directory: {aggregate}\n    capacity: {capacity}\n"
                "log:\n  level: notice\ntesting: true\n")

    def path(self, name):
        return os.path.join(self.directory, name)

    def start(self, crash_at=None):
        environment = dict(os.environ)
        environment.pop("GODWIT_CRASH_AT", None)
        if crash_at:
            environment["GODWIT_CRASH_AT"] = crash_at
        if self.waits:
            environment["GODWIT_WAIT_IN"] = self.waits
        ready = self.path("ready")
        if os.path.exists(ready):
            os.remove(ready)
        with open(self.path("log"), "a") as log:
            self.process = subprocess.Popen(
                [os.path.join(self.options.binaries, "godwitd"), "--config", self.path("config.yaml"), "--ready-file", ready],
                stdout=log, stderr=log, env=environment)
        # A daemon whose crash point is in its own recovery may die before it is ready; the caller sees that.
        deadline = time.monotonic() + 60
        while not os.path.exists(ready) and self.process.poll() is None:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} is not ready after 60 s, see {self.path('log')}")
            time.sleep(0.01)

    def is_stopped(self):
        with open(f"/proc/{self.process.pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "T"

    def was_killed(self):
        return self.process.poll() == -signal.SIGKILL

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.send_signal(signal.SIGCONT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()

    def godwit(self, *arguments, check=True, timeout=120):
        result = subprocess.run(
            [os.path.join(self.options.binaries, "godwit"), *arguments, "--server", self.server],
            capture_output=True, text=True, timeout=timeout)
        if check and result.returncode != 0:
            raise RuntimeError(f"godwit {' '.join(arguments)}: {result.stderr}")
        return result

    def records(self, *arguments):
        try:
            result = self.godwit(*arguments, "--json", check=False, timeout=5)
        except subprocess.TimeoutExpired:
            # The daemon died while it was asked.
            return None
        return json.loads(result.stdout)["records"] if result.returncode == 0 else None
