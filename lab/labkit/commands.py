"""Programs of this machine: run to their end, or started in the background and noted, so that `down` can end them."""

import contextlib
import os
import shutil
import signal
import subprocess
import time

from .errors import LabError

# How long a process may take to end by itself before it is killed.
END_SECONDS_MAX = 20


def require_programs(packages):
    """Fails unless all programs are there; `packages` maps each to the Debian package that has it."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = sorted({package for program, package in packages.items() if shutil.which(program, path=path) is None})
    if missing:
        raise LabError(f"programs are missing: {', '.join(sorted(packages))} come with {', '.join(missing)}",
                       "run scripts/bootstrap --lab")


def run(*command, check=True, text=None, seconds=60, what=None, variables=None):
    """Runs a program and returns its result, with its output as text. `text` is its standard input; `variables` come on top of
    the environment."""
    try:
        result = subprocess.run(command, input=text, capture_output=True, text=True, errors="replace", timeout=seconds,
                                env={**os.environ, **(variables or {})})
    except subprocess.TimeoutExpired:
        raise LabError(f"'{' '.join(command)}' did not end within {seconds} s", "look what it waits for") from None
    if check and result.returncode != 0:
        said = (result.stderr.strip() or result.stdout.strip() or "no word").splitlines()[-1]
        raise LabError(f"{what or 'command'} failed: '{' '.join(command)}' ended with {result.returncode}: {said}",
                       "read the message; 'lab/lab down' removes what is half built")
    return result


def ip(*arguments, namespace=None, check=True):
    """Runs `ip`, in a namespace when one is given."""
    return run("ip", *(("-n", namespace) if namespace else ()), *arguments, check=check)


def wait_for(what, body, seconds, every=0.05):
    """Waits until `body` returns something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        found = body()
        if found:
            return found
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {seconds} s", "read the logs in the directory of the lab")
        time.sleep(every)


def start_time(pid):
    """When a process started, in ticks since the boot; None when there is none, or only what is left of one. With the
    number it names a process for ever."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        # Its first thread may be gone while others still end, and hold what it had locked.
        has_ended = fields[0] in "ZX" and len(os.listdir(f"/proc/{pid}/task")) <= 1
    except OSError:
        return None
    return None if has_ended else int(fields[19])


def spawn(command, log, environment=None, **options):
    """Starts a program in a session of its own with its output in a file; returns its record (`pid`, `started`)."""
    with open(log, "ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            env={**os.environ, **(environment or {})}, **options)
    return {"pid": process.pid, "started": start_time(process.pid)}


def is_alive(record):
    """Whether the recorded process, and not another one with its number, is there."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(record["pid"], os.WNOHANG)
    return record["started"] is not None and start_time(record["pid"]) == record["started"]


def send(record, number, group=False):
    """Sends a signal to a recorded process, or to its group; returns whether it was there."""
    if not is_alive(record):
        return False
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if group else os.kill)(record["pid"], number)
        return True
    return False


def end(record, group=False, gently=True):
    """Ends a recorded process: with SIGTERM, then, after a while, with SIGKILL."""
    send(record, signal.SIGCONT, group)
    if gently and send(record, signal.SIGTERM, group):
        with contextlib.suppress(LabError):
            wait_for("it ends", lambda: not is_alive(record), END_SECONDS_MAX)
    if send(record, signal.SIGKILL, group):
        wait_for(f"process {record['pid']} ends", lambda: not is_alive(record), END_SECONDS_MAX)
