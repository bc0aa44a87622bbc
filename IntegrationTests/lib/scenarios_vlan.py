"""An SVM in a VLAN. Needs root, and a kernel that has VLANs: `make lab-vlan` runs it on one."""

import os
import signal
import time

from scenario_lab import SVM, Cluster, certificates, peer, require, wait_for
from scenarios_network import (LIF, NETWORK, Network, held, make, move, option, placement, require_error,
                               require_refused, run)

# The network without tags, in which the clusters are managed.
UNTAGGED = "10.78.0"
# The VLAN of the SVM and its client, and another one on the same cables.
VLAN, OTHER_VLAN = 5, 6
# What a client may wait beyond what the servers held it: less than the 3 s of one that nobody tells of the move, and more than
# in the other scenarios, since in a guest everything shares one processor.
ABOVE_HOLD_MS_MAX = 2_500
# So that the client does not take that processor for itself.
OPERATIONS_PER_SECOND = 100


class Cable:
    """What passes the end of a host's cable at the bridge."""

    def __init__(self, lab, network, host):
        self.capture = lab.path(f"cable-{host}.pcap")
        with open(lab.path(f"cable-{host}.tcpdump"), "w") as log:
            self.process = lab.spawn(network.inside("switch") + [
                "tcpdump", "-i", f"to-{host}", "--immediate-mode", "-U", "-n", "-s", "96", "-w", self.capture], stdout=log,
                stderr=log)
        wait_for("tcpdump listens", lambda: os.path.exists(self.capture) and os.path.getsize(self.capture) > 0, 10)

    def finish(self):
        """The numbers of NFS packets of the LIF with the tag of its VLAN, and of those with another or none."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(10)
        # In a filter, what follows 'vlan' is looked for behind the tag.
        tagged, others = (len(run("tcpdump", "-r", self.capture, "-n", words).splitlines()) for words in (
            f"vlan {VLAN} and tcp and host {LIF}", f"(tcp and host {LIF}) or (vlan {OTHER_VLAN} and tcp and host {LIF})"))
        return tagged, others


def vlan(lab):
    """An SVM whose network is a VLAN moves to the port of that VLAN, there and back and by the user's choice; its client is in
    the VLAN, too. The other ports: the one that the VLAN is on, where the source's host answers as well, the same cable with
    another tag, where somebody else has the address, and the tag of the SVM on a cable that leads nowhere, with the name
    of the source's port."""
    require(os.geteuid() == 0, "network namespaces can only be made by root")
    network = Network(lab, {"alpha": ("eth1", f"{UNTAGGED}.1"), "beta": ("eth0", f"{UNTAGGED}.2"),
                            "client": ("eth1", f"{UNTAGGED}.200"), "stranger": ("eth1", f"{UNTAGGED}.99")})
    lack = network.lack_of_vlans()
    if lack:
        print(f"vlan: nothing is tried, since this kernel has no VLANs ('make lab-vlan' has): {lack}", flush=True)
        return {"vlan": "skipped"}
    alpha, beta = build(lab, network)
    make(network, alpha, f"eth1.{VLAN}")
    require_ports(beta)
    require_placement(beta)

    client = lab.client("tagged", address=LIF, prefix=network.inside("client"),
                        operations_per_second=OPERATIONS_PER_SECOND)
    cable = Cable(lab, network, "beta")
    result, limit = {}, 0
    wanted = f"eth0.{VLAN}"
    for name, source, destination, port, options in (
            ("away", alpha, beta, wanted, ()), ("back", beta, alpha, f"eth1.{VLAN}", ()),
            ("chosen", alpha, beta, wanted, ("--lif", f"lif1=beta-01:{wanted}"))):
        leaves = source.records("lif", "show", "--svm", SVM)[0]["location"]["port"]["name"]
        record = move(lab, network, source, destination, leaves, name, *options)
        require_port(network, destination, port)
        result[f"{name}_held_ms"] = round(held(record), 1)
        limit = max(limit, result[f"{name}_held_ms"] + ABOVE_HOLD_MS_MAX)
        time.sleep(0.5)
    values = client.finish()
    result["outage_ms"], result["writes"] = values["outage_ms"], values["acknowledged_writes"]
    result["lost"], result["repeated"] = values["lost"], values["repeated"]
    result["tagged_packets"], untagged = cable.finish()
    require(result["tagged_packets"] > 0 and untagged == 0,
            f"{result['tagged_packets']} packets of the LIF had the tag of its VLAN, {untagged} had not")
    require(values["outage_ms"] <= limit, f"a client waited {values['outage_ms']} ms, above {limit:.0f}")
    return result


def build(lab, network):
    """The VLANs, and both clusters."""
    network.island("beta", "eth1")
    network.tag("alpha", "eth1", VLAN, f"{NETWORK}.1")
    network.tag("client", "eth1", VLAN, f"{NETWORK}.200")
    for link, number in (("eth0", VLAN), ("eth0", OTHER_VLAN), ("eth1", VLAN)):
        network.tag("beta", link, number)
    # This host answers for an address only on the link that has it. The others are as Linux makes them: they answer on any.
    run(*network.inside("stranger"), "sysctl", "-q", "-w", "net.ipv4.conf.all.arp_ignore=1")
    network.tag("stranger", "eth1", OTHER_VLAN, LIF)
    directory = lab.path("certificates")
    certificates(directory, "authority", "authority")
    certificates(directory, "administrator", "admin")
    clusters = [Cluster(lab, name, 8_080, address=f"{UNTAGGED}.{index}", prefix=network.inside(name))
                for index, name in enumerate(("alpha", "beta"), 1)]
    for cluster in clusters:
        cluster.secure(directory)
        cluster.start()
    alpha, beta = clusters
    peer(alpha, beta)
    peer(beta, alpha)
    return clusters


def require_ports(cluster):
    """The VLANs are shown with their numbers and the ports that they are on."""
    ports = {port["name"]: port for port in cluster.records("port", "show")}
    for link, number in (("eth0", VLAN), ("eth0", OTHER_VLAN), ("eth1", VLAN)):
        port = ports[f"{link}.{number}"]
        require(port["type"] == "vlan" and port["vlan"]["tag"] == number and
                port["vlan"]["base_port"]["name"] == link, f"the VLAN is shown as {port}")
    require(ports["eth0"]["type"] == "physical", f"the port is shown as {ports['eth0']}")


def require_placement(cluster):
    """The port of the VLAN is taken, each other one has its reason, and so has a choice of the user that cannot be."""
    wanted = f"beta-01:eth0.{VLAN}"
    found = placement(cluster)
    require(found["choice"] == wanted, f"chosen is {found}")
    detail = option(found, wanted)["detail"]
    require(f"VLAN {VLAN} on eth0, " in detail and "the source answers" in detail, f"no proof: {found}")
    require(f"whose port is in VLAN {VLAN}" in option(found, "beta-01:eth0")["detail"], f"no difference is told: {found}")
    for port in ("beta-01:eth1", f"beta-01:eth1.{VLAN}"):
        require_refused(found, port, "nobody answers there")
    require_refused(found, f"beta-01:eth0.{OTHER_VLAN}", "in use by somebody else")
    found = placement(cluster, "--lif", f"lif1={wanted}")
    require(found["choice"] == wanted and "user has chosen" in found["reason"], f"the user's choice: {found}")
    require_error(cluster, "in use by somebody else", "--lif", f"lif1=beta-01:eth0.{OTHER_VLAN}")
    require_error(cluster, "the user's choice: nobody answers there", "--lif", f"lif1=beta-01:eth1.{VLAN}")
    require_error(cluster, "no port 'eth0.7'", "--lif", "lif1=beta-01:eth0.7")


def require_port(network, cluster, port):
    """The LIF is on a port, and the command tells that one."""
    shown = cluster.records("lif", "show", "--svm", SVM)[0]
    require(shown["location"]["port"]["name"] == port and shown["state"] == "up", f"the LIF is shown as {shown}")
    text = cluster.godwit("lif", "show", "--svm", SVM).stdout
    require(port in text.split(), f"the command prints {text}")
    on_link = run("ip", "-n", network.names[cluster.name], "-4", "address", "show", "dev", port)
    require(f"inet {LIF}/24" in on_link, f"{LIF} is not on {port}: {on_link}")
