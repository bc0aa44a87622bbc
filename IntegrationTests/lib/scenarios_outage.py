"""Scenarios that measure: what clients wait, and what a throttle lets through."""

import statistics
import time

from scenario_lab import COMPLETE, LIF_PORT, make_svm, require, require_moved, wait_for, window

# The most that 64 volumes may wait longer than 4.
MANY_VOLUMES_RATIO_MAX = 1.3
OUTAGE_MS_MAX = 300
# Migrations in `outage`, and how often `many-volumes` measures each size.
OUTAGE_RUNS = 10
MANY_VOLUMES_RUNS = 3
THROTTLE_KB_PER_SECOND = 4_096
THROTTLE_TOLERANCE = 0.15


def move(lab, source, destination, client_name, volume, address=None):
    """Moves the SVM under a client at full speed; returns what the client waited, and the record."""
    client = lab.client(client_name, volume, address=address, operations_per_second=0)
    destination.migrate("start", "--source-cluster", source.name)
    record = destination.wait_state(*COMPLETE)
    time.sleep(0.5)
    values = client.finish()
    require_moved(source, destination)
    return values["outage_ms"], record


def many_volumes(lab):
    """The outage with 64 volumes is nearly that with 4."""
    result = {}
    for count in (4, 64):
        alpha, beta = lab.clusters((f"alpha{count}", f"beta{count}"))
        lab.port += 4
        address = f"127.45.6.{count}"
        make_svm(alpha, address, [f"v{index}" for index in range(count)], size="64M")
        outages, windows, stages = [], [], []
        source, destination = alpha, beta
        for run in range(MANY_VOLUMES_RUNS):
            outage, record = move(lab, source, destination, f"client{count}-{run}", "v0", address)
            outages.append(outage)
            windows.append(record["godwit"]["window_ms"])
            stages.append(window(record))
            source, destination = destination, source
        middle = windows.index(sorted(windows)[len(windows) // 2])
        result[f"outage_ms_{count}"] = statistics.median(outages)
        result[f"window_ms_{count}"] = round(windows[middle], 1)
        result[f"stages_{count}"] = stages[middle]
        for cluster in (alpha, beta):
            cluster.process.terminate()
            cluster.process.wait(30)
    result["ratio_outage"] = round(result["outage_ms_64"] / max(1, result["outage_ms_4"]), 2)
    result["ratio_window"] = round(result["window_ms_64"] / max(1, result["window_ms_4"]), 2)
    require(result["ratio_outage"] <= MANY_VOLUMES_RATIO_MAX,
            "64 volumes wait too long: " + " ".join(f"{name}={value}" for name, value in result.items()))
    return result


def outage(lab):
    """There and back again: the median of what a client waited; then the SVM is served after a restart."""
    alpha, beta = lab.clusters()
    make_svm(alpha, lab.address, ["one", "two", "three", "four"])
    for volume in ("one", "two", "three", "four"):
        lab.copy(volume, lab.random_files(f"data-{volume}", 16 << 20, 1 << 20))
    outages, windows = [], []
    source, destination = alpha, beta
    for run in range(OUTAGE_RUNS):
        waited, record = move(lab, source, destination, f"client{run}", "one")
        outages.append(waited)
        windows.append(record["godwit"]["window_ms"])
        source, destination = destination, source
    # What earlier moves left in the records must not keep the SVM from being served where it came back to.
    source.process.terminate()
    source.process.wait(30)
    source.start()
    lab.client("restarted", "one").finish()
    median = statistics.median(outages)
    all_outages = ",".join(str(value) for value in outages)
    require(median <= OUTAGE_MS_MAX, f"the median is {median} ms of {all_outages}")
    return {"runs": OUTAGE_RUNS, "outage_ms_median": median, "outage_ms_max": max(outages), "outage_ms": all_outages,
            "window_ms_median": round(statistics.median(windows), 1)}


def parallel(lab):
    """Three SVMs move at the same time, one of them slowly, because it must."""
    alpha, beta = lab.clusters()
    svms = {"fast1": "127.45.8.11", "fast2": "127.45.8.12", "slow": "127.45.8.13"}
    size = 24 << 20
    data = lab.random_files("data", size, 1 << 20)
    clients = {}
    for svm, address in svms.items():
        make_svm(alpha, address, ["one", "two"], svm=svm)
        # The limit is dealt out to the volumes in equal parts, so that they must have the same to do.
        for volume in ("one", "two"):
            lab.copy(volume, data, address)
        clients[svm] = lab.client(f"client-{svm}", "one", address, operations_per_second=100, workers=1)
    for svm in svms:
        limit = ["--throttle", str(THROTTLE_KB_PER_SECOND)] if svm == "slow" else []
        beta.migrate("start", "--source-cluster", "alpha", *limit, svm=svm)
    # What the throttled operation has sent, and when: over the stretch in which its limit is what bounds it.
    samples = []

    def look():
        record = beta.operation("slow")
        sent = sum(volume["bytes_transferred"] for volume in record["godwit"]["volumes"])
        samples.append((time.monotonic(), sent))
        return record["state"] != "transferring" and record["state"] not in ("precheck_started", "setup_configuration")

    wait_for("the throttled baseline ends", look, every=0.1)
    moving = [(at, sent) for at, sent in samples if (1 << 20) <= sent <= 2 * size * 0.9]
    require(len(moving) > 10, f"the throttled baseline was over too soon: {len(moving)} samples")
    rate = (moving[-1][1] - moving[0][1]) / (moving[-1][0] - moving[0][0]) / 1_024
    result = {"rate_KBps": round(rate), "limit_KBps": THROTTLE_KB_PER_SECOND}
    for svm in svms:
        beta.wait_state(*COMPLETE, svm=svm)
        time.sleep(0.2)
        result[f"outage_ms_{svm}"] = clients[svm].finish()["outage_ms"]
        require_moved(alpha, beta, svm)
        for volume in ("one", "two"):
            lab.copy(volume, data, svms[svm], verify=True)
    require(abs(rate / THROTTLE_KB_PER_SECOND - 1) <= THROTTLE_TOLERANCE,
            f"the throttled operation sent {rate:.0f} KB/s, its limit is {THROTTLE_KB_PER_SECOND}")
    return result
