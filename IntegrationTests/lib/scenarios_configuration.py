"""Scenario of the configuration's stream: what is changed on the source is on the destination before the cutover."""

import time

from scenario_lab import COMPLETE, SVM, make_svm, messages, require, require_moved, wait_for
from scenarios_state import listing, sums

VOLUME_BYTES = 192 << 20
THROTTLE_KB_PER_SECOND = 16_384
# A change is on the destination so soon, on a machine that does other things besides.
SECONDS_MAX = 2.0


def configuration(lab):
    """Export policies, rules, volumes and LIFs that are changed while the baseline runs are on the destination at once."""
    alpha, beta = lab.clusters()
    make_svm(alpha, lab.address, ["one", "spare"])
    data = lab.random_files("data", VOLUME_BYTES)
    lab.copy("one", data)
    client = lab.client(operations_per_second=100)
    beta.migrate("start", "--source-cluster", "alpha", "--throttle", str(THROTTLE_KB_PER_SECOND))
    wait_for("the baseline is on its way", lambda: sums(beta.operation(), "current_bytes") > 4 << 20)
    slowest = 0.0

    def arrives(what, is_there, *command):
        nonlocal slowest
        alpha.godwit(*command)
        began = time.monotonic()
        wait_for(f"{what} is on the destination", is_there, seconds=30)
        seconds = time.monotonic() - began
        slowest = max(slowest, seconds)
        require(seconds <= SECONDS_MAX, f"{what} came after {seconds:.1f} s")
        record = beta.operation()
        require(record["state"] == "transferring", f"{what} came when it was {record['state']}: {messages(record)}")

    def policy(name):
        return next((one for one in beta.records("export-policy", "show") if one["name"] == name), None)

    def volumes():
        return {one["name"]: one for one in beta.records("volume", "show") if one["svm"]["name"] == SVM}

    arrives("an export policy", lambda: policy("readers"),
            "export-policy", "create", "--svm", SVM, "--policy", "readers")
    arrives("a rule", lambda: policy("readers").get("rules"),
            "export-policy", "rule", "add", "--svm", SVM, "--policy", "readers", "--clients", "127.0.0.0/8",
            "--rw", "any", "--superuser", "any")
    arrives("a volume", lambda: volumes().get("late", {}).get("nas", {}).get("path") == "/late",
            "volume", "create", "--svm", SVM, "--name", "late", "--size", "1G", "--junction-path", "/late")
    arrives("a changed volume", lambda: volumes()["late"]["nas"]["export_policy"]["name"] == "readers",
            "volume", "modify", "--svm", SVM, "--name", "late", "--export-policy", "readers")
    arrives("a deleted volume", lambda: "spare" not in volumes(),
            "volume", "delete", "--svm", SVM, "--name", "spare")
    late = lab.random_files("late", 4 << 20, 1 << 20)
    lab.copy("late", late)
    stream = beta.operation()["godwit"]["configuration"]
    require(stream["revision"] > 0 and stream["baselines"] == 1 and not stream.get("last_failure"),
            f"the stream says {stream}")
    expected = listing(alpha)
    record = beta.wait_state(*COMPLETE)
    values = client.finish()
    require_moved(alpha, beta)
    difference = {line for line in expected ^ listing(beta) if not line.startswith("snapshot")}
    require(not difference, f"these differ: {sorted(difference)}")
    require(record["godwit"]["configuration"]["baselines"] == 1, f"more than one baseline: {record['godwit']}")
    lab.copy("one", data, verify=True)
    lab.copy("late", late, verify=True)
    return {"changes": 5, "slowest_ms": round(slowest * 1_000), "outage_ms": values["outage_ms"]}
