"""Namespaces, bridges and links of the lab, and what goes wrong with them."""

import contextlib
import json

from . import commands, namespaces
from .errors import LabError
from .topology import CLIENT_BRIDGE, CLIENTS, CLIENTS_ADDRESS, NETWORKS, SWITCH

# The table of the rules that cut nodes off from each other.
TABLE = "gwlab"
# A whole frame of Ethernet. `delay` lets one pass in the time that it is given.
FRAME_BYTES = 1514
RATE_BURST_BYTES = 16_384


def build(topology):
    """Makes all namespaces and links."""
    for namespace in topology.namespaces:
        commands.ip("netns", "add", namespace)
        commands.ip("link", "set", "lo", "up", namespace=namespace)
    for bridge in topology.bridges:
        commands.ip("link", "add", bridge, "type", "bridge", namespace=SWITCH)
        commands.ip("link", "set", bridge, "up", namespace=SWITCH)
    for node in topology.nodes:
        for network in NETWORKS:
            _link(node.namespace, node.interface(network), node.port(network), node.bridges[network],
                  node.addresses[network])
    _link(CLIENTS, "eth-client", "clients-client", CLIENT_BRIDGE, CLIENTS_ADDRESS)


def _link(namespace, interface, port, bridge, address):
    commands.ip("link", "add", port, "type", "veth", "peer", "name", interface, "netns", namespace, namespace=SWITCH)
    commands.ip("link", "set", port, "master", bridge, "up", namespace=SWITCH)
    commands.ip("addr", "add", f"{address}/24", "dev", interface, namespace=namespace)
    commands.ip("link", "set", interface, "up", namespace=namespace)


def remove(topology):
    """Removes all namespaces, and their links with them; returns complaints about processes that are left in one."""
    complaints = []
    for namespace in reversed(topology.namespaces):
        if namespaces.exists(namespace):
            left = commands.run("ip", "netns", "pids", namespace, check=False).stdout.split()
            if left:
                complaints.append(f"processes that the lab did not start are still in {namespace}: {' '.join(left)}")
            commands.ip("netns", "del", namespace)
    return complaints


def chosen(networks):
    """The named networks, all when none is named."""
    for network in networks:
        if network not in NETWORKS:
            raise LabError(f"there is no network '{network}'", f"name one of {', '.join(NETWORKS)}")
    return tuple(networks) or NETWORKS


def isolate(node, networks=()):
    """Takes the links of a node down, at the bridge: the node sees that the carrier is lost."""
    for network in chosen(networks):
        commands.ip("link", "set", node.port(network), "down", namespace=SWITCH)


def partition(first, second, networks=()):
    """Nothing passes between the nodes of two groups any more. Addresses of LIFs are not concerned."""
    for here, there in ((first, second), (second, first)):
        addresses = ", ".join(node.addresses[network] for node in there for network in chosen(networks))
        for node in here:
            rules = (f"table inet {TABLE} {{\n"
                     f"  chain in {{ type filter hook input priority 0; ip saddr {{ {addresses} }} drop; }}\n"
                     f"  chain out {{ type filter hook output priority 0; ip daddr {{ {addresses} }} drop; }}\n}}\n")
            commands.run("ip", "netns", "exec", node.namespace, "nft", "-f", "-", text=rules, what="cutting off")


def rate(node, network, limit, burst=RATE_BURST_BYTES):
    """Limits what a node sends and gets in a network, such as '10mbit'; what is more waits, for a second at most."""
    for namespace, interface in _ends(node, *chosen([network])):
        commands.run("ip", "netns", "exec", namespace, "tc", "qdisc", "replace", "dev", interface, "root", "tbf", "rate",
                     limit, "burst", str(burst), "latency", "1s", what="limiting")


def delay(node, network, milliseconds):
    """Lets whole frames of a node pass one by one, each after so many milliseconds. This kernel has no netem, so that the
    delay is a rate: short packets wait less than long ones."""
    rate(node, network, f"{int(FRAME_BYTES * 8_000 / milliseconds)}bit", FRAME_BYTES + 26)


def _ends(node, network):
    return (node.namespace, node.interface(network)), (SWITCH, node.port(network))


def heal(node):
    """Undoes all of that for a node."""
    commands.run("ip", "netns", "exec", node.namespace, "nft", "delete", "table", "inet", TABLE, check=False)
    for network in NETWORKS:
        commands.ip("link", "set", node.port(network), "up", namespace=SWITCH)
        for namespace, interface in _ends(node, network):
            commands.run("ip", "netns", "exec", namespace, "tc", "qdisc", "del", "dev", interface, "root", check=False)


def faults(node):
    """What is wrong with the network of a node, in words."""
    words = []
    with contextlib.suppress(LabError, ValueError):
        links = json.loads(commands.ip("-j", "link", "show", namespace=SWITCH).stdout)
        flags = {link["ifname"]: link["flags"] for link in links}
        down = [network for network in NETWORKS if "UP" not in flags.get(node.port(network), ["UP"])]
        words += [f"isolated from {', '.join(down)}"] if down else []
        for network in NETWORKS:
            shown = commands.run("ip", "netns", "exec", node.namespace, "tc", "qdisc", "show", "dev",
                                 node.interface(network)).stdout.split()
            words += [f"{network} limited to {shown[shown.index('rate') + 1]}"] if "tbf" in shown else []
        if commands.run("ip", "netns", "exec", node.namespace, "nft", "list", "table", "inet", TABLE,
                        check=False).returncode == 0:
            words.append("partitioned")
    return words
