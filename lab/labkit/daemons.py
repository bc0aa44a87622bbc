"""The daemons of a node: a member of etcd, and godwitd."""

import contextlib
import http.client
import json
import os
import signal
import ssl
import time

from . import commands, namespaces
from .errors import LabError
from .state import REPOSITORY
from .topology import ETCD_PORT, INTERCONNECT_PORT, MANAGEMENT_PORT, NFS_PORT, REPLICATION_PORT

PACKAGES = {"ip": "iproute2", "etcd": "etcd-server", "nft": "nftables", "tc": "iproute2", "openssl": "openssl"}
# Who the verbs of the lab are to the nodes.
ADMINISTRATOR = "lab"
KINDS = ("godwitd", "etcd")
START_SECONDS_MAX = 60
PASSPHRASE = "only-for-this-lab"
CAPACITY = "8G"


def key(node, kind):
    """The name of the record of a process."""
    return f"{node.name}.{kind}"


def _in_namespace(node, *command):
    return ["ip", "netns", "exec", node.namespace, *command]


def certify(state):
    """Makes the authority that both clusters believe, and certificates for all nodes and for the verbs of the lab."""
    script, directory = os.path.join(REPOSITORY, "scripts", "certificates"), state.path("identity")
    commands.run(script, "authority", directory, "lab", what="making an authority")
    commands.run(script, "administrator", directory, ADMINISTRATOR, what="making a certificate")
    for node in state.topology.nodes:
        commands.run(script, "node", directory, node.node, *node.addresses.values(), what="making a certificate")


def identity(state, name=ADMINISTRATOR):
    """The files of an identity."""
    return {"authority": state.path("identity", "authority.pem"), "certificate": state.path("identity", f"{name}.pem"),
            "key": state.path("identity", f"{name}.key")}


def environment(state):
    """What tells godwit who it is."""
    return {f"GODWIT_{name.upper()}": path for name, path in identity(state).items()}


def start(state, node, kind):
    """Starts a daemon of a node unless it runs; does not wait until it serves."""
    record = state.processes.get(key(node, kind))
    if record and commands.is_alive(record):
        return
    command, variables = (_etcd if kind == "etcd" else _godwitd)(state, node)
    log = state.path("logs", f"{key(node, kind)}.log")
    state.note(key(node, kind), commands.spawn(_in_namespace(node, *command), log, variables))


def _etcd(state, node):
    members = state.topology.of_cluster(node.letter)
    return [
        "etcd", "--name", node.node, "--data-dir", state.path("data", node.name, "etcd"),
        "--listen-client-urls", node.etcd, "--advertise-client-urls", node.etcd,
        "--listen-peer-urls", node.etcd_peer, "--initial-advertise-peer-urls", node.etcd_peer,
        "--initial-cluster", ",".join(f"{member.node}={member.etcd_peer}" for member in members),
        # As scripts/etcd-cluster, with more patience for a machine that has all members on it.
        "--heartbeat-interval", "100", "--election-timeout", "1000", "--max-txn-ops", "10000",
        "--auto-compaction-mode", "revision", "--auto-compaction-retention", "10000",
        "--logger", "zap", "--log-level", "error"], None


def _godwitd(state, node):
    configuration = state.path("data", node.name, "godwitd.yaml")
    ready = state.path("data", node.name, "ready")
    os.makedirs(state.path("data", node.name, "waits"), exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.remove(ready)
    with open(configuration, "w") as file:
        file.write(configuration_of(state, node))
    return [state.program("godwitd"), "--config", configuration, "--ready-file", ready], {
        "GODWIT_WAIT_IN": state.path("data", node.name, "waits")}


def configuration_of(state, node):
    """The configuration file of a node."""
    others = [other for other in state.topology.of_cluster(node.letter) if other is not node]
    members = ", ".join(member.etcd for member in state.topology.of_cluster(node.letter))
    aggregate = f"aggr_{node.name}"
    lines = [
        f"cluster:\n  name: {node.cluster}", f"node:\n  name: {node.node}",
        f"data_directory: {state.path('data', node.name, 'godwitd')}",
        f"database:\n  etcd:\n    endpoints: [{members}]",
        f"management:\n  address: {node.addresses['inter']}\n  port: {MANAGEMENT_PORT}",
        f"replication:\n  address: {node.addresses['inter']}\n  port: {REPLICATION_PORT}",
        f"interconnect:\n  address: {node.addresses['cluster']}\n  port: {INTERCONNECT_PORT}",
        "tls:", *(f"  {name}: {path}" for name, path in identity(state, node.node).items()),
        f"nfs:\n  port: {NFS_PORT}",
        # All nodes reach the aggregates of the others under the same path, as partners must.
        f"aggregates:\n  - name: {aggregate}\n    directory: {state.path('aggregates', aggregate)}\n"
        f"    capacity: {CAPACITY}",
        f"partners: [{', '.join(other.node for other in others)}]" if others else "",
        "log:\n  level: notice", "testing: true"]
    return "\n".join(line for line in lines if line) + "\n"


def wait_ready(state, node, kind):
    """Waits until a daemon serves."""
    record, log = state.processes[key(node, kind)], state.path("logs", f"{key(node, kind)}.log")

    def look():
        if not commands.is_alive(record):
            raise LabError(f"{kind} of {node.name} ended at its start", f"read {log}")
        if kind == "etcd":
            return etcd_status(node) is not None
        return os.path.exists(state.path("data", node.name, "ready"))

    commands.wait_for(f"{kind} of {node.name} serves (see {log})", look, START_SECONDS_MAX)


def _ask(node, port, method, path, body=None, network="inter", seconds=3, files=None):
    """One request to a node, made from the inside of its namespace; its answer as JSON. `files`: an identity, for TLS."""
    connection = http.client.HTTPConnection(node.addresses[network], port, timeout=seconds)
    connection.sock = namespaces.connect(node.namespace, node.addresses[network], port, seconds)
    with contextlib.closing(connection):
        if files:
            context = ssl.create_default_context(cafile=files["authority"])
            context.load_cert_chain(files["certificate"], files["key"])
            connection.sock = context.wrap_socket(connection.sock, server_hostname=node.addresses[network])
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
    if answer.status >= 400:
        raise LabError(f"{method} {path} on {node.name}: {text.decode(errors='replace')}", "read the message")
    return json.loads(text)


def etcd_status(node):
    """What a member of etcd says of itself, when it knows a leader; else None."""
    with contextlib.suppress(OSError, ValueError, LabError, http.client.HTTPException):
        status = _ask(node, ETCD_PORT, "POST", "/v3/maintenance/status", "{}", "cluster", 2)
        return status if status.get("leader", "0") != "0" else None
    return None


def etcd_leader(state, letter):
    """The node whose member leads the etcd of a cluster; None while nobody does."""
    for node in state.topology.of_cluster(letter):
        status = etcd_status(node)
        if status and status["header"]["member_id"] == status["leader"]:
            return node
    return None


def rest(state, node, path, seconds=10):
    """What a node answers to GET."""
    return _ask(node, MANAGEMENT_PORT, "GET", path, seconds=seconds, files=identity(state))


def godwit(state, node, *arguments, check=True, seconds=300):
    """Runs a command of godwit against a node."""
    result = commands.run(*_in_namespace(node, state.program("godwit")), *arguments, "--server", node.server,
                          check=False, seconds=seconds, variables=environment(state))
    if check and result.returncode != 0:
        raise LabError(f"godwit {' '.join(arguments)} on {node.name}: {result.stderr.strip() or result.stdout.strip()}",
                       f"read the message, and {state.path('logs', key(node, 'godwitd'))}.log")
    return result


def records(state, node, *arguments):
    """The records of a `show`."""
    return json.loads(godwit(state, node, *arguments, "--json").stdout)["records"]


def peer(state, first, second):
    """Makes the clusters of two nodes peers; the nodes speak for them."""
    for here, there in ((first, second), (second, first)):
        if all(record["name"] != there.cluster for record in records(state, here, "cluster", "peer", "show")):
            address = there.addresses["inter"]
            godwit(state, here, "cluster", "peer", "create", "--name", there.cluster,
                   "--address", f"{address}:{MANAGEMENT_PORT}", "--replication", f"{address}:{REPLICATION_PORT}",
                   "--passphrase", PASSPHRASE)


def signal_to(state, node, kind, number):
    """Sends a signal to a daemon; fails when it does not run."""
    record = state.processes.get(key(node, kind))
    if not record or not commands.send(record, number):
        raise LabError(f"{kind} of {node.name} does not run", f"lab/lab start {node.name} {kind}")
    if number == signal.SIGKILL:
        commands.wait_for("it ends", lambda: not commands.is_alive(record), 20, every=0.005)
        if kind == "godwitd":
            release_addresses(state, node)


def release_addresses(state, node):
    """What a service manager does after a daemon has died (ExecStopPost): no address may stay that its host answers for."""
    commands.run(*_in_namespace(node, state.program("godwitd")), "--config", state.path("data", node.name, "godwitd.yaml"),
                 "--release-addresses", what="releasing addresses")


def end_all(state):
    """Ends every process of the lab: the daemons before their etcd."""
    begun = time.monotonic()
    for kind in KINDS:
        running = [record for name, record in state.processes.items() if name.endswith(f".{kind}")]
        for record in running:
            commands.send(record, signal.SIGCONT)
            commands.send(record, signal.SIGTERM)
        for record in running:
            if kind == "etcd":
                # The last member waits for others that could lead. Its data goes with the lab.
                commands.end(record, gently=False)
            else:
                commands.end(record, gently=time.monotonic() - begun < commands.END_SECONDS_MAX)
    for name, record in state.processes.items():
        if name.rpartition(".")[2] not in KINDS:
            commands.end(record)


def condition(state, node, kind):
    """How a daemon is, in a word."""
    record = state.processes.get(key(node, kind))
    if not record or not commands.is_alive(record):
        return "dead"
    with open(f"/proc/{record['pid']}/stat") as file:
        return "frozen" if file.read().rpartition(")")[2].split()[0] in "Tt" else "runs"
