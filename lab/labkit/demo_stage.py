"""Where the demo plays in the lab: what scripts/lib/demo_run.py has for loopback, for clusters of several nodes."""

import json
import threading

from demo_run import DemoError, Run
from demo_steps import SVM

from . import daemons, lab
from .errors import LabError
from .gap import GapReader
from .tenant import Tenant
from .topology import CLIENT_NETWORK, CLIENTS, NFS_PORT, Node, lif_address

LIF_NUMBER, GUEST_NUMBER = 1, 1
# What the kernel client may wait.
GAP_MS_MAX = 1_000
CLONE_SECONDS_MAX = 300


class LabRun(Run):
    """Clients run in their namespace, godwit in that of a node."""

    def __init__(self, repository, state):
        self.state = state
        super().__init__(repository)

    def prefix(self, program):
        """Enters a namespace."""
        is_godwit = program == "godwit"
        return ["ip", "netns", "exec", self.state.topology.node("a1").namespace if is_godwit else CLIENTS]


class LabCluster:
    """A cluster as the demo sees it: its first node."""

    def __init__(self, run, node):
        self.run, self.node, self.name = run, node, node.cluster
        self.environment = {"GODWIT_SERVER": node.server, **daemons.environment(run.state)}
        self.log = run.state.path("logs", f"{daemons.key(node, 'godwitd')}.log")

    def godwit(self, *arguments):
        """Runs godwit against this cluster and returns its output."""
        status, output, error = self.run.call("godwit", list(arguments), self.environment)
        if status != 0:
            raise DemoError(f"'godwit {' '.join(arguments)}' on {self.name} ended with status {status}: "
                            f"{error.strip() or output}")
        return output

    def records(self, *arguments):
        """The records of a `show`."""
        return json.loads(self.godwit(*arguments, "--json"))["records"]

    def get(self, path):
        """Reads what is at a path of the REST interface."""
        try:
            return daemons.rest(self.run.state, self.node, path)
        except (OSError, ValueError) as error:
            raise DemoError(f"{self.node.server}{path} does not answer: {error}") from None


class LabStage:
    """The lab with its LIFs in the client network, and a kernel client."""

    clients = f"{CLIENT_NETWORK}.0/24"
    address = lif_address(LIF_NUMBER)
    port = NFS_PORT

    def __init__(self, run):
        self.run, self.state = run, run.state
        node = self.state.topology.node("a1")
        self.volume_options = ("--aggregate", f"aggr_{node.name}")
        self.lif_options = ("--address", self.address, "--netmask", "24", "--home-node", node.node, "--home-port",
                            Node.interface("client"))
        self.guest = self.reader = self.clone = None
        self.outcome = []

    def start(self):
        """Both clusters, which run. What an earlier demo left is removed."""
        Tenant(self.state, SVM, LIF_NUMBER).remove()
        nodes = [self.state.topology.node(name) for name in ("a1", "b1")]
        for node in nodes:
            self.run.say(f"cluster {node.cluster} has {self.state.topology.size} nodes; {node.node} serves REST at "
                         f"{node.addresses['inter']}")
        return [LabCluster(self.run, node) for node in nodes]

    def begin(self):
        """Lets a kernel client clone this repository again and again, and read without pause."""
        self.guest = lab.start_guest(self.state, GUEST_NUMBER)
        self.guest.put_repository(self.run.repository)
        self.guest.mount(self.address, "/build")
        kernel = self.guest.run("uname -r", check=True).output.strip()
        self.guest.run("dd if=/dev/urandom of=/mnt/nfs/block bs=4096 count=1 conv=fsync 2>/dev/null", check=True)
        self.reader = GapReader(self.guest, "/mnt/nfs/block")
        self.clone = threading.Thread(target=self._clone, daemon=True)
        self.clone.start()
        self.run.say(f"kernel client {self.guest.record['address']} (Linux {kernel}, NFSv3) clones a repository into "
                     f"{self.address}:/build")

    def _clone(self):
        try:
            result = self.guest.run(
                "export HOME=/tmp GIT_CONFIG_NOSYSTEM=1 && git config --global safe.directory '*' && cd /mnt/nfs && "
                "git clone -q --no-local /mnt/out/repository.git clone && "
                "git -C clone fsck --full --strict --no-progress --no-dangling && "
                "test -z \"$(git -C clone status --porcelain)\" && git -C clone rev-parse HEAD && rm -r clone",
                CLONE_SECONDS_MAX)
            if result.status != 0:
                self.outcome.append(f"git in the kernel client ended with {result.status}: {result.error.strip()}")
            else:
                self.run.say(f"kernel client: cloned and checked {result.output.strip()}")
        except LabError as error:
            self.outcome.append(str(error))

    def finish(self):
        """Waits for the clone; returns what is wrong."""
        self.clone.join(CLONE_SECONDS_MAX)
        gap = self.reader.mark()
        self.reader.stop()
        self.guest.unmount("/mnt/nfs")
        self.run.say(f"kernel client: {gap['reads']} reads, {gap['errors']} errors, the longest took "
                     f"{gap['longest_ms']:.0f} ms")
        if gap["errors"] or gap["longest_ms"] > GAP_MS_MAX:
            self.outcome.append(f"the kernel client's reader had {gap['errors']} errors and waited {gap['longest_ms']} ms")
        return self.outcome
