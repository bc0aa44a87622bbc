"""Scenarios of LIFs at addresses of the hosts' own links.

Each host is a network namespace; all of them are on one bridge. Needs root.
"""

import datetime
import json
import os
import re
import signal
import subprocess
import time

from etcd_member import EtcdMember
from scenario_lab import (COMPLETE_AFTER_TROUBLE, LIF_PORT, SVM, Cluster, certificates, messages, peer, require,
                          require_moved, wait_for)

NETWORK = "10.79.0"
LIF = f"{NETWORK}.10"
FOREIGN = f"{NETWORK}.77"
HOLD_BUDGET_MS = 1_000
# What a client may wait beyond what the servers held it: its own way to a new connection.
ABOVE_HOLD_MS_MAX = 150
# A daemon that is killed closes its clients' connections, and they wait 3 s when they are refused meanwhile.
KILLED_MS_MAX = 20_000
# A LIF that moves by order.
ORDERED_MS_MAX = 1_000


def run(*command):
    """Runs a command; returns what it prints."""
    result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    require(result.returncode == 0, f"{' '.join(command)}: {result.stderr.strip()}")
    return result.stdout


class Network:
    """Hosts on a bridge. The bridge is in a namespace of its own, so that nothing of this machine is touched."""

    def __init__(self, lab, hosts):
        self.names = {name: f"gwnet-{os.getpid()}-{name}" for name in ("switch", *hosts)}
        lab.ends.append(self.remove)
        for name in self.names.values():
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        switch = self.names["switch"]
        run("ip", "-n", switch, "link", "add", "bridge", "type", "bridge")
        run("ip", "-n", switch, "link", "set", "bridge", "up")
        for host, (link, address) in hosts.items():
            run("ip", "-n", switch, "link", "add", f"to-{host}", "type", "veth", "peer", "name", link, "netns",
                self.names[host])
            run("ip", "-n", switch, "link", "set", f"to-{host}", "master", "bridge", "up")
            run("ip", "-n", self.names[host], "link", "set", link, "up")
            run("ip", "-n", self.names[host], "address", "add", f"{address}/24", "dev", link)

    def join(self, link, address):
        """Gives this machine an end of the bridge, which goes with it."""
        switch = self.names["switch"]
        run("ip", "-n", switch, "link", "add", "to-machine", "type", "veth", "peer", "name", link, "netns", str(os.getpid()))
        run("ip", "-n", switch, "link", "set", "to-machine", "master", "bridge", "up")
        run("ip", "link", "set", link, "up")
        run("ip", "address", "add", f"{address}/24", "dev", link)

    def island(self, host, link):
        """Gives a host a port on another bridge, on which nobody is."""
        switch = self.names["switch"]
        run("ip", "-n", switch, "link", "add", "island", "type", "bridge")
        run("ip", "-n", switch, "link", "set", "island", "up")
        run("ip", "-n", switch, "link", "add", f"is-{host}", "type", "veth", "peer", "name", link, "netns",
            self.names[host])
        run("ip", "-n", switch, "link", "set", f"is-{host}", "master", "island", "up")
        run("ip", "-n", self.names[host], "link", "set", link, "up")

    def tag(self, host, link, number, address=None):
        """Gives a host the VLAN of a number on a link, with the name that is usual (eth0.5)."""
        name = f"{link}.{number}"
        run("ip", "-n", self.names[host], "link", "add", "link", link, "name", name, "type", "vlan", "id", str(number))
        run("ip", "-n", self.names[host], "link", "set", name, "up")
        if address:
            run("ip", "-n", self.names[host], "address", "add", f"{address}/24", "dev", name)

    def lack_of_vlans(self):
        """What this kernel says when it has no VLANs; empty when it has."""
        switch = self.names["switch"]
        attempt = ["ip", "-n", switch, "link", "add", "link", "bridge", "name", "attempt", "type", "vlan", "id", "5"]
        made = subprocess.run(attempt, capture_output=True, text=True, timeout=30)
        if made.returncode == 0:
            run("ip", "-n", switch, "link", "del", "attempt")
        return "" if made.returncode == 0 else made.stderr.strip()

    def inside(self, host):
        """What is put before a command that runs on a host."""
        return ["ip", "netns", "exec", self.names[host]]

    def addresses(self, host):
        """The IPv4 addresses of a host."""
        return re.findall(r"inet ([0-9.]+)/", run("ip", "-n", self.names[host], "-4", "address", "show"))

    def sockets(self, host):
        """The TCP sockets that the LIF has on a host."""
        return [line for line in run(*self.inside(host), "ss", "-Htan", "src", LIF).splitlines() if line]

    def remove(self):
        """Deletes the namespaces."""
        for name in self.names.values():
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


class Watch:
    """What a host sends for the LIF, and when it gives the address up."""

    def __init__(self, lab, network, host, link, name):
        self.capture = lab.path(f"{name}.pcap")
        self.events = lab.path(f"{name}.events")
        with open(self.events, "w") as events, open(lab.path(f"{name}.tcpdump"), "w") as log:
            self.processes = [
                lab.spawn(network.inside(host) + ["ip", "-ts", "monitor", "address"], stdout=events),
                lab.spawn(network.inside(host) + [
                    "tcpdump", "-i", link, "-Q", "out", "--immediate-mode", "-U", "-n", "-w", self.capture,
                    f"src host {LIF} or arp src host {LIF}"], stdout=log, stderr=log),
            ]
        wait_for("tcpdump listens", lambda: os.path.exists(self.capture) and os.path.getsize(self.capture) > 0, 10)

    def require_silence(self):
        """Fails when the host has sent anything for the address after it had gone."""
        time.sleep(1)
        for process in self.processes:
            process.send_signal(signal.SIGINT)
            process.wait(10)
        with open(self.events) as file:
            gone = re.findall(rf"\[([0-9T:.-]+)\] Deleted .*inet {re.escape(LIF)}/", file.read())
        require(len(gone) == 1, f"the address was taken off {len(gone)} times, see {self.events}")
        left = datetime.datetime.fromisoformat(gone[0]).timestamp()
        lines = run("tcpdump", "-r", self.capture, "-n", "-tt").splitlines()
        before = [line for line in lines if float(line.split()[0]) <= left]
        after = [line for line in lines if float(line.split()[0]) > left]
        require(before, "nothing was captured before the address had gone: the capture sees nothing")
        require(not after, f"{len(after)} packets were sent after the address had gone, the first: {after[:1]}")
        return len(before)


def move(lab, network, source, destination, link, name, *options):
    """Moves the SVM and requires that its source is silent from the moment when the address leaves it."""
    watch = Watch(lab, network, source.name, link, name)
    destination.migrate("start", "--source-cluster", source.name, *options)
    record = destination.wait_state("migrate_complete")
    require_moved(source, destination)
    require(LIF in network.addresses(destination.name) and LIF not in network.addresses(source.name),
            f"{LIF} is not on {destination.name} alone")
    require(not network.sockets(source.name), f"sockets are left on {source.name}: {network.sockets(source.name)}")
    watch.require_silence()
    return record


def real_addresses(lab):
    """An SVM with an address of the network moves there and back: the source is silent, the client is woken, nothing is left
    over; also when a commit is undone, and when the source is killed at the point of no return."""
    require(os.geteuid() == 0, "network namespaces can only be made by root")
    network = Network(lab, {"alpha": ("eth1", f"{NETWORK}.1"), "beta": ("eth1", f"{NETWORK}.2"),
                            "client": ("eth1", f"{NETWORK}.200")})
    directory = lab.path("certificates")
    certificates(directory, "authority", "authority")
    certificates(directory, "administrator", "admin")
    alpha, beta = (Cluster(lab, name, 8_080, address=f"{NETWORK}.{index}", prefix=network.inside(name))
                   for index, name in enumerate(("alpha", "beta"), 1))
    for cluster in (alpha, beta):
        cluster.secure(directory)
        cluster.start()
    peer(alpha, beta)
    peer(beta, alpha)
    make(network, alpha)
    result = {}

    client = lab.client("busy", address=LIF, prefix=network.inside("client"))
    record = move(lab, network, alpha, beta, "eth1", "away")
    # The client may wait for each move; what it was held is told by the servers.
    result["held_ms"] = round(held(record), 1)
    time.sleep(0.5)
    record = move(lab, network, beta, alpha, "eth1", "back")
    result["held_back_ms"] = round(held(record), 1)
    time.sleep(0.5)
    values = client.finish()
    result["outage_ms"], result["writes"] = values["outage_ms"], values["acknowledged_writes"]
    limit = max(result["held_ms"], result["held_back_ms"]) + ABOVE_HOLD_MS_MAX
    require(values["outage_ms"] <= limit, f"a client waited {values['outage_ms']} ms, above {limit:.0f}")

    result["undone_outage_ms"] = undone(lab, network, alpha, beta)
    result["killed_outage_ms"] = killed(lab, network, beta, alpha)
    require(FOREIGN in network.addresses("alpha"), f"{FOREIGN}, which somebody else had added, is gone")
    for cluster in (alpha, beta):
        cluster.process.terminate()
        cluster.process.wait(30)
        require(LIF not in network.addresses(cluster.name), f"{LIF} stays on {cluster.name} when its daemon has ended")
    return result


def make(network, cluster, port="eth1"):
    """Makes the SVM with its LIF on a port; it must not take an address that somebody has."""
    cluster.godwit("svm", "create", "--name", SVM)
    cluster.godwit("export-policy", "rule", "add", "--svm", SVM, "--policy", "default", "--clients", f"{NETWORK}.0/24",
                   "--ro", "any", "--rw", "any", "--superuser", "any")
    cluster.godwit("volume", "create", "--svm", SVM, "--name", "one", "--size", "2G", "--junction-path", "/one")
    lif = ["lif", "create", "--svm", SVM, "--name", "lif1", "--netmask", "24", "--home-port", port, "--port",
           str(LIF_PORT), "--address"]
    taken = cluster.godwit(*lif, f"{NETWORK}.200", check=False)
    require(taken.returncode != 0 and "answers for it" in taken.stderr, f"an address in use: {taken.stderr}")
    cluster.godwit(*lif, LIF)
    # Added behind the LIF, so that it is a secondary address of its subnet, which the kernel deletes with the first one.
    run("ip", "-n", network.names[cluster.name], "address", "add", f"{FOREIGN}/24", "dev", port)


def held(record):
    """Milliseconds of the window."""
    return sum(stage["milliseconds"] for stage in record["godwit"]["window"])


def undone(lab, network, source, destination):
    """A commit that the source's timer ends: the frozen connections go on."""
    client = lab.client("undone", address=LIF, prefix=network.inside("client"))
    source.wait_point("source-snapshot:after")
    destination.migrate("start", "--source-cluster", source.name, "--hold-budget-ms", str(HOLD_BUDGET_MS),
                        "--cutover-attempts", "50", "--cutover-retry-ms", "200")
    source.reached("source-snapshot:after")
    time.sleep(2 * HOLD_BUDGET_MS / 1_000)
    require(LIF in network.addresses(source.name), f"{LIF} has left {source.name} without a point of no return")
    source.go_on("source-snapshot:after")
    record = destination.wait_state(*COMPLETE_AFTER_TROUBLE, seconds=120)
    require("was undone" in messages(record), "the commit was not undone")
    require_moved(source, destination)
    time.sleep(0.5)
    return client.finish()["outage_ms"]


def killed(lab, network, source, destination):
    """A source that is killed between its record and the leaving of the address: the next start takes it off."""
    client = lab.client("killed", address=LIF, prefix=network.inside("client"))
    source.wait_point("source-ponr:after")
    destination.migrate("start", "--source-cluster", source.name)
    source.reached("source-ponr:after")
    source.process.kill()
    source.process.wait()
    require(LIF in network.addresses(source.name), "the kernel has taken the address off")
    source.go_on("source-ponr:after")
    source.start()
    destination.wait_state(*COMPLETE_AFTER_TROUBLE, seconds=120)
    require(LIF in network.addresses(destination.name) and LIF not in network.addresses(source.name),
            f"{LIF} is not on {destination.name} alone")
    time.sleep(0.5)
    outage = client.finish()["outage_ms"]
    require(outage <= KILLED_MS_MAX, f"a client waited {outage} ms")
    return outage


def address_moves(lab):
    """A LIF with an address of the network moves between the nodes of a cluster, by order, there and back, and when its node is
    killed: the node that it leaves is silent, and the client is woken."""
    require(os.geteuid() == 0, "network namespaces can only be made by root")
    network = Network(lab, {"one": ("eth1", f"{NETWORK}.1"), "two": ("eth1", f"{NETWORK}.2"),
                            "client": ("eth1", f"{NETWORK}.200")})
    network.join(f"gw{os.getpid()}", f"{NETWORK}.254")
    etcd = EtcdMember(lab, "etcd", lab.port + 10)
    etcd.endpoint, etcd.peer = (f"http://{NETWORK}.254:{lab.port + 10}", f"etcd=http://{NETWORK}.254:{lab.port + 11}")
    etcd.ensemble = etcd.peer
    etcd.start()
    directory = lab.path("certificates")
    certificates(directory, "authority", "authority")
    certificates(directory, "administrator", "admin")
    nodes = [Cluster(lab, "alpha", 8_080, address=f"{NETWORK}.{index}", prefix=network.inside(host), node=index,
                     interconnect=8_082) for index, host in enumerate(("one", "two"), 1)]
    for node in nodes:
        node.etcd, node.partners = etcd, [other.node for other in nodes if other is not node]
        node.secure(directory)
        node.start()
    first, second = nodes
    first.godwit("svm", "create", "--name", SVM)
    first.godwit("export-policy", "rule", "add", "--svm", SVM, "--policy", "default", "--clients", f"{NETWORK}.0/24",
                 "--ro", "any", "--rw", "any", "--superuser", "any")
    first.godwit("volume", "create", "--svm", SVM, "--name", "one", "--size", "2G", "--junction-path", "/one",
                 "--aggregate", "aggr1")
    first.godwit("lif", "create", "--svm", SVM, "--name", "lif1", "--address", LIF, "--netmask", "24", "--home-port",
                 "eth1", "--home-node", first.node, "--port", str(LIF_PORT))
    refused = first.godwit("lif", "modify", "--svm", SVM, "--lif", "lif1", "--home-node", second.node, "--home-port",
                           "eth9", check=False)
    require(refused.returncode != 0 and "eth9" in refused.stderr and LIF in network.addresses("one"),
            f"a port that is not there: {refused.stderr}")
    result = {}
    for name, (source, target, node) in {"away": ("one", "two", second), "back": ("two", "one", first)}.items():
        client = lab.client(name, address=LIF, prefix=network.inside("client"))
        watch = Watch(lab, network, source, "eth1", name)
        first.godwit("lif", "modify", "--svm", SVM, "--lif", "lif1", "--home-node", node.node)
        require(LIF in network.addresses(target) and LIF not in network.addresses(source), f"{LIF} is not on {target}")
        require(not network.sockets(source), f"sockets are left on {source}: {network.sockets(source)}")
        time.sleep(1)
        watch.require_silence()
        result[f"{name}_outage_ms"] = client.finish()["outage_ms"]
        require(result[f"{name}_outage_ms"] <= ORDERED_MS_MAX, f"{name}: a client waited {result}")
    client = lab.client("failover", address=LIF, prefix=network.inside("client"))
    first.process.kill()
    first.process.wait()
    # What systemd does after a daemon that was killed (ExecStopPost).
    run(*network.inside("one"), lab.program("godwitd"), "--config", first.path("config.yaml"), "--release-addresses")
    require(LIF not in network.addresses("one"), f"{LIF} stays on a node whose daemon was killed")
    wait_for("the partner has the address", lambda: LIF in network.addresses("two"), 60)
    time.sleep(1)
    result["failover_outage_ms"] = client.finish()["outage_ms"]
    return result


def lif_placement(lab):
    """Where the LIF of an SVM goes: to the port whose network answers, although another one has the name of the source's; where
    nobody answers, to that of the subnet; where the user wants it. An address that somebody else has is found before anything
    is made."""
    require(os.geteuid() == 0, "network namespaces can only be made by root")
    network = Network(lab, {"alpha": ("eth1", f"{NETWORK}.1"), "beta": ("eth0", f"{NETWORK}.2"),
                            "client": ("eth1", f"{NETWORK}.200"), "stranger": ("eth1", f"{NETWORK}.99")})
    network.island("beta", "eth1")
    directory = lab.path("certificates")
    certificates(directory, "authority", "authority")
    certificates(directory, "administrator", "admin")
    alpha, beta = (Cluster(lab, name, 8_080, address=f"{NETWORK}.{index}", prefix=network.inside(name))
                   for index, name in enumerate(("alpha", "beta"), 1))
    for cluster in (alpha, beta):
        cluster.secure(directory)
        cluster.start()
    peer(alpha, beta)
    peer(beta, alpha)
    make(network, alpha)
    result = {"vlan": vlan(network, beta)}

    # The network answers on eth0 only.
    found = placement(beta)
    require(found["choice"] == "beta-01:eth0", f"chosen is {found}")
    require_refused(found, "beta-01:eth1", "nobody answers there")
    require("the source answers" in option(found, "beta-01:eth0")["detail"], f"no proof: {found}")
    text = beta.migrate("start", "--source-cluster", "alpha", "--check-only").stdout
    lines = [line.split() for line in text.splitlines()]
    require(["interface", "lif1", "beta-01:eth0", "chosen"] in [line[:4] for line in lines] and "interface lif1: beta-01:eth0"
            in text and ["interface", "lif1", "beta-01:eth1", "-"] in [line[:4] for line in lines], f"the command prints {text}")
    # Without checks the name counts, as where nobody asks.
    found = placement(beta, "--no-network-checks")
    require(found["choice"] == "beta-01:eth1", f"chosen without checks is {found}")

    require_error(beta, "beta-01:eth1, the user's choice: nobody answers there", "--lif", "lif1=beta-01:eth1")
    require_error(beta, "no port 'eth9'", "--lif", "lif1=beta-01:eth9")
    require_error(beta, "no interface 'lif2'", "--lif", "lif2=beta-01:eth0")
    found = placement(beta, "--lif", "lif1=beta-01:eth0")
    require(found["choice"] == "beta-01:eth0" and "user has chosen" in found["reason"], f"the user's choice: {found}")

    conflict(network, beta)
    by_subnet(alpha, beta)

    client = lab.client("placed", address=LIF, prefix=network.inside("client"))
    move(lab, network, alpha, beta, "eth1", "placed")
    port = beta.records("lif", "show", "--svm", SVM)[0]["location"]["port"]["name"]
    require(port == "eth0", f"the LIF is on {port}")
    time.sleep(0.5)
    result["outage_ms"] = client.finish()["outage_ms"]
    # A LIF whose address and port come from the subnet, beside the one that was moved.
    beta.godwit("subnet", "modify", "--name", "lan", "--ip-ranges", f"{LIF}-{NETWORK}.11")
    beta.godwit("lif", "create", "--svm", SVM, "--name", "lif2", "--subnet", "lan", "--port", str(LIF_PORT))
    made = beta.records("lif", "show", "--svm", SVM)[1]
    require(made["ip"]["address"] == f"{NETWORK}.11" and made["location"]["port"]["name"] == "eth0" and
            made["state"] == "up", f"a LIF of the subnet is {made}")
    used = beta.godwit("subnet", "delete", "--name", "lan", check=False)
    require(used.returncode != 0 and "is used by LIF" in used.stderr, f"a subnet in use: {used.stderr}")
    return result


def vlan(network, cluster):
    """A VLAN is a port like others, where the kernel has VLANs. What is done in one: scenarios_vlan.py."""
    lack = network.lack_of_vlans()
    if lack:
        print(f"lif-placement: no VLAN is tried, since this kernel has none ('make lab-vlan' has): {lack}", flush=True)
        return "skipped"
    network.tag(cluster.name, "eth0", 5)
    port = next(port for port in cluster.records("port", "show") if port["name"] == "eth0.5")
    require(port["type"] == "vlan" and port["vlan"]["tag"] == 5, f"the VLAN is shown as {port}")
    require_refused(placement(cluster), "beta-01:eth0.5", "nobody answers there")
    return "shown"


def placement(cluster, *options):
    """What a check says of the LIF."""
    answer = json.loads(cluster.migrate("start", "--source-cluster", "alpha", "--check-only", "--json", *options).stdout)
    return next(decision for decision in answer["godwit"]["placements"] if decision["kind"] == "interface")


def option(decision, name):
    """A port that was looked at."""
    return next(option for option in decision["options"] if option["name"] == name)


def require_refused(decision, name, words):
    """Fails unless a port was refused for a reason."""
    refusal = option(decision, name).get("refusal", "")
    require(words in refusal, f"{name} is refused with '{refusal}'")


def require_error(cluster, words, *options):
    """Fails unless an operation is refused with some words, and nothing is there of it."""
    started = cluster.migrate("start", "--source-cluster", "alpha", *options, check=False)
    require(started.returncode != 0 and words in started.stderr, f"{options}: {started.stdout}{started.stderr}")
    for kind in ("svm", "volume", "lif"):
        require(not cluster.records(kind, "show"), f"a {kind} is on {cluster.name} after an operation was refused")
    require(not cluster.operation(), f"there is an operation on {cluster.name} that was refused")


def conflict(network, cluster):
    """Another host takes the address of the LIF, which the source still has."""
    address = ["address", "add", f"{LIF}/24", "dev", "eth1"]
    run("ip", "-n", network.names["stranger"], *address)
    shown = json.loads(run("ip", "-n", network.names["stranger"], "-j", "link", "show", "eth1"))[0]["address"]
    require_error(cluster, f"{shown} answers for it")
    require_error(cluster, "in use by somebody else", "--lif", "lif1=beta-01:eth0")
    run("ip", "-n", network.names["stranger"], "address", "del", f"{LIF}/24", "dev", "eth1")


def by_subnet(source, destination):
    """While the LIF is down at the source nobody answers for it: the subnet tells the port, and the name where there is none."""
    source.godwit("lif", "modify", "--svm", SVM, "--lif", "lif1", "--enabled", "false")
    found = placement(destination)
    require(found["choice"] == "beta-01:eth1" and "the name" in found["reason"], f"by the name: {found}")
    found = placement(destination, "--lif", "lif1=beta-01:eth0")
    require(found["choice"] == "beta-01:eth0", f"the user's choice where nobody answers: {found}")
    destination.godwit("broadcast-domain", "create", "--name", "lan")
    destination.godwit("broadcast-domain", "modify", "--name", "lan", "--add-ports", "beta-01:eth0")
    destination.godwit("subnet", "create", "--name", "lan", "--broadcast-domain", "lan", "--subnet", f"{NETWORK}.0/24")
    ports = {port["name"]: port for port in destination.records("port", "show")}
    require(ports["eth0"]["broadcast_domain"]["name"] == "lan" and "broadcast_domain" not in ports["eth1"],
            f"the ports are shown as {ports}")
    found = placement(destination)
    require(found["choice"] == "beta-01:eth0" and "subnet 'lan'" in found["reason"], f"by the subnet: {found}")
    require_refused(found, "beta-01:eth1", "not in the broadcast domain of subnet 'lan'")
    source.godwit("lif", "modify", "--svm", SVM, "--lif", "lif1", "--enabled", "true")
