"""A Linux kernel client: Debian's user-mode-linux, a real kernel that is an ordinary process, with the root of this machine
mounted read-only. So git, gcc and whatever is installed here run on a kernel whose NFS client is under test, although this
machine's kernel need not have one.

Why this and not a machine that QEMU emulates: docs/decisions/0031-lab.md.
"""

import contextlib
import glob
import json
import os
import shutil
import struct
import sys
import threading

from . import commands, namespaces
from .errors import LabError

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PACKAGES = {"linux.uml": "user-mode-linux", "insmod": "kmod", "gcc": "gcc", "ip": "iproute2", "mount": "mount",
            "mkfs.ext4": "e2fsprogs"}
# What a client of NFSv3 needs; what these need is read from modules.dep.
MODULES = ("nfsv3",)
AGENT_PORT = 700
# The network of agents; each guest has a bridge-less link of its own to the namespace that it was started in.
CONTROL_NETWORK = "169.254"
# The number of a guest that has no address in a network of clients, and its namespace for itself.
NUMBER_ALONE = 1
BOOT_SECONDS_MAX = 60
CHUNK_BYTES = 65536


def modules_in_order(names=MODULES):
    """The paths of the modules to load, what others need first."""
    found = sorted(glob.glob("/usr/lib/uml/modules/*/modules.dep"))
    if not found:
        raise LabError("there are no modules for user-mode-linux", "run scripts/bootstrap --lab")
    root, needs = os.path.dirname(found[-1]), {}
    with open(found[-1]) as file:
        for line in file:
            path, _, rest = line.partition(":")
            needs[os.path.basename(path)] = [path] + rest.split()
    ordered = []
    for name in names:
        if f"{name}.ko" not in needs:
            raise LabError(f"user-mode-linux has no module '{name}'", f"look for its name in {found[-1]}")
        # The file names what is needed last first.
        for path in reversed(needs[f"{name}.ko"]):
            if path not in ordered:
                ordered.append(path)
    return [os.path.join(root, path) for path in ordered]


def compile_tool(name, directory):
    """Compiles a C program of lab/guest, statically, unless its product is newer; returns the path of the product."""
    source, product = os.path.join(HERE, "guest", f"{name}.c"), os.path.join(directory, name)
    if not os.path.exists(product) or os.path.getmtime(product) < os.path.getmtime(source):
        os.makedirs(directory, exist_ok=True)
        commands.run("gcc", "-static", "-O2", "-Wall", "-Wextra", "-Werror", "-o", f"{product}.new", source,
                     what=f"compiling {name}.c")
        os.rename(f"{product}.new", product)
    return product


def mac(prefix, address):
    """An Ethernet address that nobody else in the network has: the bytes of a prefix and those of the IPv4 address."""
    return prefix + "".join(f":{int(octet):02x}" for octet in address.split("."))


class Result:
    """What a command in a guest came to."""

    def __init__(self, status, output, error):
        self.status, self.output, self.error = status, output, error


class Command:
    """A command that runs in a guest."""

    def __init__(self, connection, command, sinks):
        self.connection, self.sinks, self.status = connection, sinks, None
        self._kept = {"O": bytearray(), "E": bytearray()}
        self._send(b"C", command.encode())
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _send(self, kind, data):
        self.connection.sendall(kind + struct.pack(">I", len(data)) + data)

    def _receive(self, count):
        data = bytearray()
        while len(data) < count:
            got = self.connection.recv(min(count - len(data), CHUNK_BYTES))
            if not got:
                raise ConnectionError("the guest is gone")
            data += got
        return bytes(data)

    def _read(self):
        with contextlib.suppress(OSError):
            while self.status is None:
                kind, count = struct.unpack(">cI", self._receive(5))
                data, kind = self._receive(count), kind.decode()
                if kind == "X":
                    self.status = data[0]
                elif self.sinks:
                    self.sinks[kind].write(data)
                    self.sinks[kind].flush()
                else:
                    self._kept[kind] += data

    @property
    def output(self):
        """What it has printed so far."""
        return self._kept["O"].decode(errors="replace")

    @property
    def error(self):
        """What it has printed to standard error so far."""
        return self._kept["E"].decode(errors="replace")

    @property
    def is_running(self):
        """Whether it has not ended."""
        return self._reader.is_alive()

    def write(self, data):
        """Sends bytes to its standard input; none of them: the end of it."""
        self._send(b"I", data)

    def signal(self, number):
        """Sends a signal to it and what it has started."""
        with contextlib.suppress(OSError):
            self._send(b"K", bytes([number]))

    def wait(self, seconds=None):
        """Waits for its end and returns its result."""
        self._reader.join(seconds)
        if self._reader.is_alive():
            raise LabError(f"a command in the guest did not end within {seconds} s", "look at the guest's console.log")
        self.connection.close()
        if self.status is None:
            raise LabError("the guest is gone, and the command with it", "read console.log in the guest's directory")
        return Result(self.status, self.output, self.error)


class Guest:
    """A guest by its directory, which holds all there is to know of it. Another process may have started it."""

    def __init__(self, directory):
        self.directory = os.path.abspath(directory)
        self.name = os.path.basename(self.directory)

    def path(self, name):
        """A path in the directory of this guest."""
        return os.path.join(self.directory, name)

    @property
    def record(self):
        """How it was started; fails when it was not."""
        try:
            with open(self.path("guest.json")) as file:
                return json.load(file)
        except FileNotFoundError:
            raise LabError(f"there is no guest in {self.directory}", "start one: lab/kernel_client start") from None

    @property
    def is_running(self):
        """Whether its kernel runs."""
        return os.path.exists(self.path("guest.json")) and commands.is_alive(self.record["process"])

    def start(self, namespace, bridge=None, address="", gateway="", memory=512, modules=MODULES, disk_gibibytes=0):
        """Boots it and waits until it takes commands. Its interface is on a bridge of the namespace; without a bridge it has
        none beside that of the agent. A disk is a new ext4 file system, seen at /mnt/disk."""
        commands.require_programs(PACKAGES)
        if self.is_running:
            raise LabError(f"the guest {self.name} runs already", f"lab/kernel_client stop {self.directory}")
        shutil.rmtree(self.directory, ignore_errors=True)
        self._prepare(modules, disk_gibibytes)
        own = address.partition("/")[0]
        number = int(own.split(".")[3]) if bridge else NUMBER_ALONE
        tap, control_tap, control = f"gwl-g{number}", f"gwl-c{number}", f"{CONTROL_NETWORK}.{number}"
        taps = [tap, control_tap] if bridge else [control_tap]
        record = {"namespace": namespace, "taps": taps, "address": own, "control": f"{control}.2",
                  "process": {"pid": 0, "started": None}}
        self._write(record)
        for name in taps:
            commands.ip("tuntap", "add", "dev", name, "mode", "tap", namespace=namespace)
        commands.ip("addr", "add", f"{control}.1/24", "dev", control_tap, namespace=namespace)
        commands.ip("link", "set", control_tap, "up", namespace=namespace)
        devices = [f"vec1:transport=hybrid,ifname={control_tap},mac={mac('02:61', own or control + '.2')}"]
        if bridge:
            commands.ip("link", "set", tap, "master", bridge, "up", namespace=namespace)
            devices.append(f"vec0:transport=hybrid,ifname={tap},mac={mac('02:60', own)},gro=1")
        if disk_gibibytes:
            devices.append(f"ubd0={self.path('disk')}")
        kernel = [
            "linux.uml", f"mem={memory}M", "root=/dev/root", "rootfstype=hostfs", "ro", f"init={HERE}/guest/init",
            f"uml_dir={self.directory}/", "umid=uml", "con=null", "con0=null,fd:1", "ssl=null", "console=tty0",
            "quiet", "loglevel=4", "panic=-1", "nohz=off", *devices,
            f"lab_address={address}", f"lab_gateway={gateway}", f"lab_control={control}.2/24", f"lab_port={AGENT_PORT}",
            f"lab_disk={'/dev/ubda' if disk_gibibytes else ''}", f"lab_out={self.path('out')}", f"lab_host={self.name}"]
        record["process"] = commands.spawn(
            ["ip", "netns", "exec", namespace, *kernel], self.path("console.log"), {"TMPDIR": "/dev/shm"})
        self._write(record)
        try:
            commands.wait_for(f"guest {self.name} takes commands (see {self.path('console.log')})", self._answers,
                              BOOT_SECONDS_MAX)
        except LabError:
            self.stop()
            raise
        return self

    def _prepare(self, modules, disk_gibibytes):
        """Makes the files that it boots with."""
        os.makedirs(self.path("out"))
        os.chmod(self.path("out"), 0o1777)
        compile_tool("agent", self.path("out/.lab"))
        with open(self.path("out/.lab/modules"), "w") as file:
            file.writelines(f"{path}\n" for path in modules_in_order(modules))
        if disk_gibibytes:
            with open(self.path("disk"), "wb") as file:
                file.truncate(disk_gibibytes << 30)
            # It is full of holes, which read as zeros: nothing needs to be written before it is used.
            commands.run("mkfs.ext4", "-q", "-F", "-E", "assume_storage_prezeroed=1", self.path("disk"),
                         what="making the guest's disk")

    def _write(self, record):
        with open(self.path("guest.json.new"), "w") as file:
            json.dump(record, file)
        os.rename(self.path("guest.json.new"), self.path("guest.json"))

    def _answers(self):
        if not commands.is_alive(self.record["process"]):
            raise LabError(f"guest {self.name} ended while it booted", f"read {self.path('console.log')}")
        with contextlib.suppress(OSError, LabError):
            return self.run("true", seconds=5).status == 0
        return False

    def spawn(self, command, sinks=None):
        """Starts a shell command. Its output is kept, or goes to `sinks`, binary files for 'O' and 'E'."""
        record = self.record
        connection = namespaces.connect(record["namespace"], record["control"], AGENT_PORT)
        connection.settimeout(None)
        return Command(connection, command, sinks)

    def run(self, command, seconds=600, check=False):
        """Runs a shell command to its end; with `check` it must end with 0."""
        result = self.spawn(command).wait(seconds)
        if check and result.status != 0:
            said = (result.error.strip() or result.output.strip() or "no word").splitlines()[-1]
            raise LabError(f"in guest {self.name} '{command}' ended with {result.status}: {said}",
                           f"read the message, and {self.path('console.log')}")
        return result

    def stream(self, command):
        """Runs a shell command with its output on ours and nothing to read; returns its status."""
        running = self.spawn(command, {"O": sys.stdout.buffer, "E": sys.stderr.buffer})
        # It may have ended before it is told that there is nothing.
        with contextlib.suppress(OSError):
            running.write(b"")
        return running.wait().status

    def put(self, source, name):
        """Copies a file or directory of this machine to where the guest sees it at /mnt/out/NAME, in the place of what was
        there."""
        target = self.path(os.path.join("out", name))
        if os.path.isdir(target):
            shutil.rmtree(target)
        if os.path.isdir(source):
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copy2(source, target)
        return f"/mnt/out/{name}"

    def put_repository(self, repository):
        """A bare copy of a repository of this machine, seen at /mnt/out/repository.git."""
        target = self.path("out/repository.git")
        shutil.rmtree(target, ignore_errors=True)
        commands.run("git", "-c", "safe.directory=*", "clone", "-q", "--bare", "--no-local", repository, target, seconds=120)
        return target

    def get(self, name):
        """The path on this machine of what the guest wrote to /mnt/out/NAME."""
        return self.path(os.path.join("out", name))

    def mount(self, server, export, place="/mnt/nfs", port=2049, mount_port=None, options="vers=3,hard,nolock,proto=tcp"):
        """Mounts an export, in the place of what is mounted there; the portmapper is not asked."""
        self.run(f"umount -l {place} 2>/dev/null; mkdir -p {place} && mount -i -t nfs "
                 f"-o {options},addr={server},port={port},mountport={mount_port or port},mountproto=tcp "
                 f"{server}:{export} {place}", seconds=120, check=True)

    def unmount(self, *places):
        """Takes mounts away, also those that something still uses."""
        self.run(f"umount -l {' '.join(places)}", seconds=60)

    def stop(self):
        """Ends its kernel and removes its interfaces. What it has not written is lost, as with a machine without power."""
        if not os.path.exists(self.path("guest.json")):
            return
        record = self.record
        commands.end(record["process"], group=True, gently=False)
        for name in record["taps"]:
            commands.ip("link", "del", name, namespace=record["namespace"], check=False)
        os.remove(self.path("guest.json"))
