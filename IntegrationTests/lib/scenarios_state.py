"""Scenarios of pause, resume and abort: what a user asks for in the middle of an operation."""

import contextlib
import os
import shutil
import sqlite3
import tempfile
import threading

from scenario_lab import COMPLETE, LIF_PORT, SVM, make_svm, messages, require, require_moved, wait_for

VOLUMES = ["one", "two", "three", "four"]
# Bytes in each of the volumes of `pause-resume`.
VOLUME_BYTES = 256 << 20
PAUSE_THROTTLE_KB_PER_SECOND = 65_536
# Of the whole, the part that may be sent after a pause in the middle.
RESUME_PART_MAX = 0.55


def sums(record, name):
    """A number of all volumes of an operation together."""
    return sum(volume[name] for volume in record["godwit"]["volumes"])


def listing(cluster):
    """What a cluster has that users see: a set of lines without anything that clients change."""
    lines = set()
    for svm in cluster.records("svm", "show"):
        lines.add(f"svm {svm['name']} {svm['uuid']} {svm['state']}")
    for volume in cluster.records("volume", "show"):
        place = volume.get("nas", {})
        lines.add(f"volume {volume['svm']['name']}/{volume['name']} {volume['size']} {volume['state']} "
                  f"{place.get('path')} {place.get('export_policy', {}).get('name')}")
    for lif in cluster.records("lif", "show"):
        lines.add(f"lif {lif['svm']['name']}/{lif['name']} {lif['ip']['address']} {lif.get('enabled')}")
        for snapshot in cluster.records("snapshot", "show", "--svm", svm["name"]):
            lines.add(f"snapshot {svm['name']}/{snapshot['volume']['name']} {snapshot['name']} {snapshot['uuid']}")
    for policy in cluster.records("export-policy", "show"):
        rules = [(rule["index"], [client["match"] for client in rule["clients"]], rule["rw_rule"])
                 for rule in policy.get("rules", [])]
        lines.add(f"policy {policy['svm']['name']}/{policy['name']} {rules}")
    return lines


def database_keys(cluster):
    """The keys of the cluster's database, out of a copy: the daemon has the file for itself alone."""
    directory = tempfile.mkdtemp(dir=cluster.directory)
    try:
        for name in os.listdir(cluster.path("data")):
            if name.startswith("rdb.sqlite") and not name.endswith("-shm"):
                shutil.copy(cluster.path(f"data/{name}"), directory)
        with contextlib.closing(sqlite3.connect(os.path.join(directory, "rdb.sqlite"))) as database:
            return {bytes(key).decode() for (key,) in database.execute("SELECT key FROM record")}
    finally:
        shutil.rmtree(directory)


def inside(cluster):
    """What a cluster has that users do not see: keys of the database, directories of the aggregate."""
    lines = {f"key {key}" for key in database_keys(cluster)}
    root = cluster.path("aggr1")
    for path, names, _ in os.walk(root):
        depth = os.path.relpath(path, root).count(os.sep)
        lines |= {f"directory {os.path.relpath(os.path.join(path, name), root)}" for name in names}
        if depth >= 1:
            names.clear()
    return lines


def everything(clusters):
    """Both listings of all clusters."""
    return {f"{cluster.name}: {line}" for cluster in clusters for line in listing(cluster) | inside(cluster)}


def change_source(lab, alpha):
    """Changes of every kind on the source, which a paused operation must not hinder."""
    alpha.godwit("volume", "create", "--svm", SVM, "--name", "five", "--size", "1G", "--junction-path", "/five")
    alpha.godwit("volume", "delete", "--svm", SVM, "--name", "spare")
    alpha.godwit("volume", "modify", "--svm", SVM, "--name", "two", "--size", "3G")
    alpha.godwit("volume", "modify", "--svm", SVM, "--name", "three", "--new-name", "renamed")
    alpha.godwit("export-policy", "rule", "add", "--svm", SVM, "--policy", "default", "--clients", "192.0.2.0/24",
                 "--rw", "never")
    second = lab.address.rsplit(".", 1)[0]
    alpha.godwit("lif", "create", "--svm", SVM, "--name", "lif2", "--address", second + ".2", "--port", str(LIF_PORT))
    alpha.godwit("lif", "modify", "--svm", SVM, "--name", "spare-lif", "--address", second + ".4")
    alpha.godwit("snapshot", "create", "--svm", SVM, "--name", "while-paused")


def pause_resume(lab):
    """A pause in the middle of the baseline loses nothing of it, and what is changed meanwhile arrives."""
    alpha, beta = lab.clusters()
    make_svm(alpha, lab.address, VOLUMES + ["spare"])
    alpha.godwit("lif", "create", "--svm", SVM, "--name", "spare-lif", "--port", str(LIF_PORT),
                 "--address", lab.address.rsplit(".", 1)[0] + ".3")
    data = {volume: lab.random_files(f"data-{volume}", VOLUME_BYTES) for volume in VOLUMES}
    for volume in VOLUMES:
        lab.copy(volume, data[volume])
    client = lab.client(operations_per_second=100)
    beta.migrate("start", "--source-cluster", "alpha", "--throttle", str(PAUSE_THROTTLE_KB_PER_SECOND))
    whole = len(VOLUMES) * VOLUME_BYTES

    def half():
        record = beta.operation()
        require(record["state"] in ("precheck_started", "setup_configuration", "transferring"),
                f"it is {record['state']} before half is sent: {messages(record)}")
        return sums(record, "current_bytes") >= whole / 2 and record

    before = sums(wait_for("half of the baseline is sent", half), "current_bytes")
    beta.migrate("pause")
    paused = beta.wait_state("migrate_paused")
    require(not paused["point_of_no_return"], "a paused operation is past the point of no return")
    change_source(lab, alpha)
    data["five"] = lab.random_files("data-five", 4 << 20)
    lab.copy("five", data["five"])
    expected = listing(alpha)
    counted = sums(paused, "bytes_transferred")
    beta.migrate("resume", "--throttle", "0")
    record = beta.wait_state(*COMPLETE)
    values = client.finish()
    require_moved(alpha, beta)
    after = sums(record, "bytes_transferred") - counted
    difference = {line for line in expected ^ listing(beta) if "snapshot" not in line or "while-paused" in line}
    require(not difference, f"these differ: {sorted(difference)}")
    for volume, source in data.items():
        lab.copy(volume, source, verify=True)
    part = after / whole
    result = {"sent_before_MB": before >> 20, "sent_after_MB": after >> 20, "part_after": round(part, 3),
              "outage_ms": values["outage_ms"]}
    # A count that forgets bytes would make the part small, too; between the look and the pause a second may pass.
    require(before + after >= whole - PAUSE_THROTTLE_KB_PER_SECOND * 1_024, f"not all of it was counted: {result}")
    require(part <= RESUME_PART_MAX, f"{part:.3f} of the whole was sent after the resume: {result}")
    return result


def abort_at(beta, point):
    """Aborts while the daemon waits at a point: the command is given first, then the daemon goes on."""
    failure = []

    def run():
        result = beta.migrate("abort", check=False)
        if result.returncode != 0:
            failure.append(result.stderr)

    thread = threading.Thread(target=run)
    thread.start()
    wait_for("the abort is asked for", lambda: beta.state() == "migrate_aborting")
    beta.go_on(point)
    thread.join(120)
    require(not failure and not thread.is_alive(), f"the abort did not end well: {failure}")


def abort(lab):
    """From every state before the commit an abort leaves nothing; after the point of no return it is refused."""
    alpha, beta = lab.clusters()
    make_svm(alpha, lab.address, ["one", "two"])
    lab.copy("two", lab.random_files("data", 32 << 20, 1 << 20))
    alpha.godwit("snapshot", "create", "--svm", SVM, "--name", "kept")
    client = lab.client(operations_per_second=100)
    before = everything((alpha, beta))

    def start(*options):
        beta.migrate("start", "--source-cluster", "alpha", *options)

    def from_setup():
        beta.wait_point("destination-objects:after")
        start()
        beta.reached("destination-objects:after")
        require(beta.state() == "setup_configuration", f"it is {beta.state()}")
        abort_at(beta, "destination-objects:after")

    def from_transferring():
        start("--throttle", "4096")
        wait_for("the baseline is on its way", lambda: sums(beta.operation(), "current_bytes") > 4 << 20)
        require(beta.state() == "transferring", f"it is {beta.state()}")
        beta.migrate("abort")

    def from_ready():
        start("--auto-cutover", "false")
        beta.wait_state("ready_for_cutover")
        beta.migrate("abort")

    def from_paused():
        start("--throttle", "4096")
        wait_for("the baseline is on its way", lambda: sums(beta.operation(), "current_bytes") > 4 << 20)
        beta.migrate("pause")
        beta.wait_state("migrate_paused")
        beta.migrate("abort")

    def from_failed():
        # The lock of the source ends at once, so that the only cutover is undone.
        start("--pre-commit-budget-ms", "1", "--cutover-attempts", "1")
        beta.wait_state("migrate_failed")
        beta.migrate("abort")

    cases = {"setup": from_setup, "transferring": from_transferring, "ready_for_cutover": from_ready,
             "paused": from_paused, "failed": from_failed}
    for name, case in cases.items():
        case()
        require(beta.state() is None, f"aborted from {name} it is {beta.state()}")
        difference = before ^ everything((alpha, beta))
        require(not difference, f"aborted from {name}, these differ: {sorted(difference)}")
    start("--auto-source-cleanup", "false")
    beta.wait_state("ready_for_source_cleanup")
    refused = beta.migrate("abort", check=False)
    require(refused.returncode != 0 and "point of no return" in refused.stderr and "remedy" in refused.stderr,
            f"an abort after the point of no return ended with {refused.returncode}: {refused.stderr}")
    beta.migrate("source-cleanup")
    beta.wait_state(*COMPLETE)
    require_moved(alpha, beta)
    return {"aborted": ",".join(cases), "refused": "ready_for_source_cleanup", "outage_ms": client.finish()["outage_ms"]}
