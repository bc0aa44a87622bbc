"""Scenarios of nodes that show each other certificates."""

import os
import socket
import ssl
import subprocess
import time

from scenario_lab import Cluster, certificates, make_svm, peer, require, require_moved
from scenarios_nodes import make_nodes


def secured(lab):
    """Two clusters whose nodes show each other certificates: clients reach a volume through another node, an SVM moves under
    a client, and nobody is answered who shows nothing, or what a stranger has signed."""
    directory, strangers = lab.path("certificates"), lab.path("strangers")
    for place in (directory, strangers):
        certificates(place, "authority", os.path.basename(place))
        certificates(place, "administrator", "admin")
    first, second = make_nodes(lab, "alpha", identity=directory)
    beta = Cluster(lab, "beta", lab.port + 14)
    beta.secure(directory)
    beta.start()
    for one, two in ((first, beta), (beta, first)):
        peer(one, two)
    refuses(lab, first, strangers)

    make_svm(first, lab.address, ["near"], aggregate="aggr1")
    # The address is not on the node that holds the volume: requests are forwarded.
    other = lab.address[:-1] + "2"
    make_svm(first, other, ["far"], svm="spread", aggregate="aggr2")
    files = lab.random_files("files", 64 << 20)
    lab.copy("far", files, address=other)
    lab.copy("far", files, address=other, verify=True)
    far, near = lab.client("far", volume="far", address=other), lab.client("near", volume="near")
    used = {record["name"]: record["space"]["used"] for record in second.records("volume", "show")}
    require(used["far"] >= 64 << 20, f"{second.node} says that the volumes use {used}")
    beta.migrate("start", "--source-cluster", "alpha")
    beta.wait_state("migrate_complete")
    require_moved(first, beta)
    time.sleep(1)
    return {"near_outage_ms": near.finish()["outage_ms"], "far_outage_ms": far.finish()["outage_ms"]}


def refuses(lab, node, strangers):
    """The management interface, replication and interconnect take nobody without a certificate that counts."""
    nothing = {name: value for name, value in os.environ.items() if not name.startswith("GODWIT_")}
    command = [lab.program("godwit"), "node", "show", "--server", node.server]
    bare = subprocess.run(command, capture_output=True, text=True, env=nothing, timeout=30)
    require(bare.returncode != 0 and "--certificate" in bare.stderr, f"without a certificate: {bare.stderr}")
    stranger = {"AUTHORITY": f"{node.identity}/authority.pem", "CERTIFICATE": f"{strangers}/admin.pem",
                "KEY": f"{strangers}/admin.key"}
    signed = subprocess.run(command, capture_output=True, text=True, timeout=30,
                            env={**nothing, **{f"GODWIT_{name}": file for name, file in stranger.items()}})
    require(signed.returncode != 0 and "does not answer" in signed.stderr, f"a stranger's certificate: {signed.stderr}")
    for port in (node.port, node.port + 1, node.interconnect):
        for files in (None, (stranger["CERTIFICATE"], stranger["KEY"])):
            reason = answer(node.address, port, files)
            require("alert" in reason, f"port {port} takes a caller who shows {files}: {reason}")
    clear = subprocess.run(["curl", "-s", "-m", "5", f"http://{node.address}:{node.port}/api/cluster"],
                           capture_output=True, text=True)
    require(clear.returncode != 0 and "uuid" not in clear.stdout, f"in the clear: {clear.stdout}")


def answer(address, port, files):
    """What a port answers to a caller who shows the files of an identity, or nothing: bytes, or the reason of a refusal. With
    TLS 1.3 a caller learns that he is refused when he reads."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if files:
        context.load_cert_chain(*files)
    try:
        with socket.create_connection((address, port), timeout=10) as plain, context.wrap_socket(plain) as stream:
            stream.sendall(b"GET /api/cluster HTTP/1.1\r\nHost: node\r\n\r\n")
            return repr(stream.recv(1000))
    except ssl.SSLError as error:
        return str(error)
