"""Network namespaces: entered by a thread for one socket, so that this program need not run in any of them."""

import ctypes
import os
import socket
import threading

from .errors import LabError

CLONE_NEWNET = 0x40000000


def path_of(namespace):
    """Where the name of a namespace is kept."""
    return f"/run/netns/{namespace}"


def exists(namespace):
    """Whether there is a namespace of this name."""
    return os.path.exists(path_of(namespace))


def inside(namespace, body):
    """Calls `body` in a thread that is in the namespace, and returns what it returns. Sockets made there stay there."""
    outcome = {}

    def work():
        try:
            with open(path_of(namespace)) as file:
                if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
            outcome["value"] = body()
        except BaseException as error:  # Whatever it is, it is the caller's.
            outcome["error"] = error

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


def connect(namespace, address, port, seconds=10):
    """A TCP connection that was opened in a namespace."""
    if not exists(namespace):
        raise LabError(f"there is no network namespace '{namespace}'", "start the lab: make lab")
    return inside(namespace, lambda: socket.create_connection((address, port), seconds))
