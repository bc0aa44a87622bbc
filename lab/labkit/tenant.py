"""An SVM of the lab with LIFs on the client network, and its moves between the clusters."""

import time

from . import commands, daemons
from .errors import LabError
from .topology import CLIENT_NETWORK, Node, lif_address

MOVE_SECONDS_MAX = 180
ENDED_WELL = ("migrate_complete", "migrate_complete_with_warnings")
ENDED = ENDED_WELL + (
    "migrate_failed", "setup_configuration_failed", "migrate_aborted", "migrate_abort_failed", "migrate_paused",
    "migrate_pause_failed", "cleanup_failed")


class Tenant:
    """An SVM with volumes and one LIF. It knows on which cluster it is."""

    def __init__(self, state, name, number, letter="a"):
        self.state, self.name, self.letter = state, name, letter
        self.address = lif_address(number)

    @property
    def node(self) -> Node:
        """The first node of the cluster that it is on."""
        return self.state.topology.node(f"{self.letter}1")

    @property
    def other(self) -> Node:
        """The first node of the cluster that it would move to."""
        return self.state.topology.node(f"{'b' if self.letter == 'a' else 'a'}1")

    def make(self, volumes, size="1G"):
        """Makes it on the first node of its cluster, with volumes that are joined at /NAME."""
        self.remove()
        node, name = self.node, self.name
        daemons.godwit(self.state, node, "svm", "create", "--name", name)
        daemons.godwit(self.state, node, "export-policy", "rule", "add", "--svm", name, "--policy", "default", "--clients",
                       f"{CLIENT_NETWORK}.0/24", "--ro", "any", "--rw", "any", "--superuser", "any")
        for volume in volumes:
            daemons.godwit(self.state, node, "volume", "create", "--svm", name, "--name", volume, "--size", size,
                           "--aggregate", f"aggr_{node.name}", "--junction-path", f"/{volume}")
        daemons.godwit(self.state, node, "lif", "create", "--svm", name, "--name", "lif1", "--address", self.address,
                       "--netmask", "24", "--home-node", node.node, "--home-port", Node.interface("client"))
        return self

    def remove(self):
        """Deletes it, wherever it is, so that the next run in the same lab finds its address free; none is no error."""
        for node in (self.state.topology.node(f"{letter}1") for letter in ("a", "b")):
            if all(record["name"] != self.name for record in daemons.records(self.state, node, "svm", "show")):
                continue
            for kind, option in (("lif", "--lif"), ("volume", "--volume")):
                for record in daemons.records(self.state, node, kind, "show", "--svm", self.name):
                    daemons.godwit(self.state, node, kind, "delete", "--svm", self.name, option, record["name"])
            daemons.godwit(self.state, node, "svm", "delete", "--name", self.name)

    def operation(self, node):
        """The newest migrate of this SVM to the cluster of a node, as that node tells it; None when there is none."""
        records = daemons.rest(self.state, node, "/api/svm/migrations?fields=*")["records"]
        records = [record for record in records if record["source"]["svm"]["name"] == self.name]
        return max(records, key=lambda record: record["time_metrics"].get("start_time", ""), default=None)

    def begin_move(self, *options):
        """Starts a move to the other cluster."""
        daemons.godwit(self.state, self.other, "svm", "migrate", "start", "--svm", self.name, "--source-cluster",
                       self.node.cluster, *options)

    def finish_move(self, seconds=MOVE_SECONDS_MAX):
        """Waits until the move has ended well; the SVM is on the other cluster then. Returns its record."""
        destination = self.other

        def look():
            record = self.operation(destination)
            return record if record and record["state"] in ENDED else None

        record = commands.wait_for(f"the move of {self.name} ends", look, seconds)
        if record["state"] not in ENDED_WELL:
            said = "; ".join(message["message"] for message in record.get("messages", []))
            raise LabError(f"the move of {self.name} to {destination.cluster} ended as {record['state']}: {said}",
                           f"lab/lab logs {destination.name}")
        self.letter = destination.letter
        return record

    def move(self, *options, settle=0.5):
        """Moves it; returns the record, after a moment in which clients of the other side are seen to work."""
        self.begin_move(*options)
        record = self.finish_move()
        time.sleep(settle)
        return record


def window_ms(record):
    """How long the gates were held, as the record of a move tells it."""
    return record["godwit"]["window_ms"]
