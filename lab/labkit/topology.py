"""What the lab consists of: names and addresses, and nothing that runs.

    client network      192.0.2.0/24     bridge client     nodes .11 to .19 and .21 to .29, LIFs from .101, guests from .201
    cluster networks    10.90.1.0/24 and 10.90.2.0/24      bridges cluster-a, cluster-b: etcd, and nodes among themselves
    inter-cluster       10.90.3.0/24     bridge inter      management and replication

All bridges are in one namespace, so that nothing of the lab is seen in the machine's own. A node has an interface on each
network that it is part of: eth-client, eth-cluster, eth-inter.
"""

import os

# What all namespaces begin with.
PREFIX = os.environ.get("GODWIT_LAB_PREFIX", "gwlab")
NODES_MAX = 9
MANAGEMENT_PORT = 8080
REPLICATION_PORT = 8081
INTERCONNECT_PORT = 8082
NFS_PORT = 2049
ETCD_PORT = 2379
ETCD_PEER_PORT = 2380
# The networks of a node, as the verbs call them.
NETWORKS = ("client", "cluster", "inter")
CLUSTERS = {"a": "alpha", "b": "beta"}
SWITCH = f"{PREFIX}-net"
# Where clients that are programs of this machine run.
CLIENTS = f"{PREFIX}-clients"
CLIENTS_ADDRESS = "192.0.2.250"
CLIENT_NETWORK = "192.0.2"
CLIENT_BRIDGE = "client"


class Node:
    """A node of a cluster."""

    def __init__(self, cluster, number):
        self.letter, self.number = cluster, number
        # How the verbs call it.
        self.name = f"{cluster}{number}"
        self.cluster = CLUSTERS[cluster]
        # How Godwit calls it.
        self.node = f"{self.cluster}-{number:02}"
        self.namespace = f"{PREFIX}-{self.name}"
        place = sorted(CLUSTERS).index(cluster) + 1
        last = 10 * place + number
        self.addresses = {
            "client": f"{CLIENT_NETWORK}.{last}", "cluster": f"10.90.{place}.{last}", "inter": f"10.90.3.{last}"}
        self.bridges = {"client": CLIENT_BRIDGE, "cluster": f"cluster-{cluster}", "inter": "inter"}

    @staticmethod
    def interface(network):
        """The name of its interface in a network."""
        return f"eth-{network}"

    def port(self, network):
        """The other end of the interface, a port of the bridge."""
        return f"{self.name}-{network}"

    @property
    def server(self):
        """Its management interface."""
        return f"https://{self.addresses['inter']}:{MANAGEMENT_PORT}"

    @property
    def etcd(self):
        """The client address of its member of etcd."""
        return f"http://{self.addresses['cluster']}:{ETCD_PORT}"

    @property
    def etcd_peer(self):
        """Where the other members reach it."""
        return f"http://{self.addresses['cluster']}:{ETCD_PEER_PORT}"


class Topology:
    """Both clusters with as many nodes each."""

    def __init__(self, nodes=3):
        self.size = nodes
        self.nodes = [Node(letter, number + 1) for letter in sorted(CLUSTERS) for number in range(nodes)]

    def of_cluster(self, letter):
        """The nodes of a cluster."""
        return [node for node in self.nodes if node.letter == letter]

    def node(self, name):
        """The node that the verbs, or Godwit, call so; None when there is none."""
        return next((node for node in self.nodes if name in (node.name, node.node)), None)

    @property
    def bridges(self):
        """All bridges."""
        return sorted({bridge for node in self.nodes for bridge in node.bridges.values()})

    @property
    def namespaces(self):
        """All namespaces."""
        return [SWITCH, CLIENTS] + [node.namespace for node in self.nodes]


def lif_address(number):
    """The address of the LIF with this number, from 1."""
    return f"{CLIENT_NETWORK}.{100 + number}"


def guest_address(number):
    """The address of the kernel client with this number, from 1."""
    return f"{CLIENT_NETWORK}.{200 + number}"
