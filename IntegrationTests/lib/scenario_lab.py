"""What the scenarios stand on: clusters of one daemon each, the journal client, and their ends."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
import urllib.request

# Ports of the clusters of a scenario; the LIFs have addresses of their own.
PORT_FIRST = 24000
PORTS_PER_LAB = 20
# The port of all LIFs.
LIF_PORT = 24900
SVM = "moving"
# Nothing in these scenarios takes longer, unless it hangs.
SECONDS_MAX = 300
ENDED = {
    "migrate_complete", "migrate_complete_with_warnings", "migrate_failed", "setup_configuration_failed",
    "migrate_aborted", "migrate_abort_failed", "migrate_paused", "migrate_pause_failed", "cleanup_failed",
}
COMPLETE = {"migrate_complete"}
# What was tried again on the way is a warning.
COMPLETE_AFTER_TROUBLE = {"migrate_complete", "migrate_complete_with_warnings"}
# What the journal client must not count.
HARM = ("lost", "repeated", "stale_handles", "mismatches")


class Failure(Exception):
    """A scenario does not hold; the message says what."""


def require(condition, message):
    """Fails the scenario unless the condition holds."""
    if not condition:
        raise Failure(message)


def wait_for(what, body, seconds=SECONDS_MAX, every=0.02):
    """Waits until `body` returns something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        found = body()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not within {seconds} s")
        time.sleep(every)


class Cluster:
    """A cluster of one godwitd, or one node of a cluster of several, which all have the same etcd. `prefix` is put before
    its commands, such as `ip netns exec NAME`."""

    def __init__(self, lab, name, port, address="127.44.0.1", prefix=(), node=1, interconnect=None):
        self.lab, self.name, self.port, self.address, self.prefix = lab, name, port, address, list(prefix)
        self.node = f"{name}-{node:02}"
        # The port for the other nodes; None when there are none.
        self.interconnect = interconnect
        self.directory = lab.path(name if node == 1 else self.node)
        os.makedirs(self.path("waits"))
        self.server = f"http://{address}:{port}"
        self.process = None
        # The etcd of the replicated database; None for a file.
        self.etcd = None
        # The names of the nodes whose aggregates it takes over.
        self.partners = []
        # The directory of certificates; None in the clear.
        self.identity = None

    def secure(self, directory):
        """Gives the node a certificate of the authority in a directory; before it is started."""
        certificates(directory, "node", self.node, self.address)
        self.identity = directory
        self.server = self.server.replace("http://", "https://")

    def environment(self):
        """The environment of its commands."""
        if not self.identity:
            return None
        files = {"AUTHORITY": "authority.pem", "CERTIFICATE": "admin.pem", "KEY": "admin.key"}
        return {**os.environ, **{f"GODWIT_{key}": os.path.join(self.identity, file) for key, file in files.items()}}

    def path(self, name):
        """A path in the directory of this cluster."""
        return os.path.join(self.directory, name)

    def start(self):
        """Starts the daemon and waits until it serves."""
        database = f"database:\n  etcd:\n    endpoints: [{self.etcd.endpoint}]\n" if self.etcd else ""
        interconnect = (f"interconnect:\n  address: {self.address}\n  port: {self.interconnect}\n"
                        if self.interconnect else "")
        tls = (f"tls:\n  authority: {self.identity}/authority.pem\n  certificate: {self.identity}/{self.node}.pem\n"
               f"  key: {self.identity}/{self.node}.key\n" if self.identity else "")
        partners = f"partners: [{', '.join(self.partners)}]\n" if self.partners else ""
        aggregate = "aggr1" if self.node.endswith("-01") else f"aggr{self.node[-1]}"
        with open(self.path("config.yaml"), "w") as file:
            file.write(
                f"cluster:\n  name: {self.name}\nnode:\n  name: {self.node}\n"
                f"data_directory: {self.path('data')}\n{database}{interconnect}{tls}"
                f"management:\n  address: {self.address}\n  port: {self.port}\n"
                f"replication:\n  address: {self.address}\n  port: {self.port + 1}\nnfs:\n  port: {LIF_PORT}\n"
                f"aggregates:\n  - name: {aggregate}\n    directory: {self.path(aggregate)}\n    capacity: 16G\n{partners}"
                "log:\n  level: notice\ntesting: true\n")
        ready = self.path("ready")
        if os.path.exists(ready):
            os.remove(ready)
        with open(self.path("log"), "a") as log:
            self.process = self.lab.spawn(
                self.prefix + [self.lab.program("godwitd"), "--config", self.path("config.yaml"), "--ready-file", ready],
                stdout=log, stderr=log, env={**os.environ, "GODWIT_WAIT_IN": self.path("waits")})
        wait_for(f"{self.name} serves (see {self.path('log')})",
                 lambda: os.path.exists(ready) or self.process.poll() is not None, 60)
        require(self.process.poll() is None, f"{self.name} ended at its start, see {self.path('log')}")

    def godwit(self, *arguments, check=True, seconds=SECONDS_MAX):
        """Runs a command of godwit against this cluster."""
        result = subprocess.run(
            self.prefix + [self.lab.program("godwit"), *arguments, "--server", self.server],
            capture_output=True, text=True, timeout=seconds, env=self.environment())
        if check and result.returncode != 0:
            raise Failure(f"godwit {' '.join(arguments)} on {self.name}: {result.stderr.strip()}")
        return result

    def records(self, *arguments):
        """The records of a `show`."""
        return json.loads(self.godwit(*arguments, "--json").stdout)["records"]

    def operation(self, svm=SVM):
        """The newest migrate operation of an SVM to this cluster; None when there is none."""
        if self.prefix or self.identity:
            records = self.records("svm", "migrate", "show")
        else:
            with urllib.request.urlopen(self.server + "/api/svm/migrations?fields=*", timeout=10) as answer:
                records = json.load(answer)["records"]
        records = [record for record in records if record["source"]["svm"]["name"] == svm]
        return max(records, key=lambda record: record["time_metrics"].get("start_time", ""), default=None)

    def state(self, svm=SVM):
        """The state of that operation."""
        record = self.operation(svm)
        return record and record["state"]

    def migrate(self, action, *options, svm=SVM, check=True):
        """`svm migrate ACTION` on this cluster."""
        return self.godwit("svm", "migrate", action, "--svm", svm, *options, check=check)

    def wait_state(self, *states, svm=SVM, seconds=SECONDS_MAX):
        """Waits for one of the states, and fails when the operation ends in another."""
        def look():
            record = self.operation(svm)
            if record and record["state"] in states:
                return record
            if record and record["state"] in ENDED:
                raise Failure(f"the operation is {record['state']}, not {' or '.join(states)}: {messages(record)}")
            return None
        return wait_for(f"{self.name}: {' or '.join(states)}", look, seconds)

    def wait_point(self, point):
        """Lets the daemon wait at a point of a migrate from now on."""
        for name in (f"{point}.reached",):
            with contextlib.suppress(FileNotFoundError):
                os.remove(self.path(f"waits/{name}"))
        open(self.path(f"waits/{point}.wait"), "w").close()

    def reached(self, point, seconds=120):
        """Waits until the daemon waits at the point."""
        wait_for(f"{self.name} reaches {point}", lambda: os.path.exists(self.path(f"waits/{point}.reached")), seconds,
                 every=0.002)

    def go_on(self, point):
        """Lets it go on from the point, and wait there no more."""
        os.remove(self.path(f"waits/{point}.wait"))


class JournalClient:
    """The client that stands on libnfs and keeps a journal of what it was told."""

    def __init__(self, lab, name, volume, address, operations_per_second=500, workers=2, prefix=()):
        self.name, self.output, self.values = name, lab.path(f"{name}.out"), {}
        with open(self.output, "w") as out, open(lab.path(f"{name}.log"), "w") as log:
            self.process = lab.spawn(
                list(prefix) + [
                    lab.program("godwit-journal-client"), "--url", f"nfs://{address}/{volume}", "--port", str(LIF_PORT),
                    "--mount-port", str(LIF_PORT), "--journal", lab.path(f"{name}.journal"), "--run", str(lab.next_run()),
                    "--workers", str(workers), "--operations-per-second", str(operations_per_second), "--outage-report"],
                stdout=out, stderr=log)

    def finish(self):
        """Ends the client, which then checks its whole journal; returns its numbers, fails when there is harm."""
        require(self.process.poll() is None, f"{self.name} ended by itself with {self.process.poll()}")
        self.process.terminate()
        status = self.process.wait(SECONDS_MAX)
        with open(self.output) as file:
            lines = [line for line in file if line.startswith("journal: outage_ms=")]
        require(lines, f"{self.name} printed no result, see {self.output}")
        self.values = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", lines[-1])}
        harm = [f"{name}={self.values[name]}" for name in HARM if self.values[name] != 0]
        require(not harm and status == 0, f"{self.name} ended with {status}: {' '.join(harm) or lines[-1].strip()}")
        require(self.values["acknowledged_writes"] > 0, f"{self.name} wrote nothing")
        return self.values


class Lab:
    """One scenario's directory, ports, clusters and processes."""

    def __init__(self, options, name, index):
        self.options, self.processes = options, []
        self.directory = os.path.join(options.work, name)
        os.makedirs(self.directory)
        self.port = PORT_FIRST + PORTS_PER_LAB * index
        self.address = f"127.45.{index}.1"
        # What is to be called at the end, the last one first.
        self.ends = []
        self.client_runs = 0

    def next_run(self):
        """The number of the next client: its directory in the volume is its own."""
        self.client_runs += 1
        return self.client_runs

    def path(self, name):
        """A path in the directory of this scenario."""
        return os.path.join(self.directory, name)

    def program(self, name):
        """The path of one of our programs."""
        is_client = name in ("godwit-tree", "godwit-journal-client", "godwit-load")
        return os.path.abspath(os.path.join(self.options.clients if is_client else self.options.binaries, name))

    def spawn(self, command, **options):
        """Starts a process that is ended with the scenario at the latest."""
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **options)
        self.processes.append(process)
        return process

    def clusters(self, names=("alpha", "beta")):
        """Starts clusters that are peers of each other."""
        made = [Cluster(self, name, self.port + 2 * index) for index, name in enumerate(names)]
        for cluster in made:
            cluster.start()
        for one in made:
            for two in made:
                if one is not two:
                    peer(one, two)
        return made

    def client(self, name="client", volume="one", address=None, **options):
        """Starts a journal client and lets it work a moment."""
        client = JournalClient(self, name, volume, address or self.address, **options)
        time.sleep(0.5)
        require(client.process.poll() is None, f"the client does not work, see {self.path(name + '.log')}")
        return client

    def copy(self, volume, source, address=None, verify=False):
        """Copies a directory into a volume through NFS, or compares it."""
        result = subprocess.run(
            [self.program("godwit-tree"), "--url", f"nfs://{address or self.address}/{volume}", "--port", str(LIF_PORT),
             "--mount-port", str(LIF_PORT), "--source", source, "--directory", "data"]
            + (["--verify", "--exact"] if verify else []), capture_output=True, text=True, timeout=SECONDS_MAX)
        require(result.returncode == 0,
                f"godwit-tree {'compares' if verify else 'copies'} {volume}: {result.stdout}{result.stderr}")

    def random_files(self, name, size, file_size=8 << 20):
        """A directory of incompressible files with `size` bytes together; the same name gives the same bytes."""
        directory = self.path(name)
        os.makedirs(directory)
        source = random.Random(name)
        for index in range(0, size, file_size):
            with open(os.path.join(directory, f"file-{index // file_size}"), "wb") as file:
                file.write(source.randbytes(min(file_size, size - index)))
        return directory

    def close(self):
        """Ends every process of the scenario: clients first, then the daemons."""
        for end in reversed(self.ends):
            end()
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def remove(self):
        """Deletes the directory of the scenario."""
        shutil.rmtree(self.directory)


def certificates(directory, *arguments):
    """Runs scripts/certificates in a directory."""
    script = os.path.join(os.path.dirname(__file__), "../../scripts/certificates")
    subprocess.run([script, arguments[0], directory, *arguments[1:]], check=True, timeout=60)


def peer(one, two, address=None, port=None):
    """Tells a cluster of another one, at another address and port when a proxy is between them."""
    one.godwit("cluster", "peer", "create", "--name", two.name,
               "--address", f"{address or two.address}:{port or two.port}",
               "--replication", f"{two.address}:{two.port + 1}", "--passphrase", "only-for-this-machine")


def make_svm(cluster, address, volumes, svm=SVM, size="2G", aggregate=None):
    """Makes an SVM with an export rule, a LIF on the node that is asked, and volumes; a cluster of several nodes needs an
    aggregate for them."""
    cluster.godwit("svm", "create", "--name", svm)
    cluster.godwit("export-policy", "rule", "add", "--svm", svm, "--policy", "default", "--clients", "127.0.0.0/8",
                   "--ro", "any", "--rw", "any", "--superuser", "any")
    for volume in volumes:
        cluster.godwit("volume", "create", "--svm", svm, "--name", volume, "--size", size,
                       "--junction-path", f"/{volume}", *(["--aggregate", aggregate] if aggregate else []))
    cluster.godwit("lif", "create", "--svm", svm, "--name", "lif1", "--address", address, "--port", str(LIF_PORT),
                   *(["--home-node", cluster.node] if aggregate else []))


def messages(record):
    """What an operation says, in one line."""
    return "; ".join(message["message"] for message in record.get("messages", []))


def window(record):
    """The stages of the outage in one word: name=milliseconds, with commas."""
    return ",".join(f"{stage['name']}={stage['milliseconds']:.1f}" for stage in record["godwit"].get("window", []))


def require_moved(source, destination, svm=SVM):
    """The SVM is on the destination alone, and runs there; every volume was compared before the source was deleted."""
    godwit = destination.operation(svm)["godwit"]
    require(godwit["volumes_verified"] == len(godwit["volumes"]), f"{godwit['volumes_verified']} volumes were compared")
    require(all(record["name"] != svm for record in source.records("svm", "show")), f"{svm} is still on {source.name}")
    states = [record["state"] for record in destination.records("svm", "show") if record["name"] == svm]
    require(states == ["running"], f"{svm} does not run on {destination.name}: {states}")
