"""The story of the demo, step by step."""

import re
import subprocess
import threading
import time

import demo_tree
from demo_run import STEP_SECONDS_MAX, DemoError, tail

SVM = "tenant"
VOLUMES = ["projects", "home", "archive", "build"]
# The volume in which the journal client works.
JOURNAL_VOLUME = "home"
SNAPSHOTS = ["monday", "tuesday"]
# The longest time that the client may wait for an answer.
OUTAGE_MS_MAX = 1_000
# How long the journal client works before the migrate starts and after it has ended.
QUIET_SECONDS = 3


def demonstrate(run, stage):
    """Runs the demo. Returns its last line (None when it did not come that far) and what does not hold."""
    alpha, beta = stage.start()
    make_tenant(run, alpha, stage)
    dealt = demo_tree.spread(demo_tree.choose(), VOLUMES)
    fill(run, dealt, stage, alpha)
    taken = take_snapshots(run, alpha)

    client = start_client(run, stage)
    stage.begin()
    time.sleep(QUIET_SECONDS)
    rate = migrate(run, beta, client)
    time.sleep(QUIET_SECONDS)
    journal, failures = stop_client(run, client)
    failures += stage.finish()

    failures += check_places(run, alpha, beta)
    verified, different = verify(run, dealt, stage)
    failures += different
    kept = sum(1 for snapshot in taken if snapshot in snapshots(beta))
    run.say(f"snapshots on beta with the same names: {kept} of {len(taken)}")
    if kept != len(taken):
        failures.append(f"{len(taken) - kept} snapshots are not on beta")
    return report(journal, verified, (kept, len(taken)), rate), failures


def make_tenant(run, alpha, stage):
    """Makes the SVM with its export rule, volumes and LIF."""
    alpha.godwit("svm", "create", "--name", SVM)
    alpha.godwit(
        "export-policy", "rule", "add", "--svm", SVM, "--policy", "default", "--clients", stage.clients, "--ro", "any",
        "--rw", "any", "--superuser", "any")
    for volume in VOLUMES:
        alpha.godwit(
            "volume", "create", "--svm", SVM, "--name", volume, "--size", "1G", "--junction-path", f"/{volume}",
            *stage.volume_options)
    alpha.godwit("lif", "create", "--svm", SVM, "--name", "lif1", *stage.lif_options)
    run.say(f"SVM {SVM} serves {', '.join('/' + volume for volume in VOLUMES)} at {stage.address}:{stage.port} from alpha")


def fill(run, dealt, stage, alpha):
    """Copies the tree through NFS."""
    parts = [part for parts in dealt.values() for part in parts]
    run.say(f"copying {len(parts)} directories of this machine through NFS, {sum(p.files for p in parts):,} files, "
            f"{sum(p.size for p in parts) / 1e6:,.0f} MB")
    began = time.monotonic()
    sums, failures = demo_tree.TreeJobs(run, stage.address, stage.port).perform(dealt)
    if failures:
        raise DemoError("\n  ".join(failures))
    seconds = time.monotonic() - began
    files = sums.get("files", 0) + sums.get("symlinks", 0)
    size = sums.get("bytes", 0)
    run.say(f"copied {files:,} files and {size / 1e6:,.0f} MB in {seconds:.1f} s")
    if files < demo_tree.FILES_MIN or size < demo_tree.BYTES_MIN:
        raise DemoError("the tree is smaller than it must be: see tree.log")
    print(alpha.godwit("volume", "show", "--svm", SVM), end="", flush=True)


def take_snapshots(run, alpha):
    """Takes the snapshots of all volumes and returns (volume, name) of each."""
    for name in SNAPSHOTS:
        alpha.godwit("snapshot", "create", "--svm", SVM, "--name", name)
    taken = [(volume, name) for volume in VOLUMES for name in SNAPSHOTS]
    if not set(taken) <= snapshots(alpha):
        raise DemoError("alpha does not show the snapshots that were just taken")
    run.say(f"took {len(taken)} snapshots: {' and '.join(SNAPSHOTS)} of every volume")
    return taken


def snapshots(cluster):
    """(volume, name) of every snapshot of the SVM on a cluster."""
    records = cluster.records("snapshot", "show", "--svm", SVM)
    return {(record["volume"]["name"], record["name"]) for record in records}


def start_client(run, stage):
    """Starts the journal client, which stands on libnfs and shares no code with the server."""
    client = run.start("journal", "godwit-journal-client", [
        "--url", f"nfs://{stage.address}/{JOURNAL_VOLUME}", "--port", str(stage.port), "--journal", run.path("journal.bin"),
        "--workers", "2", "--outage-report",
    ])
    run.say(f"journal client works in /{JOURNAL_VOLUME} (process {client.pid})")
    return client


def migrate(run, beta, client):
    """Moves the SVM and prints what happens. Returns the rate of the baseline in MB/s."""
    run.say(f"beta: godwit svm migrate start --svm {SVM} --source-cluster alpha --watch")
    watch = run.spawn(
        "godwit svm migrate start", "godwit",
        ["svm", "migrate", "start", "--svm", SVM, "--source-cluster", "alpha", "--watch"], beta.environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    timer = threading.Timer(STEP_SECONDS_MAX, watch.kill)
    timer.start()
    for line in watch.stdout:
        run.say("  " + line.rstrip())
    status = watch.wait()
    timer.cancel()
    if client.poll() is not None:
        raise DemoError(f"the journal client ended by itself; its log ends with\n{tail(run.path('journal.log'))}")
    if status != 0:
        raise DemoError(f"the migrate operation failed (status {status}); {beta.log} ends with\n{tail(beta.log)}")
    record = operation_of(beta)
    if record["state"] != "migrate_complete":
        raise DemoError(f"the migrate operation ended in state {record['state']}")
    compared = record["godwit"]["volumes_verified"]
    if compared != len(VOLUMES):
        raise DemoError(f"the integrity check compared {compared} of {len(VOLUMES)} volumes")
    run.say(f"migrate is complete: {len(VOLUMES)} volumes compared on both sides, the source is cleaned up")
    rate = baseline_megabytes_per_second(record)
    run.say(f"baseline: {rate:.0f} MB/s over all volumes; hold of the clients as the clusters saw it: "
            f"{record['godwit']['window_ms']:.0f} ms")
    return rate


def operation_of(beta):
    """The record of the newest migrate operation of the SVM; a lab that was used before knows older ones."""
    records = [record for record in beta.get("/api/svm/migrations?fields=*")["records"]
               if record["source"]["svm"]["name"] == SVM]
    if not records:
        raise DemoError(f"beta knows no migrate operation of {SVM}")
    return max(records, key=lambda record: record["time_metrics"].get("start_time", ""))


def baseline_megabytes_per_second(record):
    """All bytes of the baseline by the time of its slowest volume: the volumes are transferred side by side."""
    volumes = record["godwit"]["volumes"]
    size = sum(volume["baseline_bytes"] for volume in volumes)
    milliseconds = max(volume["baseline_milliseconds"] for volume in volumes)
    return size / 1_000 / max(1, milliseconds)


def stop_client(run, client):
    """Ends the journal client in good order; it then checks its journal. Returns its numbers and what is wrong."""
    client.terminate()
    try:
        status = client.wait(STEP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        raise DemoError(f"the journal client did not end; its log is {run.path('journal.log')}") from None
    with open(run.path("journal.log"), errors="replace") as log:
        lines = [line.strip() for line in log if line.startswith("journal: outage_ms=")]
    if not lines:
        raise DemoError(f"the journal client has no result; its log ends with\n{tail(run.path('journal.log'))}")
    run.say(lines[-1])
    numbers = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", lines[-1])}
    failures = [
        f"the journal client counts {numbers[name]} {name}"
        for name in ("lost", "repeated", "stale_handles", "mismatches") if numbers[name] != 0
    ]
    if status != 0 and not failures:
        failures.append(f"the journal client ended with status {status}")
    if numbers["acknowledged_writes"] == 0:
        failures.append("the journal client wrote nothing")
    if numbers["outage_ms"] > OUTAGE_MS_MAX:
        failures.append(f"a client waited {numbers['outage_ms']} ms, more than {OUTAGE_MS_MAX} ms")
    return numbers, failures


def check_places(run, alpha, beta):
    """The SVM is on beta alone, and runs there."""
    failures = []
    if any(record["name"] == SVM for record in alpha.records("svm", "show")):
        failures.append(f"SVM {SVM} is still on alpha")
    states = [record["state"] for record in beta.records("svm", "show") if record["name"] == SVM]
    if states != ["running"]:
        failures.append(f"SVM {SVM} does not run on beta: {states or 'not there'}")
    if not failures:
        run.say(f"SVM {SVM} is gone from alpha and runs on beta")
    return failures


def verify(run, dealt, stage):
    """Compares the tree, and the first snapshot's, byte by byte through NFS with this machine's directories."""
    jobs = demo_tree.TreeJobs(run, stage.address, stage.port)
    began = time.monotonic()
    sums, failures = jobs.perform(dealt, ["--verify"])
    run.say(f"compared with this machine through NFS from beta: {sums.get('files_verified', 0):,} files, "
            f"{sums.get('mismatches', 0)} differ, {time.monotonic() - began:.1f} s")
    if sums.get("files_verified", 0) < demo_tree.FILES_MIN and not failures:
        failures.append(f"only {sums.get('files_verified', 0)} files were compared")
    # The smallest part of each volume, as it is in the first snapshot.
    sample = {volume: [min(parts, key=lambda part: part.worth)] for volume, parts in dealt.items()}
    in_snapshot, more = jobs.perform(sample, ["--verify"], prefix=f".snapshot/{SNAPSHOTS[0]}/")
    run.say(f"compared {in_snapshot.get('files_verified', 0):,} files in the snapshots {SNAPSHOTS[0]}, "
            f"{in_snapshot.get('mismatches', 0)} differ")
    total = {name: sums.get(name, 0) + in_snapshot.get(name, 0) for name in ("files_verified", "mismatches")}
    return total, failures + more


def report(journal, verified, snapshot_counts, rate):
    """The last line."""
    return (
        f"demo: outage_ms={journal['outage_ms']} acknowledged_writes={journal['acknowledged_writes']} "
        f"lost={journal['lost']} repeated={journal['repeated']} stale_handles={journal['stale_handles']} "
        f"files_verified={verified['files_verified']} "
        f"mismatches={verified['mismatches'] + journal['mismatches']} "
        f"snapshots={snapshot_counts[0]}/{snapshot_counts[1]} transfer_MBps={rate:.0f}")
